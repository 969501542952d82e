// Which counts of leaving backends' flows the operator is told, and when. Pure.
#pragma once

#include <chrono>
#include <optional>
#include <vector>

#include "node-agent/dataplane/dataplane.h"

namespace sluice::agent {

// A count that has changed alone is told no more often than this: each report costs the operator a round.
constexpr std::chrono::seconds kCountsEvery{10};

class DrainReport {
 public:
  using Clock = std::chrono::steady_clock;

  // What to tell, of what the last sweep has found: that, or what was told before where nothing but counts has changed
  // since, and not long ago. A backend that is the first time among them, or no more, is told of at once.
  const std::vector<dataplane::LeavingFlows>& take(const std::vector<dataplane::LeavingFlows>& found,
                                                   Clock::time_point now);

 private:
  std::vector<dataplane::LeavingFlows> told_;
  std::optional<Clock::time_point> at_;
};

}  // namespace sluice::agent
