// Tunnels to other nodes: who is reached by one, what their elements hold, and what other nodes' packets find here.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/program/expectations.h"

namespace sluice::agent::program::testing {
namespace {

using ::testing::IsEmpty;

uint32_t peer_of(const sluice_backend& element) {
  return SLUICE_BACKEND_PEER(element.what);
}

const sluice_peer& peer_element(const Kernel& kernel, const net::IpAddress& address) {
  const uint32_t value = kernel.address(address);
  if ((value & SLUICE_ADDRESS_PEER) == 0) {
    throw std::out_of_range("no peer's address");
  }
  return kernel.image_.view().peers[SLUICE_ADDRESS_PEER_INDEX(value)];
}

// RFC 1071: 0xffff for a header whose checksum is right.
uint16_t header_sum(const uint8_t* bytes, size_t count) {
  uint32_t sum = 0;
  for (size_t i = 0; i < count; i += 2) {
    sum += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
  }
  while (sum >> 16 != 0) {
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

TEST(ProgramTunnel, TheTemplateOfIpv4WithItsSumMakesRightHeaders) {
  Peer to = peer(1);
  to.port = 6081;
  const OuterTemplate outer = outer_template(to);
  EXPECT_FALSE(outer.ipv6);
  const std::vector<uint8_t> expected = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 101};
  for (size_t i = 0; i < expected.size(); ++i) {
    if (i != 10 && i != 11) {
      EXPECT_EQ(outer.bytes.at(i), expected[i]) << i;
    }
  }
  EXPECT_EQ(outer.bytes[20], 0) << "source port";
  EXPECT_EQ(outer.bytes[22] << 8 | outer.bytes[23], 6081);
  EXPECT_TRUE(std::all_of(outer.bytes.begin() + 24, outer.bytes.end(), [](uint8_t byte) { return byte == 0; }));
  // What a sender adds: length, type of service, and the checksum from the sum that the template holds.
  for (const uint32_t length : {100U, 1500U, 65535U}) {
    for (const uint8_t tos : {uint8_t{0}, uint8_t{3}, uint8_t{0xb8}}) {
      auto bytes = outer.bytes;
      uint16_t sum_there = 0;
      std::memcpy(&sum_there, &bytes[10], sizeof sum_there);
      uint32_t sum = uint32_t{sum_there} + htons(static_cast<uint16_t>(length)) + (uint32_t{tos} << 8);
      sum = (sum & 0xffff) + (sum >> 16);
      sum = (sum & 0xffff) + (sum >> 16);
      const auto check = static_cast<uint16_t>(~sum);
      std::memcpy(&bytes[10], &check, sizeof check);
      bytes[1] = tos;
      bytes[2] = static_cast<uint8_t>(length >> 8);
      bytes[3] = static_cast<uint8_t>(length);
      EXPECT_EQ(header_sum(bytes.data(), 20), 0xffff) << length << " " << int{tos};
    }
  }
}

TEST(ProgramTunnel, TheTemplateOfIpv6) {
  Peer to = peer(1);
  to.address = ip("2001:db8::2");
  to.source = ip("2001:db8::1");
  const OuterTemplate outer = outer_template(to);
  EXPECT_TRUE(outer.ipv6);
  EXPECT_EQ(outer.bytes[0], 0x60);
  EXPECT_EQ(outer.bytes[6], 17);
  EXPECT_EQ(outer.bytes[7], 64);
  EXPECT_TRUE(std::equal(to.source.bytes().begin(), to.source.bytes().end(), outer.bytes.begin() + 8));
  EXPECT_TRUE(std::equal(to.address.bytes().begin(), to.address.bytes().end(), outer.bytes.begin() + 24));
  EXPECT_EQ(outer.bytes[42] << 8 | outer.bytes[43], 6082);
  EXPECT_EQ(outer.bytes[46] | outer.bytes[47], 0) << "no checksum (RFC 6935)";
}

TEST(ProgramTunnel, APeersElementSaysWhatTheWaysSay) {
  Kernel kernel;
  Ways now = ways_with_peers();
  now.peers["node2"].usable = false;
  now.peers["node2"].has_nat = true;
  kernel.program(desired({}), now);
  const sluice_peer& one = peer_element(kernel, ip("10.0.0.101"));
  EXPECT_EQ(&one, &peer_element(kernel, ip("10.0.1.101"))) << "the other address of its underlay";
  EXPECT_EQ(one.state, SLUICE_PEER_WORD(SLUICE_PEER_USABLE, 1400, 1380));
  EXPECT_EQ(one.token, 1001U);
  EXPECT_EQ(one.accepted[0], 2001U);
  EXPECT_EQ(one.accepted[1], 0U);
  EXPECT_EQ(one.next_hop & 0xffffffffffffULL, 0x650000000002ULL);
  EXPECT_EQ(kernel.image_.view().egress[SLUICE_NEXT_HOP_EGRESS(one.next_hop)].ifindex, 2U);
  EXPECT_EQ(peer_element(kernel, ip("10.0.0.102")).state, SLUICE_PEER_WORD(SLUICE_PEER_HAS_NAT, 1400, 1380));
  EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), nullptr), IsEmpty());
}

