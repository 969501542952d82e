// Backends on this node: rewritten and passed up; their replies translated back on the way out.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr uint32_t kNew = 0;

class LocalTestOf : public DataplaneTest {
 protected:
  explicit LocalTestOf(Family family) : DataplaneTest(family) {
    tcp_ = plane_.add_service(service_end_, kTcp, {local_backend(local_end_)});
    udp_ = plane_.add_service(service_end_, kUdp, {local_backend(local_end_)});
  }
  [[nodiscard]] Packet reply(uint8_t flags = kAck) const {
    return Packet::tcp(local_end_, client_, flags).macs(kLanMac, kRouterMac).ttl(63);
  }
  [[nodiscard]] Packet udp_reply() const { return Packet::udp(local_end_, client_).macs(kLanMac, kRouterMac).ttl(63); }
  Service tcp_, udp_;
};
class LocalTest : public LocalTestOf, public ::testing::WithParamInterface<Family> {
 protected:
  LocalTest() : LocalTestOf(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Families, LocalTest, kFamilies, family_name);

TEST_P(LocalTest, ForwardChangesTheDestinationAloneAndPassesUp) {
  const Outcome outcome = plane_.receive(to_service(kSyn).tcp_options(5));
  EXPECT_EQ(outcome.action, XDP_PASS);
  EXPECT_TRUE(same_frame(outcome.frame, to_service(kSyn).tcp_options(5).to(local_end_).frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_LOCAL), 1U);
}

TEST_P(LocalTest, TheRecordHoldsWhatTheReplyAndTheAgentNeed) {
  const uint32_t before = plane_.jiffies();
  plane_.receive(to_service(kSyn));
  const Flow flow = only_flow();
  EXPECT_EQ(flow.backend, local_end_);
  EXPECT_EQ(flow.source, client_);
  EXPECT_EQ(flow.protocol, kTcp);
  EXPECT_EQ(flow.kind, SLUICE_FLOW_LOCAL);
  EXPECT_EQ(flow.client, client_);
  EXPECT_EQ(flow.service, service_end_);
  EXPECT_EQ(flow.state, kNew);
  EXPECT_TRUE(flow.half_open);
  EXPECT_EQ(flow.service_index, tcp_.index);
  EXPECT_EQ(flow.backend_index, tcp_.first_backend);
  EXPECT_LE(flow.seen - before, plane_.jiffies() - before);
}

TEST_P(LocalTest, TheReplyGetsTheServicesAddressAndLeavesToOtherClassifiers) {
  plane_.receive(to_service(kSyn));
  const Outcome outcome = plane_.send(reply(kSyn | kAck).tcp_options(3));
  EXPECT_EQ(outcome.action, TC_ACT_UNSPEC);
  EXPECT_TRUE(same_frame(outcome.frame, reply(kSyn | kAck).tcp_options(3).from(service_end_).frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_LOCAL), 1U);
  EXPECT_EQ(only_flow().state, SLUICE_FLOW_REPLIED);
}

TEST_P(LocalTest, AReplyWithIpOptionsIsTranslated) {
  plane_.receive(to_service(kSyn));
  if (ipv6()) return;
  const Packet packet = reply().ip_options(10).payload_size(33);
  EXPECT_TRUE(same_frame(plane_.send(packet).frame, Packet(packet).from(service_end_).frame()));
}

TEST_P(LocalTest, UdpIsTranslatedInBothDirections) {
  EXPECT_TRUE(same_frame(plane_.receive(udp_to_service()).frame, udp_to_service().to(local_end_).frame()));
  for (const size_t size : {0, 1, 2, 900})
    EXPECT_TRUE(same_frame(plane_.send(udp_reply().payload_size(size)).frame,
                           udp_reply().payload_size(size).from(service_end_).frame()))
        << size;
}

TEST_P(LocalTest, AUdpChecksumThatWasNotComputedStaysZero) {
  if (ipv6()) return;  // there it is not left out
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

TEST_P(LocalTest, AUdpChecksumComputedAsZeroIsSentAsAllOnes) {
  const Packet out = with_zero_checksum(udp_to_service().to(local_end_));
  const Frame forwarded = plane_.receive(Packet(out).to(service_end_)).frame;
  EXPECT_TRUE(same_frame(forwarded, out.frame()));
  EXPECT_EQ(word_at(forwarded, transport_at(forwarded) + 6), 0xffff);

  const Packet back = with_zero_checksum(udp_reply().from(service_end_));
  const Frame returned = plane_.send(Packet(back).from(local_end_)).frame;
  EXPECT_TRUE(same_frame(returned, back.frame()));
  EXPECT_EQ(word_at(returned, transport_at(returned) + 6), 0xffff);
}

TEST_P(LocalTest, TheBackendsCountersCountBothDirections) {
  const Packet syn = to_service(kSyn), data = to_service().payload_size(100), answer = reply().payload_size(500);
  plane_.receive(syn);
  plane_.receive(data);
  plane_.send(answer);
  const sluice_counters counters = plane_.backend_counters(tcp_.first_backend);
  EXPECT_EQ(counters.forwarded.packets, 2U);
  EXPECT_EQ(counters.forwarded.bytes, syn.frame().size() + data.frame().size());
  EXPECT_EQ(counters.flows, 1U);
  EXPECT_EQ(counters.returned.packets, 1U);
  EXPECT_EQ(counters.returned.bytes, answer.frame().size());
  EXPECT_EQ(plane_.service_counters(udp_).forwarded.packets, 0U);
}

TEST_P(LocalTest, ASegmentedPacketCountsAsItsSegments) {
  plane_.receive(to_service(kSyn));
  const Packet packet = reply().payload_size(size_t{2} * 1448);
  EXPECT_TRUE(same_frame(plane_.send(packet.frame(), 2).frame, Packet(packet).from(service_end_).frame()));
  EXPECT_EQ(plane_.service_counters(tcp_).returned.packets, 2U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_LOCAL), 2U);
}

TEST_P(LocalTest, OneClientPortTowardsTwoServicesWithTheSameBackendIsTwoFlowsThere) {
  const Endpoint other_service = at("203.0.113.11", 8443);
  plane_.add_service(other_service, kTcp, {local_backend(local_end_)});
  plane_.receive(to_service(kSyn));
  const Packet to_other = Packet::tcp(client_, other_service, kSyn).macs(kRouterMac, kLanMac);
  const Frame second = plane_.receive(to_other).frame;

  const Endpoint seen_as{client_.address, sluice_local_port(Dataplane::hash(to_other), 1, client_.port)};
  EXPECT_NE(seen_as.port, client_.port);
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

TEST_P(LocalTest, TcpAndUdpFlowsWithTheSamePortsDoNotMeet) {
  plane_.receive(to_service(kSyn));
  plane_.receive(udp_to_service());
  EXPECT_EQ(plane_.flows().size(), 2U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_PORT_CHANGED), 0U);
}

TEST_P(LocalTest, ALaterFragmentOfAReplyLeavesAsItIs) {
  plane_.receive(udp_to_service());
  const Frame later = udp_reply().payload_size(1400).part(800, 2000);
  EXPECT_TRUE(same_frame(plane_.send(later).frame, later));
}

struct Case {
  const char* name;
  Packet packet;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}
std::string case_name(const ::testing::TestParamInfo<std::tuple<Case, Family>>& info) {
  return std::get<Case>(info.param).name + name_of(std::get<Family>(info.param));
}

class LeavesAsItIs : public LocalTestOf, public ::testing::WithParamInterface<std::tuple<Case, Family>> {
 protected:
  LeavesAsItIs() : LocalTestOf(std::get<Family>(GetParam())) {}
};

TEST_P(LeavesAsItIs, WithoutARecordForIt) {
  plane_.receive(to_service(kSyn));
  const Frame frame = here(std::get<Case>(GetParam()).packet).frame();
  const Outcome outcome = plane_.send(frame);
  EXPECT_EQ(outcome.action, TC_ACT_UNSPEC);
  EXPECT_TRUE(same_frame(outcome.frame, frame));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_LOCAL), 0U);
  EXPECT_EQ(only_flow().state, kNew);
}

