// Pushes the desired state to the node agents: one stream to each, mutual TLS, newest state only. gRPC stays in the
// .cpp.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/net/address.h"
#include "common/result.h"
#include "common/state/desired_state.h"
#include "common/state/digest.h"

namespace sluice::publish {

using Clock = std::chrono::steady_clock;

// PEM. The operator's own pair, and the CAs whose agents it talks to.
struct Credentials {
  std::string ca_bundle;
  std::string certificate;
  std::string key;
  friend bool operator==(const Credentials&, const Credentials&) = default;
};

// Where the agent of a node is reached.
struct Endpoint {
  net::IpAddress address;
  uint16_t port = 0;  // host byte order
  bool ready = true;  // so says the node
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

// One term of leadership, as agents are told of it.
struct Term {
  std::string cluster_id;
  state::Epoch epoch = 0;
  std::string identity;
  std::string version;
};

struct ServiceFailure {
  std::string service;
  std::string reason;   // one word
  std::string message;  // for people
  friend bool operator==(const ServiceFailure&, const ServiceFailure&) = default;
};

struct Interface {
  std::string name;
  std::string mode;  // Native, Generic
  std::string driver;
  friend bool operator==(const Interface&, const Interface&) = default;
};

struct Condition {
  std::string type;
  bool status = false;
  std::string reason;
  std::string message;
  friend bool operator==(const Condition&, const Condition&) = default;
};

// What an agent says of itself when asked.
struct AgentInfo {
  std::string node;
  std::string version;
  std::string cluster_id;
  state::Epoch epoch = 0;  // the highest it has seen for cluster_id
  state::Revision revision = 0;
  std::optional<state::Digest> digest;  // of what is programmed; none: nothing yet
  std::chrono::system_clock::time_point start_time;
  std::vector<ServiceFailure> failures;
  uint32_t contract = 0;  // which fields of the state it knows: state::kContract, or fewer
  friend bool operator==(const AgentInfo&, const AgentInfo&) = default;
};

// Live flows on one node to a backend that is in its service's choice no more.
struct LeavingFlows {
  std::string service;  // id
  net::IpAddress address;
  uint16_t port = 0;
  uint64_t flows = 0;
  friend bool operator==(const LeavingFlows&, const LeavingFlows&) = default;
};

// What an agent reports unasked.
struct AgentStatus {
  std::vector<Interface> interfaces;
  std::vector<Condition> conditions;
  std::vector<net::IpAddress> announcing;
  std::vector<std::string> services_with_old_flows;
  std::vector<LeavingFlows> leaving;
  friend bool operator==(const AgentStatus&, const AgentStatus&) = default;
};

enum class Refusal { none, epoch_too_low, wrong_node, invalid_state, purged, other };

// How far one agent is. `info` and `status` are of the last session where there is none now.
struct AgentProgress {
  bool connected = false;   // both Hellos exchanged
  Clock::time_point since;  // when `connected` became what it is
  std::string error;        // why it is not connected; empty while it is
  AgentInfo info;           // epoch, revision, digest and failures follow its acknowledgements
  AgentStatus status;
  // The newest published state stands in its maps, but for info.failures.
  bool up_to_date = false;
  // The agent holds the content of every state published up to this revision: its last Ack's or, where a digest was
  // found equal, that state's.
  state::Revision acked_revision = 0;
  Clock::time_point lagging_since;  // since when it has not been up to date; without meaning where it is
  Refusal refusal = Refusal::none;  // the last push or Hello was refused
  std::string refusal_message;
  state::Epoch highest_epoch = 0;  // with Refusal::epoch_too_low
  friend bool operator==(const AgentProgress&, const AgentProgress&) = default;
};

using Progress = std::map<std::string, AgentProgress>;  // by node name

struct Settings {
  std::chrono::milliseconds keepalive_time{10'000};
  std::chrono::milliseconds keepalive_timeout{5'000};
  std::chrono::milliseconds dial_timeout{5'000};  // until the agent's Hello
  std::chrono::milliseconds backoff_min{500};     // doubles up to backoff_max, each jittered from d/2 to d
  std::chrono::milliseconds backoff_max{30'000};
};

struct StateOfAgent {
  AgentInfo agent;
  std::optional<state::DesiredState> state;
};

// All functions may be called from any thread and return at once, but for ask, fetch_state and purge, which wait up to
// their timeout.
class Publisher {
 public:
  // `notify` is called from the publisher's own thread whenever progress() may have changed; it must not block.
  static std::unique_ptr<Publisher> create(const Settings& settings, std::function<void()> notify);
  virtual ~Publisher() = default;

  // Used from the next dial on; running sessions stay. Agents are not dialled before the first credentials.
  virtual void set_credentials(const Credentials& credentials) = 0;
  // By node name. Agents are found and lost with their nodes; a changed address or port is dialled anew, and so is at
  // once, where there is no session, that of a node which has become ready.
  virtual void set_nodes(const std::map<std::string, Endpoint>& nodes) = 0;

  // Opens a session to every agent, or opens them anew with another term. `known`: a state that agents may hold, so
  // that they get a delta from it; may be null.
  virtual void lead(const Term& term, std::shared_ptr<const state::DesiredState> known) = 0;
  // The newest state replaces one that an agent has not been sent yet: nothing queues. Ignored outside of a term.
  virtual void publish(std::shared_ptr<const state::DesiredState> state) = 0;
  // Ends all sessions; when it returns, no push starts any more.
  virtual void rest() = 0;

  [[nodiscard]] virtual Progress progress() const = 0;

  // Asks all agents at once; those that do not answer in time have an error.
  virtual std::map<std::string, Result<AgentInfo>> ask(std::chrono::milliseconds timeout) = 0;
  virtual Result<StateOfAgent> fetch_state(const std::string& node, std::chrono::milliseconds timeout) = 0;
  // Makes all agents remove everything of Sluice from their nodes. Errors: unavailable (no answer), internal (the agent
  // answers that it could not, or must not).
  virtual std::map<std::string, Status> purge(const std::string& cluster_id, state::Epoch epoch,
                                              std::chrono::milliseconds timeout) = 0;
};

}  // namespace sluice::publish
