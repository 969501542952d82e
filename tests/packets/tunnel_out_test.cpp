// Backends on other nodes: the packet goes to the backend's node in a tunnel, and the one that sends it keeps nothing.
#include <linux/bpf.h>

#include <set>

#include "tests/packets/icmp.h"
#include "tests/packets/tunnel.h"

namespace sluice::packets {
namespace {

class TunnelOut : public TunnelTest {
 protected:
  TunnelOut() {
    tcp_ = plane_.add_service(service_end_, kTcp, {behind(1, far_), behind(2, farther_), local_backend(local_end_)});
    udp_ = plane_.add_service(service_end_, kUdp, {behind(1, far_), behind(2, farther_), local_backend(local_end_)});
    planes({0});
  }
  // All slots alike; 0: behind node 1, 1: behind node 2, 2: here.
  void planes(const std::vector<uint16_t>& candidates) {
    std::vector<std::vector<uint16_t>> all;
    for (const uint16_t candidate : candidates) all.emplace_back(8, candidate);
    plane_.set_planes(tcp_, all);
    plane_.set_planes(udp_, all);
  }
  void expect_sent(const Packet& packet, const Tunnelled& as) {
    const Outcome outcome = plane_.receive(packet);
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(outcome.frame, as.frame()));
  }
  void expect_nat(const Packet& packet, const Endpoint& backend) {
    const Outcome outcome = plane_.receive(packet);
    EXPECT_EQ(outcome.action, XDP_REDIRECT);
    EXPECT_EQ(outcome.destination(), backend);
    EXPECT_EQ(outcome.source(), nat_source(packet));
  }
  // Four, but of long addresses at long addresses: an option has 124 bytes.
  [[nodiscard]] size_t most_candidates() const { return ipv6() && own_.ipv6() ? 3 : 4; }
  // A way for nat to all backends.
  void set_ways() {
    for (const Service& service : {tcp_, udp_})
      for (const uint32_t i : {0U, 1U})
        plane_.backend(service.first_backend + i).next_hop = SLUICE_NEXT_HOP_WORD(kCoreEgress, mac_word(kBackendMac));
  }

  Endpoint far_ = at("10.244.1.5", 8080), farther_ = at("10.244.2.5", 8080);
  Service tcp_, udp_;
};

INSTANTIATE_TEST_SUITE_P(Families, TunnelOut, kTunnelFamilies, tunnel_name);

TEST_P(TunnelOut, APacketGoesWholeToTheBackendsNodeAndLeavesNoRecord) {
  for (const Packet& packet : {to_service(kSyn).tcp_options(5), to_service().payload_size(7), udp_to_service(),
                               udp_to_service().payload_size(0), to_service(kRst), to_service(kFin | kAck)})
    expect_sent(packet, to_peer(1, packet, {far_}));
  EXPECT_TRUE(plane_.flows().empty());
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_TUNNEL), 6U);
  EXPECT_EQ(plane_.backend_counters(tcp_.first_backend).forwarded.packets, 4U);
}

TEST_P(TunnelOut, BytesAreCountedAsTheyCame) {
  const Packet packet = to_service().payload_size(333);
  plane_.receive(packet);
  EXPECT_EQ(plane_.backend_counters(tcp_.first_backend).forwarded.bytes, packet.frame().size());
}

TEST_P(TunnelOut, TheOuterHeaderHasTheInnersTrafficClass) {
  for (const uint8_t tos : std::initializer_list<uint8_t>{0x00, 0x03, 0xb8, 0xff}) {
    const Packet packet = to_service().tos(tos);
    expect_sent(packet, to_peer(1, packet, {far_}));
  }
}

TEST_P(TunnelOut, EthernetPaddingStaysBehindAndIpOptionsStay) {
  if (ipv6()) return;
  const Packet packet = to_service().ip_options(3);
  expect_sent(packet, to_peer(1, packet, {far_}));
}

TEST_P(TunnelOut, TheOuterSourcePortIsAFlowsOwnOfTheDynamicRange) {
  std::set<uint16_t> ports;
  for (uint16_t port = 1000; port < 1100; port++) {
    const Packet packet = to_service(kSyn).from({client_.address, port});
    const uint16_t first = plane_.receive(packet).source().port;
    EXPECT_GE(first, 0xc000);
    EXPECT_EQ(plane_.receive(Packet(packet).flags(kAck)).source().port, first);
    ports.insert(first);
  }
  EXPECT_GT(ports.size(), 95U);
}

TEST_P(TunnelOut, ByAnotherInterfaceItIsRedirected) {
  plane_.peer(1).next_hop = SLUICE_NEXT_HOP_WORD(kCoreEgress, mac_word(kBackendMac));
  Tunnelled expected = to_peer(1, to_service(), {far_});
  expected.source_mac = kCoreMac;
  expected.destination_mac = kBackendMac;
  const Outcome outcome = plane_.receive(to_service());
  EXPECT_EQ(outcome.action, XDP_REDIRECT);
  EXPECT_TRUE(same_frame(outcome.frame, expected.frame()));
}

