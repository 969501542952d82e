// Where there is no operator, the agent plans for itself: from the file's services and what was there before to the
// next desired state, and when history has served. Pure.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/state/desired_state.h"

namespace sluice::agent::config {

inline constexpr const char* kStandaloneCluster = "standalone";

// The state that follows `previous` (nullptr: none yet, begin with `key`) when `services` are wanted on `node`. A
// changed content has the next revision; without a change the outcome equals `previous`. This node announces every
// address.
state::DesiredState plan_standalone(const state::DesiredState* previous, const std::vector<state::Service>& services,
                                    const std::string& node, const std::array<uint64_t, 2>& key);

// Remembers since when each boundary of each service stands, and says what may be forgotten.
class Retirement {
 public:
  using Clock = std::chrono::steady_clock;
  // To be called with what stands in the maps, each time it has changed and before asking `retire`.
  void observe(const state::DesiredState& state, Clock::time_point now);
  // The state without the history of services that no live flow needs (`with_old_flows` names those that do, as of a
  // sweep made after `observe`) and whose drain time has passed; nullopt where nothing can be forgotten.
  [[nodiscard]] std::optional<state::DesiredState> retire(const state::DesiredState& state,
                                                          const std::set<std::string>& with_old_flows,
                                                          Clock::time_point now) const;

 private:
  std::map<std::string, std::map<state::Revision, Clock::time_point>> since_;
};

}  // namespace sluice::agent::config