TEST(ProgramTunnel, EachWordOfAPeerChangesByOneStore) {
  Kernel kernel;
  kernel.program(desired({}), ways_with_peers());
  Ways now = ways_with_peers();
  Peer& one = now.peers["node1"];
  const auto stores = [&] {
    const Plan plan = kernel.program(desired({}), now);
    EXPECT_EQ(plan.touched.peers.size(), 1U);
    EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), nullptr), IsEmpty());
    return plan.writes.writes().size();
  };
  one.usable = false;
  EXPECT_EQ(stores(), 1U);
  one.token = 5;
  EXPECT_EQ(stores(), 1U);
  one.way.mac[0] = 77;
  EXPECT_EQ(stores(), 1U);
  one.accepted = {2001, 6};
  EXPECT_EQ(stores(), 1U);
  // A key that is accepted before and after is so in between: the words are a set.
  one.accepted = {6, 7};
  EXPECT_EQ(stores(), 1U);
  const sluice_peer& element = peer_element(kernel, ip("10.0.0.101"));
  EXPECT_EQ(element.accepted[0], 7U);
  EXPECT_EQ(element.accepted[1], 6U);
}

TEST(ProgramTunnel, ANodeThatIsReachedOtherwiseGetsAnotherElementAndTheRecordsAreLedThere) {
  Kernel kernel;
  const auto state = with_tunnels(desired({service("web", {1}, {backend(1), backend(5), backend(2)})}));
  kernel.program(state, ways_with_peers());
  const uint32_t before = peer_of(record_of(kernel, "web", 1));
  ASSERT_NE(before, 0U);
  const uint64_t table = kernel.programmer_.programmed().at("web").table;
  Ways now = ways_with_peers();
  now.peers["node1"].address = ip("10.0.9.1");
  const sluice_peer old = kernel.image_.view().peers[before];
  const Plan plan = kernel.program(state, now);
  const uint32_t after = peer_of(record_of(kernel, "web", 1));
  EXPECT_NE(after, before);
  EXPECT_EQ(peer_of(record_of(kernel, "web", 5)), after);
  EXPECT_EQ(outer_destination(kernel.image_.view(), after), "10.0.9.1");
  EXPECT_EQ(kernel.programmer_.programmed().at("web").table, table) << "no table is switched for that";
  EXPECT_EQ(std::memcmp(&old, &kernel.image_.view().peers[before], sizeof old), 0) << "readers may still be there";
  EXPECT_EQ(std::count_if(plan.writes.writes().begin(), plan.writes.writes().end(),
                          [](const Write& write) { return write.map == MapId::backends; }),
            2);
  expect_as(kernel, state, now);
  EXPECT_EQ(kernel.address(ip("10.0.0.101")), 0U);
  EXPECT_EQ(SLUICE_ADDRESS_PEER_INDEX(kernel.address(ip("10.0.1.101"))), after);
  EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), nullptr), IsEmpty());
  kernel.grace_over();
  EXPECT_EQ(kernel.image_.view().peers[before].outer[0], 0) << "a later process must not take it for a node's";
  kernel.restart();
  EXPECT_TRUE(kernel.program(state, now).writes.empty());
}

