// Tunnels and the ways to backends without Sluice, through VLANs: as raw frames with their tags.
#include <arpa/inet.h>
#include <linux/bpf.h>

#include "tests/packets/tunnel.h"

namespace sluice::packets {
namespace {

struct Tags {
  const char* name;
  Bytes bytes;
};
const std::vector<Tags> kTags{{"one", {0x81, 0x00, 0x00, 0x64}},
                              {"one with a priority", {0x81, 0x00, 0xe0, 0x64}},
                              {"two", {0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x00, 0x07}}};

Frame with(const Bytes& tags, Frame frame) {
  frame.insert(frame.begin() + 12, tags.begin(), tags.end());
  return frame;
}

class Vlan : public TunnelTest {
 protected:
  Vlan() {
    service_ = plane_.add_service(service_end_, kTcp, {local_backend(local_end_), behind(1, far_)});
    plane_.name_backend(service_, 0);
    plane_.set_planes(service_, {std::vector<uint16_t>(8, 1)});
  }
  // Packets leave by an element of `egress` with a tag.
  void tag_egress(uint32_t index, uint16_t id) {
    sluice_egress& out = plane_.egress(index);
    out.vlan = htons(id);
    out.ifindex |= SLUICE_EGRESS_NOT_PLAIN;
    out.device = 0x7fff;  // of the VLAN device
  }
  [[nodiscard]] Packet inner(uint8_t flags = kAck) const { return to_service(flags).ttl(63); }
  void expect_delivered(const Bytes& tags, const Tunnelled& sent, const Packet& packet) {
    const uint64_t before = plane_.counted(SLUICE_REASON_DECAPSULATED);
    const Outcome outcome = plane_.receive(with(tags, sent.frame()));
    EXPECT_EQ(outcome.action, XDP_PASS);
    EXPECT_TRUE(
        same_frame(outcome.frame, with(tags, Packet(packet).to(local_end_).macs(sent.source_mac, kLanMac).frame())));
    EXPECT_EQ(plane_.counted(SLUICE_REASON_DECAPSULATED), before + 1);
  }
  Endpoint far_ = at("10.244.1.5", 8080);
  Service service_;
};
INSTANTIATE_TEST_SUITE_P(Families, Vlan, kTunnelFamilies, tunnel_name);

TEST_P(Vlan, ATunnelPacketWithTagsIsDeliveredAndKeepsThem) {
  for (const Tags& tags : kTags) {
    SCOPED_TRACE(tags.name);
    plane_.forget_flows();
    // A new flow, the same once it is known, and among the established.
    expect_delivered(tags.bytes, from_peer(1, inner(kSyn), {local_end_}), inner(kSyn));
    expect_delivered(tags.bytes, from_peer(1, inner(), {local_end_}), inner());
    plane_.send(Packet::tcp(local_end_, client_, kSyn | kAck).macs(kLanMac, kRouterMac));
    for (int i = 0; i < 3; i++) expect_delivered(tags.bytes, from_peer(1, inner(), {local_end_}), inner());
    EXPECT_FALSE(only_flow().half_open);
  }
}

TEST_P(Vlan, AFragmentOutOfATunnelWithTagsIsDelivered) {
  const Service udp = plane_.add_service(service_end_, kUdp, {local_backend(local_end_)});
  plane_.name_backend(udp, 0);
  const Packet whole = udp_to_service().ttl(63).payload_size(2000);
  for (const Tags& tags : kTags) {
    SCOPED_TRACE(tags.name);
    for (const size_t first : {0U, 1200U}) {
      const Frame part = Packet(whole).part(first, 1200);
      Tunnelled sent = from_peer(1, whole, {local_end_});
      sent.inner.assign(part.begin() + 14, part.end());
      const Outcome outcome = plane_.receive(with(tags.bytes, sent.frame()));
      EXPECT_EQ(outcome.action, XDP_PASS);
      EXPECT_TRUE(
          same_frame(outcome.frame,
                     with(tags.bytes, Packet(whole).to(local_end_).macs(sent.source_mac, kLanMac).part(first, 1200))));
    }
  }
}

TEST_P(Vlan, AProbeWithTagsIsSentBackWithThem) {
  Tunnelled probe = from_peer(1, inner(), {});
  probe.flags = SLUICE_TUNNEL_PROBE;
  probe.inner.assign(64, 0);
  Tunnelled answer = probe;
  std::swap(answer.from, answer.to);
  std::swap(answer.source_mac, answer.destination_mac);
  answer.token = kTokenTo1;
  answer.flags = SLUICE_TUNNEL_PROBE | SLUICE_TUNNEL_ANSWER;
  answer.source_port = kTunnelPort;
  for (const Tags& tags : kTags) {
    SCOPED_TRACE(tags.name);
    const Outcome outcome = plane_.receive(with(tags.bytes, probe.frame()));
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(outcome.frame, with(tags.bytes, answer.frame())));
  }
}

TEST_P(Vlan, ATunnelThroughAVlanHasItsTagWhateverTheClientsPacketHad) {
  tag_egress(kLanEgress, 42);
  const Bytes tag{0x81, 0x00, 0x00, 42};
  const Frame expected = with(tag, to_peer(1, to_service(), {far_}).frame());
  Outcome outcome = plane_.receive(to_service());
  EXPECT_EQ(outcome.action, XDP_TX);
  EXPECT_TRUE(same_frame(outcome.frame, expected));
  for (const Tags& tags : kTags) {
    outcome = plane_.receive(with(tags.bytes, to_service().frame()));
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(outcome.frame, expected)) << tags.name;
  }
}

