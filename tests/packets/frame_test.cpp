// Frames that are more than Ethernet and a page: VLAN tags, jumbo frames, and those that the kernel has to send.
#include <arpa/inet.h>
#include <linux/bpf.h>

#include "tests/packets/icmp.h"
#include "tests/packets/tunnel.h"

namespace sluice::packets {
namespace {

class FrameTest : public DataplaneTest, public ::testing::WithParamInterface<Family> {
 protected:
  FrameTest() : DataplaneTest(GetParam()) {
    local_ = plane_.add_service(service_end_, kTcp, {local_backend(local_end_)});
    nat_ = plane_.add_service(nat_service_, kTcp, {nat_backend()});
    plane_.add_service(nat_service_, kUdp, {});
  }
  [[nodiscard]] Packet to_nat(uint8_t flags = kAck) const { return to_service(flags).to(nat_service_); }
  [[nodiscard]] Packet forwarded(const Packet& packet) const {
    return Packet(packet).from(nat_source(packet)).to(nat_end_).ttl(63).macs(kCoreMac, kBackendMac);
  }
  Endpoint nat_service_ = at("203.0.113.12", 80);
  Service local_, nat_;
};
INSTANTIATE_TEST_SUITE_P(Families, FrameTest, kFamilies, family_name);

// --- tags

TEST_P(FrameTest, WhatIsPassedUpKeepsItsTags) {
  for (const Packet& packet :
       {to_service(kSyn).tag(100), to_service().tag(0xe064), to_service().tag(7).tag(100, 0x88a8)}) {
    const Outcome outcome = plane_.receive(packet);
    EXPECT_EQ(outcome.action, XDP_PASS);
    EXPECT_TRUE(same_frame(outcome.frame, Packet(packet).to(local_end_).frame()));
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_LOCAL), 3U);
}

TEST_P(FrameTest, WhatIsNotOursKeepsItsTags) {
  for (const Packet& packet :
       {to_service().tag(100).to(at("203.0.113.99", 80)), to_service().tag(100).macs(kRouterMac, kOtherMac),
        to_service().tag(1).tag(2).tag(3, 0x88a8)})
    EXPECT_EQ(plane_.receive(packet).action, XDP_PASS);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_LOCAL), 0U);
}

TEST_P(FrameTest, WhatIsSentOnHasTheTagOfItsWayOut) {
  Packet packet = to_nat(kSyn).tag(100);
  EXPECT_TRUE(same_frame(plane_.receive(packet).frame, forwarded(to_nat(kSyn)).frame()));
  sluice_egress& core = plane_.egress(kCoreEgress);
  core.vlan = htons(42);
  core.ifindex |= SLUICE_EGRESS_NOT_PLAIN;
  for (const Packet& arrived : {to_nat(), to_nat().tag(100), to_nat().tag(7).tag(100, 0x88a8)}) {
    const Outcome outcome = plane_.receive(arrived);
    EXPECT_EQ(outcome.action, XDP_REDIRECT);
    EXPECT_TRUE(same_frame(outcome.frame, forwarded(to_nat()).tag(42).frame()));
  }
}

TEST_P(FrameTest, AnswersGoBackWithTheTagsThatThePacketHad) {
  const Packet refused = udp_to_service().to(nat_service_);
  const Frame plain = plane_.receive(refused).frame;
  const Outcome outcome = plane_.receive(Packet(refused).tag(100));
  EXPECT_EQ(outcome.action, XDP_TX);
  Frame expected = plain;
  const uint8_t tag[] = {0x81, 0x00, 0x00, 100};
  expected.insert(expected.begin() + 12, std::begin(tag), std::end(tag));
  // What is quoted is the IP packet alone.
  EXPECT_TRUE(same_frame(outcome.frame, expected));
}

TEST_P(FrameTest, AnOwnedAddressIsAnsweredOnItsVlanAlone) {
  if (ipv6()) return;
  plane_.own(service_end_.address, interfaces().lan, 5, 100);
  const Arp request{.source_mac = kRouterMac,
                    .destination_mac = kBroadcast,
                    .sender_mac = kRouterMac,
                    .sender = ip("192.0.2.254"),
                    .target_mac = {},
                    .target = service_end_.address.last()};
  const auto tagged = [&](uint8_t id) {
    Frame frame = request.frame();
    const uint8_t tag[] = {0x81, 0x00, 0x00, id};
    frame.insert(frame.begin() + 12, std::begin(tag), std::end(tag));
    return frame;
  };
  EXPECT_EQ(plane_.receive(tagged(100)).action, XDP_TX);
  EXPECT_EQ(plane_.receive(tagged(101)).action, XDP_PASS);
  EXPECT_EQ(plane_.receive(request.frame()).action, XDP_PASS);
}

