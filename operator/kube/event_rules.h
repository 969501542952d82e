// Which events are worth sending: repetitions become a count, and one object cannot flood the API server. Pure.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace sluice::kube {

struct EventLimits {
  std::chrono::milliseconds aggregate{600'000};  // a repetition within this only raises the count
  double burst = 25;                             // distinct events per object at once
  std::chrono::milliseconds refill{300'000};     // and one more for each of these
  std::size_t remembered = 4096;                 // events and objects
};

class EventRules {
 public:
  using Clock = std::chrono::steady_clock;
  explicit EventRules(EventLimits limits = {}) : limits_(limits) {}

  struct Decision {
    bool send = false;  // false: over the object's rate
    int64_t count = 1;  // of all repetitions
    std::string name;   // of the event to be raised; empty: a new one
  };
  // `event`: all that makes an event the same one; `object`: whom it is about; `times` it happened since the last one.
  Decision admit(const std::string& event, const std::string& object, int64_t times, Clock::time_point now);
  // A new event was made under this name.
  void named(const std::string& event, const std::string& name);
  // The server does not have it any more: the next one is a new one.
  void forget(const std::string& event);
  [[nodiscard]] std::size_t remembered() const { return std::max(seen_.size(), buckets_.size()); }

 private:
  struct Seen {
    int64_t count = 0;
    std::string name;
    Clock::time_point last;
  };
  struct Bucket {
    double tokens;
    Clock::time_point refilled;
  };
  void prune(Clock::time_point now);

  EventLimits limits_;
  std::map<std::string, Seen> seen_;
  std::map<std::string, Bucket> buckets_;
};

}  // namespace sluice::kube
