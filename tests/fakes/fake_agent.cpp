#include "tests/fakes/fake_agent.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <set>
#include <utility>

#include "common/api/convert.h"
#include "common/api/node.grpc.pb.h"
#include "common/state/delta.h"
#include "common/tls/certificates.h"

namespace sluice::fakes {

namespace {

namespace wire = node::v1;
using Peer = grpc::ServerReaderWriter<wire::AgentMessage, wire::OperatorMessage>;

std::string raw(const state::Digest& digest) {
  return {reinterpret_cast<const char*>(digest.bytes.data()), digest.bytes.size()};
}

// How often it may be pinged: tests use a keepalive much shorter than the operator's ten seconds.
constexpr int kPingIntervalMs = 100;

class Agent final : public FakeAgent, wire::NodeAgent::Service {
  template <typename F>
  auto under_lock(F&& f) const {
    const std::lock_guard lock(mutex_);
    return f();
  }

 public:
  Status listen(const FakeAgentOptions& options) {
    node_ = options.node;
    contract_ = options.contract;
    grpc::SslServerCredentialsOptions credentials(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    credentials.pem_root_certs = options.ca_bundle;
    credentials.pem_key_cert_pairs.push_back({options.key, options.certificate});
    grpc::ServerBuilder builder;
    int bound = 0;
    builder.AddListeningPort(options.address + ":" + std::to_string(options.port),
                             grpc::SslServerCredentials(credentials), &bound);
    builder.SetMaxReceiveMessageSize(-1);
    builder.SetMaxSendMessageSize(-1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kPingIntervalMs);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    if (!server_ || bound == 0) {
      return fail(ErrorKind::unavailable, "listen on", options.address + ":" + std::to_string(options.port),
                  "gRPC could not bind");
    }
    port_ = static_cast<uint16_t>(bound);
    return {};
  }

  ~Agent() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      for (auto* context : contexts_) {
        context->TryCancel();
      }
    }
    changed_.notify_all();
    if (server_) {
      server_->Shutdown(std::chrono::system_clock::now());
    }
  }
  Agent() = default;
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;
  Agent(Agent&&) = delete;
  Agent& operator=(Agent&&) = delete;

  [[nodiscard]] uint16_t port() const override { return port_; }
  [[nodiscard]] Seen seen() const override {
    return under_lock([this] { return seen_; });
  }
  [[nodiscard]] std::optional<state::DesiredState> held() const override {
    return under_lock([this] { return held_; });
  }
  [[nodiscard]] state::Epoch epoch() const override {
    return under_lock([this] { return epoch_; });
  }
  void hold(state::DesiredState state) override {
    change([&] {
      epoch_ = std::max(epoch_, state.epoch);
      held_ = std::move(state);
    });
  }
  void forget() override {
    change([&] {
      held_.reset();
      epoch_ = 0;
    });
  }
  void set_epoch(state::Epoch epoch) override {
    change([&] { epoch_ = epoch; });
  }
  void pause_reading(bool paused) override {
    change([&] { paused_ = paused; });
  }
  void hold_back_acks(bool held_back) override {
    change([&] { acks_held_back_ = held_back; });
  }
  void refuse_next_push() override {
    change([&] { refuse_next_ = true; });
  }
  void refuse_purges(bool refuse) override {
    change([&] { refuse_purges_ = refuse; });
  }
  void ask_for_snapshots(bool always) override {
    change([&] { ask_for_snapshots_ = always; });
  }
  void fail_services(std::vector<Failure> failures) override {
    change([&] { failures_ = std::move(failures); });
  }
  void report(std::vector<std::string> announcing, std::vector<std::string> services_with_old_flows) override {
    change([&] {
      announcing_ = std::move(announcing);
      old_flows_ = std::move(services_with_old_flows);
    });
    send_status();
  }
  void report_leaving(const std::string& service, const std::string& address, uint32_t port, uint64_t flows) override {
    change([&] {
      leaving_.set_service(service);
      const auto parsed = net::IpAddress::parse(address).value();
      leaving_.set_address(reinterpret_cast<const char*>(parsed.bytes().data()), parsed.size());
      leaving_.set_port(port);
      leaving_.set_flows(flows);
    });
    send_status();
  }
  void report_interface(const std::string& name, const std::string& mode) override {
    change([&] { interface_ = {name, mode}; });
    send_status();
  }
  void announce_as_told(bool on) override {
    change([&] { announce_as_told_ = on; });
    send_status();
  }
  void end_sessions() override {
    const std::lock_guard lock(mutex_);
    for (auto* context : contexts_) {
      context->TryCancel();
    }
  }
  bool wait(const std::function<bool()>& condition, std::chrono::milliseconds timeout) override {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (!condition()) {
      std::unique_lock lock(mutex_);
      if (std::chrono::steady_clock::now() >= deadline) {
        return false;
      }
      // A change between the look and the wait is found at the next short turn.
      changed_.wait_until(lock, std::min(deadline, std::chrono::steady_clock::now() + std::chrono::milliseconds(20)));
    }
    return true;
  }

