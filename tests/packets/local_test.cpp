// Backends on this node: rewritten and passed up; their replies translated back on the way out.
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <cstring>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr Mac kPodMac{0x02, 0x5c, 0, 0, 0x0a, 0x05};

class LocalTest : public DataplaneTest {
 protected:
  LocalTest() {
    tcp_ = plane_.add_service(service_end_, kTcp, {local_backend(local_end_)});
    udp_ = plane_.add_service(service_end_, kUdp, {local_backend(local_end_)});
  }
  [[nodiscard]] Packet reply(uint8_t flags = kAck) const {
    return Packet::tcp(local_end_, client_, flags).macs(kLanMac, kRouterMac).ttl(63);
  }
  [[nodiscard]] Packet udp_reply() const { return Packet::udp(local_end_, client_).macs(kLanMac, kRouterMac).ttl(63); }
  Service tcp_, udp_;
};

TEST_F(LocalTest, ForwardChangesTheDestinationAloneAndPassesUp) {
  const Outcome outcome = plane_.receive(to_service(kSyn).tcp_options(5));
  EXPECT_EQ(outcome.action, XDP_PASS);
  EXPECT_TRUE(same_frame(outcome.frame, to_service(kSyn).tcp_options(5).to(local_end_).frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_LOCAL), 1U);
}

TEST_F(LocalTest, TheRecordHoldsWhatTheReplyAndTheAgentNeed) {
  const uint64_t before = monotonic_now();
  plane_.receive(to_service(kSyn));
  const auto [key, record] = only_flow();
  const sluice_flow_key expected = flow_key(local_end_, client_, kTcp);
  EXPECT_EQ(std::memcmp(&key, &expected, sizeof(key)), 0);
  EXPECT_EQ(ntohl(record.client), client_.address);
  EXPECT_EQ(ntohs(record.client_port), client_.port);
  EXPECT_EQ(ntohl(record.address), service_end_.address);
  EXPECT_EQ(ntohs(record.port), service_end_.port);
  EXPECT_EQ(record.state, SLUICE_FLOW_NEW);
  EXPECT_EQ(record.forwarding, SLUICE_FORWARD_LOCAL);
  EXPECT_TRUE(std::equal(kRouterMac.begin(), kRouterMac.end(), record.client_mac));
  EXPECT_EQ(record.ifindex, interfaces().lan);
  EXPECT_EQ(record.service, tcp_.index);
  EXPECT_EQ(record.backend, tcp_.first_backend);
  EXPECT_EQ(record.hash, static_cast<uint32_t>(Dataplane::hash(to_service())));
  EXPECT_GE(record.last_seen + 20'000'000, before);  // the coarse clock is up to a tick behind
  EXPECT_LE(record.last_seen, monotonic_now());
}

TEST_F(LocalTest, TheReplyGetsTheServicesAddressAndLeavesToOtherClassifiers) {
  plane_.receive(to_service(kSyn));
  const Outcome outcome = plane_.send(reply(kSyn | kAck).tcp_options(3));
  EXPECT_EQ(outcome.action, TC_ACT_UNSPEC);
  EXPECT_TRUE(same_frame(outcome.frame, reply(kSyn | kAck).tcp_options(3).from(service_end_).frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_LOCAL), 1U);
  EXPECT_EQ(only_flow().second.state, SLUICE_FLOW_ESTABLISHED);
}

TEST_F(LocalTest, AReplyWithIpOptionsIsTranslated) {
  plane_.receive(to_service(kSyn));
  const Packet packet = reply().ip_options(10).payload_size(33);
  EXPECT_TRUE(same_frame(plane_.send(packet).frame, Packet(packet).from(service_end_).frame()));
}

TEST_F(LocalTest, UdpIsTranslatedInBothDirections) {
  EXPECT_TRUE(same_frame(plane_.receive(udp_to_service()).frame, udp_to_service().to(local_end_).frame()));
  for (const size_t size : {0, 1, 2, 900})
    EXPECT_TRUE(same_frame(plane_.send(udp_reply().payload_size(size)).frame,
                           udp_reply().payload_size(size).from(service_end_).frame()))
        << size;
}

