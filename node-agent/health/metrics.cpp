#include "node-agent/health/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <utility>
#include <vector>

#include "common/telemetry/metrics.h"

namespace sluice::agent::health {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// Collects families; a family's metrics are added one by one.
class Page {
 public:
  MetricFamily& family(const char* name, MetricType type, const char* help) {
    MetricFamily& added = families_.emplace_back();
    added.name = std::string("sluice_agent_") + name;
    added.type = type;
    added.help = help;
    return added;
  }
  static void add(MetricFamily& family, Labels labels, double value) {
    ClientMetric& metric = family.metric.emplace_back();
    metric.label = std::move(labels);
    if (family.type == MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
  }
  void gauge(const char* name, const char* help, double value) {
    add(family(name, MetricType::Gauge, help), {}, value);
  }
  [[nodiscard]] std::string text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  // A list of references would dangle when the vector grows: a family is filled before the next is begun.
  std::vector<MetricFamily> families_;
};

double number(uint64_t value) {
  return static_cast<double>(value);
}

std::string backend_label(const net::IpAddress& address, uint16_t port) {
  return address.to_string() + ":" + std::to_string(port);
}

void add_flow_tables(Page& page, const Usage& usage) {
  const auto each = [&](const char* name, const char* help, auto established, auto half_open) {
    MetricFamily& family = page.family(name, MetricType::Gauge, help);
    for (const auto& [ip, use] : {std::pair("IPv4", &usage.flows_ipv4), std::pair("IPv6", &usage.flows_ipv6)}) {
      Page::add(family, {{"family", ip}, {"table", "established"}}, number(use->*established));
      Page::add(family, {{"family", ip}, {"table", "half_open"}}, number(use->*half_open));
    }
  };
  using dataplane::FlowUse;
  each("flow_table_records", "Live flow records by table, as of the last sweep.", &FlowUse::established,
       &FlowUse::half_open);
  each("flow_table_room", "Flow records that a table takes.", &FlowUse::established_room, &FlowUse::half_open_room);
}

void add_usage(Page& page, const Usage& usage) {
  add_flow_tables(page, usage);
  MetricFamily& used = page.family("table_used", MetricType::Gauge, "Elements in use of a table of services.");
  for (const auto& table : usage.tables) Page::add(used, {{"table", table.table}}, number(table.used));
  MetricFamily& room = page.family("table_room", MetricType::Gauge, "Elements that a table of services has.");
  for (const auto& table : usage.tables) Page::add(room, {{"table", table.table}}, number(table.room));
  MetricFamily& shares = page.family("flow_share_used_ratio", MetricType::Gauge,
                                     "Established flows of a service, of those that it may have; from a half on.");
  for (const auto& use : usage.shares) {
    Page::add(shares, {{"service", use.service}}, use.most == 0 ? 1 : number(use.flows) / number(use.most));
  }
  MetricFamily& ports = page.family("nat_source_ports_used_ratio", MetricType::Gauge,
                                    "Source ports of nat in use towards a backend, of those that there are.");
  for (const auto& use : usage.nat_ports) {
    if (use.room == 0) continue;
    Page::add(ports,
              {{"source", use.source.to_string()},
               {"backend", backend_label(use.backend, use.port)},
               {"protocol", state::to_string(static_cast<state::Protocol>(use.protocol))}},
              number(use.ports) / number(use.room));
  }
}

void add_tunnels(Page& page, const std::vector<tunnel::TunnelFact>& tunnels) {
  MetricFamily& usable = page.family("tunnel_usable", MetricType::Gauge, "1 while the tunnel to a node is proved.");
  for (const auto& tunnel : tunnels) Page::add(usable, {{"node", tunnel.node}}, tunnel.usable ? 1 : 0);
  MetricFamily& mtu = page.family("tunnel_mtu_bytes", MetricType::Gauge,
                                  "The largest outer IP packet that is known to reach a node; 0: none is.");
  for (const auto& tunnel : tunnels) Page::add(mtu, {{"node", tunnel.node}}, number(tunnel.mtu));
}

void add_facts(Page& page, const Facts& facts) {
  page.gauge("ready", "1 when the agent is ready to forward, or forwards.", facts.ready ? 1 : 0);
  page.gauge("programmed_revision", "Revision of the desired state in the maps.", number(facts.revision));
  page.gauge("epoch", "Epoch of the leader that sent it.", number(facts.epoch));
  page.gauge("services", "Services of the desired state.", number(facts.services));
  page.gauge("services_failed", "Services that do not stand in the maps as desired.", number(facts.failures.size()));
  page.gauge("backends", "Backends in the choice of a service.", number(facts.backends));
  page.gauge("next_hops_unresolved", "Backend addresses that no way is known to.", number(facts.unresolved.size()));
  page.gauge("addresses_announced", "Addresses that this node answers for.", number(facts.announcing.size()));
  page.gauge("flows", "Live flow records, as of the last sweep.", number(facts.flows_live));
  page.gauge("services_with_old_flows", "Services with a live flow that only history leads to its backend.",
             number(facts.services_with_old_flows.size()));
  Page::add(page.family("flows_expired_total", MetricType::Counter, "Flow records that sweeps have deleted."), {},
            number(facts.flows_expired));
  Page::add(page.family("sweeps_total", MetricType::Counter, "Sweeps of the flow table."), {}, number(facts.sweeps));
  MetricFamily& by_service = page.family("service_flows", MetricType::Gauge, "Live flow records of a service.");
  for (const auto& [service, live] : facts.flows_by_service)
    Page::add(by_service, {{"service", service}}, number(live));
  MetricFamily& draining =
      page.family("draining_flows", MetricType::Gauge, "Live flow records of a backend that is in the choice no more.");
  for (const auto& one : facts.leaving) {
    Page::add(draining, {{"service", one.service}, {"backend", backend_label(one.address, one.port)}},
              number(one.flows));
  }
  add_usage(page, facts.usage);
  add_tunnels(page, facts.tunnels);
  MetricFamily& interfaces = page.family("interface_info", MetricType::Gauge, "Interfaces that Sluice is attached to.");
  for (const auto& interface : facts.interfaces) {
    const char* mode = interface.mode == dataplane::AttachMode::native ? "Native" : "Generic";
    Page::add(interfaces, {{"interface", interface.name}, {"mode", mode}, {"driver", interface.driver}}, 1);
  }
}

void add_reasons(Page& page, const dataplane::Counters& counters) {
  MetricFamily& packets = page.family("packets_total", MetricType::Counter, "Packets by what became of them.");
  for (const auto& reason : counters.reasons) {
    if (!reason.service.empty()) continue;
    Page::add(packets, {{"reason", reason.reason}, {"kind", reason.kind}}, number(reason.packets));
  }
  MetricFamily& bytes = page.family("bytes_total", MetricType::Counter, "Bytes of frames by what became of them.");
  for (const auto& reason : counters.reasons) {
    if (!reason.service.empty()) continue;
    Page::add(bytes, {{"reason", reason.reason}, {"kind", reason.kind}}, number(reason.bytes));
  }
  MetricFamily& drops =
      page.family("service_dropped_packets_total", MetricType::Counter, "Packets dropped, by service.");
  for (const auto& reason : counters.reasons) {
    if (reason.service.empty()) continue;
    Page::add(drops, {{"service", reason.service}, {"reason", reason.reason}}, number(reason.packets));
  }
}

// The same three families for services and for backends.
template <typename Rows, typename ToLabels>
void add_traffic(Page& page, const Rows& rows, const std::array<const char*, 3>& names, const ToLabels& to_labels) {
  const auto directed = [&](const char* name, const char* help, const auto& forward, const auto& back) {
    MetricFamily& family = page.family(name, MetricType::Counter, help);
    for (const auto& row : rows) {
      Labels labels = to_labels(row);
      labels.push_back({"direction", "forward"});
      Page::add(family, labels, number(row.*forward));
      labels.back().value = "return";
      Page::add(family, std::move(labels), number(row.*back));
    }
  };
  using Row = typename Rows::value_type;
  directed(names[0], "Packets, by direction.", &Row::packets, &Row::return_packets);
  directed(names[1], "Bytes of frames, by direction.", &Row::bytes, &Row::return_bytes);
  MetricFamily& flows = page.family(names[2], MetricType::Counter, "Flow records made.");
  for (const auto& row : rows) Page::add(flows, to_labels(row), number(row.flows));
}

}  // namespace

struct Metrics::Events {
  std::shared_ptr<prometheus::Registry> registry = telemetry::make_registry();
  prometheus::Family<prometheus::Counter>& pushes = prometheus::BuildCounter()
                                                        .Name("sluice_agent_pushes_total")
                                                        .Help("Desired states received, by result.")
                                                        .Register(*registry);
  prometheus::Counter& accepted = pushes.Add({{"result", "accepted"}});
  prometheus::Counter& refused = pushes.Add({{"result", "refused"}});
  prometheus::Histogram& duration =
      prometheus::BuildHistogram()
          .Name("sluice_agent_push_duration_seconds")
          .Help("From the receipt of a desired state to its read-back from the maps.")
          .Register(*registry)
          .Add({}, prometheus::Histogram::BucketBoundaries{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                                           2.5, 5, 10});
};

struct Metrics::Reloads {
  explicit Reloads(prometheus::Registry& in) : registry(in) {}
  prometheus::Registry& registry;
  prometheus::Family<prometheus::Counter>& readings = prometheus::BuildCounter()
                                                          .Name("sluice_agent_config_reloads_total")
                                                          .Help("Readings of the standalone file, by result.")
                                                          .Register(registry);
  prometheus::Counter& good_reloads = readings.Add({{"result", "accepted"}});
  prometheus::Counter& bad_reloads = readings.Add({{"result", "refused"}});
  prometheus::Gauge& last_good = prometheus::BuildGauge()
                                     .Name("sluice_agent_config_last_reload_successful")
                                     .Help("1 when the standalone file as it is now is in force.")
                                     .Register(registry)
                                     .Add({});
  prometheus::Gauge& last_good_time = prometheus::BuildGauge()
                                          .Name("sluice_agent_config_last_reload_success_timestamp_seconds")
                                          .Help("When the standalone file was last taken over, since 1970.")
                                          .Register(registry)
                                          .Add({});
};

Metrics::Metrics(const std::string& version, const std::string& git_revision, Mode mode)
    : events_(std::make_unique<Events>()),
      reloads_(mode == Mode::standalone ? std::make_unique<Reloads>(*events_->registry) : nullptr) {
  prometheus::BuildGauge()
      .Name("sluice_agent_build_info")
      .Help("Version and git revision of this binary.")
      .Register(*events_->registry)
      .Add({{"version", version}, {"revision", git_revision}})
      .Set(1);
}

Metrics::~Metrics() = default;

void Metrics::pushed(std::chrono::duration<double> took, bool accepted) {
  (accepted ? events_->accepted : events_->refused).Increment();
  if (accepted) events_->duration.Observe(took.count());
}

void Metrics::reloaded(bool accepted, std::chrono::system_clock::time_point now) {
  if (!reloads_) return;
  (accepted ? reloads_->good_reloads : reloads_->bad_reloads).Increment();
  reloads_->last_good.Set(accepted ? 1 : 0);
  if (accepted) reloads_->last_good_time.Set(std::chrono::duration<double>(now.time_since_epoch()).count());
}

std::string Metrics::render(const Facts& facts, const dataplane::Counters& counters) const {
  Page page;
  add_facts(page, facts);
  add_reasons(page, counters);
  add_traffic(page, counters.services, {"service_packets_total", "service_bytes_total", "service_flows_total"},
              [](const dataplane::ServiceCounters& row) {
                return Labels{{"service", row.service}};
              });
  add_traffic(page, counters.backends, {"backend_packets_total", "backend_bytes_total", "backend_flows_total"},
              [](const dataplane::BackendCounters& row) {
                return Labels{{"service", row.service}, {"backend", backend_label(row.address, row.port)}};
              });
  return telemetry::render(*events_->registry) + page.text();
}

}  // namespace sluice::agent::health
