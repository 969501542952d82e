// Which way packets to an address leave this node: the decision, from what the kernel knows. Pure. Both families alike;
// an IPv4 way may lead through a gateway that has an IPv6 address (RFC 5549).
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/net/address.h"
#include "node-agent/dataplane/dataplane.h"

namespace sluice::agent::nexthop {

// As they stand in a frame, in host byte order.
inline constexpr uint16_t kCustomerTag = 0x8100;
struct VlanTag {
  uint16_t protocol = 0;  // kCustomerTag, or 0x88a8 for a service tag
  uint16_t id = 0;
  friend bool operator==(const VlanTag&, const VlanTag&) = default;
};

struct Link {
  uint32_t index = 0;
  std::string name;
  std::string kind;  // the kernel's: "veth", "vxlan", ...; empty for a physical device
  dataplane::Mac mac{};
  bool up = false;
  bool ethernet = false;
  uint32_t carrier_changes = 0;  // a link that went down and up again between two looks is told by this
  uint32_t mtu = 0;              // bytes of an IP packet
  uint32_t mtu_ipv6 = 0;         // the same for IPv6, which a router may have lowered (RFC 4861, 4.6.4); 0: as `mtu`
  uint32_t master = 0;           // the bridge, bond or VRF that this device belongs to; 0: none
  uint32_t parent = 0;           // the device below a VLAN or macvlan; 0: none, or in another namespace
  std::optional<VlanTag> vlan;   // of a VLAN device: what its frames carry on `parent`
  bool loopback = false;
  friend bool operator==(const Link&, const Link&) = default;
};

// What this node's kernel has, as far as the agent follows it.
struct NetworkView {
  std::map<uint32_t, Link> links;      // by index
  std::set<net::IpAddress> addresses;  // configured on any device, unless another machine was found to have it
  std::set<uint32_t> default_devices;  // where the main table's default routes leave, of either family
  friend bool operator==(const NetworkView&, const NetworkView&) = default;
};

// The kernel's answer to "how would you send there".
struct Route {
  enum class Kind : uint8_t { unreachable, local, unicast };
  Kind kind = Kind::unreachable;
  uint32_t ifindex = 0;
  std::optional<net::IpAddress> gateway;  // of either family, link-local as a rule where IPv6; nullopt: on-link
  net::IpAddress source;                  // the kernel's choice of source address
  std::string reason;                     // with unreachable: why
  uint32_t mtu = 0;           // set on the route, bytes; 0: the device's. Not what the kernel has learnt from ICMP
  bool encapsulates = false;  // the kernel wraps what takes this route (ip route ... encap)
  friend bool operator==(const Route&, const Route&) = default;
};

struct NeighbourKey {
  uint32_t ifindex = 0;
  net::IpAddress address;
  friend auto operator<=>(const NeighbourKey&, const NeighbourKey&) = default;
};
struct Neighbour {
  std::optional<dataplane::Mac> mac;
  bool failed = false;  // asked, and nobody answered
  bool fixed = false;   // somebody has set it, or the device resolves nothing: not to be asked for
  friend bool operator==(const Neighbour&, const Neighbour&) = default;
};

// Addresses to find ways to: backends, and other nodes' underlay addresses; true: a backend that runs on this node, so
// its packets are passed up whatever device leads to it.
using Targets = std::map<net::IpAddress, bool>;

// All that is known of the way to one address.
struct Way {
  // On this machine: pass up. Of what follows only `ifindex` and `mtu` are set: of the device that leads to the
  // backend.
  bool local = false;
  // XDP cannot transmit there (a tunnel, a device that Sluice is not attached to): the kernel can, by its own routes
  // and neighbours. `transmit_by` is 0 and `mac` empty then.
  bool by_kernel = false;
  uint32_t ifindex = 0;                   // the route's device
  std::optional<net::IpAddress> gateway;  // nullopt: on-link
  uint32_t transmit_by = 0;               // the device to transmit by: below its VLANs where Sluice is attached there
  std::vector<VlanTag> tags;              // that the frame must carry on `transmit_by`, outermost first
  std::optional<dataplane::Mac> mac;      // of the neighbour; nullopt: not resolved (yet)
  dataplane::Mac own{};                   // of `ifindex`: whom the frame comes from
  net::IpAddress source;                  // this node's address on that way
  uint32_t mtu = 0;                       // bytes of an IP packet: the route's where it has one, else the device's
  friend bool operator==(const Way&, const Way&) = default;
};

// What the XDP program can do beyond transmitting frames without a tag by a device that it is attached to.
struct Abilities {
  bool tags = false;       // transmit with one VLAN tag
  bool by_kernel = false;  // hand a packet to the kernel, which routes it and finds the neighbour
  friend bool operator==(const Abilities&, const Abilities&) = default;
};

struct Ways {
  // Those that the program can take: resolved ones; with Abilities::by_kernel those too, which have no MAC; local ones.
  dataplane::NextHops next_hops;
  std::map<net::IpAddress, std::string> unresolved;  // no next hop: why, for people
  std::set<net::IpAddress> pending;                  // the neighbour has neither answered nor failed to
  std::map<net::IpAddress, Way> every;               // each target that there is a route to, resolved or not
  friend bool operator==(const Ways&, const Ways&) = default;
};

// The neighbours that `routes` lead to where XDP transmits: what must be kept resolved.
std::set<NeighbourKey> needed_neighbours(const Targets& targets, const std::map<net::IpAddress, Route>& routes,
                                         const NetworkView& view, const std::set<uint32_t>& usable);

// The devices that `ways` leave by and those that Sluice is attached to, with the VLAN devices above them; by index.
std::map<uint32_t, dataplane::Interface> way_devices(const Ways& ways, const NetworkView& view,
                                                     const std::set<uint32_t>& usable);

// Every device but loopback and the node link, by index.
std::map<uint32_t, dataplane::StackDevice> stack_devices(const NetworkView& view);

// `usable`: indices of the interfaces that Sluice is attached to.
Ways find_ways(const Targets& targets, const std::map<net::IpAddress, Route>& routes,
               const std::map<NeighbourKey, Neighbour>& neighbours, const NetworkView& view,
               const std::set<uint32_t>& usable, const Abilities& can = {});

}  // namespace sluice::agent::nexthop
