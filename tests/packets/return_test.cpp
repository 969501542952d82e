// Replies of nat's backends that are in parts, or carry options or extension headers.
#include <linux/bpf.h>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

class NatReply : public DataplaneTest, public ::testing::WithParamInterface<Family> {
 protected:
  NatReply() : DataplaneTest(GetParam()) {
    udp_ = plane_.add_service(service_end_, kUdp, {nat_backend()});
    tcp_ = plane_.add_service(service_end_, kTcp, {nat_backend()});
    plane_.receive(udp_to_service());
    plane_.receive(to_service(kSyn));
  }
  [[nodiscard]] Packet udp_reply(size_t bytes = 3000, uint32_t id = 0x77) const {
    return Packet::udp(nat_end_, nat_source(udp_to_service()))
        .macs(kBackendMac, kLanMac)
        .fragment(0)
        .payload_size(bytes)
        .id(id);
  }
  [[nodiscard]] Packet reply(uint8_t flags = kAck) const {
    return Packet::tcp(nat_end_, nat_source(to_service()), flags).macs(kBackendMac, kLanMac).fragment(0);
  }
  [[nodiscard]] Packet returned(const Packet& packet) const {
    return Packet(packet).from(service_end_).to(client_).ttl(63).macs(kLanMac, kRouterMac);
  }
  void expect_returned(const Frame& frame, const Frame& as) {
    const uint64_t before = plane_.counted(SLUICE_REASON_RETURNED_NAT);
    const Outcome outcome = plane_.receive(frame);
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(outcome.frame, as));
    EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_NAT), before + 1);
  }
  void expect_part_returned(const Packet& packet, size_t first, size_t bytes = 1000) {
    SCOPED_TRACE(first);
    expect_returned(packet.part(first, bytes), returned(packet).part(first, bytes));
  }
  void expect_own(const Frame& frame) {
    const uint64_t before = plane_.counted(SLUICE_REASON_OWN_TRAFFIC);
    EXPECT_EQ(plane_.receive(frame).action, XDP_PASS);
    EXPECT_EQ(plane_.counted(SLUICE_REASON_OWN_TRAFFIC), before + 1);
  }
  static Bytes options(uint8_t units) {
    Bytes rest = Writer().u8(units).u8(1).u8(static_cast<unsigned>(units * 8 + 4));  // PadN
    rest.resize(7 + size_t{units} * 8);
    return rest;
  }
  Service udp_, tcp_;
};
INSTANTIATE_TEST_SUITE_P(Families, NatReply, kFamilies, family_name);

TEST_P(NatReply, InFragmentsFollowsTheFirst) {
  for (const size_t first : {0U, 1000U, 2000U, 3000U}) expect_part_returned(udp_reply(), first);
  EXPECT_EQ(plane_.flows().size(), 2U);
}

TEST_P(NatReply, OfTcpInFragmentsFollowsTheFirstWhichCarriesItsFlags) {
  const Packet segment = reply(kSyn | kAck).payload_size(1500);
  for (const size_t first : {0U, 800U}) expect_part_returned(segment, first, 800);
  const Flow flow = *plane_.flow(nat_end_, nat_source(to_service()), kTcp, SLUICE_FLOW_NAT);
  EXPECT_EQ(flow.state, SLUICE_FLOW_REPLIED);
  EXPECT_EQ(flow.acknowledgement, kSequence + 1) << "what will promote it";
}

TEST_P(NatReply, ALaterFragmentAloneIsTheNodesOwn) {
  expect_own(udp_reply().part(1000, 1000));
  expect_part_returned(udp_reply(), 0);
  expect_part_returned(udp_reply(), 1000);
}

TEST_P(NatReply, FragmentsOfAnotherPacketAreTheNodesOwn) {
  expect_part_returned(udp_reply(3000, 1), 0);
  expect_own(udp_reply(3000, 2).part(1000, 1000));
  expect_own(udp_reply(3000, 1).from(at("10.9.0.21", 8080)).part(1000, 1000));
}

TEST_P(NatReply, FragmentsOfNoFlowAreTheNodesOwnAndPushNoOthersOut) {
  expect_part_returned(udp_reply(3000, 1), 0);
  for (uint32_t id = 2; id < 12000; id++) {
    const Packet other = udp_reply(3000, id).from(at("10.9.0.99", 53));
    ASSERT_EQ(plane_.receive(other.part(0, 1000)).action, XDP_PASS);
  }
  expect_part_returned(udp_reply(3000, 1), 1000);
  expect_own(udp_reply(3000, 11999).from(at("10.9.0.99", 53)).part(1000, 1000));
}

TEST_P(NatReply, WithIpOptionsIsTranslated) {
  if (ipv6()) return;
  for (const size_t words : {1U, 10U}) {
    const Packet whole = reply(kSyn | kAck).ip_options(words), parts = udp_reply().ip_options(words);
    expect_returned(whole.frame(), returned(whole).frame());
    for (const size_t first : {0U, 1000U}) expect_part_returned(parts, first);
  }
}

TEST_P(NatReply, WithExtensionHeadersIsTranslated) {
  if (!ipv6()) return;
  for (const Packet& packet : {reply(kSyn | kAck).extension(60, options(1)), reply().extension(0, options(0)),
                               udp_reply(100).extension(0, options(0)).extension(60, options(3)),
                               udp_reply(100).extension(44, Writer().u8(0).u16(0).u32(5))})
    expect_returned(packet.frame(), returned(packet).frame());
  const Packet parts = udp_reply().extension(0, options(0));
  for (const size_t first : {0U, 1000U}) expect_part_returned(parts, first);
}

TEST_P(NatReply, WithExtensionHeadersOfNoFlowIsTheNodesOwn) {
  if (!ipv6()) return;
  expect_own(udp_reply(100).from(at("10.9.0.99", 53)).extension(60, options(1)).frame());
  expect_own(udp_reply(100).to(at("10.9.0.1", 22)).extension(60, options(1)).frame());
}

TEST_P(NatReply, InFragmentsIsDroppedForTheSameReasonsAsWhole) {
  EXPECT_EQ(plane_.receive(udp_reply().ttl(1).part(0, 1000)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(udp_, SLUICE_REASON_TTL_EXCEEDED), 1U);
  Frame longer = udp_reply().part(0, 1000);
  longer.pop_back();
  EXPECT_EQ(plane_.receive(longer).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(udp_, SLUICE_REASON_MALFORMED), 1U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_NAT), 0U);
}

TEST_P(NatReply, CutOffAnywhereDoesNoHarm) {
  const Packet packet = ipv6() ? reply().extension(0, options(1)).extension(60, options(1)) : reply().ip_options(4);
  for (const Frame& whole : {packet.frame(), udp_reply().part(0, 64), udp_reply().part(64, 64)})
    for (size_t size = 14; size < whole.size(); size++)
      plane_.receive(Frame(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_NAT), 0U);
}

}  // namespace
}  // namespace sluice::packets
