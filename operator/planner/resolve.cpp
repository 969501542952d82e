#include "operator/planner/resolve.h"

#include <algorithm>
#include <tuple>

namespace sluice::planner {
namespace {

using resources::ClusterState;
using resources::EndpointGuard;
using resources::LoadBalancer;
using resources::LoadBalancerBackend;
using resources::LoadBalancerPort;
using resources::PortEndpoints;
using resources::ServicePort;
using resources::SlicesByName;

// Of one service of the state. More would leave no room for history among state::kMaxBackends.
constexpr size_t kMaxEndpoints = state::kMaxBackends / 4;

state::Protocol protocol_of(const std::string& text) {
  return text == "UDP" ? state::Protocol::udp : state::Protocol::tcp;
}

state::Forwarding forwarding_of(const std::string& text) {
  return text == "NAT" ? state::Forwarding::nat : state::Forwarding::automatic;
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

  // With its groups, and without backends.
  void add(state::Service service) {
    out_.counts.emplace_back(service.groups.size());
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

void resolve_backend(const LoadBalancer& lb, const LoadBalancerPort& port, size_t group, const ClusterState& cluster,
                     const EndpointGuard& guard, Builder& builder) {
  const LoadBalancerBackend& backend = lb.backends[group];
  const std::string where = "spec.backends[" + backend.name + "]: ";
  const resources::ObjectKey key{lb.meta.key.ns, backend.service};
  const auto found = cluster.services.find(key);
  if (found == cluster.services.end()) {
    builder.complain("ServiceNotFound", where + "Service " + key.text() + " does not exist");
    return;
  }
  if (found->second->type == "ExternalName") {
    builder.complain("ExternalName",
                     where + "Service " + key.text() + " is of type ExternalName, which has no endpoints; use another");
    return;
  }
  const auto other = std::ranges::find(backend.ports, port.name, [](const auto& entry) { return entry.first; });
  const resources::PortRef& wanted = other == backend.ports.end() ? port.backend_port : other->second;
  const ServicePort* service_port = find_port(*found->second, wanted, port.protocol);
  if (service_port == nullptr) {
    builder.complain("PortNotFound", where + "Service " + key.text() + " has no " + port.protocol + " port " +
                                         wanted.text() + " (for port " + port.name +
                                         "); set backendPort to one it has");
    return;
  }
  const PortEndpoints endpoints =
      resolve_endpoints(*found->second, *service_port, slices_of(cluster, key), net::Family::ipv4, guard);
  builder.add_endpoints(endpoints, static_cast<uint32_t>(group));
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

Resolved resolve(const resources::Service& service, const ClusterState& cluster, const EndpointGuard& guard) {
  Builder builder;
  for (const ServicePort& port : service.ports) {
    state::Service wanted;
    const resources::ObjectKey& key = service.meta.key;
    wanted.id =
        "Service/" + key.ns + "/" + key.name + "/" + (port.name.empty() ? std::to_string(port.port) : port.name);
    wanted.port = port.port;
    wanted.protocol = protocol_of(port.protocol);
    wanted.forwarding = forwarding_of(service.meta.annotation("sluice.io/forwarding"));
    wanted.affinity = service.session_affinity == "ClientIP" ? state::Affinity::client_ip : state::Affinity::none;
    wanted.groups.push_back({key.name, 1});
    builder.add(std::move(wanted));
    builder.add_endpoints(resolve_endpoints(service, port, slices_of(cluster, key), net::Family::ipv4, guard), 0);
  }
  return std::move(builder).finish();
}

Resolved resolve(const LoadBalancer& lb, const ClusterState& cluster, const EndpointGuard& guard) {
  Builder builder;
  for (const LoadBalancerPort& port : lb.ports) {
    state::Service wanted;
    wanted.id = "LoadBalancer/" + lb.meta.key.ns + "/" + lb.meta.key.name + "/" + port.name;
    wanted.port = port.port;
    wanted.protocol = protocol_of(port.protocol);
    wanted.forwarding = forwarding_of(lb.forwarding);
    wanted.affinity = lb.client_ip_affinity ? state::Affinity::client_ip : state::Affinity::none;
    wanted.drain_seconds = lb.drain_seconds;
    for (const LoadBalancerBackend& backend : lb.backends) wanted.groups.push_back({backend.name, backend.weight});
    builder.add(std::move(wanted));
    for (size_t i = 0; i < lb.backends.size(); ++i) resolve_backend(lb, port, i, cluster, guard, builder);
  }
  return std::move(builder).finish();
}

ResolveCache::Guard ResolveCache::guard(EndpointGuard now) {
  if (guard_ == nullptr || *guard_ != now) guard_ = std::make_shared<const EndpointGuard>(std::move(now));
  return guard_;
}

template <typename Object>
ResolveCache::Value ResolveCache::get_from(const Owner& owner, std::vector<std::shared_ptr<const void>> from,
                                           bool guarded, const Object& object, const ClusterState& cluster,
                                           const Guard& guard) {
  Entry& entry = entries_[owner];
  entry.used = true;
  const Guard by = guarded ? guard : nullptr;
  if (entry.value != nullptr && entry.from == from && entry.guard == by) return entry.value;
  entry.value = std::make_shared<const Resolved>(resolve(object, cluster, *guard));
  entry.from = std::move(from);
  entry.guard = by;
  return entry.value;
}

ResolveCache::Value ResolveCache::get(const Owner& owner, const resources::Ptr<resources::Service>& service,
                                      const ClusterState& cluster, const Guard& guard) {
  const auto slices = cluster.slices.find(owner.key);
  const bool any = slices != cluster.slices.end();
  return get_from(owner, {service, any ? slices->second : nullptr}, any && needs_guard(*service, *slices->second),
                  *service, cluster, guard);
}

ResolveCache::Value ResolveCache::get(const Owner& owner, const resources::Ptr<LoadBalancer>& lb,
                                      const ClusterState& cluster, const Guard& guard) {
  std::vector<std::shared_ptr<const void>> from{lb};
  bool guarded = false;
  for (const LoadBalancerBackend& backend : lb->backends) {
    const resources::ObjectKey key{owner.key.ns, backend.service};
    const auto service = cluster.services.find(key);
    const auto slices = cluster.slices.find(key);
    from.push_back(service == cluster.services.end() ? nullptr : service->second);
    from.push_back(slices == cluster.slices.end() ? nullptr : slices->second);
    if (service != cluster.services.end() && slices != cluster.slices.end()) {
      guarded = guarded || needs_guard(*service->second, *slices->second);
    }
  }
  return get_from(owner, std::move(from), guarded, *lb, cluster, guard);
}

void ResolveCache::end_round() {
  std::erase_if(entries_, [](const auto& entry) { return !entry.second.used; });
  for (auto& [owner, entry] : entries_) entry.used = false;
}

}  // namespace sluice::planner
