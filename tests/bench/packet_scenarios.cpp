#include "tests/bench/packet_scenarios.h"

#include <fmt/format.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <array>

#include "common/maglev/maglev.h"
#include "tests/bench/packet_network.h"

namespace sluice::bench {
namespace {

using net::Family;

// The last four bytes of addresses; they are all of an IPv4 address.
constexpr uint32_t kServiceBase = 0x0ac80000;   // 10.200.0.0
constexpr uint32_t kBackendBase = 0x0a800000;   // 10.128.0.0
constexpr uint32_t kClientBase = 0xc6120000;    // 198.18.0.0
constexpr uint32_t kStrangerBase = 0xcb007100;  // 203.0.113.0
constexpr uint32_t kNodeAddress = 0xc0000201;   // 192.0.2.1
constexpr uint32_t kPeerAddress = 0xc0000202;   // 192.0.2.2
constexpr uint32_t kChurnBase = 0x0ac90000;     // 10.201.0.0
constexpr uint16_t kPort = 80, kBackendPort = 8080, kNodePort = 22, kFirstClientPort = 0x8000;
constexpr uint16_t kTunnelPort = 6082, kMtu = 1500;
constexpr uint64_t kToken = 0x5a5a1234a5a59876ULL;
constexpr uint32_t kManyServices = 10'000, kBackendsOfOne = 100, kBackendsOfMany = 15, kChurning = 16;

// 10.1.2.3 or 2001:db8:18::a01:203.
net::IpAddress address(Family family, uint32_t last) {
  if (family == Family::ipv4) return net::IpAddress::from_ipv4(__builtin_bswap32(last));
  std::array<uint8_t, 16> bytes{0x20, 0x01, 0x0d, 0xb8, 0, 0x18};
  for (size_t i = 0; i < 4; ++i) bytes.at(12 + i) = static_cast<uint8_t>(last >> (24 - 8 * i));
  return net::IpAddress::from_ipv6(bytes);
}

state::Service service(Family family, const std::string& id, uint32_t last, uint32_t first_backend, uint32_t backends) {
  state::Service made;
  made.id = id;
  made.addresses = {address(family, last)};
  made.port = kPort;
  made.groups = {{"all", 1}};
  made.sizes = {{0, maglev::wanted_log2(backends)}};
  for (uint32_t i = 0; i < backends; ++i) {
    state::Backend backend;
    backend.address = address(family, kBackendBase + first_backend + i);
    backend.port = kBackendPort;
    made.backends.push_back(backend);
  }
  return made;
}

// Services with all their backends behind one way, and the interface that there is.
Situation services(Family family, uint32_t count, const char* interface, const agent::dataplane::Mac& mac,
                   const agent::dataplane::NextHop& way) {
  const uint32_t each = count == 1 ? kBackendsOfOne : kBackendsOfMany;
  Situation situation;
  situation.desired.flow_hash_key = {0x0123456789abcdefULL, 0xfedcba9876543210ULL};
  for (const Family one : {Family::ipv4, Family::ipv6}) {
    situation.network.node_addresses.insert(address(one, kNodeAddress));
  }
  situation.network.interfaces[index_of(interface)] = {.mac = mac, .mtu = kMtu};
  for (uint32_t i = 0; i < count; ++i) {
    auto made = service(family, fmt::format("bench/{}", i), kServiceBase + i, i * each, each);
    for (const auto& backend : made.backends) situation.network.next_hops[backend.address] = way;
    situation.desired.services[made.id] = std::move(made);
  }
  return situation;
}

Situation nat(Family family, uint32_t count) {
  return services(
      family, count, kInterface, kMac,
      {.local = false, .ifindex = index_of(kInterface), .mac = kRouterMac, .source = address(family, kNodeAddress)});
}

Situation local(Family family, uint32_t count) {
  return services(family, count, kInterface, kMac, {.local = true, .ifindex = 0, .mac = {}, .source = {}});
}

Situation direct(Family family, uint32_t count) {
  Situation situation = nat(family, count);
  for (auto& [id, made] : situation.desired.services) {
    made.forwarding = state::Forwarding::direct;
    for (auto& backend : made.backends) backend.port = kPort;
  }
  return situation;
}

// To or from the one other node there is.
void add_peer(Situation& situation, const char* interface, uint32_t own, uint32_t other, const std::string& name,
              const std::string& own_name) {
  agent::dataplane::Peer peer;
  peer.address = address(Family::ipv4, other);
  peer.source = address(Family::ipv4, own);
  peer.port = kTunnelPort;
  peer.underlay = {peer.address};
  peer.way = {.local = false, .ifindex = index_of(interface), .mac = kRouterMac, .source = peer.source};
  peer.usable = true;
  peer.fits4 = peer.fits6 = kMtu - 100;
  peer.token = peer.accepted[0] = kToken;
  situation.network.peers[name] = peer;
  situation.network.node_addresses = {address(Family::ipv4, own), address(Family::ipv6, own)};
  situation.desired.tunnel.port = kTunnelPort;
  situation.desired.tunnel.keys = {{1, {1, 2}}};
  situation.desired.nodes[name] = {name, {peer.address}, {}};
  situation.desired.nodes[own_name] = {own_name, {peer.source}, {}};
}

void place_backends(Situation& situation, const std::string& node, state::Forwarding forwarding) {
  for (auto& [id, made] : situation.desired.services) {
    made.forwarding = forwarding;
    for (auto& backend : made.backends) backend.node = node;
  }
}

Situation tunnel(Family family, uint32_t count) {
  Situation situation = nat(family, count);
  add_peer(situation, kInterface, kNodeAddress, kPeerAddress, "other", "self");
  place_backends(situation, "other", state::Forwarding::tunnel);
  return situation;
}

// The node before and the node behind of the same.
Situation tunnel_to_here(Family family, uint32_t count) {
  Situation situation = services(family, count, kPeerInterface, kPeerMac,
                                 {.local = false,
                                  .ifindex = index_of(kPeerInterface),
                                  .mac = kRouterMac,
                                  .source = address(family, kPeerAddress)});
  situation.node = "other";
  add_peer(situation, kPeerInterface, kPeerAddress, kNodeAddress, "self", "other");
  place_backends(situation, "self", state::Forwarding::tunnel);
  return situation;
}

Situation local_behind_tunnel(Family family, uint32_t count) {
  Situation situation = local(family, count);
  add_peer(situation, kInterface, kNodeAddress, kPeerAddress, "other", "self");
  place_backends(situation, "self", state::Forwarding::tunnel);
  return situation;
}

// Told nothing: refusals are bounded in number, and what is measured would change with the clock.
Situation not_allowed(Family family, uint32_t count) {
  Situation situation = nat(family, count);
  const auto nobody = net::Prefix::parse(family == Family::ipv4 ? "192.0.2.77/32" : "2001:db8::77/128");
  for (auto& [id, made] : situation.desired.services) made.allowed_sources = {*nobody};
  return situation;
}

}  // namespace

const std::vector<Mode>& modes() {
  static constexpr Verdict kForwardedLocal{XDP_PASS, "forwarded_local"};
  static constexpr Verdict kForwardedNat{XDP_TX, "forwarded_nat"};
  static constexpr Verdict kForwardedTunnel{XDP_TX, "forwarded_tunnel"};
  static constexpr Returns kReturnedLocal{Hook::tc, {static_cast<uint32_t>(TC_ACT_UNSPEC), "returned_local"}};
  static constexpr Returns kReturnedNat{Hook::xdp, {XDP_TX, "returned_nat"}};
  static const std::vector<Mode> modes = {
      {.name = "tunnel", .towards = Towards::services, .situation = tunnel, .verdict = kForwardedTunnel},
      {.name = "direct", .towards = Towards::services, .situation = direct, .verdict = {XDP_TX, "forwarded_direct"}},
      {.name = "decapsulate",
       .towards = Towards::services,
       .situation = local_behind_tunnel,
       .verdict = {XDP_PASS, "decapsulated"},
       .returns = kReturnedLocal,
       .records = true,
       .peer = tunnel_to_here,
       .sent = kForwardedTunnel},
      {.name = "local",
       .towards = Towards::services,
       .situation = local,
       .verdict = kForwardedLocal,
       .returns = kReturnedLocal,
       .records = true},
      {.name = "local-return",
       .towards = Towards::services,
       .situation = local,
       .verdict = kForwardedLocal,
       .returns = kReturnedLocal,
       .measure_returns = true},
      {.name = "nat-forward",
       .towards = Towards::services,
       .situation = nat,
       .verdict = kForwardedNat,
       .returns = kReturnedNat,
       .records = true},
      {.name = "nat-return",
       .towards = Towards::services,
       .situation = nat,
       .verdict = kForwardedNat,
       .returns = kReturnedNat,
       .measure_returns = true},
      {.name = "not-ours", .towards = Towards::strangers, .situation = nat, .verdict = {XDP_PASS, "not_for_us"}},
      {.name = "node-address", .towards = Towards::node, .situation = nat, .verdict = {XDP_PASS, "own_traffic"}},
      {.name = "drop",
       .towards = Towards::services,
       .situation = not_allowed,
       .verdict = {XDP_DROP, "source_not_allowed"}},
  };
  return modes;
}

std::string Scenario::name() const {
  return fmt::format("{}/{}/{}/{}/{}", mode->name, family == Family::ipv4 ? "v4" : "v6",
                     flows == Flows::known ? "known" : "new", services, busy ? "busy" : "idle");
}

std::vector<Scenario> scenarios() {
  std::vector<Scenario> all;
  for (const Mode& mode : modes()) {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      for (const uint32_t services : {1U, kManyServices}) {
        for (const bool busy : {false, true}) {
          all.push_back({&mode, family, Flows::known, services, busy});
          if (mode.records) all.push_back({&mode, family, Flows::fresh, services, busy});
        }
      }
    }
  }
  return all;
}

