// The kernel's counters, summed over its CPUs. Internal to dataplane/.
#pragma once

#include <vector>

#include "common/result.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/dataplane/maps.h"
#include "node-agent/program/programmer.h"

namespace sluice::agent::dataplane {

// Of what is programmed.
Result<Counters> read_counters(const Maps& maps, const program::Programmer& programmer);

// Keeps counters with whom they count for, as indices change hands.
class CounterKeeper {
 public:
  // `fresh`: nothing has been counted by any index yet.
  CounterKeeper(const program::Sizes& sizes, bool fresh)
      : services_(sizes.services, !fresh), backends_(sizes.backends, !fresh) {}
  // Before the plan's stores are made.
  Status prepare(const Maps& maps, const program::Plan& plan);

 private:
  std::vector<bool> services_;  // may hold counts of an earlier owner
  std::vector<bool> backends_;
};

}  // namespace sluice::agent::dataplane
