// What comes out of tunnels, on the node of the backend: delivered, handed on or refused.
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <cstring>

#include "tests/packets/tunnel.h"

namespace sluice::packets {
namespace {

class Untunnel : public TunnelTest {
 protected:
  Untunnel() {
    for (const uint8_t protocol : {kTcp, kUdp}) {
      Service& service = protocol == kTcp ? tcp_ : udp_;
      service = plane_.add_service(service_end_, protocol,
                                   {behind(1, far_), local_backend(local_end_), local_backend(near_)});
      plane_.name_backend(service, 1);
      plane_.name_backend(service, 2);
    }
  }
  // The inner packet as the backend gets it, with the MACs of the tunnel's.
  [[nodiscard]] static Frame delivered(const Packet& inner, const Endpoint& backend, const Mac& from) {
    return Packet(inner).to(backend).macs(from, kLanMac).frame();
  }
  void expect_delivered(const Tunnelled& sent, const Packet& inner, const Endpoint& backend) {
    const uint64_t before = plane_.counted(SLUICE_REASON_DECAPSULATED);
    const Outcome outcome = plane_.receive(sent.frame());
    EXPECT_EQ(outcome.action, XDP_PASS);
    EXPECT_TRUE(same_frame(outcome.frame, delivered(inner, backend, sent.source_mac)));
    EXPECT_EQ(plane_.counted(SLUICE_REASON_DECAPSULATED), before + 1);
  }
  void expect_dropped(const Frame& frame, sluice_reason reason) {
    const uint64_t before = plane_.counted(reason);
    EXPECT_EQ(plane_.receive(frame).action, XDP_DROP);
    EXPECT_EQ(plane_.counted(reason), before + 1);
    EXPECT_EQ(plane_.counted(SLUICE_REASON_DECAPSULATED), 0U);
  }
  [[nodiscard]] Packet inner(uint8_t flags = kAck) const { return to_service(flags).ttl(63); }
  [[nodiscard]] Packet inner_udp() const { return udp_to_service().ttl(63); }
  [[nodiscard]] Packet reply(uint8_t flags) const {
    return Packet::tcp(local_end_, client_, flags).macs(kLanMac, kRouterMac);
  }
  // The flow's record among the established.
  void establish() {
    plane_.receive(from_peer(1, inner(kSyn), {local_end_}).frame());
    plane_.send(reply(kSyn | kAck));
    plane_.receive(from_peer(1, inner(kAck), {local_end_}).frame());
    ASSERT_FALSE(only_flow().half_open);
  }

  Endpoint far_ = at("10.244.1.5", 8080), near_ = at("10.244.0.6", 8080);
  Service tcp_, udp_;
};

INSTANTIATE_TEST_SUITE_P(Families, Untunnel, kTunnelFamilies, tunnel_name);

TEST_P(Untunnel, ANewFlowIsDeliveredAndRecorded) {
  for (const Packet& packet : {inner(kSyn).tcp_options(3), inner_udp().payload_size(3)}) {
    plane_.forget_flows();
    expect_delivered(from_peer(1, packet, {local_end_}), packet, local_end_);
    const Flow flow = only_flow();
    EXPECT_EQ(flow.backend, local_end_);
    EXPECT_EQ(flow.source, client_);
    EXPECT_EQ(flow.client, client_);
    EXPECT_EQ(flow.service, service_end_);
    EXPECT_EQ(flow.kind, SLUICE_FLOW_LOCAL);
    EXPECT_EQ(flow.protocol, packet.protocol_number());
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TAKEN_UP), 0U);
}

TEST_P(Untunnel, AKnownFlowIsDelivered) {
  establish();
  for (const Packet& packet : {inner().payload_size(1), inner().payload_size(1200), inner(kFin | kAck)})
    expect_delivered(from_peer(2, packet, {local_end_}), packet, local_end_);
  EXPECT_EQ(only_flow().state, SLUICE_FLOW_REPLIED | SLUICE_FLOW_CLIENT_FIN);
}

TEST_P(Untunnel, AKnownFlowWhoseBackendIsNoneAnyMoreIsDeliveredToNobody) {
  establish();
  const uint64_t delivered = plane_.counted(SLUICE_REASON_DECAPSULATED);
  plane_.forget_backend(tcp_, 1);
  // Another service's pod has the address now.
  const Service other = plane_.add_service(at("203.0.113.77", 80), kTcp, {local_backend(local_end_)});
  plane_.name_backend(other, 0);
  EXPECT_EQ(plane_.receive(from_peer(1, inner(), {local_end_}).frame()).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_TUNNEL_STRAY), 1U);
  // Who else may have it is asked, and the last takes it up.
  Tunnelled handed_on = to_peer(2, to_service(), {far_});
  handed_on.hops = SLUICE_TUNNEL_HOPS - 1;
  const Tunnelled sent = from_peer(1, inner(), {local_end_, far_}, {node2_});
  EXPECT_TRUE(same_frame(plane_.receive(sent.frame()).frame, handed_on.frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_DECAPSULATED), delivered);
  expect_delivered(from_peer(1, inner(), {local_end_, near_}, {own_}), inner(), near_);
}