Stencil packets_of(Towards towards, Family family, uint8_t tcp_flags) {
  const bool strange = towards == Towards::strangers;
  return make_stencil({.source_mac = kRouterMac,
                       .destination_mac = kMac,
                       .source = address(family, kClientBase),
                       .destination = address(family, strange ? kStrangerBase : kServiceBase),
                       .tcp_flags = tcp_flags});
}

bench_flows flows_of(Towards towards, uint32_t services, uint32_t count) {
  bench_flows flows{};
  flows.mask = count - 1;
  flows.client = kClientBase;
  flows.first_client_port = kFirstClientPort;
  flows.service_port = kPort;
  flows.services = services;
  flows.service = kServiceBase;
  if (towards == Towards::strangers) {
    flows.service = kStrangerBase;
  } else if (towards == Towards::node) {
    flows.service = kNodeAddress;
    flows.service_port = kNodePort;
    flows.services = 1;
  }
  return flows;
}

Situation turned(const Situation& situation, uint32_t turn) {
  Situation other = situation;
  const Family family = situation.desired.services.begin()->second.addresses.front().family();
  for (uint32_t i = 0; i < kChurning; ++i) {
    auto made = service(family, fmt::format("churn/{}", i), kChurnBase + i, 0, kBackendsOfMany - turn % 2);
    other.desired.services[made.id] = std::move(made);
  }
  return other;
}

}  // namespace sluice::bench
