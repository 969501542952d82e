// Reads what node_checks decides on: /proc/sys, the devices' own settings, and the packet filter.
#pragma once

#include <string>
#include <vector>

#include "node-agent/health/node_checks.h"

namespace sluice::agent::health {

// Of this thread's network namespace and these interfaces; those that are not there are left out. Never fails as a
// whole: what could not be read is nothing, and in `unreadable`. Needs CAP_NET_ADMIN for the packet filter.
// Milliseconds.
NodeFacts read_node_facts(const std::vector<std::string>& interfaces);

}  // namespace sluice::agent::health
