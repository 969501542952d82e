#include "node-agent/api/node_server.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <utility>

#include "common/api/convert.h"
#include "common/log/spdlog.h"
#include "common/tls/certificates.h"
#include "node-agent/api/messages.h"
#include "node-agent/api/session.h"
#include "node-agent/config/file_follower.h"

namespace sluice::agent::api {
namespace {

constexpr int kMaxMessage = 256 << 20;  // bytes: a snapshot of the largest cluster, and then some
constexpr unsigned kReloadSeconds = 5;
constexpr int kKeepaliveMs = 10'000;
constexpr int kKeepaliveTimeoutMs = 5'000;
constexpr std::chrono::milliseconds kGoodbye{500};

// The peer's name, not its chain alone, decides: every agent holds a certificate of the same CA.
grpc::Status admit(const grpc::ServerContext& context) {
  const auto names = context.auth_context()->FindPropertyValues(GRPC_PEER_DNS_PROPERTY_NAME);
  const bool known =
      context.auth_context()->IsPeerAuthenticated() &&
      std::ranges::any_of(names, [](const grpc::string_ref& name) { return name == tls::kOperatorName; });
  if (known) return grpc::Status::OK;
  spdlog::warn("refused a peer at {} whose certificate does not name {}", context.peer(), tls::kOperatorName);
  return {grpc::StatusCode::PERMISSION_DENIED, fmt::format("only {} may speak to an agent", tls::kOperatorName)};
}

class Service final : public node::v1::NodeAgent::Service {
 public:
  explicit Service(Handler& handler) : handler_(handler) {}

  grpc::Status Session(grpc::ServerContext* context, Stream* stream) override {
    if (auto admitted = admit(*context); !admitted.ok()) return admitted;
    const auto session = std::make_shared<api::Session>(++last_id_, *context, *stream, handler_);
    {
      const std::scoped_lock lock(mutex_);
      sessions_.emplace(session->id(), session);
    }
    auto outcome = session->run([&] { become_current(session->id()); });
    const std::scoped_lock lock(mutex_);
    sessions_.erase(session->id());
    if (current_ == session->id()) current_ = 0;
    return outcome;
  }

  grpc::Status GetState(grpc::ServerContext* context, const node::v1::GetStateRequest* request,
                        node::v1::GetStateReply* reply) override {
    if (auto admitted = admit(*context); !admitted.ok()) return admitted;
    const auto [welcome, state] = handler_.get_state(!request->without_state());
    *reply->mutable_agent() = to_message(welcome);
    if (state) reply->set_state(sluice::api::serialise(*state));
    return grpc::Status::OK;
  }

  grpc::Status Purge(grpc::ServerContext* context, const node::v1::PurgeRequest* request,
                     node::v1::PurgeReply* reply) override {
    if (auto admitted = admit(*context); !admitted.ok()) return admitted;
    const auto purged = handler_.purge(request->cluster_id(), request->epoch());
    if (!purged) reply->set_error(purged.error().message());
    return grpc::Status::OK;
  }

  template <typename Value>
  void publish(const Value& value) {
    std::shared_ptr<api::Session> session;
    {
      const std::scoped_lock lock(mutex_);
      const auto found = sessions_.find(current_);
      if (found == sessions_.end()) return;
      session = found->second;
    }
    session->publish(value);
  }

  void end_all() {
    const std::scoped_lock lock(mutex_);
    for (auto& [id, session] : sessions_) session->end("the agent is stopping");
  }

 private:
  // The handler has welcomed it, so its epoch is at least that of every other.
  void become_current(SessionId id) {
    const std::scoped_lock lock(mutex_);
    if (id < current_) return;  // a later one was quicker; the handler refuses this one's pushes
    if (const auto older = sessions_.find(current_); older != sessions_.end() && current_ != id) {
      older->second->end("a newer session has taken over");
    }
    current_ = id;
  }

  Handler& handler_;
  std::atomic<SessionId> last_id_{0};
  std::mutex mutex_;
  std::map<SessionId, std::shared_ptr<api::Session>> sessions_;
  SessionId current_ = 0;
};

class Server final : public NodeServer {
 public:
  explicit Server(Handler& handler) : service_(handler) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() override {
    if (!server_) return;
    service_.end_all();
    server_->Shutdown(std::chrono::system_clock::now() + kGoodbye);
    server_->Wait();
  }

  Status begin(const ServerOptions& options) {
    namespace tls = grpc::experimental;
    const std::string& dir = options.tls_directory;
    const auto provider = std::make_shared<tls::FileWatcherCertificateProvider>(dir + "/tls.key", dir + "/tls.crt",
                                                                                dir + "/ca.crt", kReloadSeconds);
    tls::TlsServerCredentialsOptions credentials(provider);
    credentials.watch_root_certs();
    credentials.watch_identity_key_cert_pairs();
    credentials.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    grpc::ServerBuilder builder;
    builder.AddListeningPort(options.listen, tls::TlsServerCredentials(credentials), &port_);
    builder.RegisterService(&service_);
    builder.SetMaxReceiveMessageSize(kMaxMessage);
    builder.SetMaxSendMessageSize(kMaxMessage);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kKeepaliveMs / 2);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    server_ = builder.BuildAndStart();
    if (!server_ || port_ == 0)
      return fail(ErrorKind::unavailable, "listen on", options.listen, "address in use or not here");
    return {};
  }

  [[nodiscard]] uint16_t port() const override { return static_cast<uint16_t>(port_); }
  void publish(NodeStatus status) override { service_.publish(status); }
  void publish(Ack ack) override { service_.publish(ack); }

 private:
  Service service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

Status check_certificates(const std::string& directory) {
  const auto certificate = config::read_file(directory + "/tls.crt");
  const auto key = config::read_file(directory + "/tls.key");
  const auto ca = config::read_file(directory + "/ca.crt");
  for (const auto* file : {&certificate, &key, &ca}) {
    if (!*file) return tl::unexpected(file->error());
  }
  const auto matches = tls::matches(*certificate, *key);
  if (!matches) return tl::unexpected(matches.error());
  if (!*matches) return fail(ErrorKind::invalid, "use", directory + "/tls.key", "is not the key of tls.crt");
  if (const auto info = tls::inspect(*ca); !info) return tl::unexpected(info.error());
  return {};
}

}  // namespace

Result<std::unique_ptr<NodeServer>> NodeServer::start(const ServerOptions& options, Handler& handler) {
  if (auto checked = check_certificates(options.tls_directory); !checked) return tl::unexpected(checked.error());
  auto server = std::make_unique<Server>(handler);
  if (auto begun = server->begin(options); !begun) return tl::unexpected(begun.error());
  return std::unique_ptr<NodeServer>(std::move(server));
}

}  // namespace sluice::agent::api