TEST_P(FrameTest, TruncatedTaggedFramesPass) {
  const Frame whole = to_service(kSyn).tag(7).tag(100, 0x88a8).frame();
  for (size_t size = 14; size < 30; size++)
    EXPECT_EQ(plane_.receive(Frame(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size))).action, XDP_PASS)
        << size;
  EXPECT_TRUE(plane_.flows().empty());
}

// --- where XDP cannot transmit

TEST_P(FrameTest, WhatTheKernelIsToSendIsHandedOverWithItsWay) {
  plane_.egress(kCoreEgress).flags = SLUICE_EGRESS_BY_KERNEL;
  plane_.egress(kCoreEgress).ifindex |= SLUICE_EGRESS_NOT_PLAIN;
  const Outcome outcome = plane_.receive(to_nat(kSyn));
  EXPECT_EQ(outcome.action, XDP_PASS);
  EXPECT_EQ(outcome.handover, kCoreEgress);
  EXPECT_EQ(outcome.destination(), nat_end_);
  EXPECT_EQ(outcome.source(), nat_source(to_nat()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_NAT), 1U);
}

// --- jumbo frames: the rest of the packet lies in other pages

constexpr size_t kJumbo = 8800;

TEST_P(FrameTest, JumboFramesAreForwardedAndReturned) {
  for (const uint8_t flags : {kSyn, kAck}) {
    const Packet packet = to_service(flags).payload_size(kJumbo);
    const Outcome outcome = plane_.receive(packet);
    EXPECT_EQ(outcome.action, XDP_PASS);
    EXPECT_EQ(outcome.frame, Packet(packet).to(local_end_).frame());
    const Packet other = to_nat(flags).payload_size(kJumbo);
    EXPECT_EQ(plane_.receive(other).frame, forwarded(other).frame());
  }
  const Packet back = Packet::tcp(nat_end_, nat_source(to_nat())).payload_size(kJumbo).macs(kBackendMac, kLanMac);
  EXPECT_EQ(plane_.receive(back).frame,
            Packet(back).from(nat_service_).to(client_).ttl(63).macs(kLanMac, kRouterMac).frame());
}

TEST_P(FrameTest, AJumboFrameThatSaysToBeLongerIsMalformed) {
  const Packet packet = to_service().payload_size(kJumbo).total_length(9200);
  EXPECT_EQ(plane_.receive(packet).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(local_, SLUICE_REASON_MALFORMED), 1U);
}

TEST_P(FrameTest, AJumboFrameThatDoesNotFitIsToldSo) {
  plane_.egress(kCoreEgress).mtu = 1500;
  const Packet packet = to_nat(kSyn).payload_size(kJumbo);
  const Outcome outcome = plane_.receive(packet);
  EXPECT_EQ(told(outcome, packet), kTooBig);
  EXPECT_EQ(told_mtu(outcome), 1500U);
}

class JumboTunnel : public TunnelTest {};
INSTANTIATE_TEST_SUITE_P(Families, JumboTunnel, kTunnelFamilies, tunnel_name);

TEST_P(JumboTunnel, JumboFramesGoIntoTunnelsAndOut) {
  const Endpoint far = at("10.244.1.5", 8080);
  Service service = plane_.add_service(service_end_, kTcp, {behind(1, far), local_backend(local_end_)});
  plane_.name_backend(service, 1);
  plane_.set_planes(service, {std::vector<uint16_t>(8, 0)});
  set_peer(1, SLUICE_PEER_USABLE, 8940, 8940);
  const Packet packet = to_service().payload_size(8940 - (ipv6() ? 60U : 40U));
  EXPECT_EQ(plane_.receive(packet).frame, to_peer(1, packet, {far}).frame());
  const Packet larger = Packet(packet).payload_size(8940);
  EXPECT_EQ(told_mtu(plane_.receive(larger)), 8940U);

  for (const uint8_t flags : {kSyn, kAck}) {
    const Packet inner = to_service(flags).payload_size(8000).ttl(63);
    const Tunnelled sent = from_peer(1, inner, {local_end_});
    const Outcome outcome = plane_.receive(sent.frame());
    EXPECT_EQ(outcome.action, XDP_PASS);
    EXPECT_EQ(outcome.frame, Packet(inner).to(local_end_).macs(sent.source_mac, kLanMac).frame());
  }
}

}  // namespace
}  // namespace sluice::packets
