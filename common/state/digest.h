// The digest of a desired state's content: what two parties compare to know that they mean the same.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "common/state/desired_state.h"

namespace sluice::state {

// SHA-256. Covers the cluster id, the flow hash key, the tunnel, services, nodes and announcements; not epoch and
// revision: a new leader that plans the same content finds the same digest and sends nothing.
struct Digest {
  std::array<uint8_t, 32> bytes{};
  [[nodiscard]] std::string hex() const;
  friend auto operator<=>(const Digest&, const Digest&) = default;
  friend bool operator==(const Digest&, const Digest&) = default;
};

Digest digest(const DesiredState& state);

}  // namespace sluice::state