 private:
  template <typename F>
  void change(F&& f) {
    {
      const std::lock_guard lock(mutex_);
      f();
    }
    changed_.notify_all();
  }

  grpc::Status Session(grpc::ServerContext* context, Peer* peer) override {
    if (!is_operator(*context)) {
      return {grpc::StatusCode::PERMISSION_DENIED, "the certificate does not name the operator"};
    }
    change([&] { contexts_.insert(context); });
    grpc::Status outcome;
    if (greet(*peer)) {
      change([&] { peers_.insert(peer); });
      send_status();
      outcome = serve(*peer);
      const std::lock_guard writing(write_mutex_);  // nobody is in the middle of writing to it
      change([&] { peers_.erase(peer); });
    }
    change([&] { contexts_.erase(context); });
    return outcome;
  }

  static bool is_operator(const grpc::ServerContext& context) {
    const auto names = context.auth_context()->FindPropertyValues(GRPC_X509_SAN_PROPERTY_NAME);
    return std::ranges::any_of(names, [](const auto& name) { return name == tls::kOperatorName; });
  }

  bool greet(Peer& peer) {
    wire::OperatorMessage in;
    if (!peer.Read(&in) || !in.has_hello()) {
      return false;
    }
    wire::AgentMessage out;
    change([&] {
      const auto& hello = in.hello();
      if (hello.node() != node_) {
        refuse(out, wire::Refused::WRONG_NODE, "this is " + node_);
      } else if (hello.epoch() < epoch_) {
        refuse(out, wire::Refused::EPOCH_TOO_LOW, "a later leader was here");
      } else {
        epoch_ = hello.epoch();
        cluster_id_ = hello.cluster_id();
        ++seen_.sessions;
        seen_.operator_identity = hello.identity();
        fill(*out.mutable_hello());
      }
    });
    const bool welcome = out.has_hello();
    return write(peer, out) && welcome;
  }

