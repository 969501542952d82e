#include "operator/kube/exchange.h"

#include <utility>

namespace sluice::kube {

bool Exchange::put(const char* data, std::size_t size) {
  const std::lock_guard lock(mutex_);
  if (!canceled_) buffer_.append(data, size);
  changed_.notify_all();
  return has_room();
}

void Exchange::when_there_is_room(std::function<void()> resume) {
  {
    const std::lock_guard lock(mutex_);
    if (!has_room()) {
      resume_ = std::move(resume);
      return;
    }
  }
  resume();
}

void Exchange::answered(int status, std::optional<std::chrono::seconds> retry_after) {
  const std::lock_guard lock(mutex_);
  head_ = Response{status, {}, retry_after};
  changed_.notify_all();
}

void Exchange::ended(std::string error) {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  error_ = std::move(error);
  changed_.notify_all();
}

bool Exchange::wait_head(Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, deadline, [this] { return head_ || ended_ || canceled_; });
}

bool Exchange::wait_end(Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, deadline, [this] { return ended_ || canceled_; });
}

bool Exchange::take(Clock::time_point deadline, std::string& out) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_until(lock, deadline, [this] { return !buffer_.empty() || ended_ || canceled_; })) return false;
  out = std::exchange(buffer_, {});
  const auto resume = std::exchange(resume_, nullptr);
  lock.unlock();
  if (resume) resume();
  return true;
}

Result<Response> Exchange::answer() {
  const std::lock_guard lock(mutex_);
  if (auto broken = failure(); !broken) return tl::unexpected(broken.error());
  Response response = *head_;
  response.body = std::exchange(buffer_, {});
  return response;
}

Result<Response> Exchange::head() {
  const std::lock_guard lock(mutex_);
  if (head_) return *head_;
  return tl::unexpected(failure().error());
}

std::optional<Status> Exchange::end() {
  const std::lock_guard lock(mutex_);
  if (!ended_ && !canceled_) return std::nullopt;
  return failure();
}

void Exchange::cancel() {
  std::function<void()> resume;
  {
    const std::lock_guard lock(mutex_);
    canceled_ = true;
    buffer_.clear();
    resume.swap(resume_);
    changed_.notify_all();
  }
  close_();
  if (resume) resume();
}

Status Exchange::failure() const {
  if (canceled_) return fail(ErrorKind::unavailable, kOperation, "", "canceled");
  if (!error_.empty()) return fail(ErrorKind::unavailable, kOperation, "", error_);
  if (!head_) return fail(ErrorKind::unavailable, kOperation, "", "no answer");
  return {};
}

}  // namespace sluice::kube
