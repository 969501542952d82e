// What stays in force of an object whose present spec is not accepted: an edit that cannot be built changes nothing but
// the endpoints, which come and go on their own. Pure.
#pragma once

#include "operator/planner/resolve.h"

namespace sluice::planner {

using InForce = std::vector<const state::Service*>;

// The services that the state has of this owner.
InForce in_force_of(const Owner& owner, const state::DesiredState& state);

// The services of `in_force` once more, with their addresses, groups and all else that came from the spec, and with the
// endpoints of `now`, the present spec's outcome. A group whose backend or port the present spec does not name, or
// names in vain, keeps the members it has. One that had no member within the service's history is not known of any
// more: it comes back with a spec that is accepted, or, where no group is known at all, as the present spec has it.
Resolved carry_on(const resources::Service& service, const InForce& in_force, const Resolved& now);
Resolved carry_on(const resources::LoadBalancer& load_balancer, const InForce& in_force, const Resolved& now,
                  const resources::ClusterState& cluster);

}  // namespace sluice::planner
