// The node link: how this machine's own clients (its processes, its pods) reach the XDP programs, which see only what
// comes in by an interface. A veth pair with both ends here. Routes lead what is for a service's address into the near
// end; the programs stand on the far end, as on a network card, and what they answer comes back by the near end.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/net/address.h"
#include "common/result.h"
#include "node-agent/dataplane/network.h"

namespace sluice::agent::dataplane {

inline constexpr const char* kNodeLinkNear = "sluice0";
inline constexpr const char* kNodeLinkFar = "sluice1";
[[nodiscard]] inline bool is_node_link(const std::string& interface) {
  return interface == kNodeLinkNear || interface == kNodeLinkFar;
}

struct NodeLink {
  uint32_t near = 0, far = 0;  // ifindex
  Mac mac{};                   // of both
  uint16_t mtu = 0;            // of both, bytes of IP packet
  // What backends on this machine see clients on this machine come from: nobody's addresses, one of each family, routed
  // into the link.
  std::vector<net::IpAddress> sources;
  friend bool operator==(const NodeLink&, const NodeLink&) = default;
};

// Makes the devices, or puts right what differs of them. `before`: what they were, nullptr where it is not known: they
// are made with the same numbers where they are gone and these are free, so that flows find their way back. Fails with
// conflict where somebody else has a device of such a name.
Result<NodeLink> keep_node_link(uint16_t mtu, const NodeLink* before);

// Which source this machine's own processes get towards an address that is led to the programs; 0.0.0.0 or a source of
// the other family: the kernel chooses.
using LedAddresses = std::map<net::IpAddress, net::IpAddress>;

// Leads these and only these addresses into the node link, by rules and a table of our own; with none the rules go too.
// Goes on past what fails, and says the first of it.
Status lead_into_node_link(const NodeLink& link, const LedAddresses& addresses);

// This machine's address for packets that leave by one of these devices for `to`; 0.0.0.0 where there is no such way.
Result<net::IpAddress> own_address_towards(const net::IpAddress& to, const std::vector<uint32_t>& devices);

// Takes rules, routes and devices away. Fine where there are none.
Status remove_node_link();

}  // namespace sluice::agent::dataplane
