// Backends elsewhere: both ends rewritten, and back.
#include <linux/bpf.h>

#include <functional>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr Mac kLanBackendMac{0x02, 0x5c, 0, 0, 0x09, 0x15};

constexpr uint32_t kNew = 0;

class NatTestOf : public DataplaneTest {
 protected:
  explicit NatTestOf(Family family) : DataplaneTest(family) {
    tcp_ = plane_.add_service(service_end_, kTcp, {nat_backend()});
    udp_ = plane_.add_service(service_end_, kUdp, {nat_backend()});
  }
  // The packet as it leaves for the backend.
  [[nodiscard]] Packet forwarded(const Packet& packet) const {
    return Packet(packet).from(nat_source(packet)).to(nat_end_).ttl(63).macs(kCoreMac, kBackendMac);
  }
  [[nodiscard]] Packet reply(const Packet& packet) const {
    Packet back = Packet::tcp(nat_end_, nat_source(packet)).macs(kBackendMac, kLanMac);
    if (packet.protocol_number() == kUdp) back = Packet::udp(nat_end_, nat_source(packet)).macs(kBackendMac, kLanMac);
    return back;
  }
  // The reply as it leaves for the client, which is behind the router on `lan`.
  [[nodiscard]] Packet returned(const Packet& back) const {
    return Packet(back).from(service_end_).to(client_).ttl(63).macs(kLanMac, kRouterMac);
  }
  // What a refused packet is answered with: the ICMP error's type and code. 0: it is not.
  uint32_t told(const Packet& packet) {
    const Outcome outcome = plane_.receive(packet);
    if (outcome.action != XDP_TX || outcome.destination().address != packet.source().address) return 0;
    return word_at(outcome.frame, transport_at(outcome.frame));
  }
  const uint32_t kTimeExceeded = ipv6() ? 0x0300 : 0x0b00, kTooBig = ipv6() ? 0x0200 : 0x0304;
  Service tcp_, udp_;
};
class NatTest : public NatTestOf, public ::testing::WithParamInterface<Family> {
 protected:
  NatTest() : NatTestOf(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Families, NatTest, kFamilies, family_name);

TEST_P(NatTest, ForwardRewritesBothEndsAndLeavesByTheBackendsInterface) {
  for (const Packet& packet :
       {to_service(kSyn).tcp_options(5), udp_to_service(), to_service().ip_options(ipv6() ? 0 : 3).payload_size(1)}) {
    const Outcome outcome = plane_.receive(packet);
    EXPECT_EQ(outcome.action, XDP_REDIRECT);
    EXPECT_TRUE(same_frame(outcome.frame, forwarded(packet).frame()));
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_NAT), 3U);
}

TEST_P(NatTest, ABackendOnTheIncomingInterfaceIsAnsweredByTransmitting) {
  const Backend near{.end = at("192.0.2.20", 8080), .egress = kLanEgress, .mac = kLanBackendMac};
  const Endpoint service_end = at("203.0.113.12", 80);
  plane_.add_service(service_end, kTcp, {near});
  const Packet packet = to_service(kSyn).to(service_end);
  const Outcome outcome = plane_.receive(packet);
  EXPECT_EQ(outcome.action, XDP_TX);
  const Endpoint source{address("192.0.2.1"), nat_source(packet).port};
  EXPECT_TRUE(same_frame(outcome.frame,
                         Packet(packet).from(source).to(near.end).ttl(63).macs(kLanMac, kLanBackendMac).frame()));
}

TEST_P(NatTest, TheRecordHoldsWhatTheReplyAndTheAgentNeed) {
  plane_.receive(to_service(kSyn));
  const Flow flow = only_flow();
  EXPECT_EQ(flow.backend, nat_end_);
  EXPECT_EQ(flow.source, nat_source(to_service()));
  EXPECT_EQ(flow.protocol, kTcp);
  EXPECT_EQ(flow.kind, SLUICE_FLOW_NAT);
  EXPECT_EQ(flow.client, client_);
  EXPECT_EQ(flow.service, service_end_);
  EXPECT_EQ(flow.state, kNew);
  EXPECT_EQ(flow.service_index, tcp_.index);
  EXPECT_EQ(flow.backend_index, tcp_.first_backend);
  EXPECT_EQ(flow.next_hop, SLUICE_NEXT_HOP_WORD(kLanEgress, mac_word(kRouterMac)));
}

