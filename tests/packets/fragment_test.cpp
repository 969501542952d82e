// Packets in parts, and behind extension headers.
#include <linux/bpf.h>

#include <algorithm>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

class FragmentTest : public DataplaneTest, public ::testing::WithParamInterface<Variant> {
 protected:
  FragmentTest() : DataplaneTest(GetParam().family) {
    const bool local = GetParam().forwarding == SLUICE_FORWARD_LOCAL;
    udp_ = plane_.add_service(service_end_, kUdp, {local ? local_backend(local_end_) : nat_backend()});
    tcp_ = plane_.add_service(service_end_, kTcp, {local ? local_backend(local_end_) : nat_backend()});
  }
  [[nodiscard]] static bool local() { return GetParam().forwarding == SLUICE_FORWARD_LOCAL; }
  [[nodiscard]] int sent() const { return local() ? XDP_PASS : XDP_REDIRECT; }
  // A packet that is to be cut, as it arrives and as it leaves.
  [[nodiscard]] Packet whole(uint32_t id = 0x77) const {
    return udp_to_service().fragment(0).payload_size(3000).id(id);
  }
  [[nodiscard]] Packet forwarded(const Packet& packet) const {
    if (local()) return Packet(packet).to(local_end_);
    return Packet(packet).from(nat_source(packet)).to(nat_end_).ttl(63).macs(kCoreMac, kBackendMac);
  }
  void expect_forwarded(const Packet& packet, size_t first, size_t bytes) {
    SCOPED_TRACE(first);
    const Outcome outcome = plane_.receive(packet.part(first, bytes));
    EXPECT_EQ(outcome.action, sent());
    EXPECT_TRUE(same_frame(outcome.frame, forwarded(packet).part(first, bytes)));
  }
  Service udp_, tcp_;
};
INSTANTIATE_TEST_SUITE_P(Forwarding, FragmentTest, kVariants, variant_name);

TEST_P(FragmentTest, LaterOnesFollowTheFirst) {
  for (const size_t first : {0U, 1000U, 2000U, 3000U}) expect_forwarded(whole(), first, 1000);
  EXPECT_EQ(plane_.flows().size(), 1U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FRAGMENT), 0U);
  EXPECT_EQ(plane_.service_counters(udp_).forwarded.packets, 4U);
}

TEST_P(FragmentTest, TheFirstOfTcpCarriesItsFlags) {
  const Packet segment = to_service(kSyn).fragment(0).payload_size(1500);
  expect_forwarded(segment, 0, 800);
  expect_forwarded(segment, 800, 800);
  EXPECT_EQ(only_flow().state, 0U) << "begun, not taken up";
}

TEST_P(FragmentTest, InAnyOrderAfterTheFirst) {
  for (const size_t first : {0U, 2000U, 1000U, 2000U}) expect_forwarded(whole(), first, 1000);
}

TEST_P(FragmentTest, OverlappingOnesAreLeftToWhoPutsThemTogether) {
  expect_forwarded(whole(), 0, 1000);
  expect_forwarded(whole(), 504, 1000);
  expect_forwarded(whole(), 0, 1000);
}

TEST_P(FragmentTest, ALaterOneBeforeTheFirstIsDroppedAndCounted) {
  EXPECT_EQ(plane_.receive(whole().part(1000, 1000)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FRAGMENT), 1U);
  EXPECT_TRUE(plane_.flows().empty());
  expect_forwarded(whole(), 0, 1000);
  expect_forwarded(whole(), 1000, 1000);
}

TEST_P(FragmentTest, EachPacketHasItsOwn) {
  expect_forwarded(whole(1), 0, 1000);
  std::vector<Packet> others{whole(2), whole(1).from(at("198.51.100.8", 40001))};
  // RFC 791: an identification is of {source, destination, protocol}; in IPv6 (RFC 8200, section 4.5) of the two ends.
  if (!ipv6()) others.push_back(to_service().fragment(0).payload_size(3000).id(1));
  for (const Packet& other : others) EXPECT_EQ(plane_.receive(other.part(1000, 1000)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FRAGMENT), others.size());
}

TEST_P(FragmentTest, TheTableOfFirstsIsBoundedAndForgetsTheOldest) {
  constexpr uint32_t kKept = 8192, kAll = 12000;
  for (uint32_t id = 1; id <= kAll; id++) ASSERT_EQ(plane_.receive(whole(id).part(0, 1000)).action, sent());
  EXPECT_EQ(plane_.receive(whole(kAll).part(1000, 1000)).action, sent());
  // The kernel's LRU does not keep to the order in each single case.
  uint32_t left = 0;
  for (uint32_t id = 1; id <= kAll - kKept; id++)
    left += plane_.receive(whole(id).part(1000, 1000)).action == sent() ? 1 : 0;
  EXPECT_LT(left, (kAll - kKept) / 10);
}

