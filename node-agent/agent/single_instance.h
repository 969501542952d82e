// One agent a network namespace: two would attach and program against each other.
#pragma once

#include <chrono>

#include "common/result.h"

namespace sluice::agent {

// Held until the process ends, however it ends.
class SingleInstance {
 public:
  // Waits for another agent to go (an update starts the new one while the old one ends) up to `patience`.
  static Result<SingleInstance> acquire(std::chrono::milliseconds patience);
  SingleInstance(SingleInstance&& other) noexcept;
  SingleInstance& operator=(SingleInstance&&) = delete;
  SingleInstance(const SingleInstance&) = delete;
  SingleInstance& operator=(const SingleInstance&) = delete;
  ~SingleInstance();

 private:
  explicit SingleInstance(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace sluice::agent
