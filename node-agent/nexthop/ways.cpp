#include "node-agent/nexthop/ways.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace sluice::agent::nexthop {
namespace {

constexpr size_t kMostTags = 2;  // IEEE 802.1ad: one service tag, one customer tag

bool is_tunnel(const Link& link) {
  static constexpr std::array<std::string_view, 21> kTunnels = {
      "vxlan",  "geneve", "bareudp",   "gtp",       "ipip",      "gre",  "gretap",
      "erspan", "ip6tnl", "ip6gre",    "ip6gretap", "ip6erspan", "sit",  "vti",
      "vti6",   "xfrm",   "wireguard", "l2tp",      "macsec",    "ovpn", "amt"};
  return std::ranges::find(kTunnels, link.kind) != kTunnels.end();
}

// How frames for a device are transmitted by XDP.
struct Transmit {
  uint32_t by = 0;  // 0: not at all
  std::vector<VlanTag> tags;
};

// Attached or not, what is sent into a tunnel is lost: its neighbours' addresses may be known, but no frame redirected
// to it is encapsulated.
Transmit transmit(const Link& link, const NetworkView& view, const std::set<uint32_t>& usable) {
  Transmit out;
  const Link* at = &link;
  while (!usable.contains(at->index)) {
    const auto below = view.links.find(at->parent);
    if (!at->vlan || below == view.links.end() || out.tags.size() == kMostTags) return {};
    out.tags.insert(out.tags.begin(), *at->vlan);
    at = &below->second;
  }
  if (is_tunnel(*at) || !at->ethernet) return {};
  out.by = at->index;
  return out;
}

// Whether only the kernel can send there. A dataplane::Interface has room for one tag of IEEE 802.1Q.
bool kernel_sends(uint32_t transmit_by, const std::vector<VlanTag>& tags) {
  const bool room = tags.empty() || (tags.size() == 1 && tags.front().protocol == kCustomerTag);
  return transmit_by == 0 || !room;
}

// An address's next hop is that of its device: what one route alone encapsulates on it cannot be told apart.
bool has_hop(const Way& way, const Route& route, const Abilities& can) {
  if (kernel_sends(way.transmit_by, way.tags)) return can.by_kernel && !route.encapsulates;
  return way.tags.empty() || can.tags;
}

constexpr const char* kOtherWays =
    "it needs a tunnel of Sluice's own to the backend's node, proved, or a route that leaves by a network card";

// Why there is no next hop by this device.
std::string obstacle(const Link& link, const Route& route) {
  if (is_tunnel(link) || !link.ethernet) {
    return fmt::format("reached through {} ({}), where XDP cannot transmit: {}", link.name,
                       link.kind.empty() ? "no Ethernet device" : link.kind, kOtherWays);
  }
  if (route.encapsulates) {
    return fmt::format("reached by a route on {} that encapsulates, where XDP cannot transmit: {}", link.name,
                       kOtherWays);
  }
  if (link.kind == "veth") {  // Cilium's cilium_host, as an example: the way on is not the routing table's
    return fmt::format(
        "reached through {} (veth), where Sluice is not attached: add it to interfaces, unless it is a pod network's "
        "own "
        "device, behind which Sluice reaches no pods yet",
        link.name);
  }
  return fmt::format("reached through {}, where Sluice is not attached: add it to interfaces", link.name);
}

NeighbourKey neighbour_of(const Route& route, const net::IpAddress& address) {
  return {route.ifindex, route.gateway.value_or(address)};
}

uint32_t mtu_of(const Route& route, const Link& link, net::Family family) {
  uint32_t mtu = link.mtu;
  if (family == net::Family::ipv6 && link.mtu_ipv6 != 0) mtu = std::min(mtu, link.mtu_ipv6);
  return route.mtu == 0 ? mtu : std::min(mtu, route.mtu);
}

// By a route of kind unicast; without the neighbour.
Way way_by(const Route& route, const Link& link, const net::IpAddress& address, const NetworkView& view,
           const std::set<uint32_t>& usable) {
  Way way;
  way.ifindex = route.ifindex;
  way.gateway = route.gateway;
  way.own = link.mac;
  way.source = route.source;
  way.mtu = mtu_of(route, link, address.family());
  if (!route.encapsulates && link.ethernet && !is_tunnel(link)) {
    Transmit how = transmit(link, view, usable);
    way.transmit_by = how.by;
    way.tags = std::move(how.tags);
  }
  way.by_kernel = way.transmit_by == 0;
  return way;
}

std::string no_answer(const NeighbourKey& key, const Route& route, const Link& link, bool failed) {
  const std::string who = route.gateway ? fmt::format("its gateway {}", key.address.to_string()) : std::string("it");
  const std::string_view what = key.address.is_ipv4() ? "ARP" : "neighbour discovery";
  return fmt::format("{} {} {}{} on {}", who, failed ? "does not answer" : "has not answered", what,
                     failed ? "" : " yet", link.name);
}

// One target's.
class Finder {
 public:
  Finder(const std::map<NeighbourKey, Neighbour>& neighbours, const NetworkView& view, const std::set<uint32_t>& usable,
         const Abilities& can)
      : neighbours_(neighbours), view_(view), usable_(usable), can_(can) {}

