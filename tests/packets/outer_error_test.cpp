// ICMP errors about what we have put around a client's packet: routers quote an outer header that the client knows
// nothing of.
#include <linux/bpf.h>

#include "tests/packets/icmp.h"
#include "tests/packets/tunnel.h"
#include "tests/packets/whole.h"

namespace sluice::packets {
namespace {

class IpInIpErrors : public WholeTest {
 protected:
  [[nodiscard]] size_t header() const { return ipv6() ? 40 : 20; }
  // A router's answer to what was sent to a backend for a packet: `fits` is what it says, and it quotes so many bytes.
  [[nodiscard]] Packet too_big(const Packet& about, uint32_t fits, size_t quoted = 576, size_t real = 0) const {
    const Frame outer = sent(about, real);
    const Bytes quotation(outer.begin() + 14,
                          outer.begin() + static_cast<ptrdiff_t>(14 + std::min(quoted, outer.size() - 14)));
    return Packet::icmp(address("198.18.77.1"), address("192.0.2.1"), ipv6() ? 2 : 3, ipv6() ? 0 : 4,
                        Writer().u32(fits).bytes(quotation))
        .macs(kRouterMac, kLanMac);
  }
  // What the client is told.
  [[nodiscard]] Frame told_to_client(const Packet& about, uint32_t fits, size_t quoted) const {
    const uint8_t hops = 63;
    Bytes quotation = Packet(about).ttl(hops).ip_packet();
    quotation.resize(std::min({quoted, size_t{128}, quotation.size()}) & ~size_t{3});
    return Packet::icmp(service_end_.address, client_.address, ipv6() ? 2 : 3, ipv6() ? 0 : 4,
                        Writer().u32(fits).bytes(quotation))
        .id(0)
        .macs(kLanMac, kRouterMac)
        .frame();
  }
  void expect_own(const Packet& error) {
    const uint64_t before = plane_.counted(SLUICE_REASON_OWN_TRAFFIC);
    EXPECT_EQ(plane_.receive(error).action, XDP_PASS);
    EXPECT_EQ(plane_.counted(SLUICE_REASON_OWN_TRAFFIC), before + 1);
  }
  [[nodiscard]] Packet large() const { return to_service().payload_size(1400); }
};
INSTANTIATE_TEST_SUITE_P(Forwarding, IpInIpErrors,
                         ::testing::Values(Whole{SLUICE_FORWARD_IPIP, Family::ipv4},
                                           Whole{SLUICE_FORWARD_IPIP, Family::ipv6}),
                         whole_name);

TEST_P(IpInIpErrors, ThatSayTooBigReachTheClientWithWhatFitsInside) {
  uint64_t counted = 0;
  for (const Packet& packet : {large(), udp_to_service().payload_size(1410)}) {
    for (const uint32_t fits : {1420U, 1399U}) {
      for (const size_t quoted : {size_t{576}, size_t{120}, 2 * header() + 8}) {
        SCOPED_TRACE(quoted);
        const Outcome outcome = plane_.receive(too_big(packet, fits, quoted));
        EXPECT_EQ(outcome.action, XDP_TX);
        const auto inside = fits - static_cast<uint32_t>(header());
        EXPECT_TRUE(same_frame(outcome.frame, told_to_client(packet, inside, quoted - header())));
        EXPECT_EQ(told(outcome, packet), kTooBig);
        EXPECT_EQ(told_mtu(outcome), inside);
        EXPECT_EQ(plane_.counted(SLUICE_REASON_ERROR_FORWARDED), ++counted);
      }
    }
  }
}

TEST_P(IpInIpErrors, NeverSayLessThanTheLeast) {
  for (const uint32_t fits : {0U, 68U, ipv6() ? 1300U : 590U})
    EXPECT_EQ(told_mtu(plane_.receive(too_big(large(), fits))), ipv6() ? 1280U : 576U);
}

TEST_P(IpInIpErrors, FollowTheKernelsRouteToTheClient) {
  const Packet packet = large().from(at("10.9.0.20", 40003));
  const Outcome outcome = plane_.receive(too_big(packet, 1400));
  EXPECT_EQ(outcome.action, XDP_REDIRECT);
  EXPECT_EQ(outcome.destination().address, packet.source().address);
  EXPECT_EQ(Bytes(outcome.frame.begin(), outcome.frame.begin() + 6), Bytes(kBackendMac.begin(), kBackendMac.end()));
}

TEST_P(IpInIpErrors, AboutAnEarlierCandidateOfTheSlotReachTheClientToo) {
  planes({1, 0});
  EXPECT_EQ(told(plane_.receive(too_big(large(), 1400)), large()), kTooBig);
  EXPECT_EQ(told(plane_.receive(too_big(large(), 1400, 576, 1)), large()), kTooBig);
}

TEST_P(IpInIpErrors, AboutWhatWeHaveNotSentAreTheNodesOwn) {
  expect_own(too_big(large(), 1400, 576, 1));  // a backend that is none of the slot's
  expect_own(too_big(large().to(at("203.0.113.10", 81)), 1400));
  expect_own(too_big(large().to(at("203.0.113.99", 80)), 1400));
  expect_own(too_big(Packet::other(client_.address, service_end_.address, 132, Bytes(64, 1)), 1400));
  if (ipv6()) expect_own(too_big(large(), 70000));  // no IP packet is that long
  plane_.set_backend(tcp_, 0, {.end = reals_[0], .forwarding = SLUICE_FORWARD_DIRECT, .egress = kLanEgress});
  expect_own(too_big(large(), 1400));
}

TEST_P(IpInIpErrors, ThatQuoteTooLittleAreTheNodesOwn) {
  for (size_t quoted = 1; quoted < 2 * header() + 4; quoted++) expect_own(too_big(large(), 1400, quoted));
  // What follows the IP packet in the frame is no part of it.
  const Packet whole = too_big(large(), 1400, 2 * header() + 4);
  EXPECT_EQ(plane_.receive(whole).action, XDP_TX);
  expect_own(Packet(whole).total_length(static_cast<uint16_t>(whole.ip_packet().size() - 1)));
}

TEST_P(IpInIpErrors, OfOtherKindsAreTheNodesOwn) {
  const Frame outer = sent(large());
  const Bytes quotation(outer.begin() + 14, outer.begin() + 214);
  for (const auto& [type4, type6, code] : std::vector<std::tuple<uint8_t, uint8_t, uint8_t>>{{11, 3, 0}, {3, 1, 1}})
    expect_own(Packet::icmp(address("198.18.77.1"), address("192.0.2.1"), ipv6() ? type6 : type4, code,
                            Writer().u32(0).bytes(quotation))
                   .macs(kRouterMac, kLanMac));
}

TEST_P(IpInIpErrors, AreToldOnlySoOften) {
  int sent = 0;
  for (int i = 0; i < 200; i++) sent += plane_.receive(too_big(large(), 1400)).action == XDP_TX ? 1 : 0;
  EXPECT_GT(sent, 20);
  EXPECT_LT(sent, 150);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_ANSWERS_LIMITED), 200U - static_cast<uint64_t>(sent));
}

