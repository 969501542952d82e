// The contract: one value that says what every node must do. It is the same for all nodes; a node finds itself in it by
// name. The planner (or a YAML file) makes it, the agent follows it. Plain data: no I/O, no clock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/net/address.h"

namespace sluice::state {

// Rises with each change of content; never reused within a cluster id. 0 means "since ever" in `joined` and "not" in
// `left`.
using Revision = uint64_t;
// Rises with each leader. Agents refuse a lower one than they have seen for the same cluster id.
using Epoch = uint64_t;

constexpr uint8_t kMaxTableLog2 = 19;    // 524,288 slots
constexpr uint32_t kMaxWeight = 1000;    // of a group
constexpr size_t kMaxBackends = 0xffff;  // stays listed in one service: a slot has two bytes, one value means none

// Changes of a service's choice that are kept; beyond them the oldest is forgotten, whoever still needs it.
constexpr size_t kMaxBoundaries = 32;

enum class Protocol : uint8_t { tcp = 6, udp = 17 };  // IANA protocol numbers
enum class Forwarding : uint8_t { automatic, nat, tunnel, direct };
enum class Affinity : uint8_t { none, client_ip };
enum class TrafficPolicy : uint8_t { cluster, local };

const char* to_string(Protocol protocol);      // "TCP", "UDP"
const char* to_string(Forwarding forwarding);  // "Auto", "NAT", "Tunnel", "Direct"

// An entry of a LoadBalancer's `backends` (a Service has one): its weight is the share of the whole entry and is
// divided over the members that are in the choice. A changed weight makes a new group; the members leave the old and
// join the new.
struct Group {
  std::string name;
  uint32_t weight = 1;  // 0..kMaxWeight
  friend bool operator==(const Group&, const Group&) = default;
};

// One endpoint's stay in the choice of one service, from the revision `joined` up to, and not including, `left`.
// Identity is {address, port, group, joined}. A backend that has left stays listed while the history needs it.
struct Backend {
  net::IpAddress address;
  uint16_t port = 0;   // host byte order
  uint32_t group = 0;  // index into Service::groups
  std::string node;    // where it runs; empty: unknown or outside the cluster
  std::string zone;
  Revision joined = 0;
  Revision left = 0;
  [[nodiscard]] bool in_choice_at(Revision revision) const {
    return joined <= revision && (left == 0 || revision < left);
  }
  friend bool operator==(const Backend&, const Backend&) = default;
};

// From this revision on the service's table has 2^log2 slots.
struct TableSize {
  Revision from = 0;
  uint8_t log2 = 0;
  friend bool operator==(const TableSize&, const TableSize&) = default;
};

// One port and protocol on one or more addresses, with its backends.
struct Service {
  std::string id;  // "Service/NAMESPACE/NAME/PORTNAME", "LoadBalancer/...", or "lb.yaml's NAME/PORTNAME"
  std::vector<net::IpAddress> addresses;
  uint16_t port = 0;  // host byte order
  Protocol protocol = Protocol::tcp;
  Forwarding forwarding = Forwarding::automatic;
  Affinity affinity = Affinity::none;
  TrafficPolicy traffic_policy = TrafficPolicy::cluster;
  std::vector<net::Prefix> allowed_sources;  // empty: all
  uint32_t drain_seconds = 300;              // how long history that no agent reports a flow for is kept
  std::vector<Group> groups;
  std::vector<Backend> backends;
  std::vector<TableSize> sizes;  // ascending by `from`, the first with from = 0; never empty
  friend bool operator==(const Service&, const Service&) = default;
};

struct Node {
  std::string name;
  std::vector<net::IpAddress> addresses;         // underlay (InternalIP)
  std::vector<net::IpAddress> source_addresses;  // for nat; empty: the addresses of the interface the packet leaves by
  friend bool operator==(const Node&, const Node&) = default;
};

// Who may own an address on the local network: the first of `nodes` does. The order is a rendezvous ranking; that the
// first of them is alive is the operator's business.
struct Announcement {
  net::IpAddress address;
  std::vector<std::string> nodes;
  std::vector<std::string> interfaces;  // names or patterns; empty: every interface Sluice is attached to
  friend bool operator==(const Announcement&, const Announcement&) = default;
};

struct DesiredState {
  std::string cluster_id;  // UID of the kube-system namespace; "standalone" without Kubernetes
  Epoch epoch = 0;
  Revision revision = 0;
  std::array<uint64_t, 2> flow_hash_key{};  // secret: keyed so that clients cannot aim at a backend
  std::map<std::string, Service> services;  // by id
  std::map<std::string, Node> nodes;        // by name
  std::map<net::IpAddress, Announcement> announcements;
  friend bool operator==(const DesiredState&, const DesiredState&) = default;
};

// Wrong in a way that no agent can program: an empty id, a group index out of range, a table size out of range, two
// services on one {address, port, protocol}, one endpoint twice in one group at one revision, revisions from the
// future. A push with such a state is refused whole. The reason starts with the field: "services[ID].backends[3].port:
// 0". A service without addresses, groups or backends is right: it leads nowhere (yet).
Status validate(const DesiredState& state);

}  // namespace sluice::state
