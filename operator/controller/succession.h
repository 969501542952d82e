// How a new leader continues from what the agents hold. Pure.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "operator/publish/publisher.h"
#include "operator/resources/cluster_state.h"

namespace sluice::controller {

struct Succession {
  state::Epoch epoch = 0;           // of the new term: higher than any that is known of
  state::Revision revision = 0;     // the highest that any agent holds: the next one is above it
  std::optional<std::string> from;  // the node whose agent holds the latest state; none: nobody holds any
};

// `lease_epoch`: from the Lease's annotation. Agents that belong to another cluster, as after a node has moved, do not
// count.
Succession succeed(const std::map<std::string, Result<publish::AgentInfo>>& answers, state::Epoch lease_epoch,
                   const std::string& cluster_id);

// Nodes whose agent did not answer and may hold a state: Ready, and an agent was reached there before.
std::vector<std::string> missed(const std::map<std::string, Result<publish::AgentInfo>>& answers,
                                const resources::ClusterState& cluster);

// How long a new leader that nobody has given a state holds back for agents that it has missed: those of nodes that
// came up together with the operator are a little later than it.
class Patience {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kLasts{60};
  // True once kLasts has passed since the first call.
  bool spent(Clock::time_point now);

 private:
  std::optional<Clock::time_point> ends_;
};

}  // namespace sluice::controller
