#include "node-agent/tunnel/plan.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "node-agent/tunnel/token.h"

namespace sluice::agent::tunnel {
namespace {

bool may_be_tunnelled(const state::Service& service) {
  return service.forwarding == state::Forwarding::automatic || service.forwarding == state::Forwarding::tunnel;
}

// The nodes that backends are on, those included that have not joined yet: a tunnel takes time to prove.
std::set<std::string> carriers(const state::DesiredState& state) {
  std::set<std::string> nodes;
  for (const auto& [id, service] : state.services) {
    if (!may_be_tunnelled(service)) continue;
    for (const state::Backend& backend : service.backends) {
      if (!backend.node.empty()) nodes.insert(backend.node);
    }
  }
  return nodes;
}

// {ours, theirs}
std::optional<std::pair<net::IpAddress, net::IpAddress>> ends(const Underlay& here, const Underlay& there) {
  const net::IpAddress none;
  if (here.ipv4 != none && there.ipv4 != none) return std::pair(here.ipv4, there.ipv4);
  if (here.ipv6 != none && there.ipv6 != none) return std::pair(here.ipv6, there.ipv6);
  return std::nullopt;
}

}  // namespace

Underlay underlay_of(const state::Node& node) {
  Underlay out;
  for (const net::IpAddress& address : node.addresses) {
    net::IpAddress& first = address.is_ipv4() ? out.ipv4 : out.ipv6;
    if (first == net::IpAddress{}) first = address;
  }
  return out;
}

std::map<std::string, PlannedTunnel> plan_tunnels(const state::DesiredState& state, const std::string& node) {
  std::map<std::string, PlannedTunnel> planned;
  const auto self = state.nodes.find(node);
  if (state.tunnel.keys.empty() || self == state.nodes.end()) return planned;
  const Underlay here = underlay_of(self->second);
  const std::set<std::string> carrying = carriers(state);
  const bool received = carrying.contains(node);
  for (const auto& [name, other] : state.nodes) {
    const bool carries = carrying.contains(name);
    if (name == node || (!carries && !received)) continue;
    const auto pair = ends(here, underlay_of(other));
    if (!pair || pair->first == pair->second) continue;
    PlannedTunnel tunnel;
    tunnel.source = pair->first;
    tunnel.address = pair->second;
    tunnel.port = state.tunnel.port;
    for (const net::IpAddress& address : other.addresses) {
      if (address != tunnel.address) tunnel.underlay.push_back(address);
    }
    tunnel.carries = carries;
    tunnel.key = state.tunnel.keys.front().id;
    tunnel.token = token(state.tunnel.keys.front(), tunnel.source, tunnel.address);
    for (size_t i = 0; i < std::min(state.tunnel.keys.size(), tunnel.accepted.size()); ++i) {
      tunnel.accepted.at(i) = token(state.tunnel.keys[i], tunnel.address, tunnel.source);
    }
    planned.emplace(name, std::move(tunnel));
  }
  return planned;
}

}  // namespace sluice::agent::tunnel
