// Passes over the flow tables. Internal to dataplane/.
#pragma once

#include <array>
#include <cstdint>

#include "common/result.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/dataplane/maps.h"
#include "node-agent/program/programmer.h"

namespace sluice::agent::dataplane {

enum class FlowTableKind : uint8_t { established, half_open };

// How long a flow in this state may be idle. `control`: its record's. `affinity`: of its service, in seconds.
std::chrono::seconds idle_time(const IdleTimes& idle, FlowTableKind table, uint64_t tuple, uint64_t control,
                               uint32_t affinity);

class FlowSweeper {
 public:
  // Removes the flows that have been idle for too long at `now` (jiffies) and counts the others; puts in order what
  // interrupted writers have left since before the last pass. One that is woken in between stays.
  SweepOutcome sweep(const Maps& maps, const program::Programmer& programmer, program::NatPorts ports,
                     const IdleTimes& idle, uint32_t now);

 private:
  std::array<program::Leftovers, 4> leftovers_;
  std::array<program::ShareDrift, 4> drift_;
  uint32_t passes_ = 0;
};

}  // namespace sluice::agent::dataplane
