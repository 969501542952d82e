// One operator's stream, from Hello to its end. Internal to api/.
#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>

#include "common/api/node.grpc.pb.h"
#include "node-agent/api/node_server.h"

namespace sluice::agent::api {

using Stream = grpc::ServerReaderWriter<node::v1::AgentMessage, node::v1::OperatorMessage>;

class Session {
 public:
  Session(SessionId id, grpc::ServerContext& context, Stream& stream, Handler& handler)
      : id_(id), context_(context), stream_(stream), handler_(handler) {}

  [[nodiscard]] SessionId id() const { return id_; }
  // Reads until the stream ends. `on_welcome` is called between a good Hello and its answer.
  grpc::Status run(const std::function<void()>& on_welcome);
  // From any thread. Replies keep their order; of status and unasked acks only the newest is kept for a slow peer.
  void publish(const NodeStatus& status);
  void publish(const Ack& ack);
  void end(const std::string& why);

 private:
  using Message = node::v1::AgentMessage;
  std::optional<Message> answer(const node::v1::OperatorMessage& message);
  void send(Message message);
  void write_all();  // the writer's thread

  SessionId id_;
  grpc::ServerContext& context_;
  Stream& stream_;
  Handler& handler_;
  bool welcomed_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Message> replies_;
  std::optional<Message> ack_;
  std::optional<Message> status_;
  bool closing_ = false;
  std::string why_;
};

}  // namespace sluice::agent::api