TEST_P(Untunnel, AKnownFlowWhoseBackendIsLeavingIsDelivered) {
  establish();
  Backend leaving = local_backend(local_end_);
  leaving.flags = SLUICE_BACKEND_LEFT;
  plane_.set_backend(tcp_, 1, leaving);
  for (int i = 0; i < 2; i++) expect_delivered(from_peer(1, inner(), {local_end_}), inner(), local_end_);
}

TEST_P(Untunnel, AKnownFlowWhoseBackendHasAnotherIndexIsCountedThere) {
  establish();
  const uint32_t before = only_flow().backend_index;
  plane_.forget_backend(tcp_, 1);
  plane_.set_backend(tcp_, 2, local_backend(local_end_));
  plane_.name_backend(tcp_, 2);
  const uint64_t counted = plane_.backend_counters(before).otherwise.packets;
  expect_delivered(from_peer(1, inner(), {local_end_}), inner(), local_end_);
  EXPECT_EQ(plane_.backend_counters(before + 1).otherwise.packets, 1U);
  EXPECT_EQ(plane_.backend_counters(before).otherwise.packets, counted);
}

TEST_P(Untunnel, TheReplyLeavesStraightForTheClientFromTheServicesAddress) {
  establish();
  const Packet packet = reply(kAck).payload_size(900);
  EXPECT_TRUE(same_frame(plane_.send(packet).frame, Packet(packet).from(service_end_).frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_LOCAL), 2U);
}

TEST_P(Untunnel, TheInnerPacketKeepsItsHopsAndPaddingStaysBehind) {
  for (const uint8_t hops : std::initializer_list<uint8_t>{1, 200}) {
    const Packet packet = inner(kSyn).ttl(hops);
    expect_delivered(from_peer(1, packet, {local_end_}), packet, local_end_);
  }
}

TEST_P(Untunnel, TwoFlowsThatMeetInOneTupleAtTheBackendGetTwoPorts) {
  const Endpoint other_end = at("203.0.113.77", 443);
  const Service other = plane_.add_service(other_end, kTcp, {local_backend(local_end_)});
  plane_.name_backend(other, 0);
  plane_.receive(from_peer(1, inner(kSyn), {local_end_}).frame());
  const Packet second = inner(kSyn).to(other_end);
  const Endpoint seen_as{client_.address, sluice_local_port(Dataplane::hash(second), 1, client_.port)};
  const Outcome outcome = plane_.receive(from_peer(1, second, {local_end_}).frame());
  EXPECT_EQ(outcome.source(), seen_as);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_PORT_CHANGED), 1U);
  EXPECT_TRUE(same_frame(plane_.send(reply(kAck).to(seen_as)).frame, reply(kAck).from(other_end).frame()));
}

TEST_P(Untunnel, AConnectionWithoutRecordIsTakenUpByTheOnlyCandidate) {
  expect_delivered(from_peer(1, inner(), {local_end_}), inner(), local_end_);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TAKEN_UP), 1U);
  EXPECT_EQ(only_flow().state, SLUICE_FLOW_ADOPTED);
}

// --- several candidates

TEST_P(Untunnel, AConnectionWithoutRecordIsHandedOnToTheNextCandidate) {
  for (const uint8_t hops : std::initializer_list<uint8_t>{4, 1}) {
    Tunnelled sent = from_peer(1, inner(), {local_end_, far_}, {node2_});
    sent.hops = hops;
    const Outcome outcome = plane_.receive(sent.frame());
    Tunnelled expected = to_peer(2, to_service(), {far_});
    expected.hops = static_cast<uint8_t>(hops - 1);
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(outcome.frame, expected.frame()));
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_HANDED_ON), 2U);
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(Untunnel, WhoIsHandedOnToIsToldTheRest) {
  const Endpoint third = at("10.244.3.5", 8080);
  const Outcome outcome = plane_.receive(from_peer(1, inner(), {local_end_, far_, third}, {node2_, node1_}).frame());
  Tunnelled expected = to_peer(2, to_service(), {far_, third}, {node1_});
  expected.hops = SLUICE_TUNNEL_HOPS - 1;
  EXPECT_TRUE(same_frame(outcome.frame, expected.frame()));
}