const Endpoint kPod = packets::at("10.244.0.5", 8080), kClientEnd = packets::at("198.51.100.7", 40001);
Packet pods(Endpoint from, Endpoint to) {
  return Packet::tcp(from, to).macs(kLanMac, kRouterMac);
}

INSTANTIATE_TEST_SUITE_P(
    Packets, LeavesAsItIs,
    ::testing::Combine(::testing::Values(Case{"ThePodToAnotherClient", pods(kPod, packets::at("198.51.100.8", 40001))},
                                         Case{"ThePodToAnotherPortOfTheClient",
                                              pods(kPod, packets::at("198.51.100.7", 40002))},
                                         Case{"AnotherPortOfThePod", pods(packets::at("10.244.0.5", 8081), kClientEnd)},
                                         Case{"AnotherPod", pods(packets::at("10.244.0.6", 8080), kClientEnd)},
                                         Case{"AnotherProtocolOfThePod", Packet::udp(kPod, kClientEnd)},
                                         Case{"TheForwardDirection", pods(kClientEnd, kPod)},
                                         Case{"AnotherProtocol", pods(kPod, kClientEnd).protocol(132)},
                                         Case{"AnotherEtherType", pods(kPod, kClientEnd).ether_type(0x88cc)},
                                         Case{"AnotherVersion", pods(kPod, kClientEnd).version(5)}),
                       kFamilies),
    case_name);

