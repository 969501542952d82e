// What the planner reads and gives, besides the cluster's objects and the desired state.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/state/desired_state.h"
#include "operator/ipam/allocator.h"

namespace sluice::planner {

using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;
using resources::Owner;

constexpr const char* kClass = "sluice.io/xdp";
constexpr const char* kCleanupFinalizer = "sluice.io/cleanup";
// Upstream's own: cloud controller managers remove it from any deleted Service, so that nothing is gated by it.
constexpr const char* kUpstreamFinalizer = "service.kubernetes.io/load-balancer-cleanup";
constexpr const char* kExcludeLabel = "node.kubernetes.io/exclude-from-external-load-balancers";

struct Options {
  std::string cluster_id;
  std::array<uint64_t, 2> flow_hash_key{};
  state::Epoch epoch = 0;
  std::string load_balancer_class = kClass;
  bool default_class = false;         // Services without a class are ours, too
  bool ignore_exclude_label = false;  // nodes with kExcludeLabel may announce
  uint16_t tunnel_port = 6082;
  Duration tunnel_key_rotation = std::chrono::hours(24);  // 0: never
  std::vector<net::Prefix> allowed_static_backends;       // outside the cluster, that LoadBalancers may name
  ipam::KnownRanges ranges;                               // beside those that the API tells
  // A chosen node whose agent cannot be reached for this long is lost: the announcement grace (30 s) and a margin.
  Duration lost_after = std::chrono::seconds(45);
  // The same for a node that is NotReady besides.
  Duration not_ready_lost_after = std::chrono::seconds(5);
  // History is kept at least this long, whatever a resource's drain says: agents need time to report flows that use it.
  Duration min_history = std::chrono::seconds(30);
};

struct ServiceFailure {
  std::string service;  // id
  std::string reason;
  std::string message;
};

struct AgentInterface {
  std::string name;
  std::string mode;  // Native, Generic
  std::string driver;
};

struct AgentCondition {
  std::string type;  // Ready: the agent can move packets
  bool status = false;
  std::string reason;
  std::string message;
};

// Live flows on one node to a backend that is in its service's choice no more.
struct LeavingFlows {
  net::IpAddress address;
  uint16_t port = 0;
  uint64_t flows = 0;
};

// What is known of the agent on one node. Of one that is not connected: what it said last.
struct Agent {
  bool connected = false;
  Time since;         // when `connected` became what it is
  std::string error;  // why it is not connected
  bool seen = false;  // it has been connected before, or is
  std::string version;
  std::chrono::system_clock::time_point start_time;
  state::Revision acked_revision = 0;    // its maps hold this state, read back, but for `failures`
  Time lagging_since;                    // since when it has not had the newest state; without meaning where it has it
  std::vector<ServiceFailure> failures;  // of that revision
  std::string refusal;                   // why it refused the last push; empty: it did not
  std::vector<AgentInterface> interfaces;
  std::vector<AgentCondition> conditions;
  std::vector<net::IpAddress> announcing;
  std::set<std::string> services_with_old_flows;
  std::map<std::string, std::vector<LeavingFlows>> leaving;  // by service id

  // Why it cannot move packets though it is connected, as its Ready condition says; nullptr: it can.
  [[nodiscard]] const AgentCondition* fault() const;
};
using Agents = std::map<std::string, Agent>;  // by node

// A judgement with its reason: what becomes a condition.
struct Finding {
  bool good = true;
  std::string reason;
  std::string message;
  friend bool operator==(const Finding&, const Finding&) = default;
};

// What the planner wants to find again at the next plan of the same term. A new leader starts with an empty one.
struct Memory {
  struct Object {
    std::string uid;
    int64_t generation = 0;
    state::Revision generation_revision = 0;  // from which on the state holds this generation
    state::Revision changed_revision = 0;     // at which the state last changed for this object
    Time changed_at;
  };
  std::map<Owner, Object> objects;
  std::map<std::string, std::map<state::Revision, Time>>
      changes;                                          // by service id: when the boundaries of its history were made
  std::map<Owner, state::Revision> removed;             // owners whose services left, until all reachable agents know
  std::map<net::IpAddress, state::Revision> releasing;  // addresses that left, likewise
  std::map<std::string, Time> without_agent;            // nodes that nothing is known of an agent on, since when
  state::Revision term_revision = 0;                    // of the first plan
  using Endpoint = std::pair<net::IpAddress, uint16_t>;
  struct Listed {
    state::Revision revision = 0;  // from which on the state lists it
    Time at;
  };
  std::map<std::string, std::map<Endpoint, Listed>> waiting;  // by service id: backends that have not joined yet
  struct Tunnel {
    state::Revision revision = 0;          // from which on the state has the present keys; 0: of an earlier term
    std::optional<Time> everywhere_since;  // since when every living agent has them
  };
  Tunnel tunnel;
};

// One Service of our class or LoadBalancer.
struct ObjectPlan {
  std::string uid;
  int64_t generation = 0;  // changes with the spec
  Finding accepted;        // not good though `services` are there: what was in force before stays
  Finding addresses;       // from the allocator
  Finding backends_resolved;
  std::vector<ipam::Allocation> programmed;  // the addresses its services are on
  bool addresses_to_come = false;            // more are being claimed for it
  std::vector<std::string> services;         // ids in the state
  size_t endpoints_total = 0;                // different {address, port}
  size_t endpoints_ready = 0;
  size_t endpoints_draining = 0;
  state::Revision generation_revision = 0;
  state::Revision changed_revision = 0;
  Time changed_at;
};

// One address that is in the state.
struct AddressPlan {
  std::string node;   // that announces it; empty: none
  Finding announced;  // what holds while the choice does
  std::string why;    // how the choice was made just now, for logs and events
  // Nodes that might announce it, for which its services must be programmed.
  std::shared_ptr<const std::set<std::string>> eligible;
};

struct NodePlan {
  Finding eligible;  // whether it may announce at all: ExcludedByLabel, BeingDeleted, NetworkUnavailable
};

struct Plan {
  state::DesiredState next;
  bool changed = false;  // against the previous state: push it
  Memory memory;
  std::map<Owner, ObjectPlan> objects;
  std::map<net::IpAddress, AddressPlan> addresses;
  std::map<std::string, NodePlan> nodes;
  // Services that are no longer ours, or are being deleted, and stand on no reachable node any more: their finalizers
  // may go.
  std::set<Owner> torn_down;
  std::optional<Time> again_at;  // something is due then though nothing changes: plan again (now: at once)
};

}  // namespace sluice::planner