TEST(ProgramTunnel, AnInterruptedMoveIsTakenUpWithoutAnotherElement) {
  Kernel kernel;
  const auto state = with_tunnels(desired({service("web", {1}, {backend(1), backend(2)})}));
  kernel.program(state, ways_with_peers());
  Ways now = ways_with_peers();
  now.peers["node1"].address = ip("10.0.9.1");
  kernel.program(state, now);
  kernel.restart();  // before the grace period was over: two elements have a template
  EXPECT_TRUE(kernel.program(state, now).writes.empty());
  kernel.grace_over();
  expect_as(kernel, state, now);
  // The same where the keys lead to one of two elements with the same template.
  auto* peers = static_cast<sluice_peer*>(kernel.image_.data(MapId::peers));
  const uint32_t index = SLUICE_ADDRESS_PEER_INDEX(kernel.address(ip("10.0.9.1")));
  peers[0] = sluice_peer{};
  for (uint32_t other = 1; other < SLUICE_MAX_PEERS; ++other) {
    if (peers[other].outer[0] == 0) {
      peers[other] = peers[index];
      break;
    }
  }
  kernel.restart();
  EXPECT_TRUE(kernel.program(state, now).writes.empty());
}

TEST(ProgramTunnel, AutoTakesTheTunnelToPeersAndNatElsewhere) {
  Kernel kernel;
  auto state = with_tunnels(desired({service("web", {1}, {backend(0), backend(1), backend(2), backend(3)})}));
  state.services["web"].backends[3].node.clear();
  Ways now = ways_with_peers();
  now.peers.erase("node2");
  EXPECT_THAT(kernel.program(state, now).failures, IsEmpty());
  EXPECT_EQ(forwarding_of(record_of(kernel, "web", 0U)), static_cast<uint32_t>(SLUICE_FORWARD_LOCAL));
  EXPECT_EQ(forwarding_of(record_of(kernel, "web", 1)), static_cast<uint32_t>(SLUICE_FORWARD_TUNNEL));
  EXPECT_EQ(forwarding_of(record_of(kernel, "web", 2)), static_cast<uint32_t>(SLUICE_FORWARD_NAT));
  EXPECT_EQ(forwarding_of(record_of(kernel, "web", 3)), static_cast<uint32_t>(SLUICE_FORWARD_NAT));
  EXPECT_EQ(SLUICE_BACKEND_FLAGS(record_of(kernel, "web", 1).what), 0U) << "nat stands in for it";
  EXPECT_NE(record_of(kernel, "web", 1).next_hop, 0U);
  // A node becomes a peer.
  EXPECT_THAT(kernel.program(state, ways_with_peers()).failures, IsEmpty());
  expect_as(kernel, state, ways_with_peers());
  // And all cease to be.
  kernel.grace_over();
  kernel.program_to_the_end(state, ways());
  expect_as(kernel, state, ways());
  EXPECT_EQ(kernel.address(ip("10.0.0.101")), 0U);
}

TEST(ProgramTunnel, TunnelByNameIsStrictAndIpInIpWhereNoNodeOfOursIs) {
  Kernel kernel;
  auto web = service("web", {1}, {backend(1), backend(2), backend(3)});
  web.forwarding = state::Forwarding::tunnel;
  web.port = 8080;
  web.backends[1].node.clear();
  web.backends[2].node = "printer";
  const auto state = with_tunnels(desired({web}));
  EXPECT_THAT(kernel.program(state, ways_with_peers()).failures, IsEmpty());
  EXPECT_EQ(forwarding_of(record_of(kernel, "web", 1)), static_cast<uint32_t>(SLUICE_FORWARD_TUNNEL));
  EXPECT_EQ(SLUICE_BACKEND_FLAGS(record_of(kernel, "web", 1).what), SLUICE_BACKEND_STRICT);
  EXPECT_EQ(forwarding_of(record_of(kernel, "web", 2)), static_cast<uint32_t>(SLUICE_FORWARD_IPIP));
  EXPECT_EQ(forwarding_of(record_of(kernel, "web", 3)), static_cast<uint32_t>(SLUICE_FORWARD_IPIP));
  // A node of ours without a tunnel to it: packets are refused there, and counted.
  Ways now = ways_with_peers();
  now.peers.erase("node1");
  kernel.program(state, now);
  EXPECT_EQ(forwarding_of(record_of(kernel, "web", 1)), static_cast<uint32_t>(SLUICE_FORWARD_TUNNEL));
  EXPECT_EQ(peer_of(record_of(kernel, "web", 1)), 0U);
  expect_as(kernel, state, now);
}