TEST_F(LocalTest, AUdpChecksumThatWasNotComputedStaysZero) {
  const Packet out = udp_to_service().no_udp_checksum(), back = udp_reply().no_udp_checksum();
  EXPECT_TRUE(same_frame(plane_.receive(out).frame, Packet(out).to(local_end_).frame()));
  EXPECT_TRUE(same_frame(plane_.send(back).frame, Packet(back).from(service_end_).frame()));
}

// The payload is chosen so that the sum over the *rewritten* packet is one that must be sent as all ones.
Packet with_zero_checksum(Packet translated) {
  const uint16_t word = translated.payload_size(16).word_for_zero_checksum();
  std::vector<uint8_t> payload(16);
  for (size_t i = 0; i < 14; i++) payload[i] = static_cast<uint8_t>(i * 7 + 1);
  payload[14] = static_cast<uint8_t>(word >> 8);
  payload[15] = static_cast<uint8_t>(word & 0xff);
  return translated.payload(payload);
}

TEST_F(LocalTest, AUdpChecksumComputedAsZeroIsSentAsAllOnes) {
  const Packet out = with_zero_checksum(udp_to_service().to(local_end_));
  const Frame forwarded = plane_.receive(Packet(out).to(service_end_)).frame;
  EXPECT_TRUE(same_frame(forwarded, out.frame()));
  EXPECT_EQ(forwarded[40] << 8 | forwarded[41], 0xffff);

  const Packet back = with_zero_checksum(udp_reply().from(service_end_));
  const Frame returned = plane_.send(Packet(back).from(local_end_)).frame;
  EXPECT_TRUE(same_frame(returned, back.frame()));
  EXPECT_EQ(returned[40] << 8 | returned[41], 0xffff);
}

TEST_F(LocalTest, CountersOfServiceAndBackendCountBothDirections) {
  const Packet syn = to_service(kSyn), data = to_service().payload_size(100), answer = reply().payload_size(500);
  plane_.receive(syn);
  plane_.receive(data);
  plane_.send(answer);
  for (const sluice_counters& counters :
       {plane_.service_counters(tcp_.index), plane_.backend_counters(tcp_.first_backend)}) {
    EXPECT_EQ(counters.packets, 2U);
    EXPECT_EQ(counters.bytes, syn.frame().size() + data.frame().size());
    EXPECT_EQ(counters.flows, 1U);
    EXPECT_EQ(counters.return_packets, 1U);
    EXPECT_EQ(counters.return_bytes, answer.frame().size());
  }
  EXPECT_EQ(plane_.service_counters(udp_.index).packets, 0U);
}

TEST_F(LocalTest, ASegmentedPacketCountsAsItsSegments) {
  plane_.receive(to_service(kSyn));
  const Packet packet = reply().payload_size(size_t{2} * 1448);
  EXPECT_TRUE(same_frame(plane_.send(packet.frame(), 2).frame, Packet(packet).from(service_end_).frame()));
  EXPECT_EQ(plane_.service_counters(tcp_.index).return_packets, 2U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_LOCAL), 2U);
}

TEST_F(LocalTest, OneClientPortTowardsTwoServicesWithTheSameBackendIsTwoFlowsThere) {
  const Endpoint other_service = at("203.0.113.11", 8443);
  plane_.add_service(other_service, kTcp, {local_backend(local_end_)});
  plane_.receive(to_service(kSyn));
  const Packet to_other = Packet::tcp(client_, other_service, kSyn).macs(kRouterMac, kLanMac);
  const Frame second = plane_.receive(to_other).frame;

  const uint16_t port = sluice_local_port(Dataplane::hash(to_other), 1, client_.port);
  const Endpoint seen_as{.address = client_.address, .port = port};
  EXPECT_NE(port, client_.port);
  EXPECT_TRUE(same_frame(second, Packet(to_other).to(local_end_).from(seen_as).frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_PORT_CHANGED), 1U);
  EXPECT_EQ(plane_.flows().size(), 2U);

  // Each reply finds its own service, and the client its own port.
  EXPECT_TRUE(same_frame(plane_.send(reply()).frame, reply().from(service_end_).frame()));
  EXPECT_TRUE(same_frame(plane_.send(reply().to(seen_as)).frame, reply().from(other_service).frame()));
  // Later packets of the second flow keep the port; it was counted once.
  EXPECT_TRUE(same_frame(plane_.receive(Packet(to_other).flags(kAck)).frame,
                         Packet(to_other).flags(kAck).to(local_end_).from(seen_as).frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_PORT_CHANGED), 1U);
  EXPECT_EQ(plane_.flows().size(), 2U);
}

