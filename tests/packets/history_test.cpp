// Flows stay where they are when the table changes: earlier candidates of a slot, asked newest first.
#include <arpa/inet.h>
#include <linux/bpf.h>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr uint32_t kSlots = 8;

class HistoryTest : public DataplaneTest, public ::testing::WithParamInterface<uint8_t> {
 protected:
  HistoryTest() {
    std::vector<Backend> backends;
    for (uint8_t i = 0; i < SLUICE_MAX_PLANES; i++) {
      Backend backend = GetParam() == SLUICE_FORWARD_LOCAL ? local_backend(local_end_) : nat_backend();
      backend.end.address += i;
      ends_.push_back(backend.end);
      backends.push_back(backend);
    }
    tcp_ = plane_.add_service(service_end_, kTcp, backends);
    udp_ = plane_.add_service(service_end_, kUdp, backends);
  }
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
    if (outcome.action == XDP_DROP) return -1;
    const Frame& f = outcome.frame;
    return static_cast<int>(static_cast<uint32_t>(f[30] << 24 | f[31] << 16 | f[32] << 8 | f[33]) - ends_[0].address);
  }
  [[nodiscard]] uint64_t from_history() const { return plane_.counted(SLUICE_REASON_FROM_HISTORY); }
  void set_state(uint8_t state) {
    auto [key, record] = only_flow();
    record.state = state;
    plane_.put_flow(key, record);
  }
  void answer(uint8_t flags) {
    const sluice_flow_key key = only_flow().first;
    Packet packet = Packet::tcp({}, {}, flags);
    packet.from({.address = ntohl(key.backend), .port = ntohs(key.backend_port)})
        .to({.address = ntohl(key.source), .port = ntohs(key.source_port)});
    if (GetParam() == SLUICE_FORWARD_LOCAL)
      plane_.send(packet.macs(kLanMac, kRouterMac));
    else
      plane_.receive(packet.macs(kBackendMac, kLanMac));
  }
  std::vector<Endpoint> ends_;
  Service tcp_, udp_;
};

INSTANTIATE_TEST_SUITE_P(Forwarding, HistoryTest, ::testing::Values(SLUICE_FORWARD_LOCAL, SLUICE_FORWARD_NAT),
                         [](const auto& test) { return test.param == SLUICE_FORWARD_LOCAL ? "Local" : "Nat"; });

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
  set_state(SLUICE_FLOW_ESTABLISHED | SLUICE_FLOW_CLIENT_FIN);
  planes({1, 0});
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(goes_to(to_service(kSyn)), 0);
    EXPECT_EQ(only_flow().second.state & SLUICE_FLOW_SYN_UNANSWERED, SLUICE_FLOW_SYN_UNANSWERED);
    answer(kAck);
    EXPECT_EQ(only_flow().second.state, SLUICE_FLOW_ESTABLISHED | SLUICE_FLOW_CLIENT_FIN);
    plane_.age(only_flow().first, 1);
  }
}

TEST_P(HistoryTest, ASecondSynLeavesABackendThatDidNotAnswerTheFirst) {
  planes({0});
  goes_to(to_service(kSyn));
  set_state(SLUICE_FLOW_ESTABLISHED);
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 0);
  EXPECT_EQ(goes_to(to_service(kSyn)), 0) << "at once: the answer may be under way";
  plane_.age(only_flow().first, 1);
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
  EXPECT_EQ(only_flow().second.state, SLUICE_FLOW_NEW) << "the old record is gone: it must not be found again";
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
  plane_.age(only_flow().first, SLUICE_IDLE_TCP_NEW + 1);
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn)), 1);
}

TEST_P(HistoryTest, OtherPacketsOfAClosedRecordGoWhereItIs) {
  planes({0});
  goes_to(to_service(kSyn));
  set_state(SLUICE_FLOW_ESTABLISHED | SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN);
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
  const bool local = GetParam() == SLUICE_FORWARD_LOCAL;
  const uint64_t hash = Dataplane::hash(to_service());
  const Endpoint preferred =
      local ? client_ : Endpoint{.address = ip("10.9.0.1"), .port = sluice_source_port(hash, 0, kNatFirst, 10000)};
  sluice_flow other{};
  other.last_seen = monotonic_now();
  other.state = SLUICE_FLOW_ESTABLISHED;
  plane_.put_flow(flow_key(ends_[0], preferred, kTcp), other);
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
