#include "operator/controller/agents.h"

#include <algorithm>

namespace sluice::controller {

std::map<std::string, publish::Endpoint> agent_endpoints(const resources::ClusterState& cluster, uint16_t port) {
  std::map<std::string, publish::Endpoint> endpoints;
  for (const auto& [name, node] : cluster.nodes) {
    const auto address =
        std::ranges::find_if(node->addresses, [](const auto& candidate) { return candidate.type == "InternalIP"; });
    if (address != node->addresses.end()) {
      endpoints.emplace(name, publish::Endpoint{.address = address->address, .port = port, .ready = node->ready});
    }
  }
  return endpoints;
}

planner::Agents to_planner(const publish::Progress& progress) {
  planner::Agents agents;
  for (const auto& [node, known] : progress) {
    planner::Agent agent;
    agent.connected = known.connected;
    agent.since = known.since;
    agent.error = known.error;
    agent.seen = !known.info.node.empty();
    agent.version = known.info.version;
    agent.start_time = known.info.start_time;
    agent.acked_revision = known.acked_revision;
    agent.lagging_since = known.lagging_since;
    for (const auto& failure : known.info.failures) {
      agent.failures.push_back({failure.service, failure.reason, failure.message});
    }
    if (known.refusal != publish::Refusal::none) {
      agent.refusal = known.refusal_message;
    }
    for (const auto& interface : known.status.interfaces) {
      agent.interfaces.push_back({interface.name, interface.mode, interface.driver});
    }
    for (const auto& condition : known.status.conditions) {
      agent.conditions.push_back({condition.type, condition.status, condition.reason, condition.message});
    }
    agent.announcing = known.status.announcing;
    agent.services_with_old_flows.insert(known.status.services_with_old_flows.begin(),
                                         known.status.services_with_old_flows.end());
    for (const auto& one : known.status.leaving) {
      agent.leaving[one.service].push_back({one.address, one.port, one.flows});
    }
    agents.emplace(node, std::move(agent));
  }
  return agents;
}

state::Epoch refused_for(const publish::Progress& progress, state::Epoch epoch) {
  state::Epoch highest = 0;
  for (const auto& [node, known] : progress) {
    if (known.refusal == publish::Refusal::epoch_too_low && known.highest_epoch >= epoch) {
      highest = std::max(highest, known.highest_epoch);
    }
  }
  return highest;
}

}  // namespace sluice::controller
