// What Sluice leaves alone, and what it refuses of what is addressed to a service.
#include <linux/bpf.h>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

struct Case {
  const char* name;
  Packet packet;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

const Endpoint kClientEnd = packets::at("198.51.100.7", 40001), kServiceEnd = packets::at("203.0.113.10", 80);

Packet tcp() {
  return Packet::tcp(kClientEnd, kServiceEnd).macs(kRouterMac, kLanMac);
}
Packet udp() {
  return Packet::udp(kClientEnd, kServiceEnd).macs(kRouterMac, kLanMac);
}

class WithServicesOf : public DataplaneTest {
 protected:
  explicit WithServicesOf(Family family) : DataplaneTest(family) {
    tcp_ = plane_.add_service(here(kServiceEnd), kTcp, {local_backend(local_end_)});
    udp_ = plane_.add_service(here(kServiceEnd), kUdp, {local_backend(local_end_)});
  }
  Service tcp_, udp_;
};
class WithServices : public WithServicesOf, public ::testing::WithParamInterface<Family> {
 protected:
  WithServices() : WithServicesOf(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Families, WithServices, kFamilies, family_name);

// A packet in one family, or in both. It is described in IPv4.
class WithPacket : public WithServicesOf, public ::testing::WithParamInterface<std::tuple<Case, Family>> {
 protected:
  WithPacket() : WithServicesOf(std::get<Family>(GetParam())) {}
  [[nodiscard]] Packet packet() const { return here(std::get<Case>(GetParam()).packet); }
};
std::string name_of(const ::testing::TestParamInfo<std::tuple<Case, Family>>& info) {
  return std::get<Case>(info.param).name + packets::name_of(std::get<Family>(info.param));
}
const auto kIpv4 = ::testing::Values(Family::ipv4), kIpv6 = ::testing::Values(Family::ipv6);

class NotForUs : public WithPacket {};

TEST_P(NotForUs, PassesUntouchedAndIsCounted) {
  const Frame frame = packet().frame();
  EXPECT_EQ(plane_.receive(frame).action, XDP_PASS);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NOT_FOR_US), 1U);
  EXPECT_EQ(plane_.counted_bytes(SLUICE_REASON_NOT_FOR_US), frame.size());
  EXPECT_TRUE(plane_.flows().empty());
}

INSTANTIATE_TEST_SUITE_P(
    Packets, NotForUs,
    ::testing::Combine(
        ::testing::Values(Case{"AnotherHostsMac", tcp().macs(kRouterMac, kOtherMac)},
                          Case{"OwnMacButForTheLastByte", tcp().macs(kRouterMac, {0x02, 0x5c, 0, 0, 0, 0x03})},
                          Case{"OwnMacButForTheFirstByte", tcp().macs(kRouterMac, {0x06, 0x5c, 0, 0, 0, 0x01})},
                          Case{"BroadcastMac", tcp().macs(kRouterMac, kBroadcast)},
                          Case{"AnotherAddress", tcp().to(packets::at("203.0.113.11", 80))},
                          Case{"AnotherEtherType", tcp().ether_type(0x88cc)}),
        kFamilies),
    name_of);
INSTANTIATE_TEST_SUITE_P(OfIpv4, NotForUs,
                         ::testing::Combine(::testing::Values(Case{"Ipv6EtherType", tcp().ether_type(0x86dd)}), kIpv4),
                         name_of);

TEST_P(WithServices, AFrameThatEndsBeforeItsAddressPassesAndOneThatEndsLaterIsDropped) {
  for (const Packet& packet : {here(tcp()).ip_options(ipv6() ? 0 : 2).tcp_options(3), here(udp())}) {
    const Frame whole = packet.frame();
    const Service& service = packet.protocol_number() == kTcp ? tcp_ : udp_;
    const size_t address_end = ipv6() ? 54 : 34;
    const size_t ports_end = 14 + packet.ip_header_size() + 4;
    for (size_t size = 14; size < whole.size(); size++) {  // the kernel runs nothing shorter than an Ethernet header
      SCOPED_TRACE(size);
      const auto counted_refused = [this] {
        return plane_.counted(SLUICE_REASON_NOT_FOR_US) + plane_.counted(SLUICE_REASON_NO_SERVICE);
      };
      const uint64_t refused = counted_refused();
      const uint64_t malformed = plane_.counted(service, SLUICE_REASON_MALFORMED);
      const Frame cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
      const bool has_ports = size >= ports_end;
      EXPECT_EQ(plane_.receive(cut).action, size >= address_end ? XDP_DROP : XDP_PASS);
      EXPECT_EQ(counted_refused(), refused + (has_ports ? 0 : 1));
      EXPECT_EQ(plane_.counted(service, SLUICE_REASON_MALFORMED), malformed + (has_ports ? 1 : 0));
    }
    EXPECT_EQ(plane_.receive(whole).action, XDP_PASS);
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_LOCAL), 2U);
}

class OfNoService : public WithPacket {};

// What has no ports that could be read is none of a service's packets, nor the node's.
TEST_P(OfNoService, MakesNoFlowAndIsNotPassedUp) {
  EXPECT_NE(plane_.receive(packet()).action, XDP_PASS);
  EXPECT_TRUE(plane_.flows().empty());
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_LOCAL), 0U);
}

INSTANTIATE_TEST_SUITE_P(Packets, OfNoService,
                         ::testing::Combine(::testing::Values(Case{"AnotherPort",
                                                                   tcp().to(packets::at("203.0.113.10", 81))},
                                                              Case{"AnotherProtocol", tcp().protocol(132)},
                                                              Case{"AnotherVersion", tcp().version(5)}),
                                            kFamilies),
                         name_of);
