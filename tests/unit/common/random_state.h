// Random desired states for property tests: small enough that two of them often share keys.
#pragma once

#include <gtest/gtest.h>
// rapidcheck's headers want gtest's first.
#include <rapidcheck.h>

#include <string>
#include <vector>

#include "common/state/desired_state.h"

namespace sluice::testing {

inline net::IpAddress random_address() {
  if (*rc::gen::inRange(0, 4) == 0) {
    std::array<uint8_t, 16> bytes{0x20, 0x01, 0x0d, 0xb8};
    bytes[15] = *rc::gen::inRange<uint8_t>(1, 4);
    return net::IpAddress::from_ipv6(bytes);
  }
  return net::IpAddress::from_ipv4(0x0000000a | (*rc::gen::inRange<uint32_t>(1, 6) << 24));
}

inline std::vector<net::IpAddress> random_addresses() {
  std::vector<net::IpAddress> addresses;
  for (int i = *rc::gen::inRange(0, 3); i > 0; --i) addresses.push_back(random_address());
  return addresses;
}

inline std::string random_name() {
  return {*rc::gen::inRange('a', 'f')};
}

inline std::vector<std::string> random_names() {
  std::vector<std::string> names;
  for (int i = *rc::gen::inRange(0, 3); i > 0; --i) names.push_back(random_name());
  return names;
}

inline state::Service random_service(const std::string& id) {
  state::Service service;
  service.id = id;
  service.addresses = random_addresses();
  service.port = *rc::gen::inRange<uint16_t>(1, 4);
  service.protocol = *rc::gen::element(state::Protocol::tcp, state::Protocol::udp);
  service.forwarding = *rc::gen::element(state::Forwarding::automatic, state::Forwarding::nat,
                                         state::Forwarding::tunnel, state::Forwarding::direct);
  service.affinity = *rc::gen::element(state::Affinity::none, state::Affinity::client_ip);
  service.affinity_seconds = *rc::gen::element(10'800U, 1U, 86'400U);
  service.traffic_policy = *rc::gen::element(state::TrafficPolicy::cluster, state::TrafficPolicy::local);
  if (*rc::gen::arbitrary<bool>()) {
    const net::IpAddress source = random_address();
    service.allowed_sources.push_back({source, static_cast<uint8_t>(8 * source.size())});
  }
  service.drain_seconds = *rc::gen::inRange<uint32_t>(0, 400);
  service.groups = {{random_name(), *rc::gen::inRange<uint32_t>(0, 1001)}, {random_name(), 1}};
  for (int i = *rc::gen::inRange(0, 4); i > 0; --i) {
    service.backends.push_back({.address = random_address(),
                                .port = *rc::gen::inRange<uint16_t>(1, 3),
                                .group = *rc::gen::inRange<uint32_t>(0, 2),
                                .node = random_name(),
                                .zone = random_name(),
                                .joined = *rc::gen::element<uint64_t>(0, 1, 2, 3, 4, state::kNotYet),
                                .left = *rc::gen::inRange<uint64_t>(0, 9)});
  }
  service.sizes = {{0, *rc::gen::inRange<uint8_t>(0, 20)}};
  return service;
}

inline state::Tunnel random_tunnel() {
  state::Tunnel tunnel;
  tunnel.port = *rc::gen::element<uint16_t>(6082, 1, 65535);
  for (int i = *rc::gen::inRange(0, 3); i > 0; --i) {
    tunnel.keys.push_back({*rc::gen::arbitrary<uint32_t>(), {*rc::gen::arbitrary<uint64_t>(), UINT64_MAX}});
  }
  return tunnel;
}

// Of right shape; not always valid.
inline state::DesiredState random_state() {
  state::DesiredState state;
  state.cluster_id = "c";
  state.epoch = *rc::gen::arbitrary<uint64_t>();
  state.revision = *rc::gen::arbitrary<uint64_t>();
  state.flow_hash_key = {1, UINT64_MAX};
  state.tunnel = random_tunnel();
  for (const std::string& id : random_names()) state.services[id] = random_service(id);
  for (const std::string& name : random_names()) {
    state.nodes[name] = {.name = name, .addresses = random_addresses(), .source_addresses = random_addresses()};
  }
  for (const net::IpAddress& address : random_addresses()) {
    state.announcements[address] = {.address = address, .nodes = random_names(), .interfaces = random_names()};
  }
  return state;
}

}  // namespace sluice::testing