TEST_P(Vlan, ATunnelThroughAVlanOfAnotherInterfaceIsRedirectedWithItsTag) {
  tag_egress(kCoreEgress, 43);
  plane_.peer(1).next_hop = SLUICE_NEXT_HOP_WORD(kCoreEgress, mac_word(kBackendMac));
  Tunnelled sent = to_peer(1, to_service(), {far_});
  sent.source_mac = kCoreMac;
  sent.destination_mac = kBackendMac;
  const Outcome outcome = plane_.receive(with(kTags[0].bytes, to_service().frame()));
  EXPECT_EQ(outcome.action, XDP_REDIRECT);
  EXPECT_TRUE(same_frame(outcome.frame, with({0x81, 0x00, 0x00, 43}, sent.frame())));
}

TEST_P(Vlan, WhatIsHandedOnHasTheTagOfItsWayOut) {
  tag_egress(kLanEgress, 42);
  Tunnelled handed_on = to_peer(2, to_service(), {far_});
  handed_on.hops = SLUICE_TUNNEL_HOPS - 1;
  for (const Tags& tags : kTags) {
    const Outcome outcome =
        plane_.receive(with(tags.bytes, from_peer(1, inner(), {local_end_, far_}, {node2_}).frame()));
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(outcome.frame, with({0x81, 0x00, 0x00, 42}, handed_on.frame()))) << tags.name;
  }
}

TEST_P(Vlan, WhatGoesToBackendsWithoutSluiceHasTheTagOfItsWayOut) {
  tag_egress(kLanEgress, 42);
  for (const uint8_t forwarding : std::initializer_list<uint8_t>{SLUICE_FORWARD_DIRECT, SLUICE_FORWARD_IPIP}) {
    const Endpoint end = at("203.0.113.50", static_cast<uint16_t>(80 + forwarding)), real = at("192.0.2.21", 80);
    plane_.add_service(end, kTcp,
                       {{.end = real, .forwarding = forwarding, .egress = kLanEgress, .mac = kNeighbourMac}});
    const Packet less = to_service().to(end).ttl(63).macs(kLanMac, kNeighbourMac);
    const Packet in_ip = Packet::other(address("192.0.2.1"), real.address, ipv6() ? 41 : 4, less.ip_packet())
                             .id(0)
                             .macs(kLanMac, kNeighbourMac);
    const Outcome outcome = plane_.receive(with(kTags[0].bytes, to_service().to(end).frame()));
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(outcome.frame,
                           with({0x81, 0x00, 0x00, 42}, (forwarding == SLUICE_FORWARD_DIRECT ? less : in_ip).frame())));
  }
}

TEST_P(Vlan, AReplyOfNatsGoesBackThroughTheVlanThatTheClientCameBy) {
  // The client's VLAN, of which the kernel knows nothing: there is no route to the client.
  constexpr uint32_t kVlanEgress = 3;
  plane_.egress(kVlanEgress) = plane_.egress(kLanEgress);
  tag_egress(kVlanEgress, 0x64);
  const ScopedSysctl forwarding(ipv6() ? "net/ipv6/conf/lan/forwarding" : "net/ipv4/ip_forward", "0");
  const Endpoint end = at("203.0.113.60", 80);
  plane_.add_service(end, kTcp, {nat_backend()});
  const Packet syn = to_service(kSyn).to(end);
  EXPECT_EQ(plane_.receive(with(kTags[0].bytes, syn.frame())).action, XDP_REDIRECT);
  const Packet reply = Packet::tcp(nat_end_, nat_source(syn), kSyn | kAck).macs(kBackendMac, kLanMac);
  for (const Bytes& tags : {Bytes{}, kTags[2].bytes}) {
    const Outcome outcome = plane_.receive(with(tags, reply.frame()));
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(
        outcome.frame,
        with(kTags[0].bytes, Packet(reply).from(end).to(client_).ttl(63).macs(kLanMac, kRouterMac).frame())));
  }
}

TEST_P(Vlan, WhatDoesNotFitTheTunnelIsToldWithTheTagsThatThePacketHad) {
  set_peer(1, SLUICE_PEER_USABLE, 1300, 1300);
  const Packet larger = to_service().payload_size(1400);
  const Frame plain = plane_.receive(larger).frame;
  for (const Tags& tags : kTags) {
    const Outcome outcome = plane_.receive(with(tags.bytes, larger.frame()));
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(outcome.frame, with(tags.bytes, plain))) << tags.name;
  }
}

}  // namespace
}  // namespace sluice::packets
