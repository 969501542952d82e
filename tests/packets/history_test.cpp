// Flows stay where they are when the table changes: earlier candidates of a slot, asked newest first.
#include <linux/bpf.h>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr uint32_t kSlots = 8;

class HistoryTest : public DataplaneTest, public ::testing::WithParamInterface<Variant> {
 protected:
  HistoryTest() : DataplaneTest(GetParam().family) {
    std::vector<Backend> backends;
    for (uint8_t i = 0; i < SLUICE_MAX_PLANES; i++) {
      Backend backend = local() ? local_backend(local_end_) : nat_backend();
      backend.end.address = backend.end.address + i;
      ends_.push_back(backend.end);
      backends.push_back(backend);
    }
    tcp_ = plane_.add_service(service_end_, kTcp, backends);
    udp_ = plane_.add_service(service_end_, kUdp, backends);
  }
  [[nodiscard]] static bool local() { return GetParam().forwarding == SLUICE_FORWARD_LOCAL; }
  // All slots alike: planes({2, 0}) is a table of backend 2 that was one of backend 0 before.
  void planes(const std::vector<uint16_t>& candidates) {
    std::vector<std::vector<uint16_t>> all;
    all.reserve(candidates.size());
    for (const uint16_t candidate : candidates) all.emplace_back(kSlots, candidate);
    plane_.set_planes(tcp_, all);
    plane_.set_planes(udp_, all);
  }
  // The backend (0..7) that a packet goes to; -1: dropped.
  int goes_to(const Packet& packet) {
    const Outcome outcome = plane_.receive(packet);
    // A packet that is refused comes back.
    if (outcome.action == XDP_DROP || outcome.destination() == packet.source()) return -1;
    return static_cast<int>(outcome.destination().address.last() - ends_[0].address.last());
  }
  [[nodiscard]] uint64_t from_history() const { return plane_.counted(SLUICE_REASON_FROM_HISTORY); }
  void set_state(uint32_t state) {
    Flow flow = only_flow();
    flow.state = state;
    plane_.put_flow(flow);
  }
  void answer(uint8_t flags) {
    const Flow flow = only_flow();
    Packet packet = Packet::tcp(flow.backend, flow.source, flags);
    if (local())
      plane_.send(packet.macs(kLanMac, kRouterMac));
    else
      plane_.receive(packet.macs(kBackendMac, kLanMac));
  }
  std::vector<Endpoint> ends_;
  Service tcp_, udp_;
};

constexpr uint32_t kNew = 0, kReplied = SLUICE_FLOW_REPLIED;

INSTANTIATE_TEST_SUITE_P(Forwarding, HistoryTest, kVariants, variant_name);

TEST_P(HistoryTest, AFlowStaysAtItsBackendThroughSevenChanges) {
  planes({0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 0);
  EXPECT_EQ(goes_to(udp_to_service()), 0);
  uint64_t noted = 0;
  std::vector<uint16_t> table{0};
  for (uint16_t change = 1; change < SLUICE_MAX_PLANES; change++) {
    table.insert(table.begin(), change);
    planes(table);
    EXPECT_EQ(goes_to(to_service()), 0);
    EXPECT_EQ(goes_to(udp_to_service()), 0);
    noted += 2;
    EXPECT_EQ(from_history(), noted);
  }
  EXPECT_EQ(plane_.flows().size(), 2U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TAKEN_UP), 0U);
}

TEST_P(HistoryTest, OnlyAsManyPlanesAreAskedAsTheTableHas) {
  planes({0});
  goes_to(to_service(kSyn));
  planes({3, 2, 1});  // backend 0 is forgotten
  EXPECT_EQ(goes_to(to_service()), 3);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TAKEN_UP), 1U);
  EXPECT_EQ(from_history(), 0U);
}

TEST_P(HistoryTest, NewFlowsGoToTheNewestCandidate) {
  planes({3, 2, 1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 3);
  EXPECT_EQ(goes_to(udp_to_service()), 3);
  EXPECT_EQ(goes_to(to_service(kAck).from(at("198.51.100.9", 5))), 3);  // also what is taken up
  EXPECT_EQ(from_history(), 0U);
}

// A client that gave up without a word has its port again for a new connection. Whether the old one lives on is for its
// backend to say: one that answers refuses the SYN itself.
TEST_P(HistoryTest, ASynStaysWithARecordWhoseBackendAnswers) {
  planes({0});
  goes_to(to_service(kSyn));
  set_state(kReplied | SLUICE_FLOW_CLIENT_FIN);
  planes({1, 0});
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(goes_to(to_service(kSyn)), 0);
    EXPECT_EQ(only_flow().state & SLUICE_FLOW_SYN_UNANSWERED, SLUICE_FLOW_SYN_UNANSWERED);
    answer(kAck);
    EXPECT_EQ(only_flow().state, kReplied | SLUICE_FLOW_CLIENT_FIN);
    plane_.age(only_flow(), 1);
  }
}

TEST_P(HistoryTest, ASecondSynLeavesABackendThatDidNotAnswerTheFirst) {
  planes({0});
  goes_to(to_service(kSyn));
  set_state(kReplied);
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 0);
  EXPECT_EQ(goes_to(to_service(kSyn)), 0) << "at once: the answer may be under way";
  plane_.age(only_flow(), 1);
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
  EXPECT_EQ(only_flow().state, kNew) << "the old record is gone: it must not be found again";
  planes({0, 1});
  EXPECT_EQ(goes_to(to_service(kAck)), 1);
}

