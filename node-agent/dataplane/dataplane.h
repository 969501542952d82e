// The edge to the kernel, as the rest of the agent sees it: maps, programs, links. It decides nothing: what to write is
// node-agent/program's, which way packets leave is node-agent/nexthop's. An interface, so that the agent's own code can
// run against a fake where thousands of agents or faults are wanted; `KernelDataplane::open` gives the real one.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/net/address.h"
#include "common/result.h"
#include "common/state/desired_state.h"
#include "node-agent/dataplane/network.h"
#include "node-agent/dataplane/node_link.h"

namespace sluice::agent::dataplane {

enum class AttachMode : uint8_t { native, generic };

struct InterfaceRequest {
  std::string name;
  AttachMode mode = AttachMode::native;
};

struct AttachedInterface {
  std::string name;
  uint32_t ifindex = 0;
  AttachMode mode = AttachMode::native;
  std::string driver;
};

enum class NodeLinkPrograms : uint8_t { none, of_an_earlier_process, of_this_process };

struct OwnedAddress {
  net::IpAddress address;
  uint32_t ifindex = 0;  // that frames come in by: below a VLAN device, its parent's
  uint16_t vlan = 0;     // the tag's id; 0: frames without a tag
  friend auto operator<=>(const OwnedAddress&, const OwnedAddress&) = default;
};

struct OwnedOutcome {
  std::vector<OwnedAddress> answered;  // of those asked for, ascending
  std::optional<Error> trouble;        // the first of what went wrong
};

struct ServiceFailure {
  std::string service;  // id
  std::string reason;   // one word: TableFull, Unreachable, ReadBackDiffers, NotSupported
  std::string message;
};

struct ProgramOutcome {
  std::vector<ServiceFailure> failures;  // services that do not stand in the maps as desired
  size_t writes = 0;                     // map elements written
};

// Records of one family's flows, and room for them.
struct FlowUse {
  uint64_t established = 0, half_open = 0;
  uint64_t established_room = 0, half_open_room = 0;
  friend bool operator==(const FlowUse&, const FlowUse&) = default;
};
// Elements in use of a table that the agent fills, and how many it has.
struct TableUse {
  std::string table;  // services, backends, slots
  uint64_t used = 0;
  uint64_t room = 0;
  friend bool operator==(const TableUse&, const TableUse&) = default;
};
// Flows still alive to a backend that is in its service's choice no more.
struct LeavingFlows {
  std::string service;  // id
  net::IpAddress address;
  uint16_t port = 0;
  uint64_t flows = 0;
  friend bool operator==(const LeavingFlows&, const LeavingFlows&) = default;
};
// Source ports of nat that flows to one backend have, of the range that there is.
struct PortUse {
  net::IpAddress source;
  net::IpAddress backend;
  uint16_t port = 0;
  uint8_t protocol = 0;
  uint32_t ports = 0;
  uint32_t room = 0;
  friend bool operator==(const PortUse&, const PortUse&) = default;
};

// Established flows of a service, and how many it may have as long as the others keep what they have: beyond, its new
// flows are refused though the table has room.
struct ShareUse {
  std::string service;  // id
  bool ipv6 = false;
  uint64_t flows = 0;
  uint64_t most = 0;
  friend bool operator==(const ShareUse&, const ShareUse&) = default;
};

// What one sweep of the flow tables saw.
struct SweepOutcome {
  uint64_t live = 0;
  uint64_t expired = 0;                              // deleted by this sweep
  std::vector<std::string> services_with_old_flows;  // a live flow's slot leads elsewhere now: only history keeps it
  std::map<std::string, uint64_t> live_by_service;
  FlowUse ipv4, ipv6;
  std::vector<ShareUse> shares;       // of those that have half of what they may have, or more; ascending by service
  std::vector<LeavingFlows> leaving;  // ascending by service, address, port
  // Outer addresses of the nodes that backends are behind to which flows go by nat: Peer::has_nat.
  std::set<net::IpAddress> peers_with_nat_flows;
  std::vector<PortUse> nat_ports;  // of each backend that has any, ascending by source, backend, port, protocol
  uint64_t mended = 0;             // leftovers of interrupted writers that were put in order
};

struct ServiceCounters {
  std::string service;
  uint64_t packets = 0, bytes = 0, flows = 0, return_packets = 0, return_bytes = 0;
};
struct BackendCounters {
  std::string service;
  net::IpAddress address;
  uint16_t port = 0;
  uint64_t packets = 0, bytes = 0, flows = 0, return_packets = 0, return_bytes = 0;
};
struct ReasonCounter {
  std::string reason;   // bpf/sluice.h's text
  std::string kind;     // forward, pass, drop, answer, note
  std::string service;  // empty: over all
  uint64_t packets = 0, bytes = 0;
};
struct Counters {
  std::vector<ServiceCounters> services;
  std::vector<BackendCounters> backends;
  std::vector<ReasonCounter> reasons;
};

// How packets for a backend leave, as its record in the maps says.
enum class Forward : uint8_t { local, nat, tunnel, direct, ipip };
struct BackendRecord {
  std::string service;  // id
  net::IpAddress address;
  uint16_t port = 0;
  Forward way = Forward::nat;
  bool strict = false;  // of a tunnel: nat does not stand in for it
  bool left = false;    // in the choice no more
};

struct IdleTimes {
  std::chrono::seconds tcp_new{60}, tcp_established{7440}, tcp_closed{30};  // RFC 5382 REQ-5: at least 2 h 4 min
  std::chrono::seconds tcp_closed_by_backend{65};                           // Linux keeps TIME_WAIT for 60 s
  std::chrono::seconds udp_new{60}, udp_established{180};                   // RFC 4787 REQ-5: at least 2 min
};

class Dataplane {
 public:
  virtual ~Dataplane() = default;
  // Makes the maps hold `desired` as seen from `node`: writes the difference, waits out the grace period for what it
  // frees, reads the touched entries back and compares. Never leaves a reader between two states of a service.
  virtual ProgramOutcome program(const state::DesiredState& desired, const std::string& node,
                                 const Network& network) = 0;
  // The same for a change of ways only, be it of an interface's own MAC or MTU: one aligned store a record.
  virtual Status update_ways(const Network& network) = 0;
  // Reads everything back and compares it with what was programmed last; one failure for each service that differs.
  virtual ProgramOutcome verify() = 0;
  // Attaches to these and only these interfaces (XDP link and tc egress), or updates what is attached in place. Fails
  // whole, with what was attached before left as it was: interface unknown, driver without native XDP, a foreign
  // program there. An interface in the other mode is detached first, and its packets pass by until it is attached
  // again: ask for native mode only where it is not known to be refused.
  virtual Result<std::vector<AttachedInterface>> attach(const std::vector<InterfaceRequest>& interfaces) = 0;
  [[nodiscard]] virtual std::vector<AttachedInterface> attached() const = 0;
  // Of those, the ones whose classifier on egress somebody has taken off. Asks the kernel for the classifiers of each
  // interface: for every few seconds, not for every event.
  [[nodiscard]] virtual std::vector<std::string> without_egress() const = 0;
  // Makes the node link, or puts it right; see keep_node_link.
  virtual Result<NodeLink> keep_node_link(uint16_t mtu) = 0;
  // Puts the programs on the node link that was kept last, beside what attach() has attached. Takes as long as for any
  // interface, and is not needed for what comes in by these: for when they are served.
  virtual Status attach_node_link() = 0;
  // Whose programs stand there. attached() does not list it, and attach() leaves it as it is.
  [[nodiscard]] virtual NodeLinkPrograms node_link_programs() const = 0;
  // See lead_into_node_link. Asks the kernel for what there is: for every few seconds, not for every event.
  virtual Status lead_into_node_link(const NodeLink& link, const LedAddresses& addresses) = 0;
  // See own_address_towards; among the interfaces that are attached to.
  [[nodiscard]] virtual Result<net::IpAddress> own_address_towards(const net::IpAddress& to) const = 0;
  // Answers ARP and NDP for these and only these from now until `valid_for` from now. Goes on past what fails, and
  // renews what is answered for already before it takes anything new: want of room silences nobody.
  virtual OwnedOutcome set_owned(const std::vector<OwnedAddress>& owned, std::chrono::nanoseconds valid_for) = 0;
  // Those it answers for at this moment, be it that an earlier process said so: their time has not passed.
  [[nodiscard]] virtual Result<std::vector<OwnedAddress>> owned() const = 0;
  // The flow hash key that stands in maps which an earlier process has made and filled; nullopt: nothing stands there.
  [[nodiscard]] virtual std::optional<std::array<uint64_t, 2>> flow_hash_key() const = 0;
  // Peers as they stand in the maps: address, source, port, flags and sizes; nothing else of them, and by no name. For
  // a process that takes over.
  [[nodiscard]] virtual std::vector<Peer> peers() const = 0;
  // By the node's name: of each peer of the last network. Cheap, for many times a second.
  [[nodiscard]] virtual std::map<std::string, Proof> proofs() const = 0;
  virtual Result<SweepOutcome> sweep(const IdleTimes& idle) = 0;
  [[nodiscard]] virtual std::vector<TableUse> tables() const = 0;
  // As programmed, ascending by service.
  [[nodiscard]] virtual std::vector<BackendRecord> backends() const = 0;
  [[nodiscard]] virtual Result<Counters> counters() const = 0;
  // Detaches and unpins everything, also what an earlier version or layout left.
  virtual Status purge() = 0;
};

}  // namespace sluice::agent::dataplane
