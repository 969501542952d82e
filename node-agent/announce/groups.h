// Which multicast groups a node has to be in to be asked for its addresses: neighbour solicitations go to the
// solicited-node group of their target (RFC 4861, section 7.2.2), and a network interface drops what goes to groups
// that nobody here has joined, before any program sees it. Pure.
#pragma once

#include <compare>
#include <cstdint>
#include <set>
#include <vector>

#include "common/net/address.h"
#include "node-agent/announce/ownership.h"
#include "node-agent/dataplane/dataplane.h"

namespace sluice::agent::announce {

struct Group {
  uint32_t ifindex = 0;
  net::IpAddress address;  // IPv6, multicast
  friend auto operator<=>(const Group&, const Group&) = default;
};

// ff02::1:ffXX:XXXX with the last 24 bits of an IPv6 address (RFC 4291, section 2.7.1).
net::IpAddress solicited_node(const net::IpAddress& address);

// Where a group's frames go (RFC 2464, section 7).
dataplane::Mac multicast_mac(const net::IpAddress& group);

// Of every IPv6 address, on the device that it is asked for on; several addresses of a device may share one.
std::set<Group> solicited_node_groups(const std::vector<dataplane::OwnedAddress>& owned,
                                      const std::vector<VlanDevice>& vlans);

}  // namespace sluice::agent::announce
