#include "tests/model/scenes.h"

#include <algorithm>

#include "common/state/history.h"

namespace sluice::model {
namespace {

constexpr Mac kNeighbour{2, 0, 0, 0, 1, 9};

net::IpAddress ip(const std::string& text) {
  return net::IpAddress::parse(text).value();
}

net::Prefix prefix(const std::string& text) {
  return net::Prefix::parse(text).value();
}

}  // namespace

Routes routes_of(const Site& site) {
  Routes routes{.forwarding = site.forwarding};
  routes.routes = {{prefix("198.18.0.0/16"), site.near, std::nullopt},
                   {prefix("198.19.0.0/16"), site.other, kNeighbour},
                   {prefix("2001:db8:c::/48"), site.near, std::nullopt},
                   {prefix("2001:db8:d::/48"), site.other, kNeighbour}};
  return routes;
}

// The n-th address of a network.
net::IpAddress SceneMaker::number(const char* v4, const char* v6, uint64_t n) const {
  auto bytes = ip(theme_.v6 ? v6 : v4).bytes();
  size_t last = theme_.v6 ? 15 : 3;
  for (; n != 0; n >>= 8, --last) bytes.at(last) = static_cast<uint8_t>(bytes.at(last) + (n & 0xff));
  if (theme_.v6) return net::IpAddress::from_ipv6(bytes);
  return get_address(bytes, 0, false);
}

net::IpAddress SceneMaker::client() {
  const size_t where = between(random_, 0, 9);
  const uint64_t network = between(random_, 0, 255);
  const uint64_t host = between(random_, 1, 254);
  // A few that come again and again, so that flows meet.
  if (where == 0) return number("198.18.7.0", "2001:db8:c:7::", between(random_, 1, 4));
  const char* const v4 = where < 6 ? "198.18.0.0" : where < 9 ? "198.19.0.0" : "100.64.0.0";
  const char* const v6 = where < 6 ? "2001:db8:c::" : where < 9 ? "2001:db8:d::" : "2001:db8:e::";
  if (!theme_.v6) return number(v4, v6, network << 8 | host);
  auto bytes = ip(v6).bytes();
  bytes[7] = static_cast<uint8_t>(network);
  bytes[15] = static_cast<uint8_t>(host);
  return net::IpAddress::from_ipv6(bytes);
}

Scene SceneMaker::begin() {
  Scene scene;
  scene.desired.cluster_id = "model";
  scene.desired.revision = 1;
  // Of a fixed secret: another would be another cluster's.
  scene.desired.flow_hash_key = {0x0123456789abcdefULL, 0xfedcba9876543210ULL};
  scene.routes = routes_of(site_);
  scene.ingress = site_.near;
  scene.nat_last = static_cast<uint16_t>(scene.nat_first + theme_.nat_ports - 1);
  scene.network.interfaces[site_.near] = {site_.near_mac, 1500};
  scene.network.interfaces[site_.other] = {site_.other_mac, 1400};
  for (const char* own : {"10.1.0.1", "10.2.0.1", "fd00:1::1", "fd00:2::1"})
    scene.network.node_addresses.insert(ip(own));
  const size_t services = between(random_, 1, 5);
  for (size_t i = 0; i < services; ++i) {
    state::Service service = state::evolve(nullptr, some_service(i), scene.desired.revision);
    scene.desired.services.emplace(service.id, service);
  }
  add_ways(scene);
  return scene;
}

void SceneMaker::move_on(Scene& scene) {
  scene.desired.revision++;
  for (size_t i = 0; i < scene.desired.services.size(); ++i) {
    state::Service& now = scene.desired.services.at("service" + std::to_string(i));
    if (chance(random_, 30)) continue;
    state::Service wanted = now;
    if (chance(random_, 10))
      wanted.affinity = wanted.affinity == state::Affinity::none ? state::Affinity::client_ip : state::Affinity::none;
    if (chance(random_, 10)) wanted.allowed_sources.clear();
    fill(wanted, i);
    now = state::evolve(&now, wanted, scene.desired.revision);
  }
  add_ways(scene);
}

state::Service SceneMaker::some_service(size_t number) {
  state::Service service;
  service.id = "service" + std::to_string(number);
  service.protocol = chance(random_, 50) ? state::Protocol::tcp : state::Protocol::udp;
  // Two share an address, and one has two.
  service.addresses = {this->number("192.0.2.0", "2001:db8:f::", 1 + number / 2)};
  if (chance(random_, 20)) service.addresses.push_back(this->number("192.0.2.0", "2001:db8:f::", 100 + number));
  service.port = static_cast<uint16_t>(number % 2 == 0 ? 80 : 443);
  if (chance(random_, 20)) service.affinity = state::Affinity::client_ip;
  service.affinity_seconds = 0;  // the choice by client alone: what is remembered of clients the model does not follow
  if (chance(random_, 20))
    service.allowed_sources = {prefix("198.18.0.0/17"), prefix("198.19.9.0/24"), prefix("2001:db8:c::/57"),
                               prefix("2001:db8:d:9::/64")};
  if (chance(random_, 10)) service.traffic_policy = state::TrafficPolicy::local;
  fill(service, number);
  return service;
}

void SceneMaker::fill(state::Service& service, size_t number) {
  service.groups = {{"a", static_cast<uint32_t>(between(random_, 1, 3))}, {"b", 1}};
  service.backends.clear();
  const size_t count = chance(random_, 8) ? 0 : between(random_, 1, 5);
  std::set<uint64_t> taken;
  for (size_t i = 0; i < count; ++i) {
    state::Backend backend;
    const uint64_t n = between(random_, 0, 7);
    if (!taken.insert(n).second) continue;
    const Kind kind = one_of(random_, theme_.kinds);
    // By the host's number: what it is stays what it is. Backends of several services may be the same.
    const bool by_other = n % 2 == 1;
    const size_t host = static_cast<size_t>(kind) * 16 + n + 10 + (number % 2) * 4;
    backend.address =
        by_other ? this->number("10.2.0.0", "fd00:2::", host) : this->number("10.1.0.0", "fd00:1::", host);
    backend.port = n < 6 ? 8080 : service.port;
    backend.group = n == 0 ? 1 : 0;
    backend.node = kind == Kind::local ? "self" : "";
    service.backends.push_back(backend);
  }
}

// To every backend; now and then one is not known.
void SceneMaker::add_ways(Scene& scene) {
  scene.network.next_hops.clear();
  for (const auto& [id, service] : scene.desired.services) {
    for (const auto& backend : service.backends) {
      const bool by_other = backend.address.bytes()[1] == 2 || (theme_.v6 && backend.address.bytes()[3] == 2);
      const Mac mac{2, 0, 0, 0, 2, backend.address.bytes().at(theme_.v6 ? 15 : 3)};
      const auto source = by_other ? number("10.2.0.0", "fd00:2::", 1) : number("10.1.0.0", "fd00:1::", 1);
      scene.network.next_hops[backend.address] = {.local = backend.node == scene.node,
                                                  .ifindex = backend.node == scene.node ? 0
                                                             : by_other                 ? site_.other
                                                                                        : site_.near,
                                                  .mac = mac,
                                                  .source = source};
    }
  }
  for (auto way = scene.network.next_hops.begin(); way != scene.network.next_hops.end();)
    way = !way->second.local && chance(random_, 3) ? scene.network.next_hops.erase(way) : std::next(way);
}

std::vector<net::IpAddress> SceneMaker::addresses(const Scene& scene, bool v6) {
  std::vector<net::IpAddress> all;
  const auto add = [&](const net::IpAddress& address) {
    if (address.is_ipv4() != v6) all.push_back(address);
  };
  for (const char* text : {"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1", "192.0.2.77",
                           "::", "::1", "ff02::1", "fe80::1", "2001:db8:f::77"})
    add(ip(text));
  for (const auto& own : scene.network.node_addresses) add(own);
  for (const auto& [address, way] : scene.network.next_hops) add(address);
  for (const auto& [id, service] : scene.desired.services)
    for (const auto& address : service.addresses) add(address);
  return all;
}

}  // namespace sluice::model