TEST_F(LocalTest, TcpAndUdpFlowsWithTheSamePortsDoNotMeet) {
  plane_.receive(to_service(kSyn));
  plane_.receive(udp_to_service());
  EXPECT_EQ(plane_.flows().size(), 2U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_PORT_CHANGED), 0U);
}

struct Case {
  const char* name;
  Packet packet;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}
std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return info.param.name;
}

class LeavesAsItIs : public LocalTest, public ::testing::WithParamInterface<Case> {};

TEST_P(LeavesAsItIs, WithoutARecordForIt) {
  plane_.receive(to_service(kSyn));
  const Frame frame = GetParam().packet.frame();
  const Outcome outcome = plane_.send(frame);
  EXPECT_EQ(outcome.action, TC_ACT_UNSPEC);
  EXPECT_TRUE(same_frame(outcome.frame, frame));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_LOCAL), 0U);
  EXPECT_EQ(only_flow().second.state, SLUICE_FLOW_NEW);
}

const Endpoint kPod = at("10.244.0.5", 8080), kClientEnd = at("198.51.100.7", 40001);
Packet pods(Endpoint from, Endpoint to) {
  return Packet::tcp(from, to).macs(kLanMac, kRouterMac);
}

INSTANTIATE_TEST_SUITE_P(Packets, LeavesAsItIs,
                         ::testing::Values(Case{"ThePodToAnotherClient", pods(kPod, at("198.51.100.8", 40001))},
                                           Case{"ThePodToAnotherPortOfTheClient",
                                                pods(kPod, at("198.51.100.7", 40002))},
                                           Case{"AnotherPortOfThePod", pods(at("10.244.0.5", 8081), kClientEnd)},
                                           Case{"AnotherPod", pods(at("10.244.0.6", 8080), kClientEnd)},
                                           Case{"AnotherProtocolOfThePod", Packet::udp(kPod, kClientEnd)},
                                           Case{"TheForwardDirection", pods(kClientEnd, kPod)},
                                           Case{"Icmp", pods(kPod, kClientEnd).protocol(1)},
                                           Case{"Ipv6", pods(kPod, kClientEnd).ether_type(0x86dd)},
                                           Case{"ALaterFragment", pods(kPod, kClientEnd).fragment(0x20)}),
                         name_of);

TEST_F(LocalTest, TheFirstFragmentOfAReplyIsDroppedSinceTheOthersCannotBeTranslated) {
  plane_.receive(udp_to_service());
  EXPECT_EQ(plane_.send(udp_reply().payload_size(1400).fragment(0x2000)).action, TC_ACT_SHOT);
  EXPECT_EQ(plane_.counted(udp_, SLUICE_REASON_FRAGMENT), 1U);
}

TEST_F(LocalTest, ReplyTranslationIgnoresRecordsOfNat) {
  sluice_flow nat{};
  nat.forwarding = SLUICE_FORWARD_NAT;
  nat.last_seen = monotonic_now();
  plane_.put_flow(flow_key(local_end_, client_, kTcp), nat);
  EXPECT_TRUE(same_frame(plane_.send(reply()).frame, reply().frame()));
}

TEST_F(LocalTest, WithoutAnyServiceNothingIsTranslated) {
  plane_.receive(to_service(kSyn));
  plane_.settings().service_table = 0;
  plane_.write_settings();
  EXPECT_TRUE(same_frame(plane_.send(reply()).frame, reply().frame()));
  EXPECT_EQ(plane_.receive(to_service()).action, XDP_PASS);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NOT_FOR_US), 1U);
}

TEST_F(LocalTest, ATruncatedReplyLeavesAsItIs) {
  plane_.receive(to_service(kSyn));
  const Frame whole = reply().frame();
  for (size_t size = 34; size < whole.size(); size++) {
    const Frame cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_TRUE(same_frame(plane_.send(cut).frame, cut)) << size;
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_LOCAL), 0U);
}

}  // namespace
}  // namespace sluice::packets
