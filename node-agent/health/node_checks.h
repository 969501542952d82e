// What a node lacks for Sluice, and the command that mends it: the decision, over what was read of the kernel and what
// the node is used for. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/health/facts.h"

namespace sluice::agent::health {

struct PortRange {
  uint16_t first = 0;
  uint16_t last = 0;  // inclusive
  friend bool operator==(const PortRange&, const PortRange&) = default;
};

// A feature as `ethtool -k` shows it.
struct Feature {
  bool on = false;
  bool fixed = false;  // the driver does not let it be changed
  friend bool operator==(const Feature&, const Feature&) = default;
};

// As `ethtool -l` shows them.
struct Channels {
  uint32_t combined = 0;
  uint32_t most_combined = 0;
  friend bool operator==(const Channels&, const Channels&) = default;
};

// Of one network interface. What could not be read, or is not there on this kernel, is nullopt.
struct DeviceFacts {
  std::string name;
  std::string driver;
  uint32_t mtu = 0;                                          // bytes of an IP packet
  std::optional<int> forwarding_ipv4, rp_filter, accept_ra;  // net.ipv4.conf.NAME.*, net.ipv6.conf.NAME.accept_ra
  std::optional<Feature> vlan_stripping, lro, gro_hw, gro;
  std::optional<Channels> channels;
  std::optional<uint64_t> xdp_features;  // NETDEV_XDP_ACT_*, by bit
  friend bool operator==(const DeviceFacts&, const DeviceFacts&) = default;
};

// A chain of the packet filter that forwarded packets pass: a base chain of nftables, or FORWARD of the filter table of
// the older iptables.
struct ForwardChain {
  bool legacy = false;
  std::string family;  // ip, ip6, inet
  std::string table;
  std::string name;
  bool drops = false;  // what no rule has accepted
  size_t rules = 0;    // that may accept before
  // The rule that drops whatever comes to it: the first is 1, and nftables' handle of it. 0: the policy does.
  size_t dropping_rule = 0;
  uint64_t handle = 0;
  friend bool operator==(const ForwardChain&, const ForwardChain&) = default;
};

struct NodeFacts {
  std::optional<int> ip_forward, ipv6_forwarding, rp_filter_all;
  std::vector<DeviceFacts> devices;
  std::vector<ForwardChain> forward_chains;
  std::optional<PortRange> local_ports;   // net.ipv4.ip_local_port_range
  std::vector<PortRange> reserved_ports;  // net.ipv4.ip_local_reserved_ports
  std::vector<std::string> unreadable;    // what could not be read, and why
  friend bool operator==(const NodeFacts&, const NodeFacts&) = default;
};

// What the agent asks of the node.
struct NodeUse {
  struct Interface {
    std::string name;
    bool native_wanted = true;
    bool attached = false;
    bool attached_native = false;
    bool has_vlans = false;      // VLAN devices lie on it
    bool default_route = false;  // leaves here
    friend bool operator==(const Interface&, const Interface&) = default;
  };
  std::vector<Interface> interfaces;  // that Sluice is attached to or is to be
  // Packets are passed to the stack for backends on this node that have an address of their own (pods).
  bool delivers_ipv4 = false;
  bool delivers_ipv6 = false;
  // Backends behind tunnels answer clients on this node: by the interfaces, from addresses that are led elsewhere.
  bool tunnels_answer_ipv4 = false;
  PortRange nat_ports;
  bool node_ports = false;  // a cluster's node: 30000-32767 may be kube-proxy's
  friend bool operator==(const NodeUse&, const NodeUse&) = default;
};

enum class Severity : uint8_t { blocks, degrades };

struct Finding {
  Severity severity = Severity::degrades;
  std::string reason;   // one word
  std::string message;  // what is wrong, and what comes of it
  std::string command;  // that mends it, for a root shell; empty: none can
  friend bool operator==(const Finding&, const Finding&) = default;
};

// What blocks first; within a severity in a fixed order.
std::vector<Finding> check_node(const NodeFacts& facts, const NodeUse& use);

// NodePrepared: there is no finding. The first one's reason, and all messages with their commands.
Condition node_prepared_condition(const std::vector<Finding>& findings);

// "MESSAGE; mend it with: COMMAND".
std::string text_of(const Finding& finding);

}  // namespace sluice::agent::health