TEST_P(TunnelOut, ATtlThatWouldReachZeroIsToldToTheClient) {
  for (const Packet& packet : {to_service(kSyn).ttl(1), to_service().ttl(1), udp_to_service().ttl(0)})
    EXPECT_EQ(told(plane_.receive(packet), packet), kTimeExceeded);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TTL_EXCEEDED), 3U);
  expect_sent(to_service().ttl(2), to_peer(1, to_service().ttl(2), {far_}));
}

TEST_P(TunnelOut, WhatDoesNotFitIsToldWithTheTunnelsMtu) {
  set_peer(1, SLUICE_PEER_USABLE, 1390, 1395);
  const uint16_t most = ipv6() ? 1395 : 1390;
  const size_t headers = ipv6() ? 60 : 40;
  const Packet fitting = to_service().payload_size(most - headers),
               larger = to_service().payload_size(most - headers + 1);
  expect_sent(fitting, to_peer(1, fitting, {far_}));
  EXPECT_EQ(told(plane_.receive(larger), larger), kTooBig);
  EXPECT_EQ(told_mtu(plane_.receive(larger)), most);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_TOO_BIG), 2U);
  if (ipv6()) return;
  EXPECT_EQ(plane_.receive(Packet(larger).fragment(0)).action, XDP_DROP) << "nobody asked to be told";
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_TOO_BIG), 3U);
}

TEST_P(TunnelOut, NoMtuBelowTheLeastIsTold) {
  set_peer(1, SLUICE_PEER_USABLE, 300, 300);
  EXPECT_EQ(told_mtu(plane_.receive(to_service().payload_size(1000))), ipv6() ? 1280U : 576U);
}

TEST_P(TunnelOut, WithoutAWayToTheNodeThePacketIsDropped) {
  plane_.peer(1).next_hop = 0;
  EXPECT_EQ(plane_.receive(to_service()).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_NO_NEXT_HOP), 1U);
}

// --- a slot that has had several candidates

TEST_P(TunnelOut, AConnectionUnderWayNamesItsCandidatesNewestFirst) {
  planes({1, 0});
  for (const int flags : {int{kAck}, kFin | kAck, int{kRst}, kPsh | kAck}) {
    const Packet packet = to_service(static_cast<uint8_t>(flags));
    expect_sent(packet, to_peer(2, packet, {farther_, far_}, {node1_}));
  }
}

TEST_P(TunnelOut, AsManyAreNamedAsAnOptionHolds) {
  planes({0, 1, 0, 1, 0, 1});
  std::vector<Endpoint> candidates{far_, farther_, far_, farther_};
  std::vector<Address> nodes{node2_, node1_, node2_};
  candidates.resize(most_candidates());
  nodes.resize(most_candidates() - 1);
  Tunnelled sent = to_peer(1, to_service(), candidates, nodes);
  sent.flags = SLUICE_TUNNEL_MORE_FLAG(most_candidates());
  expect_sent(to_service(), sent);
}

TEST_P(TunnelOut, ANewConnectionNamesTheNewestAlone) {
  planes({1, 0});
  expect_sent(to_service(kSyn), to_peer(2, to_service(kSyn), {farther_}));
}

TEST_P(TunnelOut, DatagramsNameTheirCandidatesOldestFirst) {
  planes({1, 0});
  expect_sent(udp_to_service(), to_peer(1, udp_to_service(), {far_, farther_}, {node2_}));
}

TEST_P(TunnelOut, DatagramsLeaveABackendThatHasLeftTheChoice) {
  planes({1, 0});
  plane_.set_backend(udp_, 0, behind(1, far_, SLUICE_BACKEND_LEFT));
  plane_.set_backend(tcp_, 0, behind(1, far_, SLUICE_BACKEND_LEFT));
  expect_sent(udp_to_service(), to_peer(2, udp_to_service(), {farther_}));
  expect_sent(to_service(), to_peer(2, to_service(), {farther_, far_}, {node1_}));
}

TEST_P(TunnelOut, ASlotThatHasNotMovedInATableThatHasNamesOne) {
  std::vector<uint16_t> now(8, 0), before(8, SLUICE_NO_BACKEND);
  plane_.set_planes(tcp_, {now, before});
  expect_sent(to_service(), to_peer(1, to_service(), {far_}));
}

TEST_P(TunnelOut, WithoutACandidateNowEarlierOnesAreAsked) {
  planes({SLUICE_NO_BACKEND, 0});
  expect_sent(to_service(), to_peer(1, to_service(), {far_}));
  EXPECT_EQ(told(plane_.receive(to_service(kSyn)), to_service(kSyn)), kReset);
}

