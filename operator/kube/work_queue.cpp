#include "operator/kube/work_queue.h"

#include <algorithm>
#include <cmath>

namespace sluice::kube {

void QueueRules::add(const std::string& key) {
  if (const auto found = delayed_.find(key); found != delayed_.end()) {
    due_.erase({found->second, key});
    delayed_.erase(found);
  }
  if (!dirty_.insert(key).second) return;
  if (!in_flight_.contains(key)) ready_.push_back(key);
}

void QueueRules::add_after(const std::string& key, Clock::duration delay, Clock::time_point now) {
  if (delay <= Clock::duration::zero()) return add(key);
  if (dirty_.contains(key)) return;  // sooner than that already
  const auto when = now + delay;
  const auto [found, fresh] = delayed_.try_emplace(key, when);
  if (!fresh) {
    if (found->second <= when) return;
    due_.erase({found->second, key});
    found->second = when;
  }
  due_.insert({when, key});
}

QueueRules::Clock::duration QueueRules::common_delay(Clock::time_point now) {
  if (refilled_) {
    const double seconds = std::chrono::duration<double>(now - *refilled_).count();
    tokens_ = std::min(limits_.burst, tokens_ + seconds * limits_.retries_per_second);
  }
  refilled_ = now;
  tokens_ -= 1;  // below zero: taken in advance
  if (tokens_ >= 0) return Clock::duration::zero();
  return std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(-tokens_ / limits_.retries_per_second));
}

void QueueRules::retry(const std::string& key, Clock::time_point now) {
  const std::size_t failures = failures_[key]++;
  const double factor = std::ldexp(1.0, static_cast<int>(std::min<std::size_t>(failures, 40)));
  const auto limit = static_cast<double>(limits_.max_delay.count());
  const auto own = std::chrono::milliseconds(
      static_cast<int64_t>(std::min(static_cast<double>(limits_.base_delay.count()) * factor, limit)));
  add_after(key, std::max<Clock::duration>(own, common_delay(now)), now);
}

void QueueRules::forget(const std::string& key) {
  failures_.erase(key);
}

std::size_t QueueRules::failures(const std::string& key) const {
  const auto found = failures_.find(key);
  return found == failures_.end() ? 0 : found->second;
}

void QueueRules::release_due(Clock::time_point now) {
  while (!due_.empty() && due_.begin()->first <= now) {
    const std::string key = due_.begin()->second;
    add(key);  // takes it out of the delayed ones
  }
}

std::optional<std::string> QueueRules::take(Clock::time_point now) {
  release_due(now);
  if (ready_.empty()) return std::nullopt;
  std::string key = std::move(ready_.front());
  ready_.pop_front();
  dirty_.erase(key);
  in_flight_.insert(key);
  return key;
}

void QueueRules::done(const std::string& key) {
  in_flight_.erase(key);
  if (dirty_.contains(key)) ready_.push_back(key);
}

std::optional<QueueRules::Clock::time_point> QueueRules::next_due() const {
  if (due_.empty()) return std::nullopt;
  return due_.begin()->first;
}

void WorkQueue::start(std::size_t workers, Sync sync) {
  const std::lock_guard lock(mutex_);
  sync_ = std::move(sync);
  stopping_ = false;
  for (std::size_t i = 0; i < workers; ++i) workers_.emplace_back([this] { work(); });
}

void WorkQueue::stop() {
  std::vector<std::thread> workers;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    workers.swap(workers_);
    changed_.notify_all();
  }
  for (auto& worker : workers) worker.join();
}

void WorkQueue::add(const std::string& key) {
  const std::lock_guard lock(mutex_);
  rules_.add(key);
  changed_.notify_all();
}

void WorkQueue::add_after(const std::string& key, std::chrono::milliseconds delay) {
  const std::lock_guard lock(mutex_);
  rules_.add_after(key, delay, QueueRules::Clock::now());
  changed_.notify_all();
}

WorkQueue::Stats WorkQueue::stats() const {
  const std::lock_guard lock(mutex_);
  Stats out = stats_;
  out.depth = rules_.depth();
  return out;
}

bool WorkQueue::idle() const {
  const std::lock_guard lock(mutex_);
  return rules_.idle();
}

void WorkQueue::run_one(const std::string& key, std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  const auto outcome = sync_(key);
  lock.lock();
  const auto now = QueueRules::Clock::now();
  ++stats_.syncs;
  if (!outcome) {
    ++stats_.failures;
    if (outcome.error().retry_after.count() > 0) {
      rules_.add_after(key, outcome.error().retry_after, now);
    } else {
      rules_.retry(key, now);
    }
  } else {
    rules_.forget(key);
    if (outcome->again_after) rules_.add_after(key, *outcome->again_after, now);
  }
  rules_.done(key);
  changed_.notify_all();
}

void WorkQueue::work() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (const auto key = rules_.take(QueueRules::Clock::now())) {
      run_one(*key, lock);
      continue;
    }
    if (const auto due = rules_.next_due()) {
      changed_.wait_until(lock, *due);
    } else {
      changed_.wait(lock);
    }
  }
}

}  // namespace sluice::kube
