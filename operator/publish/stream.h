// One gRPC stream and its channel to one agent. Includes gRPC: for .cpp files only.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_callback.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "common/api/node.pb.h"
#include "operator/publish/content.h"
#include "operator/publish/publisher.h"

namespace sluice::publish {

// A new channel with a connection of its own. The peer's certificate must name sluice-agent.
std::shared_ptr<grpc::Channel> make_channel(const Endpoint& endpoint, const Credentials& credentials,
                                            const Settings& settings);

// Bytes on the wire without copying them: the slices share `bytes`.
grpc::ByteBuffer to_buffer(const Bytes& bytes);

class Stream : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
               public std::enable_shared_from_this<Stream> {
 public:
  // Called from gRPC's threads. After `closed` none is called again.
  struct Handlers {
    std::function<void(node::v1::AgentMessage)> read;
    std::function<void()> written;
    // The stream is to be let go of on another thread than gRPC's: the last channel's end waits for those to end.
    std::function<void(const grpc::Status&, std::shared_ptr<Stream>)> closed;
  };
  // Sends `hello` and waits for one message. The stream lives at least until `closed`.
  static std::shared_ptr<Stream> open(std::shared_ptr<grpc::Channel> channel, const Bytes& hello, Handlers handlers);

  // At most one of each at a time; the answers are `written` and `read`. Without effect after close().
  void write(const Bytes& message);
  void read();
  // Cancels; `closed` follows.
  void close();

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  Stream(std::shared_ptr<grpc::Channel> channel, const Bytes& hello, Handlers handlers);
  void end();

  std::shared_ptr<grpc::Channel> channel_;
  Handlers handlers_;
  grpc::ClientContext context_;
  grpc::ByteBuffer in_;
  grpc::ByteBuffer out_;
  std::mutex mutex_;
  bool closing_ = false;            // under mutex_: the hold is gone, no operation may start
  std::shared_ptr<Stream> myself_;  // until OnDone
};

}  // namespace sluice::publish
