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
std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return info.param.name;
}

const Endpoint kClientEnd = at("198.51.100.7", 40001), kServiceEnd = at("203.0.113.10", 80);

Packet tcp() {
  return Packet::tcp(kClientEnd, kServiceEnd).macs(kRouterMac, kLanMac);
}
Packet udp() {
  return Packet::udp(kClientEnd, kServiceEnd).macs(kRouterMac, kLanMac);
}

class WithServices : public DataplaneTest {
 protected:
  WithServices() {
    tcp_ = plane_.add_service(kServiceEnd, kTcp, {local_backend(local_end_)});
    udp_ = plane_.add_service(kServiceEnd, kUdp, {local_backend(local_end_)});
  }
  Service tcp_, udp_;
};

class NotForUs : public WithServices, public ::testing::WithParamInterface<Case> {};

TEST_P(NotForUs, PassesUntouchedAndIsCounted) {
  const Frame frame = GetParam().packet.frame();
  EXPECT_EQ(plane_.receive(frame).action, XDP_PASS);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NOT_FOR_US), 1U);
  EXPECT_EQ(plane_.counted_bytes(SLUICE_REASON_NOT_FOR_US), frame.size());
  EXPECT_TRUE(plane_.flows().empty());
}

INSTANTIATE_TEST_SUITE_P(
    Packets, NotForUs,
    ::testing::Values(Case{"AnotherHostsMac", tcp().macs(kRouterMac, kOtherMac)},
                      Case{"OwnMacButForTheLastByte", tcp().macs(kRouterMac, {0x02, 0x5c, 0, 0, 0, 0x03})},
                      Case{"OwnMacButForTheFirstByte", tcp().macs(kRouterMac, {0x06, 0x5c, 0, 0, 0, 0x01})},
                      Case{"BroadcastMac", tcp().macs(kRouterMac, kBroadcast)},
                      Case{"AnotherPort", tcp().to(at("203.0.113.10", 81))},
                      Case{"AnotherAddress", tcp().to(at("203.0.113.11", 80))},
                      Case{"AnotherProtocol", tcp().protocol(132)},     // SCTP: its ports lie where TCP's do
                      Case{"Icmp", tcp().protocol(1)},                  //
                      Case{"Ipv6EtherType", tcp().ether_type(0x86dd)},  //
                      Case{"VlanTag", tcp().ether_type(0x8100)},        //
                      Case{"Version6InIpv4", tcp().version(6)},         //
                      Case{"HeaderShorterThanAHeader", tcp().header_words(4)},
                      Case{"LaterFragmentOfTcp", tcp().fragment(0x2003)},  // has no ports: bytes there mean nothing
                      Case{"LastFragmentOfUdp", udp().fragment(0x00b9)}),
    name_of);

TEST_F(WithServices, AFrameThatEndsBeforeThePortsPassesAndOneThatEndsLaterIsMalformed) {
  for (const Packet& packet : {tcp().ip_options(2).tcp_options(3), udp()}) {
    const Frame whole = packet.frame();
    const Service& service = whole[23] == kTcp ? tcp_ : udp_;
    const size_t ports_end = 14 + packet.ip_header_size() + 4;
    for (size_t size = 14; size < whole.size(); size++) {  // the kernel runs nothing shorter than an Ethernet header
      SCOPED_TRACE(size);
      const uint64_t passed = plane_.counted(SLUICE_REASON_NOT_FOR_US);
      const uint64_t malformed = plane_.counted(service, SLUICE_REASON_MALFORMED);
      const Frame cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
      const bool has_ports = size >= ports_end;
      EXPECT_EQ(plane_.receive(cut).action, has_ports ? XDP_DROP : XDP_PASS);
      EXPECT_EQ(plane_.counted(SLUICE_REASON_NOT_FOR_US), passed + (has_ports ? 0 : 1));
      EXPECT_EQ(plane_.counted(service, SLUICE_REASON_MALFORMED), malformed + (has_ports ? 1 : 0));
    }
    EXPECT_EQ(plane_.receive(whole).action, XDP_PASS);
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_LOCAL), 2U);
}

class Malformed : public WithServices, public ::testing::WithParamInterface<Case> {};

