// The packet filter's chains for forwarded packets, and what becomes of packets that none of their rules accepts. By
// the kernel's own interfaces: the tools' output changes, and neither nft nor iptables is in every image. Internal to
// health/.
#pragma once

#include <vector>

#include "common/result.h"
#include "node-agent/health/node_checks.h"

namespace sluice::agent::health {

// Base chains at the forward hook: nftables', and what iptables-nft makes there.
Result<std::vector<ForwardChain>> read_nftables_forward();

// FORWARD of the filter tables of iptables-legacy and ip6tables-legacy, where these are in use. Does not load them.
Result<std::vector<ForwardChain>> read_legacy_forward();

}  // namespace sluice::agent::health
