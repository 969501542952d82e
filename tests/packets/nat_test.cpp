// Backends elsewhere: both ends rewritten, and back.
#include <arpa/inet.h>
#include <linux/bpf.h>

#include <functional>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr Mac kLanBackendMac{0x02, 0x5c, 0, 0, 0x09, 0x15};

class NatTest : public DataplaneTest {
 protected:
  NatTest() {
    tcp_ = plane_.add_service(service_end_, kTcp, {nat_backend()});
    udp_ = plane_.add_service(service_end_, kUdp, {nat_backend()});
  }
  // What the node is to the backend, for the flow's i-th try.
  [[nodiscard]] static Endpoint translated(const Packet& packet, uint32_t i = 0) {
    return {.address = ip("10.9.0.1"),
            .port = sluice_source_port(Dataplane::hash(packet), i, kNatFirst, kNatLast - kNatFirst + 1)};
  }
  // The packet as it leaves for the backend.
  [[nodiscard]] Packet forwarded(const Packet& packet) const {
    return Packet(packet).from(translated(packet)).to(nat_end_).ttl(63).macs(kCoreMac, kBackendMac);
  }
  [[nodiscard]] Packet reply(const Packet& packet) const {
    Packet back = Packet::tcp(nat_end_, translated(packet)).macs(kBackendMac, kLanMac);
    if (packet.frame()[23] == kUdp) back = Packet::udp(nat_end_, translated(packet)).macs(kBackendMac, kLanMac);
    return back;
  }
  // The reply as it leaves for the client, which is behind the router on `lan`.
  [[nodiscard]] Packet returned(const Packet& back) const {
    return Packet(back).from(service_end_).to(client_).ttl(63).macs(kLanMac, kRouterMac);
  }
  Service tcp_, udp_;
};

TEST_F(NatTest, ForwardRewritesBothEndsAndLeavesByTheBackendsInterface) {
  for (const Packet& packet :
       {to_service(kSyn).tcp_options(5), udp_to_service(), to_service().ip_options(3).payload_size(1)}) {
    const Outcome outcome = plane_.receive(packet);
    EXPECT_EQ(outcome.action, XDP_REDIRECT);
    EXPECT_TRUE(same_frame(outcome.frame, forwarded(packet).frame()));
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_NAT), 3U);
}

TEST_F(NatTest, ABackendOnTheIncomingInterfaceIsAnsweredByTransmitting) {
  const Backend near{.end = at("192.0.2.20", 8080), .egress = kLanEgress, .mac = kLanBackendMac};
  const Endpoint service_end = at("203.0.113.12", 80);
  plane_.add_service(service_end, kTcp, {near});
  const Packet packet = to_service(kSyn).to(service_end);
  const Outcome outcome = plane_.receive(packet);
  EXPECT_EQ(outcome.action, XDP_TX);
  const Endpoint source{.address = ip("192.0.2.1"), .port = translated(packet).port};
  EXPECT_TRUE(same_frame(outcome.frame,
                         Packet(packet).from(source).to(near.end).ttl(63).macs(kLanMac, kLanBackendMac).frame()));
}

TEST_F(NatTest, TheRecordHoldsWhatTheReplyAndTheAgentNeed) {
  plane_.receive(to_service(kSyn));
  const auto record = plane_.flow(nat_end_, translated(to_service()), kTcp);
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(ntohl(record->client), client_.address);
  EXPECT_EQ(ntohs(record->client_port), client_.port);
  EXPECT_EQ(ntohl(record->address), service_end_.address);
  EXPECT_EQ(ntohs(record->port), service_end_.port);
  EXPECT_EQ(record->forwarding, SLUICE_FORWARD_NAT);
  EXPECT_EQ(record->state, SLUICE_FLOW_NEW);
  EXPECT_EQ(record->service, tcp_.index);
  EXPECT_EQ(record->backend, tcp_.first_backend);
  EXPECT_EQ(record->ifindex, interfaces().lan);
  EXPECT_TRUE(std::equal(kRouterMac.begin(), kRouterMac.end(), record->client_mac));
}

