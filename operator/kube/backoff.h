// Growing pauses between attempts. Pure: time and randomness come in.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <random>

namespace sluice::kube {

// From `initial` doubling to `max`, each lengthened by chance to between once and twice itself, so that many clients of
// one server do not come back together. Starts anew when the last failure is `reset_after` ago.
class Backoff {
 public:
  using Clock = std::chrono::steady_clock;
  struct Limits {
    std::chrono::milliseconds initial{800};
    std::chrono::milliseconds max{30'000};
    std::chrono::milliseconds reset_after{120'000};
  };
  Backoff(Limits limits, uint64_t seed) : limits_(limits), current_(limits.initial), random_(seed) {}

  std::chrono::milliseconds next(Clock::time_point now) {
    if (!last_ || now - *last_ > limits_.reset_after) current_ = limits_.initial;
    const auto base = current_;
    current_ = std::min(current_ * 2, limits_.max);
    const auto delay = base + std::chrono::milliseconds(between(0, base.count()));
    last_ = now + delay;
    return delay;
  }
  // Uniform in [low, high].
  int64_t between(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }

 private:
  Limits limits_;
  std::chrono::milliseconds current_;
  std::optional<Clock::time_point> last_;  // end of the last pause
  std::mt19937_64 random_;
};

}  // namespace sluice::kube
