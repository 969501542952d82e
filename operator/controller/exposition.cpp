#include "operator/controller/exposition.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <initializer_list>
#include <utility>
#include <vector>

#include "common/version.h"

namespace sluice::controller {

namespace {

using Labels = std::initializer_list<std::pair<const char*, std::string>>;

// One family, value by value.
class Family {
 public:
  Family(const char* name, const char* help, prometheus::MetricType type) {
    family_.name = name;
    family_.help = help;
    family_.type = type;
  }
  template <typename Number>
  Family& add(Number value, Labels labels = {}) {
    prometheus::ClientMetric metric;
    for (const auto& [name, text] : labels) {
      metric.label.push_back({name, text});
    }
    if (family_.type == prometheus::MetricType::Counter) {
      metric.counter.value = static_cast<double>(value);
    } else {
      metric.gauge.value = static_cast<double>(value);
    }
    family_.metric.push_back(std::move(metric));
    return *this;
  }
  prometheus::MetricFamily take() { return std::move(family_); }

 private:
  prometheus::MetricFamily family_;
};

Family gauge(const char* name, const char* help) {
  return {name, help, prometheus::MetricType::Gauge};
}
Family counter(const char* name, const char* help) {
  return {name, help, prometheus::MetricType::Counter};
}

using Families = std::vector<prometheus::MetricFamily>;

void add_own(const Figures& figures, Families& families) {
  families.push_back(gauge("sluice_operator_build_info", "Always 1; what this build is.")
                         .add(1, {{"version", version()}, {"revision", git_revision()}})
                         .take());
  families.push_back(
      gauge("sluice_operator_leading", "1 while this replica leads.").add(figures.leading ? 1 : 0).take());
  families.push_back(
      gauge("sluice_operator_epoch", "Epoch of the last term this replica led.").add(figures.epoch).take());
  families.push_back(gauge("sluice_operator_revision", "Revision of the desired state.").add(figures.revision).take());
  families.push_back(
      gauge("sluice_operator_services", "Services (ports) in the desired state.").add(figures.services).take());
  families.push_back(
      gauge("sluice_operator_announced_addresses", "Addresses that a node announces.").add(figures.addresses).take());
  families.push_back(
      counter("sluice_operator_rounds_total", "Rounds of deciding what should be.").add(figures.rounds).take());
  families.push_back(
      counter("sluice_operator_round_seconds_total", "Time spent in rounds.").add(figures.round_seconds).take());
}

void add_agents(const Figures& figures, Families& families) {
  auto connected = gauge("sluice_operator_agent_connected", "1 while the session with the node's agent stands.");
  auto up_to_date = gauge("sluice_operator_agent_up_to_date", "1 while the agent's maps hold the newest state.");
  auto acked = gauge("sluice_operator_agent_acked_revision", "Newest revision the agent has read back from its maps.");
  auto failures = gauge("sluice_operator_agent_failed_services", "Services the agent could not program.");
  for (const auto& [node, agent] : figures.agents) {
    connected.add(agent.connected ? 1 : 0, {{"node", node}});
    up_to_date.add(agent.up_to_date ? 1 : 0, {{"node", node}});
    acked.add(agent.acked_revision, {{"node", node}});
    failures.add(agent.info.failures.size(), {{"node", node}});
  }
  for (auto* family : {&connected, &up_to_date, &acked, &failures}) {
    families.push_back(family->take());
  }
}

void add_api(const Figures& figures, Families& families) {
  auto objects = gauge("sluice_operator_watched_objects", "Objects in the operator's copy.");
  auto lists = counter("sluice_operator_lists_total", "Complete lists read.");
  auto changes = counter("sluice_operator_watch_events_total", "Changes received.");
  auto restarts = counter("sluice_operator_watch_restarts_total", "Watches that ended, by reason.");
  auto failures = counter("sluice_operator_list_failures_total", "Lists that failed, by reason.");
  for (const auto& [resource, stats] : figures.watches) {
    objects.add(stats.objects, {{"resource", resource}});
    lists.add(stats.lists, {{"resource", resource}});
    changes.add(stats.events, {{"resource", resource}});
    for (const auto& [reason, count] : stats.watch_restarts) {
      restarts.add(count, {{"resource", resource}, {"reason", reason}});
    }
    for (const auto& [reason, count] : stats.list_failures) {
      failures.add(count, {{"resource", resource}, {"reason", reason}});
    }
  }
  auto writes = counter("sluice_operator_writes_total", "Writes to the API server, by kind and outcome.");
  for (const char* kind : {"claim", "finalizer", "node", "status"}) {  // from the start, so that rates are right
    const auto found = figures.writes.find(kind);
    const auto counted = found == figures.writes.end() ? Writer::Outcomes{} : found->second;
    writes.add(counted.written, {{"kind", kind}, {"outcome", "written"}});
    writes.add(counted.overtaken, {{"kind", kind}, {"outcome", "overtaken"}});
    writes.add(counted.failed, {{"kind", kind}, {"outcome", "failed"}});
  }
  auto events = counter("sluice_operator_events_total", "Kubernetes events, by what became of them.");
  events.add(figures.events.sent, {{"outcome", "sent"}});
  events.add(figures.events.aggregated, {{"outcome", "aggregated"}});
  events.add(figures.events.dropped, {{"outcome", "dropped"}});
  for (auto* family : {&objects, &lists, &changes, &restarts, &failures, &writes, &events}) {
    families.push_back(family->take());
  }
}

}  // namespace

std::string expose(const Figures& figures) {
  Families families;
  add_own(figures, families);
  if (figures.leading) {  // a follower has no sessions, and an alert on that would be false
    add_agents(figures, families);
  }
  add_api(figures, families);
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace sluice::controller
