#include "node-agent/agent/node_clients.h"

#include <algorithm>

namespace sluice::agent {
namespace {

bool announces(const state::DesiredState& state, const std::string& node, const net::IpAddress& address) {
  const auto found = state.announcements.find(address);
  return found != state.announcements.end() && !found->second.nodes.empty() && found->second.nodes.front() == node;
}

bool has_backend_on(const state::Service& service, const std::string& node) {
  return std::ranges::any_of(service.backends, [&node](const state::Backend& backend) {
    return backend.node == node && backend.in_choice_at(UINT64_MAX);
  });
}

}  // namespace

std::set<net::IpAddress> addresses_to_lead(const state::DesiredState& state, const std::string& node,
                                           const std::set<net::IpAddress>& own) {
  std::set<net::IpAddress> led;
  std::set<net::IpAddress> left_out;
  for (const auto& [id, service] : state.services) {
    const bool elsewhere = service.traffic_policy == state::TrafficPolicy::local && !has_backend_on(service, node);
    for (const net::IpAddress& address : service.addresses) {
      if (own.contains(address)) continue;
      (elsewhere && !announces(state, node, address) ? left_out : led).insert(address);
    }
  }
  std::erase_if(led, [&left_out](const net::IpAddress& address) { return left_out.contains(address); });
  return led;
}

uint16_t smallest_mtu(const std::set<uint32_t>& devices, const nexthop::NetworkView& view) {
  uint32_t smallest = 0;
  for (const uint32_t index : devices) {
    const auto link = view.links.find(index);
    if (link == view.links.end() || link->second.mtu == 0) continue;
    smallest = smallest == 0 ? link->second.mtu : std::min(smallest, link->second.mtu);
  }
  return static_cast<uint16_t>(std::min<uint32_t>(smallest, UINT16_MAX));
}

}  // namespace sluice::agent