TEST(ProgramTunnel, PacketsFromOtherNodesFindTheBackendsHereWhileThereAreTunnels) {
  for (const bool v6 : {false, true}) {
    Kernel kernel;
    const auto web = service("web", {1}, {backend(0, 0, 0, v6), backend(1, 0, 0, v6), backend(4, 0, 5, v6)}, 4, v6);
    const uint16_t port = htons(8080);
    const auto finds = [&](uint32_t n) {
      const uint32_t index = kernel.programmer_.programmed().at("web").index;
      const auto* found = read_backend(kernel.image_.view(), index, backend_ip(n, v6), port);
      return found != nullptr && found == &record_of(kernel, "web", backend_ip(n, v6));
    };
    kernel.program_to_the_end(desired({web}), ways_with_peers());
    EXPECT_FALSE(finds(0)) << "no tunnels";
    EXPECT_EQ(kernel.image_.view().config->tunnel_port, 0U);
    kernel.program_to_the_end(with_tunnels(desired({web})), ways_with_peers());
    EXPECT_EQ(kernel.image_.view().config->tunnel_port, htons(6082));
    EXPECT_TRUE(finds(0));
    EXPECT_TRUE(finds(4)) << "also those that only history names";
    EXPECT_FALSE(finds(1)) << "not here";
    kernel.restart();
    EXPECT_TRUE(kernel.program_to_the_end(with_tunnels(desired({web})), ways_with_peers()).writes.empty());
    kernel.program_to_the_end(desired({web}), ways_with_peers());
    EXPECT_FALSE(finds(0));
    EXPECT_EQ(kernel.programmer_.keys().positions().size(),
              expected_addresses(desired({web}), ways_with_peers()).size() + 1);
  }
}

TEST(ProgramTunnel, ABackendThatHasNotJoinedIsFoundByTunnelsAndIsInNoTable) {
  Kernel kernel;
  auto web = service("web", {1}, {backend(1), backend(4, state::kNotYet), backend(5, state::kNotYet)});
  const uint16_t port = htons(8080);
  const auto find = [&] {
    const uint32_t index = kernel.programmer_.programmed().at("web").index;
    return read_backend(kernel.image_.view(), index, backend_ip(4), port);
  };
  auto state = with_tunnels(desired({web}));
  kernel.program(state, ways_with_peers());
  expect_as(kernel, state, ways_with_peers());
  const auto* ahead = find();
  ASSERT_NE(ahead, nullptr);
  EXPECT_EQ(forwarding_of(*ahead), static_cast<uint32_t>(SLUICE_FORWARD_LOCAL));
  EXPECT_EQ(SLUICE_BACKEND_FLAGS(ahead->what), 0U);
  EXPECT_THROW(record_of(kernel, "web", 5), std::out_of_range) << "one elsewhere needs no record yet";
  // A restart finds the record by its key alone.
  kernel.restart();
  EXPECT_TRUE(kernel.program(state, ways_with_peers()).writes.empty());
  EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), nullptr), IsEmpty());
  // It joins, and keeps its record.
  state.services["web"].backends[1].joined = 7;
  kernel.program(state, ways_with_peers());
  EXPECT_EQ(find(), ahead);
  expect_as(kernel, state, ways_with_peers());
  // One that has left and is to come back has not left.
  state.services["web"].backends[1].left = 9;
  kernel.program(state, ways_with_peers());
  EXPECT_EQ(SLUICE_BACKEND_FLAGS(find()->what), SLUICE_BACKEND_LEFT);
  state.services["web"].backends.push_back(backend(4, state::kNotYet));
  kernel.program(state, ways_with_peers());
  EXPECT_EQ(SLUICE_BACKEND_FLAGS(find()->what), 0U);
  expect_as(kernel, state, ways_with_peers());
}

TEST(ProgramTunnel, AServiceOfBackendsThatHaveNotJoinedHasATableThatNamesNone) {
  Kernel kernel;
  auto web = service("web", {1}, {backend(4, state::kNotYet), backend(1)});
  web.traffic_policy = state::TrafficPolicy::local;
  const auto state = with_tunnels(desired({web}));
  kernel.program(state, ways_with_peers());
  EXPECT_EQ(kernel.read(key_of(web)), Found{});
  const auto& programmed = kernel.programmer_.programmed().at("web");
  EXPECT_NE(read_backend(kernel.image_.view(), programmed.index, backend_ip(4), htons(8080)), nullptr);
  kernel.restart();
  EXPECT_TRUE(kernel.program(state, ways_with_peers()).writes.empty());
}

}  // namespace
}  // namespace sluice::agent::program::testing
