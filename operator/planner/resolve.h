// From one Service or LoadBalancer to the services of the desired state that it wants, without addresses and history.
#pragma once

#include <memory>

#include "operator/planner/values.h"
#include "operator/resources/endpoints.h"

namespace sluice::planner {

struct Resolved {
  // `addresses` and `sizes` are empty, `joined` and `left` 0. Backends are in a canonical order: group, address, port.
  std::vector<state::Service> services;
  // Resolved and NoReadyEndpoints with True; ServiceNotFound, PortNotFound, ExternalName, EndpointsRefused and
  // TooManyEndpoints with False.
  Finding backends;
  size_t endpoints_total = 0;
  size_t endpoints_ready = 0;
};

Resolved resolve(const resources::Service& service, const resources::ClusterState& cluster,
                 const resources::EndpointGuard& guard);
Resolved resolve(const resources::LoadBalancer& load_balancer, const resources::ClusterState& cluster,
                 const resources::EndpointGuard& guard);

// Remembers what was resolved from which objects. Objects never change once they are in a ClusterState, so that the
// same pointers mean the same outcome. Not thread-safe.
class ResolveCache {
 public:
  using Value = std::shared_ptr<const Resolved>;
  Value get(const Owner& owner, const resources::Ptr<resources::Service>& service,
            const resources::ClusterState& cluster, const resources::EndpointGuard& guard);
  Value get(const Owner& owner, const resources::Ptr<resources::LoadBalancer>& load_balancer,
            const resources::ClusterState& cluster, const resources::EndpointGuard& guard);
  // Entries of a round that nobody asked for since the last call are dropped.
  void end_round();

 private:
  struct Entry {
    std::vector<std::shared_ptr<const void>> from;
    resources::EndpointGuard guard;
    bool guarded = false;  // some slice is not vouched for by the controller: the guard had a say
    bool used = false;
    Value value;
  };
  template <typename Object>
  Value get_from(const Owner& owner, std::vector<std::shared_ptr<const void>> from, bool guarded, const Object& object,
                 const resources::ClusterState& cluster, const resources::EndpointGuard& guard);
  std::map<Owner, Entry> entries_;
};

}  // namespace sluice::planner
