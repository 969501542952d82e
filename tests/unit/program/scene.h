// Desired states to program, by hand and at random, and a kernel made of vectors to program them into.
#pragma once

#include <gtest/gtest.h>
// gtest first
#include <rapidcheck.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/program/programmer.h"
#include "tests/unit/program/reference_reader.h"

namespace sluice::agent::program::testing {

inline net::IpAddress ip(const std::string& text) {
  return net::IpAddress::parse(text).value();
}

inline const std::string kNode = "node0";

// One address for each number, of either family.
inline net::IpAddress backend_ip(uint32_t n, bool v6 = false) {
  return ip((v6 ? "2001:db8:1::1:" : "10.1.0.") + std::to_string(n));
}
inline net::IpAddress service_ip(uint32_t n, bool v6 = false) {
  return ip((v6 ? "2001:db8:2::1:" : "192.0.2.") + std::to_string(n));
}
inline std::string node_name(uint32_t n) {
  return "node" + std::to_string(n);
}

inline state::Backend backend(uint32_t n, state::Revision joined = 0, state::Revision left = 0, bool v6 = false) {
  state::Backend backend;
  backend.address = backend_ip(n, v6);
  backend.port = 8080;
  backend.node = node_name(n % 4);
  backend.joined = joined;
  backend.left = left;
  return backend;
}

inline state::Service service(const std::string& id, const std::vector<uint32_t>& addresses,
                              const std::vector<state::Backend>& backends, uint8_t log2 = 4, bool v6 = false) {
  state::Service service;
  service.id = id;
  for (const uint32_t n : addresses) {
    service.addresses.push_back(service_ip(n, v6));
  }
  service.port = 80;
  service.groups = {{"all", 1}};
  service.backends = backends;
  service.sizes = {{0, log2}};
  return service;
}

inline state::DesiredState desired(const std::vector<state::Service>& services) {
  state::DesiredState desired;
  desired.cluster_id = "test";
  desired.flow_hash_key = {11, 12};
  for (uint32_t n = 0; n < 4; ++n) {
    desired.nodes[node_name(n)].name = node_name(n);
  }
  for (const auto& service : services) {
    desired.services[service.id] = service;
  }
  return desired;
}

inline dataplane::NextHop via(uint32_t ifindex, uint8_t mac, const std::string& source) {
  return dataplane::NextHop{false, ifindex, {2, 0, 0, 0, 0, mac}, ip(source)};
}

// Ways to backends 0..31 of either family, all by interface 2.
inline Ways ways() {
  Ways ways;
  ways.interfaces = {{2, {{2, 2, 2, 2, 2, 2}, 1500}}, {3, {{3, 3, 3, 3, 3, 3}, 1500}}, {4, {{4, 4, 4, 4, 4, 4}, 9000}}};
  ways.node_addresses = {ip("10.0.0.1"), ip("2001:db8::1")};
  for (uint32_t n = 0; n < 32; ++n) {
    ways.next_hops[backend_ip(n)] = via(2, static_cast<uint8_t>(n), "10.0.0.1");
    ways.next_hops[backend_ip(n, true)] = via(2, static_cast<uint8_t>(n), "2001:db8::1");
  }
  return ways;
}

// The tunnel to node N, which is 10.0.0.100+N underneath.
inline Peer peer(uint32_t n) {
  Peer peer;
  peer.address = ip("10.0.0." + std::to_string(100 + n));
  peer.source = ip("10.0.0.1");
  peer.port = 6082;
  peer.underlay = {ip("10.0.1." + std::to_string(100 + n))};
  peer.way = via(2, static_cast<uint8_t>(100 + n), "10.0.0.1");
  peer.usable = true;
  peer.fits4 = 1400;
  peer.fits6 = 1380;
  peer.token = 1000 + n;
  peer.accepted = {2000 + n, 0};
  return peer;
}

// The same with tunnels to nodes 1, 2 and 3.
inline Ways ways_with_peers() {
  Ways made = ways();
  for (uint32_t n = 1; n < 4; ++n) {
    made.peers[node_name(n)] = peer(n);
  }
  return made;
}

inline state::DesiredState with_tunnels(state::DesiredState desired) {
  desired.tunnel.keys = {{1, {5, 6}}};
  return desired;
}

inline WholeKey key_of(const state::Service& service, size_t address = 0) {
  return WholeKey{service.addresses.at(address), __builtin_bswap16(service.port),
                  static_cast<uint8_t>(service.protocol)};
}

inline Sizes small_sizes() {
  Sizes sizes;
  sizes.keys = 256;
  sizes.keys6 = 64;
  sizes.services = 16;
  sizes.slots = 4096;
  sizes.backends = 128;
  return sizes;
}

// What readers shall find under each key of a desired state on this node, by common/maglev alone.
std::map<WholeKey, Found> expected(const state::DesiredState& desired, const Ways& ways);
// Backends that tunnelled packets shall find, by service.
std::map<std::string, std::vector<FoundBackend>> expected_behind_tunnels(const state::DesiredState& desired,
                                                                         const Ways& ways);
// What addresses shall be, but for nat's.
std::map<net::IpAddress, uint32_t> expected_addresses(const state::DesiredState& desired, const Ways& ways);

// Maps in memory with the programmer that fills them.
class Kernel {
 public:
  explicit Kernel(const Sizes& sizes = small_sizes()) : sizes_(sizes), image_(sizes), programmer_(sizes, NatPorts{}) {}

  // Plans and makes every store.
  Plan program(const state::DesiredState& desired, const Ways& ways);
  // As an agent does: again after a grace period where that helps.
  Plan program_to_the_end(const state::DesiredState& desired, const Ways& ways);
  // A restart of the agent: only the maps are left.
  void restart();
  // Follows the sets of allowed sources that plans name.
  void follow(const Plan& plan);
  // Makes the first `count` 64-bit stores; returns how many there were in all.
  size_t make_stores(const WriteList& writes, size_t count = SIZE_MAX);
  void grace_over();

  [[nodiscard]] std::optional<Found> read(const WholeKey& key) const { return read_service(image_.view(), key); }
  // What an address is to the node.
  [[nodiscard]] uint32_t address(const net::IpAddress& one) const { return find_address(image_.view(), one); }

  Sizes sizes_;
  Image image_;
  Programmer programmer_;
  std::map<uint32_t, SourceSet> sets_;    // that stand in the maps of sources
  std::vector<uint32_t> sets_to_remove_;  // after the grace period
};

// Calls `after_each(write)` after every single 64-bit store of a plan.
template <typename AfterEach>
void step_through(const Plan& plan, Image& image, AfterEach after_each) {
  for (const Write& write : plan.writes.writes()) {
    for (uint32_t i = 0; i < write.count; ++i) {
      apply(Write{write.map, write.ordered, write.word + i, 1, 0}, plan.writes.values(write).subspan(i, 1),
            image.data(write.map));
      after_each(write);
    }
  }
}

// A desired state of few services on few addresses and backends, so that random ones differ in few places. All valid.
state::DesiredState random_desired();
Ways random_ways();

}  // namespace sluice::agent::program::testing