TEST_P(LocalTest, ReplyTranslationIgnoresRecordsOfNat) {
  Flow nat{.backend = local_end_, .source = client_, .kind = SLUICE_FLOW_NAT, .client = client_};
  nat.seen = plane_.jiffies();
  plane_.put_flow(nat);
  EXPECT_TRUE(same_frame(plane_.send(reply()).frame, reply().frame()));
}

TEST_P(LocalTest, WithoutAnyServiceNothingIsTranslated) {
  plane_.receive(to_service(kSyn));
  plane_.settings().key_table = 0;
  EXPECT_TRUE(same_frame(plane_.send(reply()).frame, reply().frame()));
  EXPECT_EQ(plane_.receive(to_service()).action, XDP_PASS);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NOT_FOR_US), 1U);
}

TEST_P(LocalTest, ATruncatedReplyWithOptionsOrInPartsLeavesAsItIs) {
  plane_.receive(to_service(kSyn));
  const Packet packet = ipv6() ? reply().extension(60, Writer().u8(0).u8(1).u8(4).u32(0)) : reply().ip_options(1);
  for (const Frame& whole : {packet.frame(), reply().fragment(0).payload_size(40).part(0, 24)}) {
    for (size_t size = ipv6() ? 54 : 34; size < transport_at(whole) + 20; size++) {
      const Frame cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
      const Outcome outcome = plane_.send(cut);
      EXPECT_EQ(outcome.action, TC_ACT_UNSPEC) << size;
      EXPECT_TRUE(same_frame(outcome.frame, cut)) << size;
    }
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_LOCAL), 0U);
}

TEST_P(LocalTest, ATruncatedReplyLeavesAsItIs) {
  plane_.receive(to_service(kSyn));
  const Frame whole = reply().frame();
  for (size_t size = ipv6() ? 54 : 34; size < whole.size(); size++) {
    const Frame cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_TRUE(same_frame(plane_.send(cut).frame, cut)) << size;
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_LOCAL), 0U);
}

}  // namespace
}  // namespace sluice::packets