  void find(const net::IpAddress& address, bool on_this_node, const Route* route) {
    if (route == nullptr || route->kind == Route::Kind::unreachable) {
      ways_.unresolved[address] = fmt::format("no route: {}", route == nullptr ? "not looked up yet" : route->reason);
      return;
    }
    const auto link = view_.links.find(route->ifindex);
    if (on_this_node || route->kind == Route::Kind::local) {
      dataplane::NextHop here;
      here.local = true;
      ways_.next_hops.emplace(address, here);
      Way way;
      way.local = true;
      way.ifindex = route->ifindex;
      if (link != view_.links.end()) way.mtu = mtu_of(*route, link->second, address.family());
      ways_.every.emplace(address, std::move(way));
      return;
    }
    if (link == view_.links.end()) {
      ways_.unresolved[address] = fmt::format("reached through device {}, which is gone", route->ifindex);
      return;
    }
    find(address, *route, link->second);
  }

  Ways take() { return std::move(ways_); }

 private:
  void find(const net::IpAddress& address, const Route& route, const Link& link) {
    Way way = way_by(route, link, address, view_, usable_);
    const NeighbourKey key = neighbour_of(route, address);
    const auto neighbour = neighbours_.find(key);
    if (!way.by_kernel && neighbour != neighbours_.end()) way.mac = neighbour->second.mac;
    const bool failed = neighbour != neighbours_.end() && neighbour->second.failed;
    const bool waited_for = !way.by_kernel && !way.mac && !failed;
    if (waited_for) ways_.pending.insert(address);
    if (!has_hop(way, route, can_)) {
      ways_.unresolved[address] = obstacle(link, route);
    } else if (way.mac || kernel_sends(way.transmit_by, way.tags)) {
      const dataplane::Mac mac = way.mac.value_or(dataplane::Mac{});
      ways_.next_hops.emplace(address, dataplane::NextHop{false, way.ifindex, mac, way.source});
    } else {
      ways_.unresolved[address] = no_answer(key, route, link, failed);
    }
    ways_.every.emplace(address, std::move(way));
  }

  const std::map<NeighbourKey, Neighbour>& neighbours_;
  const NetworkView& view_;
  const std::set<uint32_t>& usable_;
  const Abilities& can_;
  Ways ways_;
};

const Route* route_of(const std::map<net::IpAddress, Route>& routes, const net::IpAddress& address) {
  const auto found = routes.find(address);
  return found == routes.end() ? nullptr : &found->second;
}

dataplane::Interface to_interface(const Link& link, const NetworkView& view, const std::set<uint32_t>& usable) {
  dataplane::Interface out;
  out.mac = link.mac;
  out.mtu = static_cast<uint16_t>(std::min<uint32_t>(link.mtu, UINT16_MAX));
  const bool can_have = link.ethernet && !is_tunnel(link);
  const Transmit how = can_have ? transmit(link, view, usable) : Transmit{};
  out.by_kernel = kernel_sends(how.by, how.tags);
  if (!out.by_kernel && how.tags.size() == 1) {
    out.parent = how.by;
    out.vlan = how.tags.front().id;
  }
  return out;
}

}  // namespace

std::map<uint32_t, dataplane::Interface> way_devices(const Ways& ways, const NetworkView& view,
                                                     const std::set<uint32_t>& usable) {
  std::set<uint32_t> wanted = usable;
  for (const auto& [address, hop] : ways.next_hops) {
    if (!hop.local) wanted.insert(hop.ifindex);
  }
  for (const auto& [index, link] : view.links) {
    if (link.vlan && usable.contains(link.parent)) wanted.insert(index);
  }
  std::map<uint32_t, dataplane::Interface> out;
  for (const uint32_t index : wanted) {
    const auto link = view.links.find(index);
    if (link != view.links.end()) out.emplace(index, to_interface(link->second, view, usable));
  }
  return out;
}

std::map<uint32_t, dataplane::StackDevice> stack_devices(const NetworkView& view) {
  std::map<uint32_t, dataplane::StackDevice> out;
  for (const auto& [index, link] : view.links) {
    if (!link.loopback && !dataplane::is_node_link(link.name))
      out.emplace(index, dataplane::StackDevice{link.name, link.ethernet});
  }
  return out;
}

std::set<NeighbourKey> needed_neighbours(const Targets& targets, const std::map<net::IpAddress, Route>& routes,
                                         const NetworkView& view, const std::set<uint32_t>& usable) {
  std::set<NeighbourKey> needed;
  for (const auto& [address, on_this_node] : targets) {
    const Route* route = route_of(routes, address);
    if (on_this_node || route == nullptr || route->kind != Route::Kind::unicast) continue;
    const auto link = view.links.find(route->ifindex);
    if (link == view.links.end() || way_by(*route, link->second, address, view, usable).by_kernel) continue;
    needed.insert(neighbour_of(*route, address));
  }
  return needed;
}

Ways find_ways(const Targets& targets, const std::map<net::IpAddress, Route>& routes,
               const std::map<NeighbourKey, Neighbour>& neighbours, const NetworkView& view,
               const std::set<uint32_t>& usable, const Abilities& can) {
  Finder finder(neighbours, view, usable, can);
  for (const auto& [address, on_this_node] : targets) finder.find(address, on_this_node, route_of(routes, address));
  return finder.take();
}

}  // namespace sluice::agent::nexthop
