#include "operator/controller/succession.h"

#include <algorithm>
#include <tuple>

namespace sluice::controller {

Succession succeed(const std::map<std::string, Result<publish::AgentInfo>>& answers, state::Epoch lease_epoch,
                   const std::string& cluster_id) {
  Succession succession{.epoch = lease_epoch, .revision = 0, .from = std::nullopt};
  // Of equal ones that of an agent which knows all fields.
  std::tuple<state::Epoch, state::Revision, uint32_t> latest{0, 0, 0};
  for (const auto& [node, answer] : answers) {
    if (!answer || answer->cluster_id != cluster_id) {
      continue;
    }
    succession.epoch = std::max(succession.epoch, answer->epoch);
    succession.revision = std::max(succession.revision, answer->revision);
    const std::tuple held{answer->epoch, answer->revision, answer->contract};
    if (answer->digest && (!succession.from || held > latest)) {
      succession.from = node;
      latest = held;
    }
  }
  ++succession.epoch;
  return succession;
}

std::vector<std::string> missed(const std::map<std::string, Result<publish::AgentInfo>>& answers,
                                const resources::ClusterState& cluster) {
  std::vector<std::string> nodes;
  for (const auto& [node, answer] : answers) {
    const auto known = cluster.nodes.find(node);
    if (!answer && known != cluster.nodes.end() && known->second->ready && cluster.load_balancer_nodes.contains(node)) {
      nodes.push_back(node);
    }
  }
  return nodes;
}

bool Patience::spent(Clock::time_point now) {
  ends_ = ends_.value_or(now + kLasts);
  return now >= *ends_;
}

}  // namespace sluice::controller
