#include "operator/planner/resolve.h"

#include <algorithm>
#include <tuple>

#include "operator/planner/families.h"

namespace sluice::planner {
namespace {

using resources::ClusterState;
using resources::EndpointGuard;
using resources::LoadBalancer;
using resources::LoadBalancerBackend;
using resources::LoadBalancerPort;
using resources::OwnerKind;
using resources::PortEndpoints;
using resources::ServicePort;
using resources::SlicesByName;

// Of one service of the state. More would leave no room for history among state::kMaxBackends.
constexpr size_t kMaxEndpoints = state::kMaxBackends / 4;

state::Protocol protocol_of(const std::string& text) {
  return text == "UDP" ? state::Protocol::udp : state::Protocol::tcp;
}

state::Forwarding forwarding_of(const std::string& text) {
  if (text == "NAT") return state::Forwarding::nat;
  if (text == "Tunnel") return state::Forwarding::tunnel;
  if (text == "Direct") return state::Forwarding::direct;
  return state::Forwarding::automatic;
}

state::TrafficPolicy policy_of(const std::string& text) {
  return text == "Local" ? state::TrafficPolicy::local : state::TrafficPolicy::cluster;
}

// Acceptance has read them all.
std::vector<net::Prefix> prefixes(const std::vector<std::string>& texts) {
  std::vector<net::Prefix> out;
  for (const std::string& text : texts) {
    if (auto prefix = net::Prefix::parse_loosely(text)) out.push_back(*prefix);
  }
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

resources::Scope scope_of(const state::Service& service) {
  return service.traffic_policy == state::TrafficPolicy::local ? resources::Scope::node : resources::Scope::cluster;
}

const SlicesByName& slices_of(const ClusterState& cluster, const resources::ObjectKey& service) {
  static const SlicesByName none;
  const auto found = cluster.slices.find(service);
  return found == cluster.slices.end() ? none : *found->second;
}

// Puts services together and keeps count over all of them.
class Builder {
 public:
  // To the service that is added last.
  void add_endpoints(const PortEndpoints& endpoints, uint32_t group) {
    state::Service& service = out_.services.back();
    for (const resources::Endpoint& endpoint : endpoints.chosen) {
      if (service.backends.size() == kMaxEndpoints) {
        complain("TooManyEndpoints", "port " + std::to_string(service.port) + ": only the first " +
                                         std::to_string(kMaxEndpoints) + " endpoints are used");
        break;
      }
      service.backends.push_back({endpoint.address, endpoint.port, group, endpoint.node, endpoint.zone, 0, 0});
    }
    out_.counts.back()[group] = {endpoints.total, endpoints.ready};
    out_.ready_on.back().insert(endpoints.ready_on.begin(), endpoints.ready_on.end());
    for (const std::string& refused : endpoints.refused) {
      complain("EndpointsRefused",
               "endpoint " + refused + "; only the EndpointSlice controller may name such an address");
    }
  }

  void complain(const char* reason, const std::string& message) {
    out_.backends.good = false;
    if (out_.backends.reason.empty()) out_.backends.reason = reason;
    std::string& text = out_.backends.message;
    if (text.find(message) != std::string::npos) return;
    text += (text.empty() ? "" : "; ") + message;
  }

  // The one that was added last.
  [[nodiscard]] const state::Service& last() const { return out_.services.back(); }

  // With its groups, and without backends.
  void add(state::Service service) {
    out_.counts.emplace_back(service.groups.size());
    out_.ready_on.emplace_back();
    out_.services.push_back(std::move(service));
  }

  Resolved finish() && {
    if (!out_.backends.good) return std::move(out_);
    if (out_.count().ready == 0) {
      // Nothing is wrong with the spec: Pods may yet come.
      out_.backends = {true, "NoReadyEndpoints", "every backend exists, but none has a ready endpoint"};
    } else {
      out_.backends = {true, "Resolved", "every backend leads to a Service and port that exist"};
    }
    return std::move(out_);
  }

 private:
  Resolved out_;
};

// A port of a LoadBalancer and one of its backends, for the service that was added last.
struct BackendPort {
  const LoadBalancer& lb;
  const LoadBalancerPort& port;
  size_t group = 0;
  net::Family family = net::Family::ipv4;

  [[nodiscard]] const LoadBalancerBackend& backend() const { return lb.backends[group]; }
  [[nodiscard]] std::string where() const { return "spec.backends[" + backend().name + "]: "; }
  [[nodiscard]] const resources::PortRef& wanted() const {
    const auto& ports = backend().ports;
    const auto other = std::ranges::find(ports, port.name, [](const auto& entry) { return entry.first; });
    return other == ports.end() ? port.backend_port : other->second;
  }
};

// One outside the cluster. That it is there is not known: active health checks would tell.
void resolve_address(const BackendPort& at, const EndpointGuard& guard, Builder& builder) {
  const auto address = net::IpAddress::parse(at.backend().address);
  if (!address || address->family() != at.family) return;
  if (const std::string why = guard.refusal_outside(*address); !why.empty()) {
    builder.complain("BackendRefused", at.where() + address->to_string() + ": " + why);
  } else if (at.wanted().number == 0) {
    builder.complain("PortNotFound", at.where() + "port " + at.wanted().name + " (for port " + at.port.name +
                                         ") is a name, which only Services have; give a number");
  } else if (builder.last().traffic_policy == state::TrafficPolicy::local) {
    builder.complain("BackendRefused", at.where() + address->to_string() +
                                           " is on no node, and externalTrafficPolicy is Local; set it to Cluster");
  } else {
    PortEndpoints one;
    one.chosen.push_back({*address, at.wanted().number, "", ""});
    one.total = one.ready = 1;
    builder.add_endpoints(one, static_cast<uint32_t>(at.group));
  }
}

void resolve_backend(const BackendPort& at, const ClusterState& cluster, const EndpointGuard& guard, Builder& builder) {
  if (!at.backend().address.empty()) return resolve_address(at, guard, builder);
  const resources::ObjectKey key{at.lb.meta.key.ns, at.backend().service};
  const auto found = cluster.services.find(key);
  if (found == cluster.services.end()) {
    builder.complain("ServiceNotFound", at.where() + "Service " + key.text() + " does not exist");
    return;
  }
  const resources::Service& service = *found->second;
  if (service.type == "ExternalName") {
    builder.complain("ExternalName", at.where() + "Service " + key.text() +
                                         " is of type ExternalName, which has no endpoints; use another");
    return;
  }
  const ServicePort* service_port = find_port(service, at.wanted(), at.port.protocol);
  if (service_port == nullptr) {
    builder.complain("PortNotFound", at.where() + "Service " + key.text() + " has no " + at.port.protocol + " port " +
                                         at.wanted().text() + " (for port " + at.port.name +
                                         "); set backendPort to one it has");
    return;
  }
  if (!families_of(service).has(at.family)) {
    builder.complain("FamilyMismatch", at.where() + "Service " + key.text() + " has no " + name_of(at.family) +
                                           " endpoints; set its ipFamilyPolicy to PreferDualStack");
    return;
  }
  builder.add_endpoints(
      resolve_endpoints(service, *service_port, slices_of(cluster, key), at.family, scope_of(builder.last()), guard),
      static_cast<uint32_t>(at.group));
}

bool needs_guard(const resources::Service& service, const SlicesByName& slices) {
  return std::ranges::any_of(slices,
                             [&](const auto& entry) { return !service.has_selector || !entry.second->by_controller; });
}

}  // namespace

EndpointCount& EndpointCount::operator+=(const EndpointCount& more) {
  total += more.total;
  ready += more.ready;
  return *this;
}

EndpointCount Resolved::count() const {
  EndpointCount sum;
  for (const auto& groups : counts) {
    for (const EndpointCount& group : groups) sum += group;
  }
  return sum;
}

Resolved resolve(const resources::Service& service, const FamilyList& families, const ClusterState& cluster,
                 const EndpointGuard& guard) {
  Builder builder;
  const resources::ObjectKey& key = service.meta.key;
  state::Service wanted;
  wanted.forwarding = forwarding_of(service.meta.annotation("sluice.io/forwarding"));
  wanted.affinity = service.session_affinity == "ClientIP" ? state::Affinity::client_ip : state::Affinity::none;
  wanted.affinity_seconds = service.affinity_seconds;
  wanted.traffic_policy = policy_of(service.external_traffic_policy);
  wanted.allowed_sources = prefixes(service.source_ranges);
  wanted.groups.push_back({key.name, 1});
  for (const ServicePort& port : service.ports) {
    for (const net::Family family : families) {
      wanted.id =
          service_id({OwnerKind::service, key}, port.name.empty() ? std::to_string(port.port) : port.name, family);
      wanted.port = port.port;
      wanted.protocol = protocol_of(port.protocol);
      builder.add(wanted);
      builder.add_endpoints(resolve_endpoints(service, port, slices_of(cluster, key), family, scope_of(wanted), guard),
                            0);
    }
  }
  return std::move(builder).finish();
}

Resolved resolve(const LoadBalancer& lb, const FamilyList& families, const ClusterState& cluster,
                 const EndpointGuard& guard) {
  Builder builder;
  state::Service wanted;
  wanted.forwarding = forwarding_of(lb.forwarding);
  wanted.affinity = lb.client_ip_affinity ? state::Affinity::client_ip : state::Affinity::none;
  wanted.affinity_seconds = lb.affinity_seconds;
  wanted.traffic_policy = policy_of(lb.external_traffic_policy);
  wanted.allowed_sources = prefixes(lb.allowed_sources);
  wanted.drain_seconds = lb.drain_seconds;
  for (const LoadBalancerBackend& backend : lb.backends) wanted.groups.push_back({backend.name, backend.weight});
  for (const LoadBalancerPort& port : lb.ports) {
    for (const net::Family family : families) {
      wanted.id = service_id({OwnerKind::load_balancer, lb.meta.key}, port.name, family);
      wanted.port = port.port;
      wanted.protocol = protocol_of(port.protocol);
      builder.add(wanted);
      for (size_t i = 0; i < lb.backends.size(); ++i) {
        resolve_backend({lb, port, i, family}, cluster, guard, builder);
      }
    }
  }
  return std::move(builder).finish();
}

ResolveCache::Guard ResolveCache::guard(EndpointGuard now) {
  if (guard_ == nullptr || *guard_ != now) guard_ = std::make_shared<const EndpointGuard>(std::move(now));
  return guard_;
}

template <typename Object>
ResolveCache::Value ResolveCache::get_from(const Owner& owner, std::vector<std::shared_ptr<const void>> from,
                                           const FamilyList& families, bool guarded, const Object& object,
                                           const ClusterState& cluster, const Guard& guard) {
  Entry& entry = entries_[owner];
  entry.used = true;
  const Guard by = guarded ? guard : nullptr;
  if (entry.value != nullptr && entry.from == from && entry.families == families && entry.guard == by) {
    return entry.value;
  }
  entry.value = std::make_shared<const Resolved>(resolve(object, families, cluster, *guard));
  entry.from = std::move(from);
  entry.families = families;
  entry.guard = by;
  return entry.value;
}

ResolveCache::Value ResolveCache::get(const Owner& owner, const resources::Ptr<resources::Service>& service,
                                      const FamilyList& families, const ClusterState& cluster, const Guard& guard) {
  const auto slices = cluster.slices.find(owner.key);
  const bool any = slices != cluster.slices.end();
  return get_from(owner, {service, any ? slices->second : nullptr}, families,
                  any && needs_guard(*service, *slices->second), *service, cluster, guard);
}

ResolveCache::Value ResolveCache::get(const Owner& owner, const resources::Ptr<LoadBalancer>& lb,
                                      const FamilyList& families, const ClusterState& cluster, const Guard& guard) {
  std::vector<std::shared_ptr<const void>> from{lb};
  bool guarded = false;
  for (const LoadBalancerBackend& backend : lb->backends) {
    guarded = guarded || !backend.address.empty();
    const resources::ObjectKey key{owner.key.ns, backend.service};
    const auto service = cluster.services.find(key);
    const auto slices = cluster.slices.find(key);
    from.push_back(service == cluster.services.end() ? nullptr : service->second);
    from.push_back(slices == cluster.slices.end() ? nullptr : slices->second);
    if (service != cluster.services.end() && slices != cluster.slices.end()) {
      guarded = guarded || needs_guard(*service->second, *slices->second);
    }
  }
  return get_from(owner, std::move(from), families, guarded, *lb, cluster, guard);
}

void ResolveCache::end_round() {
  std::erase_if(entries_, [](const auto& entry) { return !entry.second.used; });
  for (auto& [owner, entry] : entries_) entry.used = false;
}

}  // namespace sluice::planner