TEST_P(Untunnel, AConnectionWithARecordStays) {
  plane_.receive(from_peer(1, inner(kSyn), {local_end_}).frame());
  expect_delivered(from_peer(1, inner(), {local_end_, far_}, {node2_}), inner(), local_end_);
}

TEST_P(Untunnel, TheLastCandidateTakesItUp) {
  expect_delivered(from_peer(1, inner(), {local_end_, near_}, {own_}), inner(), near_);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TAKEN_UP), 1U);
}

TEST_P(Untunnel, WhereNotAllWereNamedTheLastGoesOnByItsOwnTable) {
  const auto planes = [&](const std::vector<uint16_t>& candidates) {
    std::vector<std::vector<uint16_t>> all;
    for (const uint16_t candidate : candidates) all.emplace_back(8, candidate);
    plane_.set_planes(tcp_, all);
  };
  Tunnelled sent = from_peer(2, inner(), {near_});
  sent.flags = SLUICE_TUNNEL_MORE_FLAG(1);
  // Another node's is asked,
  planes({2, 0});
  Tunnelled handed_on = to_peer(1, to_service(), {far_});
  handed_on.hops = SLUICE_TUNNEL_HOPS - 1;
  EXPECT_TRUE(same_frame(plane_.receive(sent.frame()).frame, handed_on.frame()));
  EXPECT_TRUE(plane_.flows().empty());
  // but for the planes that were named;
  planes({0, 2});
  expect_delivered(sent, inner(), near_);
  plane_.forget_flows();
  // whoever is here is asked here;
  establish();
  planes({2, 0, 1});
  expect_delivered(sent, inner(), local_end_);
  EXPECT_EQ(plane_.flows().size(), 1U);
  // and a new connection is the last's.
  plane_.forget_flows();
  Tunnelled begins = from_peer(2, inner(kSyn), {near_});
  begins.flags = SLUICE_TUNNEL_MORE_FLAG(1);
  expect_delivered(begins, inner(kSyn), near_);
}

TEST_P(Untunnel, TheSecondCandidateOnThisNodeIsAskedHere) {
  plane_.receive(from_peer(1, inner(kSyn), {near_}).frame());
  expect_delivered(from_peer(1, inner(), {local_end_, near_, far_}, {own_, node2_}), inner(), near_);
}

TEST_P(Untunnel, DatagramsThatTheOldestKnowsStayAndOthersGoToTheNewestWhoMakesTheFlow) {
  const Tunnelled sent = from_peer(1, inner_udp(), {local_end_, far_}, {node2_});
  Tunnelled handed_on = to_peer(2, udp_to_service(), {far_});
  handed_on.hops = SLUICE_TUNNEL_HOPS - 1;
  EXPECT_TRUE(same_frame(plane_.receive(sent.frame()).frame, handed_on.frame()));
  EXPECT_TRUE(plane_.flows().empty());
  plane_.receive(from_peer(1, inner_udp(), {local_end_}).frame());
  expect_delivered(sent, inner_udp(), local_end_);
}

TEST_P(Untunnel, HandingOnIsBounded) {
  Tunnelled sent = from_peer(1, inner(), {local_end_, far_}, {node2_});
  sent.hops = 0;
  expect_dropped(sent.frame(), SLUICE_REASON_TUNNEL_HOPS);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_TUNNEL_HOPS), 1U);
}

TEST_P(Untunnel, ACandidateAtNoNodeOfOursIsNotAsked) {
  expect_dropped(from_peer(1, inner(), {local_end_, far_}, {outer("192.0.2.99")}).frame(), SLUICE_REASON_TUNNEL_STRAY);
}

TEST_P(Untunnel, ACandidateThatIsNoneOfOursIsPassedBy) {
  Tunnelled expected = to_peer(2, to_service(), {far_});
  expected.hops = SLUICE_TUNNEL_HOPS - 1;
  const Tunnelled sent = from_peer(1, inner(), {at("10.244.0.99", 8080), far_}, {node2_});
  EXPECT_TRUE(same_frame(plane_.receive(sent.frame()).frame, expected.frame()));
}

// --- who may

TEST_P(Untunnel, EitherOfTwoTokensWillDo) {
  plane_.peer(1).accepted[1] = 0x77;
  Tunnelled sent = from_peer(1, inner(kSyn), {local_end_});
  sent.token = 0x77;
  expect_delivered(sent, inner(kSyn), local_end_);
  plane_.peer(1).accepted[0] = 0;
  plane_.receive(from_peer(1, inner(), {local_end_}).frame());
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TUNNEL_DENIED), 1U) << "the first no more";
}