INSTANTIATE_TEST_SUITE_P(OfIpv4, OfNoService,
                         ::testing::Combine(::testing::Values(Case{"HeaderShorterThanAHeader", tcp().header_words(4)},
                                                              Case{"LaterFragmentOfTcp", tcp().fragment(0x2003)},
                                                              Case{"LastFragmentOfUdp", udp().fragment(0x00b9)}),
                                            kIpv4),
                         name_of);

class Malformed : public WithPacket {};

TEST_P(Malformed, IsDroppedAndCountedForItsService) {
  const Frame frame = packet().frame();
  EXPECT_EQ(plane_.receive(frame).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_MALFORMED), 1U);
  EXPECT_EQ(plane_.counted_bytes(SLUICE_REASON_MALFORMED), frame.size());
  EXPECT_EQ(plane_.counted(packet().protocol_number() == kTcp ? tcp_ : udp_, SLUICE_REASON_MALFORMED), 1U);
  EXPECT_TRUE(plane_.flows().empty());
}

INSTANTIATE_TEST_SUITE_P(
    Packets, Malformed,
    ::testing::Combine(
        ::testing::Values(Case{"TcpDataOffsetBelowFive", tcp().data_offset(4)},
                          Case{"TcpDataOffsetZero", tcp().payload_size(40).data_offset(0)},
                          Case{"TcpDataOffsetBeyondThePacket", tcp().payload_size(8).padding(100).data_offset(8)},
                          Case{"UdpLengthBelowEight", udp().udp_length(7)}, Case{"UdpLengthZero", udp().udp_length(0)},
                          Case{"UdpLengthBeyondThePacket", udp().padding(100).udp_length(25)}),
        kFamilies),
    name_of);
INSTANTIATE_TEST_SUITE_P(
    OfIpv4, Malformed,
    ::testing::Combine(::testing::Values(Case{"TotalLengthBeyondTheFrame", tcp().payload_size(9).total_length(50)},
                                         Case{"TotalLengthZero", tcp().total_length(0)},
                                         Case{"TotalLengthOfTheIpHeaderAlone", tcp().total_length(20)},
                                         Case{"TotalLengthWithinTheTcpHeader", tcp().payload_size(30).total_length(39)},
                                         Case{"TotalLengthWithinTheUdpHeader", udp().total_length(27)}),
                       kIpv4),
    name_of);
INSTANTIATE_TEST_SUITE_P(
    OfIpv6, Malformed,
    ::testing::Combine(::testing::Values(Case{"TotalLengthBeyondTheFrame", tcp().payload_size(9).total_length(70)},
                                         Case{"TotalLengthOfTheIpHeaderAlone", tcp().total_length(40)},
                                         Case{"TotalLengthWithinTheTcpHeader", tcp().payload_size(30).total_length(59)},
                                         Case{"TotalLengthWithinTheUdpHeader", udp().total_length(47)}),
                       kIpv6),
    name_of);

class WellFormed : public WithPacket {};

TEST_P(WellFormed, IsForwardedWithEverythingElseAsItWas) {
  const Outcome outcome = plane_.receive(packet());
  EXPECT_EQ(outcome.action, XDP_PASS);
  EXPECT_TRUE(same_frame(outcome.frame, packet().to(local_end_).frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_LOCAL), 1U);
}

INSTANTIATE_TEST_SUITE_P(Packets, WellFormed,
                         ::testing::Combine(::testing::Values(Case{"TcpWithoutPayload", tcp()},
                                                              Case{"TcpOddPayload", tcp().payload_size(7)},
                                                              Case{"TcpFullSize", tcp().payload_size(1440)},
                                                              Case{"TcpOptions", tcp().tcp_options(10)},
                                                              Case{"EthernetPadding", tcp().padding(6)},
                                                              Case{"TypeOfService", tcp().tos(0xb9)},
                                                              Case{"TtlOne", tcp().ttl(1)},  // passed up, not forwarded
                                                              Case{"UdpWithoutPayload", udp().payload_size(0)},
                                                              Case{"UdpOddPayload", udp().payload_size(1)}),
                                            kFamilies),
                         name_of);
INSTANTIATE_TEST_SUITE_P(OfIpv4, WellFormed,
                         ::testing::Combine(::testing::Values(Case{"IpOptions", tcp().ip_options(1)},
                                                              Case{"AllIpOptions",
                                                                   tcp().ip_options(10).payload_size(3)},
                                                              Case{"IpOptionsUdp", udp().ip_options(10)},
                                                              Case{"FragmentationAllowed", tcp().fragment(0)},
                                                              Case{"ReservedFragmentBit", tcp().fragment(0x8000)},
                                                              Case{"UdpWithoutChecksum", udp().no_udp_checksum()}),
                                            kIpv4),
                         name_of);
INSTANTIATE_TEST_SUITE_P(OfIpv6, WellFormed,
                         ::testing::Combine(::testing::Values(Case{"FlowLabel", tcp().flow_label(0xabcde)}), kIpv6),
                         name_of);

TEST_P(WithServices, APacketThatCameDamagedLeavesDamaged) {
  Frame frame = here(tcp()).payload_size(64).frame();
  frame[100] ^= 0x10;
  Frame expected = here(tcp()).payload_size(64).to(local_end_).frame();
  expected[100] ^= 0x10;
  EXPECT_TRUE(same_frame(plane_.receive(frame).frame, expected));
}

}  // namespace
}  // namespace sluice::packets
