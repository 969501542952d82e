// One request and its answer, between the HTTP library's thread, which fills it, and a thread of ours, which empties
// it. Shared by both: a call that is given up does not wait for the library to notice. For .cpp files of this room.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "common/result.h"
#include "operator/kube/transport.h"

namespace sluice::kube {

class Exchange {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr const char* kOperation = "talk to the API server";  // in errors

  // Beyond `limit` bytes of an answer that nobody has taken there is no room. `close` closes the connection; it is
  // called by cancel(), on its thread.
  Exchange(std::size_t limit, std::function<void()> close) : limit_(limit), close_(std::move(close)) {}

  // --- the library's side
  // The next piece of the body. False: no other must come before when_there_is_room() says so.
  bool put(const char* data, std::size_t size);
  // Calls `resume` once: now, or from take() or cancel() on their threads.
  void when_there_is_room(std::function<void()> resume);
  void answered(int status, std::optional<std::chrono::seconds> retry_after);
  // `error`: empty after an answer that is complete.
  void ended(std::string error);

  // --- our side. All return at once when the exchange is cancelled; whatever failed is `unavailable`.
  // Waits for the status, or the end. False at the deadline.
  bool wait_head(Clock::time_point deadline);
  bool wait_end(Clock::time_point deadline);
  // Takes what has come; waits while that is nothing. False at the deadline.
  bool take(Clock::time_point deadline, std::string& out);
  // The complete answer, after wait_end().
  Result<Response> answer();
  // The status line, after wait_head().
  Result<Response> head();
  // The end, if that is reached: a Status that says how. Nothing while it goes on.
  std::optional<Status> end();
  // From any thread.
  void cancel();

 private:
  [[nodiscard]] Status failure() const;
  [[nodiscard]] bool has_room() const { return canceled_ || buffer_.size() < limit_; }

  const std::size_t limit_;
  const std::function<void()> close_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string buffer_;
  std::function<void()> resume_;  // the library waits for room
  std::optional<Response> head_;
  bool ended_ = false;
  bool canceled_ = false;
  std::string error_;
};

}  // namespace sluice::kube
