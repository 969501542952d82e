// From the cluster and the state in force to what is asked of the allocator.
#pragma once

#include "operator/planner/values.h"

namespace sluice::planner {

// Which owner a service of the state belongs to, from its id; nullopt: none of ours ("web/http" of a file).
std::optional<Owner> owner_of(const std::string& service_id);

// One for each Service of our class and each LoadBalancer, and for each Service that was ours and is not torn down yet.
std::vector<ipam::Request> make_requests(const resources::ClusterState& cluster, const state::DesiredState& previous,
                                         const Options& options);

}  // namespace sluice::planner
