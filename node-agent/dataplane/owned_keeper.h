// The addresses that this node answers ARP and NDP for, as they stand in their map. Internal to dataplane/.
#pragma once

#include <chrono>
#include <optional>
#include <set>
#include <vector>

#include "common/result.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/dataplane/maps.h"

namespace sluice::agent::dataplane {

class OwnedKeeper {
 public:
  // See Dataplane::set_owned.
  OwnedOutcome set(const Maps& maps, const std::set<OwnedAddress>& wanted, std::chrono::nanoseconds valid_for);
  // See Dataplane::owned.
  static Result<std::vector<OwnedAddress>> answered(const Maps& maps);

 private:
  Status find(const Maps& maps);
  std::optional<std::set<OwnedAddress>> there_;  // what the map holds; nullopt: not known yet
};

}  // namespace sluice::agent::dataplane
