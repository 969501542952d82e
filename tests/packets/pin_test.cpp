// Flows to backends without Sluice stay where they are when their slot moves: a record pins them, there and only there.
#include <linux/bpf.h>

#include "tests/packets/icmp.h"
#include "tests/packets/whole.h"

namespace sluice::packets {
namespace {

class Pin : public WholeTest {
 protected:
  [[nodiscard]] Packet error_about_reply() const {
    const Bytes quoted = Packet::tcp(service_end_, client_).ip_packet();
    return Packet::icmp(address("198.18.77.1"), service_end_.address, ipv6() ? 2 : 3, ipv6() ? 0 : 4,
                        Writer().u32(1300).bytes(quoted))
        .macs(kRouterMac, kLanMac);
  }
};
INSTANTIATE_TEST_SUITE_P(Forwarding, Pin, kWholes, whole_name);

TEST_P(Pin, IsNotNeededWhereTheSlotHasNotMoved) {
  plane_.set_planes(tcp_, {std::vector<uint16_t>(8, 0), std::vector<uint16_t>(8, SLUICE_NO_BACKEND)});
  EXPECT_EQ(goes_to(to_service(kSyn)), 0);
  EXPECT_EQ(goes_to(to_service()), 0);
  const Frame part = to_service().fragment(0).payload_size(500).part(0, 200);
  EXPECT_EQ(plane_.receive(part).action, XDP_TX) << "nor where the common case does not do";
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(Pin, HoldsANewFlowOfASlotThatHasMovedAtTheNewest) {
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
  EXPECT_EQ(goes_to(to_service()), 1);
  const Flow flow = only_flow();
  EXPECT_EQ(flow.kind, SLUICE_FLOW_PIN);
  EXPECT_EQ(flow.client, reals_[1]) << "whom it is pinned to";
  EXPECT_EQ(plane_.backend_counters(tcp_.first_backend + 1).flows, 1U);
  planes({0, 1});
  EXPECT_EQ(goes_to(to_service()), 1);
}

TEST_P(Pin, HoldsAFlowThatBeganBeforeTheSlotMoved) {
  EXPECT_EQ(goes_to(to_service(kSyn)), 0);
  planes({1, 0});
  for (const int flags : {int{kAck}, kPsh | kAck, kFin | kAck, int{kAck}})
    EXPECT_EQ(goes_to(to_service(static_cast<uint8_t>(flags))), 0);
  EXPECT_EQ(only_flow().client, reals_[0]);
}

TEST_P(Pin, HoldsThroughFurtherMoves) {
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service()), 0);
  planes({2, 1, 0});
  EXPECT_EQ(goes_to(to_service()), 0);
  planes({0, 2, 1});
  EXPECT_EQ(goes_to(to_service()), 0);
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_P(Pin, OfAFlowFromInBetweenIsItsRecord) {
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
  planes({2, 1, 0});
  EXPECT_EQ(goes_to(to_service()), 1) << "not the oldest, nor the newest";
}

TEST_P(Pin, LeadsASynThatIsSentAgainToTheSame) {
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
  planes({0, 1});
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
  EXPECT_EQ(goes_to(to_service()), 1) << "and what answers the backend's answer, however often that is sent";
  EXPECT_EQ(goes_to(to_service()), 1);
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_P(Pin, OfAFlowThatIsOverEndsWithTheNextSyn) {
  for (const int end : {kFin | kAck, kRst | kAck}) {
    SCOPED_TRACE(end);
    plane_.forget_flows();
    planes({1, 0});
    EXPECT_EQ(goes_to(to_service()), 0);
    EXPECT_EQ(goes_to(to_service(static_cast<uint8_t>(end))), 0);
    EXPECT_TRUE(SLUICE_FLOW_CLOSED(only_flow().state)) << "the agent's sweep takes it soon";
    EXPECT_EQ(goes_to(to_service(kSyn)), 1);
    EXPECT_EQ(goes_to(to_service()), 1);
    EXPECT_EQ(only_flow().client, reals_[1]);
    EXPECT_EQ(only_flow().state, 0U) << "nothing of the former connection";
  }
}

TEST_P(Pin, OfAClosedFlowAtTheNewestBeginsAnewThere) {
  planes({1, 0});
  for (const int flags : {int{kSyn}, int{kAck}, kFin | kAck, int{kSyn}, int{kAck}})
    EXPECT_EQ(goes_to(to_service(static_cast<uint8_t>(flags))), 1);
  EXPECT_EQ(only_flow().state, 0U);
}

TEST_P(Pin, SurvivesAResetThatAnotherPacketFollows) {
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service()), 0);
  EXPECT_EQ(goes_to(to_service(kRst)), 0) << "with a sequence number that is guessed";
  EXPECT_EQ(goes_to(to_service()), 0);
  EXPECT_FALSE(SLUICE_FLOW_CLOSED(only_flow().state));
}

TEST_P(Pin, OfAClientThatWentWithoutAWordEndsWithItsTime) {
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service()), 0);
  plane_.age(only_flow(), SLUICE_IDLE_TCP_ESTABLISHED + 5);
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
  EXPECT_EQ(goes_to(to_service()), 1);
}

