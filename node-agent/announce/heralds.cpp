#include "node-agent/announce/heralds.h"

#include <algorithm>

namespace sluice::agent::announce {
namespace {

constexpr int kTimes = 3;
constexpr std::chrono::seconds kApart{1};

}  // namespace

void Heralds::add(const std::vector<dataplane::OwnedAddress>& taken, Clock::time_point now) {
  for (const dataplane::OwnedAddress& address : taken) pending_.insert_or_assign(address, Pending{kTimes, now});
}

void Heralds::tick(const std::vector<dataplane::OwnedAddress>& owned, Clock::time_point now, const Send& send) {
  std::erase_if(pending_, [&](const auto& entry) { return !std::ranges::binary_search(owned, entry.first); });
  for (auto& [address, pending] : pending_) {
    if (pending.next > now) continue;
    send(address);
    --pending.left;
    pending.next = now + kApart;
  }
  std::erase_if(pending_, [](const auto& entry) { return entry.second.left <= 0; });
}

}  // namespace sluice::agent::announce
