// The kernel's rtnetlink messages as values. Pure; what a message says that is shorter than it ought to be is nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "node-agent/nexthop/ways.h"

struct nlmsghdr;

namespace sluice::agent::nexthop {

// RTM_NEWLINK of any device; nullopt: not that, or another family's view of the device (a bridge's of its ports).
std::optional<Link> parse_link(const nlmsghdr* message);

// RTM_NEWADDR; nullopt: not that, or the address turned out to be another machine's.
std::optional<net::IpAddress> parse_address(const nlmsghdr* message);

// RTM_NEWROUTE: the devices by which the main table's default route leaves, several of a multipath route; empty: it is
// no such route.
std::vector<uint32_t> parse_default_devices(const nlmsghdr* message);

// RTM_NEWROUTE as the answer to a question for one address; nullopt: not that. `mtu` is what the answer says, be it
// learnt.
std::optional<Route> parse_route(const nlmsghdr* message);

struct NeighbourChange {
  NeighbourKey key;
  Neighbour neighbour;
  bool deleted = false;
};
// RTM_NEWNEIGH, RTM_DELNEIGH; nullopt: not that, or no IP neighbour (a bridge's forwarding entry, a proxy's).
std::optional<NeighbourChange> parse_neighbour(const nlmsghdr* message);

}  // namespace sluice::agent::nexthop
