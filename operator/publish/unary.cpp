#include "operator/publish/unary.h"

#include <grpcpp/grpcpp.h>

#include <functional>
#include <latch>
#include <list>

#include "common/api/node.grpc.pb.h"
#include "operator/publish/stream.h"

namespace sluice::publish {

namespace {

using NodeAgent = node::v1::NodeAgent;

template <typename Reply>
struct Call {
  std::string node;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<NodeAgent::Stub> stub;
  grpc::ClientContext context;
  Reply reply;
  grpc::Status status;
};

// `start` begins the call and runs its last argument when the call is over, which is at the deadline at the latest.
template <typename Reply>
std::list<Call<Reply>> call_all(const Dialling& dialling, std::chrono::milliseconds timeout,
                                const std::function<void(Call<Reply>&, std::function<void(grpc::Status)>)>& start) {
  std::list<Call<Reply>> calls;
  std::latch pending(static_cast<std::ptrdiff_t>(dialling.nodes.size()));
  const auto deadline = std::chrono::system_clock::now() + timeout;
  for (const auto& [node, endpoint] : dialling.nodes) {
    auto& call = calls.emplace_back();
    call.node = node;
    call.channel = make_channel(endpoint, dialling.credentials, dialling.settings);
    call.stub = NodeAgent::NewStub(call.channel);
    call.context.set_deadline(deadline);
    start(call, [&call, &pending](const grpc::Status& status) {
      call.status = status;
      pending.count_down();
    });
  }
  pending.wait();
  return calls;
}

std::string describe(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ? "no answer in time" : status.error_message();
}

}  // namespace

std::map<std::string, Result<node::v1::GetStateReply>> get_state(const Dialling& dialling, bool without_state,
                                                                 std::chrono::milliseconds timeout) {
  node::v1::GetStateRequest request;
  request.set_without_state(without_state);
  auto calls = call_all<node::v1::GetStateReply>(dialling, timeout, [&](auto& call, auto done) {
    call.stub->async()->GetState(&call.context, &request, &call.reply, std::move(done));
  });
  std::map<std::string, Result<node::v1::GetStateReply>> replies;
  for (auto& call : calls) {
    if (call.status.ok()) {
      replies.emplace(call.node, std::move(call.reply));
    } else {
      replies.emplace(call.node, fail(ErrorKind::unavailable, "ask agent", call.node, describe(call.status)));
    }
  }
  return replies;
}

std::map<std::string, Status> purge(const Dialling& dialling, const node::v1::PurgeRequest& request,
                                    std::chrono::milliseconds timeout) {
  const auto calls = call_all<node::v1::PurgeReply>(dialling, timeout, [&](auto& call, auto done) {
    call.stub->async()->Purge(&call.context, &request, &call.reply, std::move(done));
  });
  std::map<std::string, Status> outcomes;
  for (const auto& call : calls) {
    if (!call.status.ok()) {
      outcomes.emplace(call.node, fail(ErrorKind::unavailable, "purge node", call.node, describe(call.status)));
    } else if (!call.reply.error().empty()) {
      outcomes.emplace(call.node, fail(ErrorKind::internal, "purge node", call.node, call.reply.error()));
    } else {
      outcomes.emplace(call.node, Status{});
    }
  }
  return outcomes;
}

}  // namespace sluice::publish
