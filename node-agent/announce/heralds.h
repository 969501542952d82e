// When what is sent: an address that was taken is made known several times. Pure.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <vector>

#include "node-agent/dataplane/dataplane.h"

namespace sluice::agent::announce {

// Each address is made known three times: at once, and one and two seconds later (a frame may be lost, and a bridge
// port may not forward yet). RFC 4861's MAX_NEIGHBOR_ADVERTISEMENT and RetransTimer say the same. Pure but for `send`.
class Heralds {
 public:
  using Clock = std::chrono::steady_clock;
  using Send = std::function<void(const dataplane::OwnedAddress&)>;
  void add(const std::vector<dataplane::OwnedAddress>& taken, Clock::time_point now);
  // Forgets what is not owned any more, sends what is due. `owned` is ascending.
  void tick(const std::vector<dataplane::OwnedAddress>& owned, Clock::time_point now, const Send& send);
  [[nodiscard]] bool idle() const { return pending_.empty(); }

 private:
  struct Pending {
    int left = 0;
    Clock::time_point next;
  };
  std::map<dataplane::OwnedAddress, Pending> pending_;
};

}  // namespace sluice::agent::announce
