#include "node-agent/api/session.h"

#include <thread>
#include <utility>

#include "common/api/convert.h"
#include "common/log/spdlog.h"
#include "node-agent/api/messages.h"

namespace sluice::agent::api {
namespace {

Refusal invalid(const Error& error) {
  return {RefusalReason::invalid_state, error.message(), 0};
}

}  // namespace

grpc::Status Session::run(const std::function<void()>& on_welcome) {
  std::thread writer([this] { write_all(); });
  node::v1::OperatorMessage message;
  while (stream_.Read(&message)) {
    auto reply = answer(message);
    if (!reply) break;
    const bool refused_hello = message.has_hello() && reply->has_refused();
    if (message.has_hello() && reply->has_hello()) on_welcome();
    send(std::move(*reply));
    if (message.has_hello() && !refused_hello) publish(handler_.status());
    if (refused_hello) break;
    message.Clear();
  }
  std::string why;
  {
    const std::scoped_lock lock(mutex_);
    closing_ = true;
    why = why_;
  }
  changed_.notify_all();
  writer.join();
  return why.empty() ? grpc::Status::OK : grpc::Status(grpc::StatusCode::ABORTED, why);
}

std::optional<Session::Message> Session::answer(const node::v1::OperatorMessage& message) {
  const bool is_hello = message.has_hello();
  if (is_hello == welcomed_) {
    const std::scoped_lock lock(mutex_);
    why_ = is_hello ? "a session begins with one Hello only" : "a session begins with a Hello";
    return std::nullopt;
  }
  if (is_hello) {
    const auto reply = handler_.hello(id_, from_message(message.hello()));
    welcomed_ = std::holds_alternative<Welcome>(reply);
    return to_message(reply);
  }
  if (message.has_snapshot()) {
    auto state = sluice::api::parse(message.snapshot().state());
    if (!state) return to_message(PushReply(invalid(state.error())));
    return to_message(handler_.snapshot(id_, std::move(*state), message.snapshot().digest()));
  }
  if (message.has_delta()) {
    const auto delta = sluice::api::parse_delta(message.delta().SerializeAsString());
    if (!delta) return to_message(PushReply(invalid(delta.error())));
    return to_message(handler_.delta(id_, *delta));
  }
  return to_message(PushReply(Refusal{RefusalReason::invalid_state, "this agent does not know that message", 0}));
}

void Session::send(Message message) {
  {
    const std::scoped_lock lock(mutex_);
    replies_.push_back(std::move(message));
  }
  changed_.notify_all();
}

void Session::publish(const NodeStatus& status) {
  {
    const std::scoped_lock lock(mutex_);
    status_ = to_message(status);
  }
  changed_.notify_all();
}

void Session::publish(const Ack& ack) {
  {
    const std::scoped_lock lock(mutex_);
    ack_ = to_message(PushReply(ack));
  }
  changed_.notify_all();
}

void Session::end(const std::string& why) {
  {
    const std::scoped_lock lock(mutex_);
    if (why_.empty()) why_ = why;
    closing_ = true;
  }
  changed_.notify_all();
  context_.TryCancel();
}

void Session::write_all() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closing_ || !replies_.empty() || ack_ || status_; });
    Message next;
    if (!replies_.empty()) {
      next = std::move(replies_.front());
      replies_.pop_front();
    } else if (closing_) {
      return;
    } else if (ack_) {
      next = std::move(*std::exchange(ack_, std::nullopt));
    } else {
      next = std::move(*std::exchange(status_, std::nullopt));
    }
    lock.unlock();
    const bool written = stream_.Write(next);
    lock.lock();
    if (!written) {
      // The stream is broken: the reader finds out as well. Nothing more can be said.
      replies_.clear();
      closing_ = true;
      return;
    }
  }
}

}  // namespace sluice::agent::api