TEST_P(IpInIpErrors, AreNotToldToGroupsOrNobody) {
  for (const char* text : {"0.0.0.0", "224.0.0.1", "127.0.0.1"}) {
    if (ipv6()) continue;
    expect_own(too_big(large().from({Address::of(text), 9}), 1400));
  }
  for (const char* text : {"::", "::1", "ff02::1"}) {
    if (!ipv6()) continue;
    expect_own(too_big(large().from({Address::of(text), 9}), 1400));
  }
}

TEST_P(IpInIpErrors, WithoutAWayToTheClientAreDropped) {
  EXPECT_EQ(plane_.receive(too_big(large().from(at("100.64.0.1", 5)), 1400)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NO_NEXT_HOP), 1U);
}

// --- about tunnel packets: what goes into the tunnel is lowered

class TunnelTooBig : public TunnelTest {
 protected:
  TunnelTooBig() {
    plane_.add_service(service_end_, kTcp, {behind(1, far_)});
    set_peer(1, SLUICE_PEER_USABLE, 1440, 1430);
  }
  [[nodiscard]] bool outer6() const { return own_.ipv6(); }
  // A router's answer to what we sent to peer 1, of which it quotes so many bytes.
  [[nodiscard]] Packet too_big(uint32_t fits, size_t quoted = 128, uint64_t token = kTokenTo1) const {
    Tunnelled sent = to_peer(1, to_service().payload_size(1300), {far_});
    sent.token = token;
    const Frame outer = sent.frame();
    const Bytes quotation(outer.begin() + 14, outer.begin() + static_cast<ptrdiff_t>(14 + quoted));
    return Packet::icmp(outer6() ? Address::of("198.18.77.1").in_ipv6() : Address::of("198.18.77.1"), own_,
                        outer6() ? 2 : 3, outer6() ? 0 : 4, Writer().u32(fits).bytes(quotation))
        .macs(kRouterMac, kLanMac);
  }
  // Bytes from the outer IP header to the end of the token.
  [[nodiscard]] size_t to_token() const { return (outer6() ? 40 : 20) + 8 + 8 + 4 + 8; }
  // The kernel hears it, too.
  void expect_heard(const Packet& error, bool heard) {
    const uint64_t before = plane_.counted(SLUICE_REASON_PATH_MTU);
    EXPECT_EQ(plane_.receive(error).action, XDP_PASS);
    EXPECT_EQ(plane_.counted(SLUICE_REASON_PATH_MTU), before + (heard ? 1 : 0));
  }
  [[nodiscard]] uint32_t fits4() { return SLUICE_PEER_FITS4(plane_.peer(1).state); }
  [[nodiscard]] uint32_t fits6() { return SLUICE_PEER_FITS6(plane_.peer(1).state); }
  Endpoint far_ = at("10.244.1.5", 8080);
};
INSTANTIATE_TEST_SUITE_P(Families, TunnelTooBig, kTunnelFamilies, tunnel_name);

