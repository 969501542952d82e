// Which way packets to a backend leave this node: the decision, from what the kernel knows. Pure.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "common/net/address.h"
#include "node-agent/dataplane/dataplane.h"

namespace sluice::agent::nexthop {

struct Link {
  uint32_t index = 0;
  std::string name;
  std::string kind;  // the kernel's: "veth", "vxlan", ...; empty for a physical device
  dataplane::Mac mac{};
  bool up = false;
  bool ethernet = false;
  uint32_t carrier_changes = 0;  // a link that went down and up again between two looks is told by this
  uint32_t mtu = 0;              // bytes of an IP packet
  friend bool operator==(const Link&, const Link&) = default;
};

// What this node's kernel has, as far as the agent follows it.
struct NetworkView {
  std::map<uint32_t, Link> links;      // by index
  std::set<net::IpAddress> addresses;  // configured on any device
  std::set<uint32_t> default_devices;  // where the main table's default routes leave
  friend bool operator==(const NetworkView&, const NetworkView&) = default;
};

// The kernel's answer to "how would you send there".
struct Route {
  enum class Kind : uint8_t { unreachable, local, unicast };
  Kind kind = Kind::unreachable;
  uint32_t ifindex = 0;
  std::optional<net::IpAddress> gateway;  // IPv4; nullopt: on-link
  net::IpAddress source;                  // the kernel's choice of source address
  std::string reason;                     // with unreachable: why
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
  friend bool operator==(const Neighbour&, const Neighbour&) = default;
};

// Backend addresses; true: the backend runs on this node, so its packets are passed up whatever device leads to it.
using Targets = std::map<net::IpAddress, bool>;

struct Ways {
  dataplane::NextHops next_hops;
  std::map<net::IpAddress, std::string> unresolved;  // why, for people
  std::set<net::IpAddress> pending;                  // of those: the neighbour has neither answered nor failed to
  friend bool operator==(const Ways&, const Ways&) = default;
};

// The neighbours that `routes` lead to over `usable` interfaces: what must be kept resolved.
std::set<NeighbourKey> needed_neighbours(const Targets& targets, const std::map<net::IpAddress, Route>& routes,
                                         const std::set<uint32_t>& usable);

// `usable`: indices of the interfaces that Sluice is attached to.
Ways find_ways(const Targets& targets, const std::map<net::IpAddress, Route>& routes,
               const std::map<NeighbourKey, Neighbour>& neighbours, const NetworkView& view,
               const std::set<uint32_t>& usable);

}  // namespace sluice::agent::nexthop