TEST_P(TunnelOut, ARecordHereIsAskedBeforeOtherNodes) {
  planes({2});
  plane_.receive(to_service(kSyn));
  ASSERT_EQ(plane_.flows().size(), 1U);
  planes({1, 2, 0});
  EXPECT_EQ(plane_.receive(to_service()).destination(), local_end_);
  const Packet other = to_service().from(at("198.51.100.9", 9));
  expect_sent(other, to_peer(2, other, {farther_, far_}, {node1_}));
}

TEST_P(TunnelOut, DatagramsThatNoEarlierCandidateKnowsComeBackToTheNewestWhichIsHere) {
  planes({2, 1, 0});
  expect_sent(udp_to_service(), to_peer(1, udp_to_service(), {far_, farther_, local_end_}, {node2_, own_}));
  expect_sent(to_service(), to_peer(2, to_service(), {farther_, far_}, {node1_}));
  EXPECT_EQ(plane_.receive(to_service(kSyn)).destination(), local_end_);
}

TEST_P(TunnelOut, ANodeThatIsNotUsableIsNotAsked) {
  planes({1, 0});
  set_peer(1, 0);
  expect_sent(to_service(), to_peer(2, to_service(), {farther_}));
}

TEST_P(TunnelOut, AsManyAreNamedAsFit) {
  planes({0, 1, 0, 1});
  const size_t each = (ipv6() ? 20 : 8) + (own_.ipv6() ? 16 : 4), headers = ipv6() ? 60 : 40;
  for (size_t more = most_candidates() - 1; more < 4; more--) {
    const Packet packet = to_service().payload_size(1400 - headers - more * each);
    std::vector<Endpoint> candidates{far_, farther_, far_, farther_};
    std::vector<Address> nodes{node2_, node1_, node2_};
    candidates.resize(more + 1);
    nodes.resize(more);
    Tunnelled sent = to_peer(1, packet, candidates, nodes);
    if (more < 3) sent.flags = SLUICE_TUNNEL_MORE_FLAG(more + 1);
    expect_sent(packet, sent);
  }
}

TEST_P(TunnelOut, PacketsAreCountedForTheBackendThatIsAskedFirst) {
  planes({1, 0});
  plane_.receive(to_service());
  EXPECT_EQ(plane_.backend_counters(tcp_.first_backend + 1).forwarded.packets, 1U);
  plane_.receive(udp_to_service());
  EXPECT_EQ(plane_.backend_counters(udp_.first_backend).forwarded.packets, 1U);
}

// --- a tunnel that is not usable

TEST_P(TunnelOut, NewFlowsGoByNatWhereTheTunnelIsNotUsable) {
  set_ways();
  set_peer(1, 0);
  expect_nat(to_service(kSyn), far_);
  expect_nat(udp_to_service(), far_);
  EXPECT_EQ(plane_.backend_counters(tcp_.first_backend).otherwise.packets, 1U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_NAT), 2U);
  expect_nat(to_service(), far_);  // and stay
  EXPECT_EQ(plane_.flows().size(), 2U);
}

TEST_P(TunnelOut, WhenTheTunnelIsBackFlowsOfNatStayAndNewOnesTakeIt) {
  set_ways();
  set_peer(1, 0);
  plane_.receive(to_service(kSyn));
  plane_.receive(udp_to_service());
  set_peer(1, SLUICE_PEER_USABLE | SLUICE_PEER_HAS_NAT);
  expect_nat(to_service(), far_);
  expect_nat(udp_to_service(), far_);
  const Packet other = to_service(kSyn).from(at("198.51.100.9", 9));
  expect_sent(other, to_peer(1, other, {far_}));
}

TEST_P(TunnelOut, AConnectionUnderWayStaysInATunnelThatIsNotUsable) {
  set_ways();
  set_peer(1, 0);
  expect_sent(to_service(), to_peer(1, to_service(), {far_}));
}

TEST_P(TunnelOut, ATunnelAskedForByNameIsNotReplaced) {
  set_ways();
  plane_.backend(tcp_.first_backend).what |= SLUICE_BACKEND_WORD(0, 0, 0, 0, uint64_t{SLUICE_BACKEND_STRICT});
  set_peer(1, 0);
  expect_sent(to_service(kSyn), to_peer(1, to_service(kSyn), {far_}));
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(TunnelOut, WithoutAWayForNatNewFlowsAreDropped) {
  plane_.backend(tcp_.first_backend).next_hop = 0;  // nor does the kernel know one
  set_peer(1, 0);
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_NO_NEXT_HOP), 1U);
}

}  // namespace
}  // namespace sluice::packets
