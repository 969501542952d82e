// The clock that flow records are stamped with. Internal to dataplane/.
#pragma once

#include <cstdint>
#include <utility>

#include "common/result.h"
#include "node-agent/dataplane/fd.h"

namespace sluice::agent::dataplane {

class Clock {
 public:
  static Result<Clock> open();
  // Jiffies, the low 32 bits.
  [[nodiscard]] Result<uint32_t> now() const;

 private:
  explicit Clock(Fd program) : program_(std::move(program)) {}
  Fd program_;
};

}  // namespace sluice::agent::dataplane
