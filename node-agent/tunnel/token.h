// What proves that a packet in a tunnel comes from the node that it says. Pure.
#pragma once

#include <cstdint>

#include "common/state/desired_state.h"

namespace sluice::agent::tunnel {

// The token of packets from `source` to `destination`, underlay addresses of one family, as it lies in the packet.
// HMAC-SHA-256 (RFC 2104) of both, its first 64 bits: who has seen one node's packets knows nothing of another's. Never
// 0, which stands for none.
uint64_t token(const state::TunnelKey& key, const net::IpAddress& source, const net::IpAddress& destination);

}  // namespace sluice::agent::tunnel
