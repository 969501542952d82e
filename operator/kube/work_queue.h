// Keys that need work. A key is in the queue once, however often it is added; one sync is in flight per key; a key
// added meanwhile is queued again when that sync is done. A queue never says what has changed: the sync looks.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/result.h"

namespace sluice::kube {

struct QueueLimits {
  std::chrono::milliseconds base_delay{5};       // of the per-key back-off, doubling
  std::chrono::milliseconds max_delay{300'000};  //
  double retries_per_second = 10;                // of all keys together: a bucket of `burst` retries
  double burst = 100;
};

// The rules, with time as a parameter. Not thread-safe.
class QueueRules {
 public:
  using Clock = std::chrono::steady_clock;
  explicit QueueRules(QueueLimits limits = {}) : limits_(limits), tokens_(limits.burst) {}

  void add(const std::string& key);
  // Of two delays for one key the earlier counts; a key that is added in the meantime is not added again later.
  void add_after(const std::string& key, Clock::duration delay, Clock::time_point now);
  // After a failed sync: the key's own back-off or the common rate, whichever is later.
  void retry(const std::string& key, Clock::time_point now);
  void forget(const std::string& key);  // after success: the back-off starts anew
  // The next key to sync, marked in flight; none if nothing is due.
  std::optional<std::string> take(Clock::time_point now);
  void done(const std::string& key);                                // the sync ended
  [[nodiscard]] std::optional<Clock::time_point> next_due() const;  // of the delayed ones
  [[nodiscard]] std::size_t depth() const { return ready_.size(); }
  [[nodiscard]] std::size_t failures(const std::string& key) const;
  [[nodiscard]] bool idle() const { return ready_.empty() && in_flight_.empty() && delayed_.empty(); }

 private:
  void release_due(Clock::time_point now);
  Clock::duration common_delay(Clock::time_point now);

  QueueLimits limits_;
  std::deque<std::string> ready_;
  std::set<std::string> dirty_;      // in ready_, or to be queued when its sync is done
  std::set<std::string> in_flight_;  //
  std::map<std::string, Clock::time_point> delayed_;
  std::set<std::pair<Clock::time_point, std::string>> due_;
  std::map<std::string, std::size_t> failures_;
  double tokens_;
  std::optional<Clock::time_point> refilled_;
};

// The same for threads, with workers of its own.
class WorkQueue {
 public:
  // What a sync asks for next. An Error is retried (not before its retry_after, if it has one).
  struct Done {
    std::optional<std::chrono::milliseconds> again_after;
  };
  using Sync = std::function<Result<Done>(const std::string& key)>;

  explicit WorkQueue(QueueLimits limits = {}) : rules_(limits) {}
  ~WorkQueue() { stop(); }
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  void start(std::size_t workers, Sync sync);
  void stop();  // waits for syncs in flight; what is queued is dropped
  void add(const std::string& key);
  void add_after(const std::string& key, std::chrono::milliseconds delay);

  struct Stats {
    std::size_t depth = 0;
    uint64_t syncs = 0;
    uint64_t failures = 0;
  };
  [[nodiscard]] Stats stats() const;
  [[nodiscard]] bool idle() const;  // nothing queued, delayed or in flight

 private:
  void work();
  void run_one(const std::string& key, std::unique_lock<std::mutex>& lock);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  QueueRules rules_;
  Sync sync_;
  Stats stats_;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace sluice::kube
