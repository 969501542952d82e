// This machine's own clients: which services' addresses are led to the programs for them. Pure.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "common/net/address.h"
#include "common/state/desired_state.h"
#include "node-agent/nexthop/ways.h"

namespace sluice::agent {

// Every service's, on every node: whoever announces an address, this machine's own clients are served here. Left out
// are `own`, this machine's own addresses; and those of a service with the policy Local that has no backend here and
// that this node does not announce: the nodes that do can serve it.
std::set<net::IpAddress> addresses_to_lead(const state::DesiredState& state, const std::string& node,
                                           const std::set<net::IpAddress>& own);

// Bytes of IP packet that fit each of these devices; 0: none is known.
uint16_t smallest_mtu(const std::set<uint32_t>& devices, const nexthop::NetworkView& view);

}  // namespace sluice::agent