TEST_P(Malformed, IsDroppedAndCountedForItsService) {
  const Frame frame = GetParam().packet.frame();
  EXPECT_EQ(plane_.receive(frame).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_MALFORMED), 1U);
  EXPECT_EQ(plane_.counted_bytes(SLUICE_REASON_MALFORMED), frame.size());
  EXPECT_EQ(plane_.counted(frame[23] == kTcp ? tcp_ : udp_, SLUICE_REASON_MALFORMED), 1U);
  EXPECT_TRUE(plane_.flows().empty());
}

INSTANTIATE_TEST_SUITE_P(
    Packets, Malformed,
    ::testing::Values(Case{"TotalLengthBeyondTheFrame", tcp().payload_size(9).total_length(50)},
                      Case{"TotalLengthZero", tcp().total_length(0)},
                      Case{"TotalLengthOfTheIpHeaderAlone", tcp().total_length(20)},
                      Case{"TotalLengthWithinTheTcpHeader", tcp().payload_size(30).total_length(39)},
                      Case{"TcpDataOffsetBelowFive", tcp().data_offset(4)},
                      Case{"TcpDataOffsetZero", tcp().payload_size(40).data_offset(0)},
                      Case{"TcpDataOffsetBeyondThePacket", tcp().payload_size(8).padding(100).data_offset(8)},
                      Case{"UdpLengthBelowEight", udp().udp_length(7)}, Case{"UdpLengthZero", udp().udp_length(0)},
                      Case{"UdpLengthBeyondThePacket", udp().padding(100).udp_length(25)},
                      Case{"TotalLengthWithinTheUdpHeader", udp().total_length(27)}),
    name_of);

class WellFormed : public WithServices, public ::testing::WithParamInterface<Case> {};

TEST_P(WellFormed, IsForwardedWithEverythingElseAsItWas) {
  const Packet& packet = GetParam().packet;
  const Outcome outcome = plane_.receive(packet);
  EXPECT_EQ(outcome.action, XDP_PASS);
  EXPECT_TRUE(same_frame(outcome.frame, Packet(packet).to(local_end_).frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_LOCAL), 1U);
}

INSTANTIATE_TEST_SUITE_P(
    Packets, WellFormed,
    ::testing::Values(Case{"TcpWithoutPayload", tcp()}, Case{"TcpOddPayload", tcp().payload_size(7)},
                      Case{"TcpFullSize", tcp().payload_size(1460)}, Case{"TcpOptions", tcp().tcp_options(10)},
                      Case{"IpOptions", tcp().ip_options(1)},
                      Case{"AllIpOptions", tcp().ip_options(10).payload_size(3)},
                      Case{"IpOptionsUdp", udp().ip_options(10)}, Case{"EthernetPadding", tcp().padding(6)},
                      Case{"FragmentationAllowed", tcp().fragment(0)},
                      Case{"ReservedFragmentBit", tcp().fragment(0x8000)}, Case{"TypeOfService", tcp().tos(0xb9)},
                      Case{"TtlOne", tcp().ttl(1)},  // passed up, not forwarded
                      Case{"UdpWithoutPayload", udp().payload_size(0)}, Case{"UdpOddPayload", udp().payload_size(1)},
                      Case{"UdpWithoutChecksum", udp().no_udp_checksum()}),
    name_of);

TEST_F(WithServices, TheFirstFragmentIsDroppedAndCounted) {
  EXPECT_EQ(plane_.receive(udp().payload_size(1200).fragment(0x2000)).action, XDP_DROP);
  EXPECT_EQ(plane_.receive(tcp().fragment(0x2000)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(udp_, SLUICE_REASON_FRAGMENT), 1U);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_FRAGMENT), 1U);
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_F(WithServices, APacketThatCameDamagedLeavesDamaged) {
  Frame frame = tcp().payload_size(64).frame();
  frame[70] ^= 0x10;
  Frame expected = tcp().payload_size(64).to(local_end_).frame();
  expected[70] ^= 0x10;
  EXPECT_TRUE(same_frame(plane_.receive(frame).frame, expected));
}

}  // namespace
}  // namespace sluice::packets
