// One pass over the flow table. Internal to dataplane/.
#pragma once

#include "common/result.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/dataplane/maps.h"
#include "node-agent/program/programmer.h"

namespace sluice::agent::dataplane {

// Deletes the flows that have been idle for too long at `now` (ns, CLOCK_MONOTONIC) and counts the others. A flow is
// read again right before it is deleted; one that is woken between that reading and the deletion, some microseconds,
// loses its record and is taken up again by its next packet.
Result<SweepOutcome> sweep_flows(const Maps& maps, const program::Programmer& programmer, const IdleTimes& idle,
                                 uint64_t now);

// How long a flow in this state may be idle.
std::chrono::seconds idle_time(const IdleTimes& idle, uint8_t protocol, uint8_t state);

}  // namespace sluice::agent::dataplane
