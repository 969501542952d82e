// Where records lie: half-open ones apart from established ones, each service with its share of both.
#include <linux/bpf.h>

#include "tests/packets/tunnel.h"

namespace sluice::packets {
namespace {

class RoomTestOf : public DataplaneTest {
 protected:
  RoomTestOf(const Variant& variant, uint32_t entries)
      : DataplaneTest(variant.family, {.flow_entries = entries}), local_(variant.forwarding == SLUICE_FORWARD_LOCAL) {
    for (uint32_t i = 0; i < 2; i++) {
      const Endpoint end{service_end_.address + i, 80};
      services_.push_back(plane_.add_service(end, kTcp, {local_ ? local_backend(local_end_) : nat_backend()}));
      udp_services_.push_back(plane_.add_service(end, kUdp, {local_ ? local_backend(local_end_) : nat_backend()}));
    }
    plane_.settings().nat_port_first = 1024;
    plane_.settings().nat_port_last = 65535;
  }
  // The n-th client's segment to one of the services.
  [[nodiscard]] Packet nth(uint32_t n, uint8_t flags = kSyn, size_t service = 0) const {
    const Endpoint client{address("198.51.100.1") + n / 60000, static_cast<uint16_t>(1024 + n % 60000)};
    return to_service(flags).from(client).to(services_[service].end);
  }
  // Whether it was forwarded.
  bool client(const Packet& packet) {
    const Outcome outcome = plane_.receive(packet);
    if (outcome.action == XDP_DROP) return false;
    last_ = outcome;
    return true;
  }
  // The backend's answer to what was forwarded last.
  void backend(uint8_t flags, uint32_t sequence = kSequence) {
    Packet answer = Packet::tcp(last_.destination(), last_.source(), flags).sequence(sequence);
    if (local_)
      plane_.send(answer.macs(kLanMac, kRouterMac));
    else
      plane_.receive(answer.macs(kBackendMac, kLanMac));
  }
  // A connection, established.
  void connect(uint32_t n, size_t service = 0) {
    ASSERT_TRUE(client(nth(n, kSyn, service)));
    backend(kSyn | kAck);
    ASSERT_TRUE(client(nth(n, kAck, service)));
  }
  [[nodiscard]] std::pair<size_t, size_t> counts() const {  // established, half open
    std::pair<size_t, size_t> found{};
    for (const Flow& flow : plane_.flows()) (flow.half_open ? found.second : found.first)++;
    return found;
  }
  [[nodiscard]] uint32_t share(const Service* service, bool half_open) {
    const sluice_shares& share = plane_.shares(service == nullptr ? 0 : service->index + 1);
    return ipv6() ? (half_open ? share.half_open6 : share.flows6) : (half_open ? share.half_open4 : share.flows4);
  }
  const bool local_;
  std::vector<Service> services_, udp_services_;
  Outcome last_;
};

class Promotion : public RoomTestOf, public ::testing::WithParamInterface<Variant> {
 protected:
  Promotion() : RoomTestOf(GetParam(), 4096) {}
};
INSTANTIATE_TEST_SUITE_P(Forwarding, Promotion, kVariants, variant_name);

TEST_P(Promotion, AConnectionIsHalfOpenUntilTheAcknowledgementThatFits) {
  ASSERT_TRUE(client(nth(1)));
  EXPECT_TRUE(only_flow().half_open);
  backend(kSyn | kAck, 5000);
  EXPECT_TRUE(only_flow().half_open);
  EXPECT_EQ(only_flow().acknowledgement, 5001U);
  for (const uint32_t wrong : {5000U, 0U, 5001U + 0x10000, 0x80000000U}) {
    EXPECT_TRUE(client(nth(1, kAck).acknowledges(wrong)));
    EXPECT_TRUE(only_flow().half_open) << wrong << ": whoever only guesses has not seen the answer";
  }
  EXPECT_TRUE(client(nth(1, kAck).acknowledges(5001)));
  EXPECT_FALSE(only_flow().half_open);
  EXPECT_EQ(only_flow().state, SLUICE_FLOW_REPLIED);
  EXPECT_EQ(plane_.service_counters(services_[0]).flows, 1U);
  EXPECT_TRUE(client(nth(1, kAck | kPsh).acknowledges(5001)));
  backend(kAck, 5001);
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_P(Promotion, OneThatAcknowledgesMoreThanTheFirstIsAsGood) {
  client(nth(1));
  backend(kSyn | kAck, 0xfffffff0);
  EXPECT_TRUE(client(nth(1, kAck | kPsh).acknowledges(0x2000)));  // beyond the wrap
  EXPECT_FALSE(only_flow().half_open);
}

TEST_P(Promotion, WithoutAnAnswerNothingPromotes) {
  client(nth(1));
  for (const int flags : {int{kAck}, int{kSyn}, kAck | kPsh, kFin | kAck}) client(nth(1, static_cast<uint8_t>(flags)));
  EXPECT_TRUE(only_flow().half_open);
}

TEST_P(Promotion, ARefusedConnectionIsNotPromoted) {
  client(nth(1));
  backend(kRst | kAck);
  client(nth(1, kAck));
  EXPECT_TRUE(only_flow().half_open);
}

TEST_P(Promotion, ADatagramAfterAnAnswerPromotes) {
  const Packet packet = udp_to_service();
  client(packet);
  EXPECT_TRUE(only_flow().half_open);
  client(packet);
  EXPECT_TRUE(only_flow().half_open);
  Packet answer = Packet::udp(last_.destination(), last_.source());
  if (local_)
    plane_.send(answer.macs(kLanMac, kRouterMac));
  else
    plane_.receive(answer.macs(kBackendMac, kLanMac));
  EXPECT_TRUE(only_flow().half_open);
  client(packet);
  EXPECT_FALSE(only_flow().half_open);
}

TEST_P(Promotion, AConnectionTakenUpIsHalfOpenUntilItsBackendSpeaks) {
  client(nth(1, kAck).acknowledges(777));
  EXPECT_TRUE(only_flow().half_open);
  backend(kAck, 777);
  client(nth(1, kAck).acknowledges(777));
  EXPECT_FALSE(only_flow().half_open);
  EXPECT_EQ(only_flow().state, SLUICE_FLOW_REPLIED | SLUICE_FLOW_ADOPTED);
}

TEST_P(Promotion, SharesCountRecordsWhereTheyAre) {
  for (uint32_t n = 0; n < 5; n++) connect(n);
  for (uint32_t n = 5; n < 12; n++) client(nth(n));
  client(nth(12, kSyn, 1));
  EXPECT_EQ(share(nullptr, false), 5U);
  EXPECT_EQ(share(nullptr, true), 8U);
  EXPECT_EQ(share(&services_[0], false), 5U);
  EXPECT_EQ(share(&services_[0], true), 7U);
  EXPECT_EQ(share(&services_[1], true), 1U);
}

class Flood : public RoomTestOf, public ::testing::WithParamInterface<Variant> {
 protected:
  static constexpr uint32_t kEntries = 1024;
  Flood() : RoomTestOf(GetParam(), kEntries) {}
};
INSTANTIATE_TEST_SUITE_P(Forwarding, Flood, kVariants, variant_name);

TEST_P(Flood, OfHalfOpenFlowsTouchesNoEstablishedOne) {
  for (uint32_t n = 0; n < 200; n++) connect(n);
  for (uint32_t n = 1000; n < 11000; n++) client(nth(n));
  const auto [established, half_open] = counts();
  EXPECT_EQ(established, 200U);
  EXPECT_LE(half_open, kEntries * 3 / 4);
  EXPECT_GT(plane_.counted(SLUICE_REASON_HALF_OPEN_EVICTED), 8000U);
  for (uint32_t n = 0; n < 200; n++) ASSERT_TRUE(client(nth(n, kAck)));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TAKEN_UP), 0U);
  EXPECT_EQ(share(nullptr, true), half_open);
  EXPECT_EQ(share(nullptr, false), 200U);
}

TEST_P(Flood, OfOneServiceLeavesRoomForAnother) {
  for (uint32_t n = 0; n < 5000; n++) client(nth(n));
  const uint32_t flooded = share(&services_[0], true);
  EXPECT_LE(flooded, kEntries / 2U) << "no more than twice what is left";
  int begun = 0;
  for (uint32_t n = 0; n < 100; n++) {
    if (!client(nth(n, kSyn, 1))) continue;
    backend(kSyn | kAck);
    begun += client(nth(n, kAck, 1)) ? 1 : 0;
  }
  EXPECT_EQ(begun, 100);
  EXPECT_EQ(share(&services_[1], false), 100U);
}

TEST_P(Flood, MakesRoomAmongItsOwn) {
  for (uint32_t n = 0; n < 20; n++) client(nth(n, kSyn, 1));
  int refused = 0;
  for (uint32_t n = 0; n < 5000; n++) refused += client(nth(n)) ? 0 : 1;
  EXPECT_LT(refused, 50) << "where it has none of its own in a window";
  EXPECT_EQ(plane_.counted(services_[0], SLUICE_REASON_FLOW_TABLE_FULL), static_cast<uint64_t>(refused));
  EXPECT_GE(share(&services_[1], true), 15U) << "a window that is full makes room at anybody's cost";
}

TEST_P(Flood, TheEstablishedAreNeverEvictedAndAFullTableIsACountedRefusal) {
  uint32_t made = 0;
  for (uint32_t n = 0; n < kEntries; n++) {
    if (!client(nth(n))) break;
    backend(kSyn | kAck);
    client(nth(n, kAck));
    made++;
  }
  const auto [established, half_open] = counts();
  EXPECT_EQ(share(&services_[0], false), established);
  EXPECT_LE(established, kEntries / 2U) << "its share: twice what is left of three quarters";
  EXPECT_GE(established, kEntries / 2U - 80);
  EXPECT_FALSE(client(nth(50000)));
  EXPECT_GE(plane_.counted(services_[0], SLUICE_REASON_FLOW_TABLE_FULL), 1U);
  for (uint32_t n = 0; n < made; n++) ASSERT_TRUE(client(nth(n, kAck))) << n;
  EXPECT_EQ(counts().first, established);
  // There is room for the other.
  connect(1, 1);
}

TEST_P(Flood, WhatFindsNoPlaceAmongTheEstablishedStaysHalfOpenAndIsCounted) {
  // Windows fill up before the table does.
  for (uint32_t n = 0; n < kEntries / 2; n++) {
    if (!client(nth(n))) break;
    backend(kSyn | kAck);
    client(nth(n, kAck));
  }
  const auto [established, half_open] = counts();
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NOT_ESTABLISHED) > 0, half_open > 0);
}

}  // namespace
}  // namespace sluice::packets
