#include "node-agent/nexthop/ways.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace sluice::agent::nexthop {
namespace {

bool is_tunnel(const Link& link) {
  static constexpr std::array<std::string_view, 9> kTunnels = {"vxlan", "geneve", "ipip", "gre",      "gretap",
                                                               "sit",   "vti",    "xfrm", "wireguard"};
  return std::ranges::find(kTunnels, link.kind) != kTunnels.end();
}

// Why backends behind a device cannot be reached; empty: they can. Attached or not, what is sent into a tunnel is lost:
// its neighbours' addresses may be known, but no frame redirected to it is encapsulated.
std::string obstacle(const Link& link, bool usable) {
  if (is_tunnel(link) || !link.ethernet) {
    return fmt::format("reached through {} ({}): Sluice cannot send through tunnels yet, it needs routed backends",
                       link.name, link.kind.empty() ? "no Ethernet device" : link.kind);
  }
  if (usable) return {};
  if (link.kind == "veth") {  // Cilium's cilium_host, as an example: the way on is not the routing table's
    return fmt::format(
        "reached through {} (veth), where Sluice is not attached: add it to interfaces, unless it is a pod network's "
        "own "
        "device, behind which Sluice reaches no pods yet",
        link.name);
  }
  return fmt::format("reached through {}, where Sluice is not attached: add it to interfaces", link.name);
}

const Route* route_of(const std::map<net::IpAddress, Route>& routes, const net::IpAddress& address) {
  const auto found = routes.find(address);
  return found == routes.end() ? nullptr : &found->second;
}

NeighbourKey neighbour_of(const Route& route, const net::IpAddress& address) {
  return {route.ifindex, route.gateway.value_or(address)};
}

}  // namespace

std::set<NeighbourKey> needed_neighbours(const Targets& targets, const std::map<net::IpAddress, Route>& routes,
                                         const std::set<uint32_t>& usable) {
  std::set<NeighbourKey> needed;
  for (const auto& [address, on_this_node] : targets) {
    const Route* route = route_of(routes, address);
    if (on_this_node || route == nullptr || route->kind != Route::Kind::unicast) continue;
    if (usable.contains(route->ifindex)) needed.insert(neighbour_of(*route, address));
  }
  return needed;
}

Ways find_ways(const Targets& targets, const std::map<net::IpAddress, Route>& routes,
               const std::map<NeighbourKey, Neighbour>& neighbours, const NetworkView& view,
               const std::set<uint32_t>& usable) {
  Ways ways;
  for (const auto& [address, on_this_node] : targets) {
    const Route* route = route_of(routes, address);
    if (route == nullptr || route->kind == Route::Kind::unreachable) {
      ways.unresolved[address] = fmt::format("no route: {}", route == nullptr ? "not looked up yet" : route->reason);
      continue;
    }
    if (on_this_node || route->kind == Route::Kind::local) {
      dataplane::NextHop here;
      here.local = true;
      ways.next_hops.emplace(address, here);
      continue;
    }
    const auto link = view.links.find(route->ifindex);
    if (link == view.links.end()) {
      ways.unresolved[address] = fmt::format("reached through device {}, which is gone", route->ifindex);
      continue;
    }
    if (std::string why = obstacle(link->second, usable.contains(route->ifindex)); !why.empty()) {
      ways.unresolved[address] = std::move(why);
      continue;
    }
    const NeighbourKey key = neighbour_of(*route, address);
    const auto neighbour = neighbours.find(key);
    if (neighbour != neighbours.end() && neighbour->second.mac) {
      ways.next_hops.emplace(address, dataplane::NextHop{false, route->ifindex, *neighbour->second.mac, route->source});
      continue;
    }
    const std::string who = route->gateway ? fmt::format("its gateway {}", key.address.to_string()) : std::string("it");
    const bool failed = neighbour != neighbours.end() && neighbour->second.failed;
    if (!failed) ways.pending.insert(address);
    ways.unresolved[address] =
        fmt::format("{} {} on {}", who, failed ? "does not answer ARP" : "has not answered ARP yet", link->second.name);
  }
  return ways;
}

}  // namespace sluice::agent::nexthop
