// Which ways packets take from this node: by backend address, by interface, by node. Values only.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/net/address.h"

namespace sluice::agent::dataplane {

using Mac = std::array<uint8_t, 6>;

// How packets for one backend address leave this node. What else there is to know of the device is in `interfaces`.
struct NextHop {
  bool local = false;     // the address is on this machine: pass up
  uint32_t ifindex = 0;   // where they leave; 0 with local
  Mac mac{};              // of the neighbour
  net::IpAddress source;  // this node's address for nat on that way
  friend bool operator==(const NextHop&, const NextHop&) = default;
};
// By backend address; an address that is missing is not resolved (yet).
using NextHops = std::map<net::IpAddress, NextHop>;

// A device that packets leave by.
struct Interface {
  Mac mac{};
  uint16_t mtu = 0;        // bytes of IP packet; 0: not checked
  uint16_t vlan = 0;       // of a VLAN device: its tag's id, host order; 0: none
  uint32_t parent = 0;     // of a VLAN device: the device below it, which transmits; 0: the device itself does
  bool by_kernel = false;  // XDP cannot transmit there
  bool node_link = false;  // the far end of the node link
  // nat's for packets that leave here, of both families or none; of other devices next hops say them.
  std::vector<net::IpAddress> sources;
  friend bool operator==(const Interface&, const Interface&) = default;
};

// The tunnel to another node. `address`, `source` and `port` name it in the map: where one of them changes it becomes
// another element, and the records are led there. Everything else changes in place.
struct Peer {
  net::IpAddress address;  // outer destination
  net::IpAddress source;   // outer source, of the same family
  uint16_t port = 0;       // outer UDP destination, host order
  // The others that its packets may come from; `address` always is one.
  std::vector<net::IpAddress> underlay;
  NextHop way;  // to `address`; ifindex 0: not known. Its source is not looked at
  bool usable = false;
  bool has_nat = false;
  uint16_t fits4 = 0;  // bytes of inner packet, with one candidate
  uint16_t fits6 = 0;
  uint64_t token = 0;                  // what our packets carry, as it lies in the packet
  std::array<uint64_t, 2> accepted{};  // what its packets may carry, in any order; 0: none
  friend bool operator==(const Peer&, const Peer&) = default;
};

// What the kernel side has noted of a tunnel: the last probe of ours that came back through it, and the last ICMP error
// that quoted a packet of ours, token included.
struct Proof {
  uint64_t nonce = 0;
  uint32_t bytes = 0;      // of the outer IP packet
  uint32_t told_mtu = 0;   // the largest outer IP packet that fits, as the error says; 0: there was none
  uint32_t told_seen = 0;  // jiffies, low 32 bits: a later error has another, or another MTU
  friend bool operator==(const Proof&, const Proof&) = default;
};

// A device that is no loopback, be it a pod's link.
struct StackDevice {
  std::string name;
  bool ethernet = false;
  friend bool operator==(const StackDevice&, const StackDevice&) = default;
};

struct Network {
  NextHops next_hops;
  // By ifindex. Each gets an element of `egress`, whether a backend needs it or not: so do ways back to clients.
  std::map<uint32_t, Interface> interfaces;
  // By ifindex, every device that a route can lead to: replies of local backends may leave by any.
  std::map<uint32_t, StackDevice> devices;
  std::set<net::IpAddress> node_addresses;  // this machine's own
  std::map<std::string, Peer> peers;        // by the node's name; this node is not among them
  friend bool operator==(const Network&, const Network&) = default;
};

}  // namespace sluice::agent::dataplane