TEST_P(Untunnel, OthersAreDenied) {
  Tunnelled sent = from_peer(1, inner(kSyn), {local_end_});
  for (const uint64_t token : {kTokenOf2, kTokenTo1, kTokenOf1 ^ 1, kTokenOf1 ^ uint64_t{1} << 63, uint64_t{0}}) {
    sent.token = token;
    expect_dropped(sent.frame(), SLUICE_REASON_TUNNEL_DENIED);
  }
  plane_.peer(1).accepted[0] = 0;  // nobody is told by that
  expect_dropped(sent.frame(), SLUICE_REASON_TUNNEL_DENIED);
  sent = from_peer(1, inner(kSyn), {local_end_});
  sent.from = outer("192.0.2.99");
  expect_dropped(sent.frame(), SLUICE_REASON_TUNNEL_DENIED);
  sent.from = node2_;
  expect_dropped(sent.frame(), SLUICE_REASON_TUNNEL_DENIED);
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(Untunnel, WithoutTunnelsItIsTheNodesOwn) {
  plane_.settings().tunnel_port = 0;
  EXPECT_EQ(plane_.receive(from_peer(1, inner(kSyn), {local_end_}).frame()).action, XDP_PASS);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_OWN_TRAFFIC), 1U);
}

TEST_P(Untunnel, AllowedSourcesAreLookedAtAgain) {
  for (const Service& service : {tcp_, udp_})
    plane_.allow_sources(service, {{address("198.51.100.128"), ipv6() ? 121U : 25U}});
  expect_dropped(from_peer(1, inner(kSyn), {local_end_}).frame(), SLUICE_REASON_SOURCE_NOT_ALLOWED);
  expect_dropped(from_peer(1, inner_udp(), {local_end_}).frame(), SLUICE_REASON_SOURCE_NOT_ALLOWED);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_SOURCE_NOT_ALLOWED), 1U);
  const Packet allowed = inner(kSyn).from(at("198.51.100.200", 5));
  expect_delivered(from_peer(1, allowed, {local_end_}), allowed, local_end_);
}

TEST_P(Untunnel, AKnownFlowWhoseSourceIsNoLongerAllowedIsDropped) {
  establish();
  const uint64_t delivered = plane_.counted(SLUICE_REASON_DECAPSULATED);
  plane_.allow_sources(tcp_, {{address("198.51.100.128"), ipv6() ? 121U : 25U}});
  EXPECT_EQ(plane_.receive(from_peer(1, inner(), {local_end_}).frame()).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_DECAPSULATED), delivered);
}

// --- what it is for

