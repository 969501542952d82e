#include "node-agent/program/way_book.h"

#include <algorithm>

namespace sluice::agent::program {
namespace {

// Whether packets that leave by these interfaces need other elements of `egress`.
bool same_devices(const std::map<uint32_t, Interface>& before, const std::map<uint32_t, Interface>& now) {
  return std::equal(before.begin(), before.end(), now.begin(), now.end(), [](const auto& a, const auto& b) {
    return a.first == b.first && a.second.parent == b.second.parent && a.second.vlan == b.second.vlan;
  });
}

}  // namespace

WayChange WayBook::take(const Ways& ways, const std::set<net::IpAddress>* only) {
  WayChange change;
  change.all = !same_devices(rest_.interfaces, ways.interfaces);
  change.rest =
      rest_.interfaces != ways.interfaces || rest_.node_addresses != ways.node_addresses || rest_.peers != ways.peers;
  if (change.rest) {
    rest_.interfaces = ways.interfaces;
    rest_.node_addresses = ways.node_addresses;
    rest_.peers = ways.peers;
  }
  if (only != nullptr) {
    for (const net::IpAddress& address : *only) {
      const auto now = ways.next_hops.find(address);
      note(address, now == ways.next_hops.end() ? nullptr : &now->second, change);
    }
    return change;
  }
  next_hops_.reserve(ways.next_hops.size());
  for (const auto& [address, way] : ways.next_hops) {
    note(address, &way, change);
  }
  if (next_hops_.size() != ways.next_hops.size()) {
    std::vector<net::IpAddress> gone;
    for (const auto& [address, way] : next_hops_) {
      if (!ways.next_hops.contains(address)) {
        gone.push_back(address);
      }
    }
    for (const net::IpAddress& address : gone) {
      note(address, nullptr, change);
    }
  }
  return change;
}

void WayBook::note(const net::IpAddress& address, const dataplane::NextHop* now, WayChange& change) {
  bool was_local = false;
  if (now == nullptr) {
    const auto before = next_hops_.find(address);
    if (before == next_hops_.end()) {
      return;
    }
    was_local = before->second.local;
    next_hops_.erase(before);
  } else {
    const auto [before, is_new] = next_hops_.try_emplace(address, *now);
    if (!is_new && before->second == *now) {
      return;
    }
    was_local = !is_new && before->second.local;
    before->second = *now;
  }
  change.others.push_back(address);
  if (was_local != (now != nullptr && now->local)) {
    change.moved.push_back(address);
  }
}

const dataplane::NextHop* WayBook::find(const net::IpAddress& address) const {
  const auto found = next_hops_.find(address);
  return found == next_hops_.end() ? nullptr : &found->second;
}

}  // namespace sluice::agent::program