TEST_P(NatTest, TheReplyIsTranslatedBackAndSentToTheClient) {
  for (const Packet& packet : {to_service(kSyn), udp_to_service()}) {
    plane_.receive(packet);
    const Packet back = reply(packet).payload_size(31).ip_options(ipv6() ? 0 : 2);
    const Outcome outcome = plane_.receive(back);
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(outcome.frame, returned(back).frame()));
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_NAT), 2U);
  for (const Flow& flow : plane_.flows()) EXPECT_EQ(flow.state, SLUICE_FLOW_REPLIED);
}

TEST_P(NatTest, TheBackendsCountersCountBothDirections) {
  const Packet data = to_service().payload_size(100), back = reply(to_service()).payload_size(700);
  plane_.receive(data);
  plane_.receive(data);
  plane_.receive(back);
  const sluice_counters counters = plane_.backend_counters(tcp_.first_backend);
  EXPECT_EQ(counters.forwarded.packets, 2U);
  EXPECT_EQ(counters.forwarded.bytes, 2 * data.frame().size());
  EXPECT_EQ(counters.flows, 1U);
  EXPECT_EQ(counters.returned.packets, 1U);
  EXPECT_EQ(counters.returned.bytes, back.frame().size());
  EXPECT_EQ(plane_.counted_bytes(SLUICE_REASON_RETURNED_NAT), back.frame().size());
}

TEST_P(NatTest, AUdpChecksumThatWasNotComputedStaysZero) {
  if (ipv6()) return;  // there it is not left out
  const Packet packet = udp_to_service().no_udp_checksum();
  EXPECT_TRUE(same_frame(plane_.receive(packet).frame, forwarded(packet).frame()));
  const Packet back = reply(packet).no_udp_checksum();
  EXPECT_TRUE(same_frame(plane_.receive(back).frame, returned(back).frame()));
}

TEST_P(NatTest, ATtlThatWouldReachZeroIsToldToTheClientAndMakesNoRecord) {
  for (const uint8_t ttl : {uint8_t{0}, uint8_t{1}}) EXPECT_EQ(told(to_service(kSyn).ttl(ttl)), kTimeExceeded);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_TTL_EXCEEDED), 2U);
  EXPECT_TRUE(plane_.flows().empty());

  const Packet packet = to_service().ttl(2);
  EXPECT_TRUE(same_frame(plane_.receive(packet).frame, forwarded(packet).ttl(1).frame()));
  EXPECT_EQ(told(to_service().ttl(1)), kTimeExceeded);  // also of a known flow
  EXPECT_EQ(plane_.receive(reply(packet).ttl(1)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_TTL_EXCEEDED), 4U);
}

TEST_P(NatTest, APacketTooBigForTheBackendsInterfaceIsToldToTheClientAndMakesNoRecord) {
  plane_.egress(kCoreEgress).mtu = 1400;
  const size_t most = ipv6() ? 1340 : 1360;
  EXPECT_EQ(told(to_service().payload_size(most + 1)), kTooBig);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_TOO_BIG), 1U);
  EXPECT_TRUE(plane_.flows().empty());
  EXPECT_EQ(plane_.receive(to_service().payload_size(most)).action, XDP_REDIRECT);
  EXPECT_EQ(told(to_service().payload_size(most + 1)), kTooBig);  // also of a known flow
}

TEST_P(NatTest, APacketThatCameDamagedLeavesDamaged) {
  const Packet packet = to_service().payload_size(64);
  Frame frame = packet.frame(), expected = forwarded(packet).frame();
  frame[100] ^= 0x01;
  expected[100] ^= 0x01;
  EXPECT_TRUE(same_frame(plane_.receive(frame).frame, expected));
}

struct Case {
  const char* name;
  std::function<Packet(Packet)> change;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

class NotAReply : public NatTestOf, public ::testing::WithParamInterface<std::tuple<Case, Family>> {
 protected:
  NotAReply() : NatTestOf(std::get<Family>(GetParam())) {}
};

TEST_P(NotAReply, PassesToTheNodeUntouched) {
  plane_.receive(to_service(kSyn));
  EXPECT_EQ(plane_.receive(here(std::get<Case>(GetParam()).change(reply(to_service())))).action, XDP_PASS);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NOT_FOR_US) + plane_.counted(SLUICE_REASON_OWN_TRAFFIC), 1U);
  EXPECT_EQ(only_flow().state, kNew);
}

