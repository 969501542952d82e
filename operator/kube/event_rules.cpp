#include "operator/kube/event_rules.h"

#include <algorithm>

namespace sluice::kube {

void EventRules::prune(Clock::time_point now) {
  if (seen_.size() >= limits_.remembered) {
    std::erase_if(seen_, [&](const auto& entry) { return now - entry.second.last > limits_.aggregate; });
    if (seen_.size() >= limits_.remembered) seen_.clear();  // events are best effort: some may show twice
  }
  if (buckets_.size() >= limits_.remembered) {
    const auto full = limits_.refill * static_cast<int64_t>(limits_.burst);
    std::erase_if(buckets_, [&](const auto& entry) { return now - entry.second.refilled > full; });
    if (buckets_.size() >= limits_.remembered) buckets_.clear();
  }
}

EventRules::Decision EventRules::admit(const std::string& event, const std::string& object, int64_t times,
                                       Clock::time_point now) {
  prune(now);
  auto& bucket = buckets_.try_emplace(object, Bucket{limits_.burst, now}).first->second;
  const double gained = std::chrono::duration<double, std::milli>(now - bucket.refilled).count() /
                        static_cast<double>(limits_.refill.count());
  bucket.tokens = std::min(limits_.burst, bucket.tokens + gained);
  bucket.refilled = now;

  Seen& seen = seen_[event];
  if (seen.count > 0 && now - seen.last > limits_.aggregate) seen = {};
  seen.count += times;  // also of those that are not sent: the next one that is tells the truth
  seen.last = now;
  if (bucket.tokens < 1) return {false, seen.count, seen.name};
  bucket.tokens -= 1;
  return {true, seen.count, seen.name};
}

void EventRules::named(const std::string& event, const std::string& name) {
  if (const auto found = seen_.find(event); found != seen_.end()) found->second.name = name;
}

void EventRules::forget(const std::string& event) {
  seen_.erase(event);
}

}  // namespace sluice::kube
