// The contract: one value that says what every node must do. It is the same for all nodes; a node finds itself in it by
// name. The planner (or a YAML file) makes it, the agent follows it. Plain data: no I/O, no clock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
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

// As `joined`: listed, and in no table yet. The backend's node has to know it before others send to it through a
// tunnel.
constexpr Revision kNotYet = std::numeric_limits<Revision>::max();

constexpr uint8_t kMaxTableLog2 = 19;    // 524,288 slots
constexpr uint32_t kMaxWeight = 1000;    // of a group
constexpr size_t kMaxBackends = 0xffff;  // stays listed in one service: a slot has two bytes, one value means none

constexpr uint32_t kMaxAffinitySeconds = 86'400;
constexpr size_t kMaxTunnelKeys = 2;

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
  Revision joined = 0;  // kNotYet: listed ahead of its stay
  Revision left = 0;
  // UINT64_MAX: now.
  [[nodiscard]] bool in_choice_at(Revision revision) const {
    return joined != kNotYet && joined <= revision && (left == 0 || revision < left);
  }
  friend bool operator==(const Backend&, const Backend&) = default;
};

// From this revision on the service's table has 2^log2 slots.
struct TableSize {
  Revision from = 0;
  uint8_t log2 = 0;
  friend bool operator==(const TableSize&, const TableSize&) = default;
};

// One port and protocol on one or more addresses, with its backends: all of one address family. A port of a dual-stack
// object is two services.
struct Service {
  // "Service/NAMESPACE/NAME/PORTNAME", "LoadBalancer/...", or "lb.yaml's NAME/PORTNAME"; with "/IPv6" behind it for
  // that family.
  std::string id;
  std::vector<net::IpAddress> addresses;
  uint16_t port = 0;  // host byte order
  Protocol protocol = Protocol::tcp;
  Forwarding forwarding = Forwarding::automatic;
  Affinity affinity = Affinity::none;
  uint32_t affinity_seconds = 10'800;  // with client_ip: since a client's last packet; 1..kMaxAffinitySeconds
  TrafficPolicy traffic_policy = TrafficPolicy::cluster;
  // Empty: all. Of either family, whatever the service's: where there are only some of the other one, nobody is
  // allowed.
  std::vector<net::Prefix> allowed_sources;
  uint32_t drain_seconds = 300;  // how long history that no agent reports a flow for is kept
  std::vector<Group> groups;
  std::vector<Backend> backends;
  std::vector<TableSize> sizes;  // ascending by `from`, the first with from = 0; never empty
  friend bool operator==(const Service&, const Service&) = default;
};

struct Node {
  std::string name;
  std::vector<net::IpAddress> addresses;         // underlay (InternalIP); may be of both families
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

// Proves that a packet between nodes comes from one of them.
struct TunnelKey {
  uint32_t id = 0;                   // travels in the packet, names the key
  std::array<uint64_t, 2> secret{};  // never all zero
  friend bool operator==(const TunnelKey&, const TunnelKey&) = default;
};

// The tunnel from node to node. Without keys there is none.
struct Tunnel {
  uint16_t port = 6082;         // UDP, host byte order
  std::vector<TunnelKey> keys;  // the first is used for sending, all (at most kMaxTunnelKeys) are accepted
  friend bool operator==(const Tunnel&, const Tunnel&) = default;
};

struct DesiredState {
  std::string cluster_id;  // UID of the kube-system namespace; "standalone" without Kubernetes
  Epoch epoch = 0;
  Revision revision = 0;
  std::array<uint64_t, 2> flow_hash_key{};  // secret: keyed so that clients cannot aim at a backend
  Tunnel tunnel;
  std::map<std::string, Service> services;  // by id
  std::map<std::string, Node> nodes;        // by name
  std::map<net::IpAddress, Announcement> announcements;
  friend bool operator==(const DesiredState&, const DesiredState&) = default;
};

// Wrong in a way that no agent can program: an empty id, a group index out of range, a table size out of range, two
// services on one {address, port, protocol}, one endpoint twice in one group at one revision, revisions from the
// future, addresses and backends of different families in one service, tunnel keys that cannot be told apart. A push
// with such a state is refused whole. The reason starts with the field: "services[ID].backends[3].port: 0". A service
// without addresses, groups or backends is right: it leads nowhere (yet).
Status validate(const DesiredState& state);

// Which fields of the contract a party knows. 0: all but `Tunnel`, `affinity_seconds` and kNotYet.
constexpr uint32_t kContract = 1;

// What a party that knows a lower contract can be told of `state`: the rest is left out, so that it computes the same
// digest. Backends that have not joined yet are none of its business.
DesiredState as_of(DesiredState state, uint32_t contract);

}  // namespace sluice::state
