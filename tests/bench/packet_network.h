// Where the programs run: a network namespace and a bpffs of this process's own, gone with it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "node-agent/dataplane/dataplane.h"

namespace sluice::bench {

// The node's interface, and another node's. Nothing is behind them.
inline constexpr const char* kInterface = "lan";
inline constexpr const char* kPeerInterface = "peer";
inline constexpr agent::dataplane::Mac kMac{0x02, 0x5b, 0, 0, 0, 0x01}, kPeerMac{0x02, 0x5b, 0, 0, 0, 0x02};
inline constexpr agent::dataplane::Mac kRouterMac{0x02, 0x5b, 0, 0, 0, 0xfe};

// Throws std::runtime_error that says what was refused. The node has 192.0.2.1/24, 2001:db8::1/64 and
// 2001:db8:18::c000:201; all of 198.18.0.0/15 (clients), 10.0.0.0/8 and 2001:db8:18::/48 lies behind a router.
void enter_network();
// An interface's index.
uint32_t index_of(const char* interface);
// Two more, for programs that shall be attached and never run.
std::array<uint32_t, 2> idle_indices();

}  // namespace sluice::bench
