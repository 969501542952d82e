// Which new backends are listed before they join the choice. Pure.
//
// A packet that is tunnelled to a backend's node is taken there only for a backend that the node knows, so that the
// node has to be told first. What nat or direct leads to needs no such care, nor does policy Local, whose nodes serve
// their own endpoints only.
#pragma once

#include "operator/planner/values.h"

namespace sluice::planner {

// A node that has not acknowledged a backend by then is not waited for any longer: it gets flows that it may have to
// refuse for a moment. Well above what a push takes (some ten milliseconds; a second for the largest states), and below
// what clients and a rollout notice of capacity that comes late.
constexpr std::chrono::seconds kMostWaiting{2};
// The same where the node's agent is away, as on a node that comes back: its pods are ready before its agent is, and
// its programs answer for their tunnels with what they had before. One that has never been there is not waited for.
constexpr std::chrono::seconds kMostWaitingForAbsent{15};

class Waiting {
 public:
  struct Input {
    const state::DesiredState& previous;
    const Agents& agents;
    const Memory& memory;
    Time now;
  };
  explicit Waiting(const Input& input) : input_(input) {}

  // Says of each backend of `wanted`, with `joined` = kNotYet, that it is not to join yet. `before`: the service as it
  // is in force; nullptr: it is new. Returns when the first of those that are listed joins in any case.
  std::optional<Time> mark(const state::Service* before, state::Service& wanted) const;

  // What to remember of a service as it will be at `revision`.
  [[nodiscard]] std::map<Memory::Endpoint, Memory::Listed> remember(const state::Service& next,
                                                                    state::Revision revision) const;

 private:
  // Who is to know the backend first; nullptr: nobody.
  [[nodiscard]] const Agent* agent_of(const state::Backend& backend) const;
  // Since when it is listed, as far as this term knows.
  [[nodiscard]] Memory::Listed listed(const std::string& service, const state::Backend& backend) const;

  Input input_;
};

}  // namespace sluice::planner