TEST_F(NatTest, TheReplyIsTranslatedBackAndSentToTheClient) {
  for (const Packet& packet : {to_service(kSyn), udp_to_service()}) {
    plane_.receive(packet);
    const Packet back = reply(packet).payload_size(31).ip_options(2);
    const Outcome outcome = plane_.receive(back);
    EXPECT_EQ(outcome.action, XDP_TX);
    EXPECT_TRUE(same_frame(outcome.frame, returned(back).frame()));
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_RETURNED_NAT), 2U);
  for (const auto& [key, record] : plane_.flows()) EXPECT_EQ(record.state, SLUICE_FLOW_ESTABLISHED);
}

TEST_F(NatTest, CountersOfServiceAndBackendCountBothDirections) {
  const Packet data = to_service().payload_size(100), back = reply(to_service()).payload_size(700);
  plane_.receive(data);
  plane_.receive(data);
  plane_.receive(back);
  for (const sluice_counters& counters :
       {plane_.service_counters(tcp_.index), plane_.backend_counters(tcp_.first_backend)}) {
    EXPECT_EQ(counters.packets, 2U);
    EXPECT_EQ(counters.bytes, 2 * data.frame().size());
    EXPECT_EQ(counters.flows, 1U);
    EXPECT_EQ(counters.return_packets, 1U);
    EXPECT_EQ(counters.return_bytes, back.frame().size());
  }
  EXPECT_EQ(plane_.counted_bytes(SLUICE_REASON_RETURNED_NAT), back.frame().size());
}

TEST_F(NatTest, AUdpChecksumThatWasNotComputedStaysZero) {
  const Packet packet = udp_to_service().no_udp_checksum();
  EXPECT_TRUE(same_frame(plane_.receive(packet).frame, forwarded(packet).frame()));
  const Packet back = reply(packet).no_udp_checksum();
  EXPECT_TRUE(same_frame(plane_.receive(back).frame, returned(back).frame()));
}

TEST_F(NatTest, ATtlThatWouldReachZeroIsDroppedInBothDirectionsAndMakesNoRecord) {
  for (const uint8_t ttl : {uint8_t{0}, uint8_t{1}})
    EXPECT_EQ(plane_.receive(to_service(kSyn).ttl(ttl)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_TTL_EXCEEDED), 2U);
  EXPECT_TRUE(plane_.flows().empty());

  const Packet packet = to_service().ttl(2);
  EXPECT_TRUE(same_frame(plane_.receive(packet).frame, forwarded(packet).ttl(1).frame()));
  EXPECT_EQ(plane_.receive(to_service().ttl(1)).action, XDP_DROP);  // also of a known flow
  EXPECT_EQ(plane_.receive(reply(packet).ttl(1)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_TTL_EXCEEDED), 4U);
}

TEST_F(NatTest, APacketTooBigForTheBackendsInterfaceIsDroppedAndMakesNoRecord) {
  sluice_egress core{.ifindex = interfaces().core, .source = htonl(ip("10.9.0.1")), .mac = {}, .mtu = 1400};
  std::copy(kCoreMac.begin(), kCoreMac.end(), core.mac);
  plane_.set_egress(kCoreEgress, core);
  EXPECT_EQ(plane_.receive(to_service().payload_size(1361)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_TOO_BIG), 1U);
  EXPECT_TRUE(plane_.flows().empty());
  EXPECT_EQ(plane_.receive(to_service().payload_size(1360)).action, XDP_REDIRECT);
  EXPECT_EQ(plane_.receive(to_service().payload_size(1361)).action, XDP_DROP);  // also of a known flow
}

TEST_F(NatTest, APacketThatCameDamagedLeavesDamaged) {
  const Packet packet = to_service().payload_size(64);
  Frame frame = packet.frame(), expected = forwarded(packet).frame();
  frame[80] ^= 0x01;
  expected[80] ^= 0x01;
  EXPECT_TRUE(same_frame(plane_.receive(frame).frame, expected));
}

struct Case {
  const char* name;
  std::function<Packet(Packet)> change;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

class NotAReply : public NatTest, public ::testing::WithParamInterface<Case> {};

TEST_P(NotAReply, PassesToTheNodeUntouched) {
  plane_.receive(to_service(kSyn));
  EXPECT_EQ(plane_.receive(GetParam().change(reply(to_service()))).action, XDP_PASS);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NOT_FOR_US), 1U);
  EXPECT_EQ(only_flow().second.state, SLUICE_FLOW_NEW);
}

