// Between the cluster's nodes, the publisher and the planner. Pure.
#pragma once

#include <map>
#include <string>

#include "operator/planner/values.h"
#include "operator/publish/publisher.h"
#include "operator/resources/cluster_state.h"

namespace sluice::controller {

// Where each node's agent listens: its first InternalIP. Nodes without one have no agent.
std::map<std::string, publish::Endpoint> agent_endpoints(const resources::ClusterState& cluster, uint16_t port);

planner::Agents to_planner(const publish::Progress& progress);

// The highest epoch that an agent has refused this term's for; 0: none has.
state::Epoch refused_for(const publish::Progress& progress, state::Epoch epoch);

}  // namespace sluice::controller