TEST_P(TunnelTooBig, LowersWhatGoesInAndIsNotedForTheAgent) {
  expect_heard(too_big(1400), true);
  EXPECT_EQ(fits4(), 1400U - SLUICE_TUNNEL_OVERHEAD(outer6(), 0));
  EXPECT_EQ(fits6(), 1400U - SLUICE_TUNNEL_OVERHEAD(outer6(), 1));
  EXPECT_EQ(SLUICE_PEER_FLAGS(plane_.peer(1).state) & SLUICE_PEER_USABLE, SLUICE_PEER_USABLE);
  EXPECT_EQ(plane_.proof(1).told_mtu, 1400U);
  EXPECT_LT(plane_.jiffies() - plane_.proof(1).told_seen, Dataplane::jiffies_per_second());
  expect_heard(too_big(1450), true);
  EXPECT_EQ(fits4(), 1400U - SLUICE_TUNNEL_OVERHEAD(outer6(), 0)) << "raised by the agent alone";
  const Packet packet = to_service().payload_size(1370 - (ipv6() ? 60 : 40));
  EXPECT_EQ(told(plane_.receive(packet), packet), kTooBig);
  EXPECT_EQ(told_mtu(plane_.receive(packet)), ipv6() ? fits6() : fits4());
}

TEST_P(TunnelTooBig, IsNotBelievedBelowTheLeast) {
  expect_heard(too_big(200), true);
  EXPECT_EQ(plane_.proof(1).told_mtu, outer6() ? 1280U : 576U);
}

TEST_P(TunnelTooBig, IsBelievedOnlyWithTheToken) {
  expect_heard(too_big(1400, 128, kTokenTo1 ^ 1), false);
  expect_heard(too_big(1400, 128, kTokenTo2), false);
  EXPECT_EQ(fits4(), 1440U);
  EXPECT_EQ(plane_.proof(1).told_mtu, 0U);
}

TEST_P(TunnelTooBig, IsBelievedOnlyWhereTheTokenIsQuoted) {
  expect_heard(too_big(1400, to_token() + 4), true);
  set_peer(1, SLUICE_PEER_USABLE, 1440, 1430);
  for (size_t quoted = 8; quoted < to_token(); quoted++) expect_heard(too_big(1400, quoted), false);
  // What follows the IP packet in the frame is no part of it.
  const Packet whole = too_big(1400, to_token() + 4);
  expect_heard(Packet(whole).total_length(static_cast<uint16_t>(whole.ip_packet().size() - 5)), false);
  EXPECT_EQ(fits4(), 1440U);
}

}  // namespace
}  // namespace sluice::packets