INSTANTIATE_TEST_SUITE_P(
    Packets, NotAReply,
    ::testing::Values(Case{"AnotherPortOfTheNode", [](Packet p) { return p.to(at("10.9.0.1", 29000)); }},
                      Case{"APortBelowTheRange", [](Packet p) { return p.to(at("10.9.0.1", kNatFirst - 1)); }},
                      Case{"AnotherBackend", [](Packet p) { return p.from(at("10.9.0.21", 8080)); }},
                      Case{"AnotherPortOfTheBackend", [](Packet p) { return p.from(at("10.9.0.20", 8081)); }},
                      Case{"ALaterFragment", [](Packet p) { return p.fragment(0x20); }},
                      Case{"AnotherMac", [](Packet p) { return p.macs(kBackendMac, kOtherMac); }}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_F(NatTest, OnlyAddressesAndPortsOfNatAreLookedUp) {
  plane_.receive(to_service(kSyn));
  const Packet back = reply(to_service());
  const auto with_settings = [&](const std::function<void(sluice_config&)>& change) {
    const sluice_config before = plane_.settings();
    change(plane_.settings());
    plane_.write_settings();
    const int action = plane_.receive(back).action;
    plane_.settings() = before;
    plane_.write_settings();
    return action;
  };
  EXPECT_EQ(with_settings([](sluice_config& c) { c.nat_sources[1] = 0; }), XDP_PASS);
  EXPECT_EQ(
      with_settings([&](sluice_config& c) { c.nat_port_last = static_cast<uint16_t>(back.destination().port - 1); }),
      XDP_PASS);
  EXPECT_EQ(
      with_settings([&](sluice_config& c) { c.nat_port_first = static_cast<uint16_t>(back.destination().port + 1); }),
      XDP_PASS);
  EXPECT_EQ(with_settings([](sluice_config& c) { std::swap(c.nat_sources[1], c.nat_sources[3]); }), XDP_TX);
  EXPECT_EQ(with_settings([&](sluice_config& c) { c.nat_port_first = c.nat_port_last = back.destination().port; }),
            XDP_TX);
}

TEST_F(NatTest, ARecordOfLocalDeliveryIsNoNatReply) {
  plane_.receive(to_service(kSyn));
  auto [key, record] = only_flow();
  record.forwarding = SLUICE_FORWARD_LOCAL;
  plane_.put_flow(key, record);
  EXPECT_EQ(plane_.receive(reply(to_service())).action, XDP_PASS);
}

TEST_F(NatTest, AReplyThatIsMalformedOrAFragmentIsDropped) {
  plane_.receive(to_service(kSyn));
  EXPECT_EQ(plane_.receive(reply(to_service()).total_length(39)).action, XDP_DROP);
  EXPECT_EQ(plane_.receive(reply(to_service()).data_offset(3)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_MALFORMED), 2U);
  EXPECT_EQ(plane_.receive(reply(to_service()).fragment(0x2000)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_FRAGMENT), 1U);
  EXPECT_EQ(only_flow().second.state, SLUICE_FLOW_NEW);
}

TEST_F(NatTest, WithoutANatPortRangeNewFlowsAreRefused) {
  for (const auto& [first, last] : {std::pair{0, 0}, std::pair{30000, 29999}}) {
    plane_.settings().nat_port_first = static_cast<uint16_t>(first);
    plane_.settings().nat_port_last = static_cast<uint16_t>(last);
    plane_.write_settings();
    EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  }
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_PORTS_EXHAUSTED), 2U);
}

TEST_F(NatTest, AChangedNextHopTakesEffectOnKnownFlows) {
  plane_.receive(to_service(kSyn));
  Backend moved = nat_backend();
  moved.mac = kOtherMac;
  plane_.set_backend(tcp_, 0, moved);
  EXPECT_TRUE(
      same_frame(plane_.receive(to_service()).frame, forwarded(to_service()).macs(kCoreMac, kOtherMac).frame()));
}

}  // namespace
}  // namespace sluice::packets
