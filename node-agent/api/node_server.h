// What the operator pushes to: the gRPC service of common/api/node.proto over mutual TLS. It keeps streams and order;
// what an epoch or a state means is the handler's business.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "common/result.h"
#include "common/state/delta.h"
#include "common/state/desired_state.h"
#include "common/state/digest.h"
#include "node-agent/health/facts.h"

namespace sluice::agent::api {

struct Hello {
  std::string cluster_id;
  state::Epoch epoch = 0;
  std::string identity;
  std::string version;
  std::string node;
};

struct Welcome {
  std::string node;
  std::string version;
  state::Epoch epoch = 0;  // the highest seen for cluster_id
  state::Revision revision = 0;
  std::string digest;  // bytes; empty: nothing is held yet
  std::string cluster_id;
  uint64_t start_time = 0;  // seconds since 1970
  std::vector<dataplane::ServiceFailure> failures;
};

struct Ack {
  state::Revision revision = 0;
  state::Epoch epoch = 0;
  state::Digest digest;
  std::vector<dataplane::ServiceFailure> failures;
};

struct NeedSnapshot {
  std::string have;  // digest; empty: nothing is held
};

enum class RefusalReason : uint8_t { epoch_too_low, wrong_node, invalid_state, purged };
struct Refusal {
  RefusalReason reason = RefusalReason::invalid_state;
  std::string message;
  state::Epoch highest_epoch = 0;
};

using PushReply = std::variant<Ack, NeedSnapshot, Refusal>;

struct NodeStatus {
  std::vector<dataplane::AttachedInterface> interfaces;
  std::vector<health::Condition> conditions;
  std::vector<net::IpAddress> announcing;
  std::vector<std::string> services_with_old_flows;
  std::vector<dataplane::LeavingFlows> leaving;
};

// Rises with every session; a reply to `hello` makes its session the current one.
using SessionId = uint64_t;

// Called from the server's threads, several at a time; each call may take as long as the kernel does.
class Handler {
 public:
  virtual ~Handler() = default;
  virtual std::variant<Welcome, Refusal> hello(SessionId session, const Hello& hello) = 0;
  // `claimed`: the digest the sender says the state has.
  virtual PushReply snapshot(SessionId session, state::DesiredState state, const std::string& claimed) = 0;
  virtual PushReply delta(SessionId session, const state::Delta& delta) = 0;
  // What a Hello of nobody would be answered, and with `with_state` the state (nullptr: none).
  virtual std::pair<Welcome, std::shared_ptr<const state::DesiredState>> get_state(bool with_state) = 0;
  virtual Status purge(const std::string& cluster_id, state::Epoch epoch) = 0;
  // What a session that has just been welcomed is told first.
  virtual NodeStatus status() = 0;
};

struct ServerOptions {
  std::string listen;         // "192.0.2.7:9470"; port 0: any
  std::string tls_directory;  // ca.crt, tls.crt, tls.key; read again when they change
};

class NodeServer {
 public:
  // Fails where the certificates cannot be read or the address cannot be listened on. `handler` must outlive the
  // server.
  static Result<std::unique_ptr<NodeServer>> start(const ServerOptions& options, Handler& handler);
  virtual ~NodeServer() = default;  // ends every session
  [[nodiscard]] virtual uint16_t port() const = 0;
  // To the current session, if there is one: without waiting, the newest wins where the peer is slow.
  virtual void publish(NodeStatus status) = 0;
  virtual void publish(Ack ack) = 0;
};

}  // namespace sluice::agent::api
