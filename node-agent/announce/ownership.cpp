#include "node-agent/announce/ownership.h"

#include <fnmatch.h>

#include <algorithm>
#include <iterator>

namespace sluice::agent::announce {
namespace {

bool named(const state::Announcement& announcement, const std::string& interface) {
  return std::ranges::any_of(announcement.interfaces, [&interface](const std::string& pattern) {
    return fnmatch(pattern.c_str(), interface.c_str(), 0) == 0;
  });
}

}  // namespace

uint32_t device_of(const dataplane::OwnedAddress& owned, const std::vector<VlanDevice>& vlans) {
  if (owned.vlan == 0) return owned.ifindex;
  const auto found = std::ranges::find_if(
      vlans, [&owned](const VlanDevice& one) { return one.parent == owned.ifindex && one.id == owned.vlan; });
  return found == vlans.end() ? 0 : found->ifindex;
}

Ownership ownership(const state::DesiredState& state, const std::string& node,
                    const std::vector<dataplane::AttachedInterface>& attached, const std::vector<VlanDevice>& vlans,
                    const std::set<net::IpAddress>& local) {
  Ownership out;
  for (const auto& [address, announcement] : state.announcements) {
    if (announcement.nodes.empty() || announcement.nodes.front() != node) continue;
    bool reached = false;
    for (const dataplane::AttachedInterface& interface : attached) {
      if (announcement.interfaces.empty() || named(announcement, interface.name)) {
        reached = true;
        if (!local.contains(address)) out.owned.push_back({address, interface.ifindex});
      }
      for (const VlanDevice& vlan : vlans) {
        if (vlan.parent != interface.ifindex || !named(announcement, vlan.name)) continue;
        reached = true;
        if (!local.contains(address)) out.owned.push_back({address, vlan.parent, vlan.id});
      }
    }
    if (reached) out.announcing.push_back(address);
  }
  std::ranges::sort(out.owned);
  return out;
}

std::vector<net::IpAddress> chosen(const state::DesiredState& state, const std::string& node) {
  std::vector<net::IpAddress> out;
  for (const auto& [address, announcement] : state.announcements) {
    if (!announcement.nodes.empty() && announcement.nodes.front() == node) out.push_back(address);
  }
  return out;
}

Ownership withhold(Ownership ownership, const std::set<net::IpAddress>& answered) {
  std::set<net::IpAddress> withheld;
  for (const auto& owned : ownership.owned) {
    if (!answered.contains(owned.address)) withheld.insert(owned.address);
  }
  std::erase_if(ownership.owned, [&](const auto& owned) { return withheld.contains(owned.address); });
  std::erase_if(ownership.announcing, [&](const auto& address) { return withheld.contains(address); });
  return ownership;
}

std::vector<dataplane::OwnedAddress> taken(const std::vector<dataplane::OwnedAddress>& before,
                                           const std::vector<dataplane::OwnedAddress>& owned) {
  std::vector<dataplane::OwnedAddress> out;
  std::ranges::set_difference(owned, before, std::back_inserter(out));
  return out;
}

}  // namespace sluice::agent::announce
