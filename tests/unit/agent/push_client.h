// An operator in a test: speaks node.proto to an agent with certificates of the test's own CA.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "common/api/convert.h"
#include "common/api/node.grpc.pb.h"
#include "common/state/digest.h"
#include "common/tls/certificates.h"

namespace sluice::agent {

namespace v1 = node::v1;

struct TestCertificates {
  explicit TestCertificates(const std::string& common_name = "test CA")
      : ca(sluice::tls::make_ca(common_name, sluice::tls::Clock::now(), std::chrono::hours(24)).value()) {}
  [[nodiscard]] sluice::tls::KeyPair issue(const std::string& name) const {
    return sluice::tls::issue(ca, name, sluice::tls::Clock::now(), std::chrono::hours(24)).value();
  }
  // ca.crt, tls.crt, tls.key for an agent. Each file is replaced whole, as a Secret's are.
  void write_agent(const std::filesystem::path& directory) const {
    const auto agent = issue(sluice::tls::kAgentName);
    std::filesystem::create_directories(directory);
    const auto put = [&](const char* name, const std::string& text) {
      std::ofstream(directory / "next") << text;
      std::filesystem::rename(directory / "next", directory / name);
    };
    put("ca.crt", ca.certificate);
    put("tls.key", agent.key);
    put("tls.crt", agent.certificate);
  }
  sluice::tls::KeyPair ca;
};

inline std::string bytes_of(const state::Digest& digest) {
  return {digest.bytes.begin(), digest.bytes.end()};
}

class PushClient {
 public:
  // `identity`: nullopt comes without a certificate.
  PushClient(const std::string& address, const std::string& ca, const std::optional<sluice::tls::KeyPair>& identity) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = ca;
    if (identity) {
      tls.pem_private_key = identity->key;
      tls.pem_cert_chain = identity->certificate;
    }
    grpc::ChannelArguments arguments;
    arguments.SetSslTargetNameOverride(sluice::tls::kAgentName);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    stub_ = v1::NodeAgent::NewStub(grpc::CreateCustomChannel(address, grpc::SslCredentials(tls), arguments));
  }
  ~PushClient() { close(); }
  PushClient(const PushClient&) = delete;
  PushClient& operator=(const PushClient&) = delete;

  void open() {
    context_ = std::make_unique<grpc::ClientContext>();
    context_->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    stream_ = stub_->Session(context_.get());
  }
  // The answer to a Hello; nullopt: the stream ended.
  std::optional<v1::AgentMessage> hello(state::Epoch epoch, const std::string& node = "node1",
                                        const std::string& cluster = "cluster-1") {
    if (!stream_) open();
    v1::OperatorMessage message;
    message.mutable_hello()->set_cluster_id(cluster);
    message.mutable_hello()->set_epoch(epoch);
    message.mutable_hello()->set_identity("operator-0");
    message.mutable_hello()->set_node(node);
    stream_->Write(message);
    return read_reply();
  }
  std::optional<v1::AgentMessage> push(const state::DesiredState& state,
                                       const std::optional<std::string>& digest = {}) {
    v1::OperatorMessage message;
    message.mutable_snapshot()->set_state(sluice::api::serialise(state));
    message.mutable_snapshot()->set_digest(digest.value_or(bytes_of(state::digest(state))));
    stream_->Write(message);
    return read_reply();
  }
  std::optional<v1::AgentMessage> push(const state::Delta& delta) {
    v1::OperatorMessage message;
    message.mutable_delta()->ParseFromString(sluice::api::serialise(delta));
    stream_->Write(message);
    return read_reply();
  }
  // The next message that is no Status; those are kept in `last_status`.
  std::optional<v1::AgentMessage> read_reply() {
    for (;;) {
      v1::AgentMessage message;
      if (!stream_->Read(&message)) return std::nullopt;
      if (!message.has_status()) return message;
      last_status = message.status();
    }
  }
  // Reads until a Status that `good` likes has come; false: the stream ended.
  bool wait_for_status(const std::function<bool(const v1::Status&)>& good) {
    for (;;) {
      if (last_status && good(*last_status)) return true;
      v1::AgentMessage message;
      if (!stream_->Read(&message)) return false;
      if (message.has_status()) last_status = message.status();
    }
  }
  // Ends the stream, and says how it ended.
  grpc::Status close() {
    if (!stream_) return grpc::Status::OK;
    stream_->WritesDone();
    v1::AgentMessage message;
    while (stream_->Read(&message)) {
    }
    auto status = stream_->Finish();
    stream_.reset();
    return status;
  }
  grpc::Status get_state(bool without_state, v1::GetStateReply& reply) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::GetStateRequest request;
    request.set_without_state(without_state);
    return stub_->GetState(&context, request, &reply);
  }
  grpc::Status purge(const std::string& cluster, state::Epoch epoch, v1::PurgeReply& reply) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::PurgeRequest request;
    request.set_cluster_id(cluster);
    request.set_epoch(epoch);
    return stub_->Purge(&context, request, &reply);
  }
  std::optional<v1::Status> last_status;

 private:
  std::unique_ptr<v1::NodeAgent::Stub> stub_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::OperatorMessage, v1::AgentMessage>> stream_;
};

}  // namespace sluice::agent
