// The program on tc egress: a classifier of our own priority and handle on clsact. Internal to dataplane/.
#pragma once

#include <cstdint>
#include <string>

#include "common/result.h"

namespace sluice::agent::dataplane {

// Puts the program on the interface's egress, in the place of an earlier one of ours. Refuses (conflict) where somebody
// else's classifier has our place.
Status attach_egress(uint32_t ifindex, const std::string& interface, int program);

// What a refusal to attach is called. `error`: errno; `feature`: the kernel option and module that ENOENT tells the
// lack of.
tl::unexpected<Error> egress_refused(int error, const char* operation, const std::string& interface,
                                     const char* feature);

// Takes ours off, and clsact with it where nothing else is on it. Fine where nothing of ours is there.
Status detach_classifiers(uint32_t ifindex, const std::string& interface);

// Whether a classifier of ours is there.
Result<bool> has_egress(uint32_t ifindex, const std::string& interface);

}  // namespace sluice::agent::dataplane