TEST_P(Pin, AtABackendThatHasLeftHoldsConnectionsButNoNewOnes) {
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service()), 0);
  set_real(0, SLUICE_BACKEND_LEFT);
  EXPECT_EQ(goes_to(to_service()), 0);
  EXPECT_EQ(goes_to(to_service(kSyn)), 1) << "it is not answered there for long";
  EXPECT_EQ(goes_to(to_service()), 1);
}

TEST_P(Pin, OfTheLastBackendThatHasLeftHoldsConnections) {
  EXPECT_EQ(goes_to(to_service()), 0);
  planes({SLUICE_NO_BACKEND, 0});
  set_real(0, SLUICE_BACKEND_LEFT);
  EXPECT_EQ(goes_to(to_service()), 0);
  EXPECT_EQ(goes_to(to_service(kFin | kAck)), 0);
  EXPECT_EQ(told(plane_.receive(to_service(kSyn)), to_service(kSyn)), kReset);
  EXPECT_EQ(told(plane_.receive(udp_to_service()), udp_to_service()), kPortUnreachable);
}

TEST_P(Pin, WhoseBackendIsForgottenMovesToTheNewestAndStaysThere) {
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service()), 0);
  planes({2, 1});
  EXPECT_EQ(goes_to(to_service()), 2);
  planes({0, 2, 1});
  EXPECT_EQ(goes_to(to_service()), 2);
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_P(Pin, OfDatagramsHoldsThemAtTheOldest) {
  planes({1, 0});
  EXPECT_EQ(goes_to(udp_to_service()), 0) << "they may have begun there";
  EXPECT_EQ(goes_to(udp_to_service()), 0);
}

TEST_P(Pin, OfDatagramsWhoseBackendIsGoneMovesAtOnceAndDoesNotMoveBack) {
  planes({1, 0});
  EXPECT_EQ(goes_to(udp_to_service()), 0);
  set_real(0, SLUICE_BACKEND_LEFT);
  EXPECT_EQ(goes_to(udp_to_service()), 1);
  EXPECT_EQ(goes_to(udp_to_service()), 1);
  EXPECT_EQ(only_flow().client, reals_[1]);
  set_real(0, 0);
  planes({0, 1});
  EXPECT_EQ(goes_to(udp_to_service()), 1);
}

TEST_P(Pin, IsBroughtUpToDateForTheAgent) {
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service()), 0);
  Flow flow = only_flow();
  EXPECT_EQ(flow.backend_index, tcp_.first_backend);
  flow.backend_index = 77;  // the service's records lay elsewhere
  flow.service_index = 55;
  plane_.put_flow(flow);
  EXPECT_EQ(goes_to(to_service()), 0);
  EXPECT_EQ(only_flow().backend_index, tcp_.first_backend);
  EXPECT_EQ(only_flow().service_index, tcp_.index);
}

TEST_P(Pin, LeadsErrorsToTheFlowsBackend) {
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
  planes({2, 1, 0});
  const Flow before = only_flow();
  EXPECT_EQ(goes_to(error_about_reply()), 1);
  EXPECT_EQ(only_flow().seen, before.seen);
  plane_.forget_flows();
  EXPECT_EQ(goes_to(error_about_reply()), 0) << "where a connection without record goes";
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(Pin, WithoutRoomAFlowIsSentOnAllTheSame) {
  plane_.shares(0).flows4 = plane_.shares(0).flows6 = 4096;
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
  EXPECT_EQ(goes_to(udp_to_service()), 0);
  EXPECT_TRUE(plane_.flows().empty());
}

}  // namespace
}  // namespace sluice::packets