TEST_P(HistoryTest, ASynLeavesABackendThatHasNeverAnswered) {
  planes({0});
  goes_to(to_service(kSyn));
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_P(HistoryTest, WithoutACandidateNowASynThatWasNeverAnsweredIsDropped) {
  planes({0});
  goes_to(to_service(kSyn));
  planes({SLUICE_NO_BACKEND, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), -1);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_NO_BACKEND), 1U);
}

TEST_P(HistoryTest, ASynWhoseRecordIsClosedBeginsAnewAtTheNewest) {
  planes({0});
  goes_to(to_service(kSyn));
  set_state(SLUICE_FLOW_RESET);
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
  EXPECT_EQ(goes_to(to_service(kAck)), 1);
  EXPECT_EQ(plane_.backend_counters(tcp_.first_backend + 1).flows, 1U);
}

TEST_P(HistoryTest, ASynWhoseRecordIsIdleForTooLongBeginsAnewAtTheNewest) {
  planes({0});
  goes_to(to_service(kSyn));
  plane_.age(only_flow(), SLUICE_IDLE_TCP_NEW + 1);
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
}

TEST_P(HistoryTest, OtherPacketsOfAClosedRecordGoWhereItIs) {
  planes({0});
  goes_to(to_service(kSyn));
  set_state(kReplied | SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN);
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kAck)), 0);
}

TEST_P(HistoryTest, TheNewestRecordWins) {
  planes({0});
  goes_to(to_service(kSyn));
  planes({1});
  goes_to(to_service(kAck));  // taken up at backend 1: two records now
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kAck)), 1);
  planes({0, 1});
  EXPECT_EQ(goes_to(to_service(kAck)), 0);
  EXPECT_EQ(from_history(), 0U);
}

TEST_P(HistoryTest, WithoutACandidateNowEarlierOnesStillServeTheirFlows) {
  planes({0});
  goes_to(to_service(kSyn));
  planes({SLUICE_NO_BACKEND, 0});
  EXPECT_EQ(goes_to(to_service()), 0);
  EXPECT_EQ(goes_to(to_service(kSyn).from(at("198.51.100.9", 5))), -1);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_NO_BACKEND), 1U);
}

TEST_P(HistoryTest, AGapAmongEarlierCandidatesIsSkipped) {
  planes({0});
  goes_to(to_service(kSyn));
  planes({2, SLUICE_NO_BACKEND, 0});
  EXPECT_EQ(goes_to(to_service()), 0);
}

TEST_P(HistoryTest, ABackendThatReturnsFindsItsFlowsAgain) {
  planes({0});
  goes_to(to_service(kSyn));
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service()), 0);
  planes({0, 1});
  EXPECT_EQ(goes_to(to_service()), 0);
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_P(HistoryTest, AFlowWithAChangedPortIsFoundAtAnEarlierCandidate) {
  planes({0});
  // Another flow has the tuple that this one would prefer.
  Flow other{.backend = ends_[0], .source = local() ? client_ : nat_source(to_service())};
  other.kind = local() ? SLUICE_FLOW_LOCAL : SLUICE_FLOW_NAT;
  other.client = at("198.51.100.200", 7);
  other.state = kReplied;
  other.seen = plane_.jiffies();
  plane_.put_flow(other);
  EXPECT_EQ(goes_to(to_service(kSyn)), 0);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_PORT_CHANGED), 1U);
  planes({3, 2, 1, 0});
  EXPECT_EQ(goes_to(to_service()), 0);
  EXPECT_EQ(plane_.flows().size(), 2U);
}

TEST_P(HistoryTest, EachSlotHasItsOwnHistory) {
  // Slot s: backend 1 now; before, backend 0 where s is even.
  std::vector<uint16_t> now(kSlots, 1), before(kSlots, 1);
  for (size_t s = 0; s < kSlots; s += 2) before[s] = 0;
  plane_.set_planes(tcp_, {before});
  std::vector<Packet> packets;
  for (uint16_t port = 2000; port < 2064; port++) packets.push_back(to_service(kSyn).from(at("198.51.100.7", port)));
  for (const Packet& packet : packets) ASSERT_EQ(goes_to(packet), Dataplane::slot(packet, kSlots) % 2 == 0 ? 0 : 1);
  plane_.set_planes(tcp_, {now, before});
  for (Packet packet : packets)
    ASSERT_EQ(goes_to(packet.flags(kAck)), Dataplane::slot(packet, kSlots) % 2 == 0 ? 0 : 1);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TAKEN_UP), 0U);
}

TEST_P(HistoryTest, AFlowStaysWhenTheTableGrows) {
  std::vector<uint16_t> small(8), large(32), as_before(32);
  for (size_t s = 0; s < 32; s++) {
    if (s < 8) small[s] = static_cast<uint16_t>(s % 2);
    as_before[s] = static_cast<uint16_t>(s % 8 % 2);  // the same hash under the smaller mask
    large[s] = static_cast<uint16_t>(2 + s % 2);
  }
  plane_.set_planes(tcp_, {small});
  const int first = goes_to(to_service(kSyn));
  plane_.set_planes(tcp_, {large, as_before});
  EXPECT_EQ(goes_to(to_service()), first);
}

}  // namespace
}  // namespace sluice::packets