  grpc::Status serve(Peer& peer) {
    wire::OperatorMessage in;
    while (wait_to_read() && peer.Read(&in)) {
      wire::AgentMessage out;
      change([&] { answer(in, out); });
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !acks_held_back_ || stopping_; });
      lock.unlock();
      if (!write(peer, out)) {
        break;
      }
      send_status();
    }
    return {};
  }

  bool wait_to_read() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !paused_ || stopping_; });
    return !stopping_;
  }

  // Under the lock.
  void answer(const wire::OperatorMessage& in, wire::AgentMessage& out) {
    Result<state::DesiredState> next = fail(ErrorKind::invalid, "read", "push", "neither snapshot nor delta");
    if (in.has_snapshot()) {
      ++seen_.snapshots;
      next = api::parse(in.snapshot().state());
    } else if (in.has_delta()) {
      ++seen_.deltas;
      auto delta = api::parse_delta(in.delta().SerializeAsString());
      if (ask_for_snapshots_ || !held_ || !delta || !(next = state::apply_delta(*held_, *delta))) {
        out.mutable_need_snapshot()->set_have(held_ ? raw(state::digest(*held_)) : "");
        return;
      }
    }
    if (std::exchange(refuse_next_, false)) {
      refuse(out, wire::Refused::INVALID_STATE, "told to refuse");
    } else if (!next) {
      refuse(out, wire::Refused::INVALID_STATE, next.error().message());
    } else if (state::digest(state::as_of(*next, contract_)) != state::digest(*next)) {
      refuse(out, wire::Refused::INVALID_STATE, "the state is not the one of its digest");
    } else if (next->epoch < epoch_) {
      refuse(out, wire::Refused::EPOCH_TOO_LOW, "a later leader was here");
    } else {
      epoch_ = next->epoch;
      held_ = std::move(*next);
      auto& ack = *out.mutable_ack();
      ack.set_epoch(held_->epoch);
      ack.set_revision(held_->revision);
      ack.set_digest(raw(state::digest(*held_)));
      for (const auto& failure : failures_) {
        fill(*ack.add_failures(), failure);
      }
    }
  }

  void refuse(wire::AgentMessage& out, wire::Refused::Reason reason, const std::string& message) {
    ++seen_.refused;
    out.mutable_refused()->set_reason(reason);
    out.mutable_refused()->set_message(message);
    out.mutable_refused()->set_highest_epoch(epoch_);
  }

  static void fill(wire::ServiceFailure& out, const Failure& failure) {
    out.set_service(failure.service);
    out.set_reason(failure.reason);
    out.set_message(failure.message);
  }

  void fill(wire::AgentHello& hello) {
    hello.set_node(node_);
    hello.set_version("fake");
    hello.set_epoch(epoch_);
    hello.set_cluster_id(cluster_id_);
    hello.set_start_time_unix(1'700'000'000);
    hello.set_contract(contract_);
    if (held_) {
      hello.set_cluster_id(held_->cluster_id);
      hello.set_revision(held_->revision);
      hello.set_digest(raw(state::digest(*held_)));
    }
    for (const auto& failure : failures_) {
      fill(*hello.add_failures(), failure);
    }
  }

  void send_status() {
    const std::lock_guard writing(write_mutex_);
    wire::AgentMessage out;
    std::set<Peer*> peers;
    change([&] {
      auto& status = *out.mutable_status();
      auto announcing = announcing_;
      if (announce_as_told_ && held_) {
        for (const auto& [address, announcement] : held_->announcements) {
          if (!announcement.nodes.empty() && announcement.nodes.front() == node_) {
            announcing.push_back(address.to_string());
          }
        }
      }
      for (const auto& text : announcing) {
        if (const auto address = net::IpAddress::parse(text)) {
          status.add_announcing(reinterpret_cast<const char*>(address->bytes().data()), address->size());
        }
      }
      for (const auto& service : old_flows_) {
        status.add_services_with_old_flows(service);
      }
      if (leaving_.flows() != 0) *status.add_leaving() = leaving_;
      if (!interface_.first.empty()) {
        auto& interface = *status.add_interfaces();
        interface.set_name(interface_.first);
        interface.set_mode(interface_.second);
        interface.set_driver("fake");
      }
      peers = peers_;
    });
    for (auto* peer : peers) {
      peer->Write(out);
    }
  }

  bool write(Peer& peer, const wire::AgentMessage& message) {
    const std::lock_guard lock(write_mutex_);
    return peer.Write(message);
  }

  grpc::Status GetState(grpc::ServerContext* /*context*/, const wire::GetStateRequest* request,
                        wire::GetStateReply* reply) override {
    const std::lock_guard lock(mutex_);
    fill(*reply->mutable_agent());
    if (held_ && !request->without_state()) {
      reply->set_state(api::serialise(*held_));
    }
    return {};
  }

  grpc::Status Purge(grpc::ServerContext* /*context*/, const wire::PurgeRequest* request,
                     wire::PurgeReply* reply) override {
    change([&] {
      if (request->epoch() < epoch_) {
        reply->set_error("a later leader was here");
        return;
      }
      if (refuse_purges_) {
        reply->set_error("detach XDP program from eth0: no");
        return;
      }
      epoch_ = request->epoch();
      held_.reset();
      ++seen_.purges;
    });
    return {};
  }

  std::string node_;
  uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::mutex write_mutex_;
  std::condition_variable changed_;
  uint32_t contract_ = state::kContract;
  Seen seen_;
  std::optional<state::DesiredState> held_;
  state::Epoch epoch_ = 0;
  std::string cluster_id_;
  bool paused_ = false;
  bool acks_held_back_ = false;
  bool refuse_next_ = false;
  bool refuse_purges_ = false;
  bool ask_for_snapshots_ = false;
  bool announce_as_told_ = false;
  bool stopping_ = false;
  std::vector<Failure> failures_;
  std::vector<std::string> announcing_;
  node::v1::LeavingFlows leaving_;
  std::vector<std::string> old_flows_;
  std::pair<std::string, std::string> interface_;
  std::set<grpc::ServerContext*> contexts_;
  std::set<Peer*> peers_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

Result<std::unique_ptr<FakeAgent>> FakeAgent::start(const FakeAgentOptions& options) {
  auto agent = std::make_unique<Agent>();
  if (auto listening = agent->listen(options); !listening) {
    return tl::unexpected(listening.error());
  }
  return agent;
}

}  // namespace sluice::fakes