TEST_P(FragmentTest, AFirstThatEndsBeforeThePortsIsNoServices) {
  for (const size_t bytes : {8U}) {
    const Frame first = to_service(kSyn).fragment(0).payload_size(100).part(0, bytes);
    EXPECT_EQ(plane_.receive(first).action, XDP_DROP) << "a TCP header in parts is an attack: RFC 1858";
  }
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(FragmentTest, ThoseOfOthersPass) {
  const Packet other = whole().to(at("203.0.113.99", 80));
  for (const size_t first : {0U, 1000U}) EXPECT_EQ(plane_.receive(other.part(first, 1000)).action, XDP_PASS);
  const Packet own = whole().to(at("192.0.2.1", 80));
  for (const size_t first : {0U, 1000U}) EXPECT_EQ(plane_.receive(own.part(first, 1000)).action, XDP_PASS);
}

TEST_P(FragmentTest, AfterThemTheFlowsWholePacketsGoToTheSame) {
  expect_forwarded(whole(), 0, 1000);
  const Outcome outcome = plane_.receive(udp_to_service());
  EXPECT_EQ(outcome.destination(), local() ? local_end_ : nat_end_);
  EXPECT_EQ(plane_.flows().size(), 1U);
}

class ExtensionTest : public DataplaneTest, public ::testing::WithParamInterface<uint8_t> {
 protected:
  ExtensionTest() : DataplaneTest(Family::ipv6) {
    const bool local = GetParam() == SLUICE_FORWARD_LOCAL;
    tcp_ = plane_.add_service(service_end_, kTcp, {local ? local_backend(local_end_) : nat_backend()});
    plane_.add_service(service_end_, kUdp, {local ? local_backend(local_end_) : nat_backend()});
  }
  [[nodiscard]] Packet forwarded(const Packet& packet) const {
    if (GetParam() == SLUICE_FORWARD_LOCAL) return Packet(packet).to(local_end_);
    return Packet(packet).from(nat_source(packet)).to(nat_end_).ttl(63).macs(kCoreMac, kBackendMac);
  }
  static Bytes options(uint8_t units) {
    Bytes rest = Writer().u8(units).u8(1).u8(static_cast<unsigned>(units * 8 + 4));  // PadN
    rest.resize(7 + size_t{units} * 8);
    return rest;
  }
  // 1,000 bytes of what lies behind the IPv6 header, from `first` on, in a fragment that names `next`.
  static Frame part(const Packet& packet, uint8_t next, size_t first) {
    const Frame whole = packet.frame();
    const size_t count = std::min<size_t>(1000, whole.size() - 54 - first);
    const bool more = 54 + first + count < whole.size();
    Frame frame(whole.begin(), whole.begin() + 54);
    frame[18] = static_cast<uint8_t>((8 + count) >> 8);
    frame[19] = static_cast<uint8_t>(8 + count);
    frame[20] = 44;
    const Bytes header = Writer().u8(next).u8(0).u16(static_cast<unsigned>(first) | (more ? 1U : 0U)).u32(77);
    frame.insert(frame.end(), header.begin(), header.end());
    const auto from = whole.begin() + 54 + static_cast<ptrdiff_t>(first);
    frame.insert(frame.end(), from, from + static_cast<ptrdiff_t>(count));
    return frame;
  }
  Service tcp_;
};
INSTANTIATE_TEST_SUITE_P(Forwarding, ExtensionTest, ::testing::Values(SLUICE_FORWARD_LOCAL, SLUICE_FORWARD_NAT),
                         [](const auto& test) { return test.param == SLUICE_FORWARD_LOCAL ? "Local" : "Nat"; });

TEST_P(ExtensionTest, HeadersAreWalkedAndStayAsTheyAre) {
  constexpr uint8_t kHopByHop = 0, kRouting = 43, kDestination = 60, kAuthentication = 51;
  Bytes authentication = Writer().u8(4).u16(0).u32(7).u32(1).u32(2).u32(3).u32(4);
  authentication.resize(23);
  const std::vector<Packet> packets{
      to_service(kSyn).extension(kHopByHop, options(0)),
      to_service().extension(kDestination, options(3)),
      udp_to_service().extension(kHopByHop, options(1)).extension(kRouting, options(2)),
      to_service().extension(kAuthentication, authentication),
      udp_to_service()
          .extension(kHopByHop, options(0))
          .extension(kDestination, options(0))
          .extension(kRouting, options(0))
          .extension(kDestination, options(4)),
  };
  for (const Packet& packet : packets) {
    const Outcome outcome = plane_.receive(packet);
    EXPECT_EQ(outcome.action, GetParam() == SLUICE_FORWARD_LOCAL ? XDP_PASS : XDP_REDIRECT);
    EXPECT_TRUE(same_frame(outcome.frame, forwarded(packet).frame()));
  }
  EXPECT_EQ(plane_.flows().size(), 2U);
}

// RFC 8200, section 4.5: the next header that a later fragment names need not be the first's, and is not looked at.
TEST_P(ExtensionTest, FragmentsWithHeadersBehindTheFragmentHeaderFollowTheFirst) {
  const Packet packet = udp_to_service().extension(60, options(0)).payload_size(2400);
  for (const auto& [next, first] : std::vector<std::pair<uint8_t, size_t>>{{60, 0}, {60, 1000}, {kUdp, 2000}}) {
    SCOPED_TRACE(first);
    const Outcome outcome = plane_.receive(part(packet, next, first));
    EXPECT_EQ(outcome.action, GetParam() == SLUICE_FORWARD_LOCAL ? XDP_PASS : XDP_REDIRECT);
    EXPECT_TRUE(same_frame(outcome.frame, part(forwarded(packet), next, first)));
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FRAGMENT), 0U);
}

TEST_P(ExtensionTest, MoreThanSixAreTooMany) {
  Packet packet = to_service(kSyn);
  for (int i = 0; i < 7; i++) packet.extension(60, options(0));
  plane_.receive(packet);
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(ExtensionTest, TruncatedOnesDoNoHarm) {
  const Frame whole = to_service(kSyn).extension(0, options(1)).extension(60, options(1)).frame();
  for (size_t size = 54; size < whole.size(); size++)
    plane_.receive(Frame(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)));
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(ExtensionTest, AnAtomicFragmentIsAWholePacket) {
  // RFC 8200, section 4.5: offset 0, none follow.
  const Packet packet = to_service(kSyn).extension(44, Writer().u8(0).u16(0).u32(5));
  EXPECT_TRUE(same_frame(plane_.receive(packet).frame, forwarded(packet).frame()));
}

}  // namespace
}  // namespace sluice::packets
