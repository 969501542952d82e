// Waiting until no program that ran when the wait began is still running: what they may have read can be written anew
// then.
#pragma once

#include "common/result.h"

namespace sluice::agent::dataplane {

// Blocks for as long as an RCU grace period takes, 8 to 25 ms as a rule. XDP programs run inside of one.
Status wait_for_grace_period();

// The two ways, by themselves: membarrier(2), which a kernel with nohz_full CPUs refuses, and replacing an element of a
// map of maps, which the kernel finishes only after a grace period.
Status grace_by_membarrier();
Status grace_by_map_of_maps();

}  // namespace sluice::agent::dataplane
