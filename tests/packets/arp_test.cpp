#include <linux/bpf.h>

#include <functional>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr Mac kAsker{0x02, 0x5c, 0, 0, 0, 0x70};
const uint32_t kOwned = ip("203.0.113.10"), kAskerAddress = ip("192.0.2.70");

Arp request() {
  return {.source_mac = kAsker,
          .destination_mac = kBroadcast,
          .sender_mac = kAsker,
          .sender = kAskerAddress,
          .target_mac = {},
          .target = kOwned};
}

Arp with(Arp arp, const std::function<void(Arp&)>& change) {
  change(arp);
  return arp;
}

class ArpTest : public DataplaneTest {
 protected:
  ArpTest() { plane_.own(kOwned, interfaces().lan, 5); }
};

struct Case {
  const char* name;
  Arp arp;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}
std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return info.param.name;
}

class Answered : public ArpTest, public ::testing::WithParamInterface<Case> {};

TEST_P(Answered, WithOurMacToTheAsker) {
  const Arp& arp = GetParam().arp;
  const Outcome outcome = plane_.receive(arp.frame());
  EXPECT_EQ(outcome.action, XDP_TX);
  const Arp reply{.source_mac = kLanMac,
                  .destination_mac = arp.sender_mac,
                  .operation = 2,
                  .sender_mac = kLanMac,
                  .sender = arp.target,
                  .target_mac = arp.sender_mac,
                  .target = arp.sender,
                  .padding = arp.padding};
  EXPECT_TRUE(same_frame(outcome.frame, reply.frame()));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NEIGHBOUR_REPLY), 1U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NOT_FOR_US), 0U);
}

INSTANTIATE_TEST_SUITE_P(
    Requests, Answered,
    ::testing::Values(Case{"Broadcast", request()},
                      Case{"UnicastProbeOfANeighbour", with(request(), [](Arp& a) { a.destination_mac = kLanMac; })},
                      Case{"ProbeBeforeTakingTheAddress", with(request(), [](Arp& a) { a.sender = 0; })},
                      Case{"TargetMacFilledIn", with(request(), [](Arp& a) { a.target_mac = kOtherMac; })},
                      Case{"SenderBehindABridgeThatChangesTheFramesSource",
                           with(request(), [](Arp& a) { a.source_mac = kRouterMac; })},
                      Case{"NoPadding", with(request(), [](Arp& a) { a.padding = 0; })}),
    name_of);

class NotAnswered : public ArpTest, public ::testing::WithParamInterface<Case> {};

TEST_P(NotAnswered, PassesUntouched) {
  EXPECT_EQ(plane_.receive(GetParam().arp.frame()).action, XDP_PASS);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NOT_FOR_US), 1U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NEIGHBOUR_REPLY), 0U);
}

INSTANTIATE_TEST_SUITE_P(
    Packets, NotAnswered,
    ::testing::Values(Case{"AnotherAddress", with(request(), [](Arp& a) { a.target++; })},
                      Case{"ToAnotherMac", with(request(), [](Arp& a) { a.destination_mac = kOtherMac; })},
                      Case{"AReply", with(request(), [](Arp& a) { a.operation = 2; })},
                      Case{"AnUnknownOperation", with(request(), [](Arp& a) { a.operation = 3; })},
                      Case{"Announcement", with(request(), [](Arp& a) { a.sender = a.target; })},
                      Case{"AnnouncementAsReply", with(request(),
                                                       [](Arp& a) {
                                                         a.sender = a.target;
                                                         a.operation = 2;
                                                       })},
                      Case{"OtherHardware", with(request(), [](Arp& a) { a.hardware = 6; })},
                      Case{"OtherProtocol", with(request(), [](Arp& a) { a.protocol = 0x0806; })},
                      Case{"HardwareLength", with(request(), [](Arp& a) { a.hardware_length = 8; })},
                      Case{"ProtocolLength", with(request(), [](Arp& a) { a.protocol_length = 16; })},
                      Case{"SenderMacOfAGroup", with(request(), [](Arp& a) { a.sender_mac = kBroadcast; })},
                      Case{"SenderMacZero", with(request(), [](Arp& a) { a.sender_mac = {}; })}),
    name_of);

TEST_F(ArpTest, ATruncatedRequestPassesUntouched) {
  const Frame whole = with(request(), [](Arp& a) { a.padding = 0; }).frame();
  for (size_t size = 14; size < whole.size(); size++)
    EXPECT_EQ(plane_.receive(Frame(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size))).action, XDP_PASS)
        << size;
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NEIGHBOUR_REPLY), 0U);
}

TEST_F(ArpTest, PastItsDeadlineAnAddressIsNotAnsweredAndRenewedItIs) {
  plane_.own(kOwned, interfaces().lan, -1);
  EXPECT_EQ(plane_.receive(request().frame()).action, XDP_PASS);
  plane_.own(kOwned, interfaces().lan, 1);
  EXPECT_EQ(plane_.receive(request().frame()).action, XDP_TX);
}

TEST_F(ArpTest, TheDeadlineIsInTheTimeOfClockMonotonic) {
  // The agent writes CLOCK_MONOTONIC; the program's coarse clock is at most a tick (10 ms at 100 Hz) behind it.
  const auto ms_from_now = [](int64_t ms) { return monotonic_now() + static_cast<uint64_t>(ms * 1'000'000); };
  plane_.own_until(kOwned, interfaces().lan, ms_from_now(-20));
  EXPECT_EQ(plane_.receive(request().frame()).action, XDP_PASS);
  plane_.own_until(kOwned, interfaces().lan, ms_from_now(500));
  EXPECT_EQ(plane_.receive(request().frame()).action, XDP_TX);
}

TEST_F(ArpTest, AnAddressOwnedOnAnotherInterfaceIsNotAnsweredHere) {
  plane_.own(ip("203.0.113.20"), interfaces().core, 5);
  EXPECT_EQ(plane_.receive(with(request(), [](Arp& a) { a.target = ip("203.0.113.20"); }).frame()).action, XDP_PASS);
}

TEST_F(ArpTest, AServiceIsNotAnsweredForUnlessOwned) {
  plane_.add_service(at("203.0.113.30", 80), kTcp, {local_backend(local_end_)});
  EXPECT_EQ(plane_.receive(with(request(), [](Arp& a) { a.target = ip("203.0.113.30"); }).frame()).action, XDP_PASS);
}

}  // namespace
}  // namespace sluice::packets
