// A network device's settings, as ethtool(8) and the kernel's netdev family show them. Internal to health/.
#pragma once

#include <string>

#include "common/result.h"
#include "node-agent/health/node_checks.h"

namespace sluice::agent::health {

// Without what /proc/sys says of it. Fails where there is no such device; what a driver does not tell is nothing.
Result<DeviceFacts> read_device(const std::string& name);

}  // namespace sluice::agent::health
