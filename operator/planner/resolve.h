// From one Service or LoadBalancer to the services of the desired state that it wants, without addresses and history.
#pragma once

#include <memory>

#include "operator/planner/values.h"
#include "operator/resources/endpoints.h"

namespace sluice::planner {

struct EndpointCount {
  size_t total = 0;  // different {address, port} of any condition
  size_t ready = 0;  // of these, those that are ready
  EndpointCount& operator+=(const EndpointCount& more);
};

struct Resolved {
  // One for each port and family. `addresses` and `sizes` are empty, `joined` and `left` 0. Backends are in a canonical
  // order: group, address, port.
  std::vector<state::Service> services;
  std::vector<std::vector<EndpointCount>> counts;  // as `services`, each as its groups
  // As `services`: of those with policy Local the nodes with a ready endpoint.
  std::vector<std::set<std::string>> ready_on;
  // Resolved and NoReadyEndpoints with True; ServiceNotFound, PortNotFound, ExternalName, EndpointsRefused,
  // TooManyEndpoints, FamilyMismatch and BackendRefused with False.
  Finding backends;

  [[nodiscard]] EndpointCount count() const;  // of all services and groups
};

using FamilyList = std::vector<net::Family>;  // ascending, without duplicates

// `families`: those that it has addresses of.
Resolved resolve(const resources::Service& service, const FamilyList& families, const resources::ClusterState& cluster,
                 const resources::EndpointGuard& guard);
Resolved resolve(const resources::LoadBalancer& load_balancer, const FamilyList& families,
                 const resources::ClusterState& cluster, const resources::EndpointGuard& guard);

// Remembers what was resolved from which objects. Objects never change once they are in a ClusterState, so that the
// same pointers mean the same outcome. Not thread-safe.
class ResolveCache {
 public:
  using Value = std::shared_ptr<const Resolved>;
  using Guard = std::shared_ptr<const resources::EndpointGuard>;
  // The guard to get() with in this round: the one of the round before where both forbid the same. There is one copy of
  // it, however many entries depend on it, and it is compared once a round.
  Guard guard(resources::EndpointGuard now);
  Value get(const Owner& owner, const resources::Ptr<resources::Service>& service, const FamilyList& families,
            const resources::ClusterState& cluster, const Guard& guard);
  Value get(const Owner& owner, const resources::Ptr<resources::LoadBalancer>& load_balancer,
            const FamilyList& families, const resources::ClusterState& cluster, const Guard& guard);
  // Entries of a round that nobody asked for since the last call are dropped.
  void end_round();

 private:
  struct Entry {
    std::vector<std::shared_ptr<const void>> from;
    FamilyList families;
    Guard guard;  // null: every slice is vouched for by the controller, and the guard had no say
    bool used = false;
    Value value;
  };
  template <typename Object>
  Value get_from(const Owner& owner, std::vector<std::shared_ptr<const void>> from, const FamilyList& families,
                 bool guarded, const Object& object, const resources::ClusterState& cluster, const Guard& guard);
  std::map<Owner, Entry> entries_;
  Guard guard_;
};

}  // namespace sluice::planner