INSTANTIATE_TEST_SUITE_P(
    Packets, NotAReply,
    ::testing::Combine(
        ::testing::Values(
            Case{"AnotherPortOfTheNode", [](Packet p) { return p.to(packets::at("10.9.0.1", 29000)); }},
            Case{"APortBelowTheRange", [](Packet p) { return p.to(packets::at("10.9.0.1", kNatFirst - 1)); }},
            Case{"AnotherBackend", [](Packet p) { return p.from(packets::at("10.9.0.21", 8080)); }},
            Case{"AnotherPortOfTheBackend", [](Packet p) { return p.from(packets::at("10.9.0.20", 8081)); }},
            Case{"AnotherMac", [](Packet p) { return p.macs(kBackendMac, kOtherMac); }}),
        kFamilies),
    [](const auto& test) { return std::get<Case>(test.param).name + name_of(std::get<Family>(test.param)); });

TEST_P(NatTest, OnlyAddressesAndPortsOfNatAreLookedUp) {
  plane_.receive(to_service(kSyn));
  const Packet back = reply(to_service());
  const auto with_settings = [&](const std::function<void(sluice_config&)>& change) {
    const sluice_config before = plane_.settings();
    change(plane_.settings());
    const int action = plane_.receive(back).action;
    plane_.settings() = before;
    return action;
  };
  plane_.set_key(address("10.9.0.1"), 0, 0, SLUICE_ADDRESS_NODE);
  EXPECT_EQ(plane_.receive(back).action, XDP_PASS);
  plane_.set_key(address("10.9.0.1"), 0, 0, SLUICE_ADDRESS_NAT);
  EXPECT_EQ(
      with_settings([&](sluice_config& c) { c.nat_port_last = static_cast<uint16_t>(back.destination().port - 1); }),
      XDP_PASS);
  EXPECT_EQ(
      with_settings([&](sluice_config& c) { c.nat_port_first = static_cast<uint16_t>(back.destination().port + 1); }),
      XDP_PASS);
  EXPECT_EQ(with_settings([&](sluice_config& c) { c.nat_port_first = c.nat_port_last = back.destination().port; }),
            XDP_TX);
}

TEST_P(NatTest, ARecordOfLocalDeliveryIsNoNatReply) {
  plane_.receive(to_service(kSyn));
  Flow flow = only_flow();
  plane_.forget_flows();
  flow.kind = SLUICE_FLOW_LOCAL;
  plane_.put_flow(flow);
  EXPECT_EQ(plane_.receive(reply(to_service())).action, XDP_PASS);
}

TEST_P(NatTest, AReplyThatIsMalformedIsDropped) {
  plane_.receive(to_service(kSyn));
  EXPECT_EQ(plane_.receive(reply(to_service()).total_length(ipv6() ? 59 : 39)).action, XDP_DROP);
  EXPECT_EQ(plane_.receive(reply(to_service()).data_offset(3)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_MALFORMED), 2U);
  EXPECT_EQ(only_flow().state, kNew);
}

TEST_P(NatTest, WithoutANatPortRangeNewFlowsAreRefused) {
  for (const auto& [first, last] : {std::pair{0, 0}, std::pair{30000, 29999}}) {
    plane_.settings().nat_port_first = static_cast<uint16_t>(first);
    plane_.settings().nat_port_last = static_cast<uint16_t>(last);
    EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  }
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_PORTS_EXHAUSTED), 2U);
}

TEST_P(NatTest, AChangedNextHopTakesEffectOnKnownFlows) {
  plane_.receive(to_service(kSyn));
  Backend moved = nat_backend();
  moved.mac = kOtherMac;
  plane_.set_backend(tcp_, 0, moved);
  EXPECT_TRUE(
      same_frame(plane_.receive(to_service()).frame, forwarded(to_service()).macs(kCoreMac, kOtherMac).frame()));
}

}  // namespace
}  // namespace sluice::packets
