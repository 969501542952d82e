// Which tunnels a node has, from the desired state alone. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/state/desired_state.h"

namespace sluice::agent::tunnel {

// The tunnel to another node, and what its packets to us carry.
struct PlannedTunnel {
  net::IpAddress source;  // this node's, of the same family as `address`
  net::IpAddress address;
  uint16_t port = 0;                     // UDP, host order
  std::vector<net::IpAddress> underlay;  // the node's other addresses
  bool carries = false;                  // backends run there that packets may reach by it
  uint32_t key = 0;                      // the id of the one that `token` is of
  uint64_t token = 0;
  std::array<uint64_t, 2> accepted{};  // 0: none
  friend bool operator==(const PlannedTunnel&, const PlannedTunnel&) = default;
};

// A node's address of each family in tunnels: its first. The unspecified one of IPv4: none.
struct Underlay {
  net::IpAddress ipv4, ipv6;
};
Underlay underlay_of(const state::Node& node);

// By the other node's name: those with backends that this node may send to, and, where it has such backends itself, all
// that may send to it. IPv4 where both have it: both ends must come to the same pair of addresses. Empty without keys.
std::map<std::string, PlannedTunnel> plan_tunnels(const state::DesiredState& state, const std::string& node);

}  // namespace sluice::agent::tunnel