TEST_P(Untunnel, WhatIsForNoServiceOrBackendHereIsStray) {
  for (const Packet& packet : {inner(kSyn).to(at("203.0.113.10", 81)), inner(kSyn).to(at("203.0.113.11", 80))})
    expect_dropped(from_peer(1, packet, {local_end_}).frame(), SLUICE_REASON_TUNNEL_STRAY);
  for (const Endpoint& end : {far_, at("10.244.0.5", 8081), at("10.244.0.99", 8080)})
    expect_dropped(from_peer(1, inner(kSyn), {end}).frame(), SLUICE_REASON_TUNNEL_STRAY);
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(Untunnel, NothingGetsInThatIsNotForAService) {
  // The tunnel is no way around what guards the node.
  const Packet packet = inner(kSyn).to(at("192.0.2.1", 22));
  expect_dropped(from_peer(1, packet, {local_end_}).frame(), SLUICE_REASON_TUNNEL_STRAY);
}

TEST_P(Untunnel, CongestionThatTheTunnelHasMetIsKept) {
  Tunnelled sent = from_peer(1, inner(kSyn).tos(0x02), {local_end_});
  sent.tos = 0x03;
  expect_delivered(sent, inner(kSyn).tos(0x03), local_end_);
  sent.inner = inner().tos(0x01).ip_packet();
  expect_delivered(sent, inner().tos(0x03), local_end_);
  sent.inner = inner().tos(0x00).ip_packet();
  EXPECT_EQ(plane_.receive(sent.frame()).action, XDP_DROP) << "its ends do not listen: RFC 6040";
}

// --- what it looks like

TEST_P(Untunnel, WhatIsMalformedIsDropped) {
  const Tunnelled good = from_peer(1, inner(kSyn), {local_end_});
  const auto with = [&](size_t at, uint8_t value) {
    Bytes option = good.option();
    option[at] = value;
    return good.frame_with(option);
  };
  const size_t size = good.option().size();
  for (const auto& [name, frame] : std::vector<std::pair<const char*, Frame>>{
           {"Geneve version", with(0, 0x40 | good.option()[0])},
           {"Geneve options longer", with(0, static_cast<uint8_t>(good.option()[0] + 1))},
           {"no Geneve options", with(0, 0)},
           {"inner Ethernet", with(2, 0x65)},
           {"another class", with(9, 0x54)},
           {"another type", with(10, 0x82)},
           {"option longer", with(11, static_cast<uint8_t>(good.option()[11] + 1))},
           {"option shorter", with(11, 3)},
           {"no candidates", with(21, 0)},
           {"too many candidates", with(21, 5)},
           {"more candidates than there are", with(21, 2)}}) {
    EXPECT_EQ(plane_.receive(frame).action, XDP_DROP) << name << " of " << size;
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TUNNEL_MALFORMED), 11U);
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(Untunnel, WhatIsCutOffIsDropped) {
  const Frame whole = from_peer(1, inner(kSyn), {local_end_}).frame();
  const size_t udp_end = 14 + (own_.ipv6() ? 40 : 20) + 8;
  for (size_t size = udp_end; size < whole.size(); size++)
    EXPECT_EQ(plane_.receive(Frame(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size))).action, XDP_DROP)
        << size;
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(Untunnel, AnInnerPacketWhoseLengthsDoNotAddUpIsDropped) {
  for (const Packet& packet : {inner(kSyn).data_offset(4), inner(kSyn).total_length(1400), inner_udp().udp_length(3)})
    EXPECT_EQ(plane_.receive(from_peer(1, packet, {local_end_}).frame()).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_MALFORMED), 3U);
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(Untunnel, FragmentsAreDelivered) {
  const Packet whole = inner_udp().payload_size(2000);
  for (const size_t first : {0U, 1200U}) {
    const Frame part = Packet(whole).part(first, 1200), expected = Packet(whole).to(local_end_).part(first, 1200);
    Tunnelled sent = from_peer(1, whole, {local_end_});
    sent.inner.assign(part.begin() + 14, part.end());
    const Outcome outcome = plane_.receive(sent.frame());
    EXPECT_EQ(outcome.action, XDP_PASS);
    EXPECT_TRUE(std::equal(outcome.frame.begin() + 14, outcome.frame.end(), expected.begin() + 14, expected.end()))
        << describe(outcome.frame) << "\n"
        << describe(expected);
  }
}

// --- probes

TEST_P(Untunnel, AProbeIsSentBackWithOurToken) {
  Tunnelled probe = from_peer(1, inner(), {});
  probe.flags = SLUICE_TUNNEL_PROBE;
  probe.hops = 0;
  probe.inner.assign(600, 0);
  Bytes option = probe.option();
  for (size_t i = 0; i < 8; i++) probe.inner[i] = static_cast<uint8_t>(0xe0 + i);  // the nonce
  const Outcome outcome = plane_.receive(probe.frame_with(option));
  Tunnelled answer = probe;
  std::swap(answer.from, answer.to);
  std::swap(answer.source_mac, answer.destination_mac);
  answer.token = kTokenTo1;
  answer.flags = SLUICE_TUNNEL_PROBE | SLUICE_TUNNEL_ANSWER;
  answer.source_port = kTunnelPort;
  EXPECT_EQ(outcome.action, XDP_TX);
  EXPECT_TRUE(same_frame(outcome.frame, answer.frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_PROBE_ANSWERED), 1U);
}

TEST_P(Untunnel, OurProbeThatCameBackIsNoted) {
  Tunnelled answer = from_peer(2, inner(), {});
  answer.flags = SLUICE_TUNNEL_PROBE | SLUICE_TUNNEL_ANSWER;
  answer.inner.assign(800, 0);
  for (size_t i = 0; i < 8; i++) answer.inner[i] = static_cast<uint8_t>(0xe0 + i);
  const Frame frame = answer.frame();
  EXPECT_EQ(plane_.receive(frame).action, XDP_DROP);
  const sluice_proof proof = plane_.proof(2);
  EXPECT_EQ(proof.nonce, 0xe7e6e5e4e3e2e1e0ULL);
  EXPECT_EQ(proof.bytes, frame.size() - 14);
  EXPECT_LT(plane_.jiffies() - proof.seen, Dataplane::jiffies_per_second());
  EXPECT_EQ(plane_.proof(1).nonce, 0U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_PROBE_RETURNED), 1U);
  answer.token = kTokenOf1;
  EXPECT_EQ(plane_.receive(answer.frame()).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_PROBE_RETURNED), 1U) << "of somebody else";
}

}  // namespace
}  // namespace sluice::packets
