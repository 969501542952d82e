#include "tests/model/scene.h"

#include <algorithm>

#include "common/maglev/maglev.h"
#include "common/maglev/service_table.h"

namespace sluice::model {
namespace {

using agent::dataplane::Peer;

bool runs_here(const state::Backend& backend, const Scene& scene) {
  const auto way = scene.network.next_hops.find(backend.address);
  return (!backend.node.empty() && backend.node == scene.node) ||
         (way != scene.network.next_hops.end() && way->second.local);
}

bool has_tunnel(const std::string& node, const Scene& scene) {
  const auto peer = scene.network.peers.find(node);
  return peer != scene.network.peers.end() && peer->second.port != 0;
}

Kind kind_of(const state::Service& service, const state::Backend& backend, const Scene& scene) {
  if (runs_here(backend, scene)) return Kind::local;
  const bool tunnel = has_tunnel(backend.node, scene);
  switch (service.forwarding) {
    case state::Forwarding::direct:
      return Kind::direct;
    case state::Forwarding::tunnel:
      return tunnel || scene.desired.nodes.contains(backend.node) ? Kind::tunnel : Kind::ipip;
    case state::Forwarding::automatic:
      return tunnel ? Kind::tunnel : Kind::nat;
    case state::Forwarding::nat:
      break;
  }
  return Kind::nat;
}

bool has_left(const state::Service& service, const state::Backend& one) {
  return std::none_of(service.backends.begin(), service.backends.end(), [&one](const state::Backend& stay) {
    return stay.address == one.address && stay.port == one.port && stay.left == 0;
  });
}

bool contains(const net::Prefix& prefix, const net::IpAddress& address) {
  return prefix.address.family() == address.family() && prefix.range().contains(address);
}

// IPv6 that no router forwards: RFC 4291, 2.5.3, 2.5.6, 2.7.
bool stays_on_link(const net::IpAddress& address) {
  if (address.is_ipv4()) return false;
  const auto& bytes = address.bytes();
  return bytes[0] == 0xff || (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) ||
         address == net::IpAddress::parse("::1").value();
}

}  // namespace

const char* to_string(Kind kind) {
  constexpr const char* kNames[] = {"local", "nat", "tunnel", "direct", "ipip"};
  return kNames[static_cast<size_t>(kind)];
}

Prospect::Prospect(Scene scene, const Prospect* before) : scene_(std::move(scene)) {
  for (const auto& [id, service] : scene_.desired.services) add(service);
  for (auto& [id, service] : services_) {
    const Service* former = before == nullptr ? nullptr : before->service(id);
    service.affinity_changed = former != nullptr && (former->affinity_changed || former->affinity != service.affinity);
  }
  for (const auto& [address, way] : scene_.network.next_hops) {
    if (!way.local && scene_.network.interfaces.contains(way.ifindex) && way.source != net::IpAddress{})
      nat_sources_.insert(way.source);
  }
}

void Prospect::add(const state::Service& service) {
  Service made;
  made.id = service.id;
  made.affinity = service.affinity == state::Affinity::client_ip;
  if (!service.allowed_sources.empty()) made.allowed = service.allowed_sources;
  // With the policy Local what runs elsewhere is not there.
  state::Service seen = service;
  if (seen.traffic_policy == state::TrafficPolicy::local)
    std::erase_if(seen.backends, [this](const auto& backend) { return !runs_here(backend, scene_); });
  for (const auto& backend : seen.backends) {
    const Kind kind = kind_of(service, backend, scene_);
    made.endpoints.push_back({.address = backend.address,
                              .port = backend.port,
                              .kind = kind,
                              .node = backend.node,
                              .left = has_left(service, backend),
                              .strict = service.forwarding == state::Forwarding::tunnel && kind == Kind::tunnel});
  }
  for (const auto& plane : maglev::build_service_table(seen).planes) {
    auto& slots = made.planes.emplace_back();
    for (const uint16_t slot : plane)
      slots.push_back(slot == maglev::kNoBackend ? std::nullopt : std::optional<size_t>(slot));
  }
  for (const auto& address : service.addresses) {
    keys_.emplace(ServiceKey{address, service.port, static_cast<uint8_t>(service.protocol)}, service.id);
    addresses_.insert(address);
  }
  services_.emplace(made.id, std::move(made));
}

const Service* Prospect::service(const net::IpAddress& address, uint16_t port, uint8_t protocol) const {
  const auto found = keys_.find({address, port, protocol});
  return found == keys_.end() ? nullptr : service(found->second);
}

const Service* Prospect::service(const std::string& id) const {
  const auto found = services_.find(id);
  return found == services_.end() ? nullptr : &found->second;
}

const Peer* Prospect::peer_at(const net::IpAddress& address) const {
  for (const auto& [node, peer] : scene_.network.peers) {
    const auto& others = peer.underlay;
    if (peer.port != 0 && (peer.address == address || std::find(others.begin(), others.end(), address) != others.end()))
      return &peer;
  }
  return nullptr;
}

const Peer* Prospect::peer(const std::string& node) const {
  return has_tunnel(node, scene_) ? &scene_.network.peers.at(node) : nullptr;
}

const agent::dataplane::Interface* Prospect::interface(uint32_t ifindex) const {
  const auto found = scene_.network.interfaces.find(ifindex);
  return found == scene_.network.interfaces.end() ? nullptr : &found->second;
}

std::optional<Way> Prospect::known_way(const net::IpAddress& to) const {
  const auto found = scene_.network.next_hops.find(to);
  if (found == scene_.network.next_hops.end() || found->second.local || interface(found->second.ifindex) == nullptr)
    return std::nullopt;
  return Way{found->second.ifindex, found->second.mac};
}

std::optional<Way> Prospect::kernel_way(const net::IpAddress& to, const std::optional<Way>& sender) const {
  const Routes& kernel = scene_.routes;
  if (stays_on_link(to)) return std::nullopt;
  if (!kernel.forwarding) return sender;
  const Routes::Route* best = nullptr;
  for (const auto& route : kernel.routes)
    if (contains(route.to, to) && (best == nullptr || route.to.length > best->to.length)) best = &route;
  if (best == nullptr) return std::nullopt;
  if (!best->mac) return sender && sender->interface == best->interface ? sender : std::nullopt;
  return interface(best->interface) != nullptr ? std::optional(Way{best->interface, *best->mac}) : std::nullopt;
}

std::optional<uint32_t> Prospect::arrival(const std::vector<uint16_t>& vlans) const {
  if (vlans.size() > 1) return std::nullopt;
  if (vlans.empty() || vlans.front() == 0) return scene_.ingress;  // id 0: a priority, no VLAN (IEEE 802.1Q, 9.6)
  for (const auto& [ifindex, device] : scene_.network.interfaces)
    if (device.parent == scene_.ingress && device.vlan == vlans.front()) return ifindex;
  return std::nullopt;
}

std::optional<net::IpAddress> Prospect::nat_source(const net::IpAddress& to, const Way& way) const {
  const auto& hops = scene_.network.next_hops;
  const auto fits = [&](const agent::dataplane::NextHop& hop) {
    return !hop.local && hop.ifindex == way.interface && hop.source.family() == to.family() &&
           hop.source != net::IpAddress{};
  };
  if (const auto own = hops.find(to); own != hops.end() && fits(own->second)) return own->second.source;
  // By a way of the kernel's: what others who leave there have.
  const auto other = std::find_if(hops.begin(), hops.end(), [&](const auto& hop) { return fits(hop.second); });
  return other == hops.end() ? std::nullopt : std::optional(other->second.source);
}

}  // namespace sluice::model
