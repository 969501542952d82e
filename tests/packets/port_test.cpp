// Source ports: which ones a flow tries, and what happens when others have them.
#include <linux/bpf.h>

#include <random>
#include <set>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

TEST(SourcePort, LiesInTheRangeAndDoesNotComeTwice) {
  std::mt19937_64 random(1);
  for (const uint32_t count : {1U, 2U, 15U, 16U, 17U, 100U, 10000U, 44512U, 64512U, 65535U})
    for (int round = 0; round < 2000; round++) {
      const uint64_t hash = random();
      const auto first = static_cast<uint16_t>(65536 - count);
      std::set<uint16_t> seen;
      for (uint32_t i = 0; i < SLUICE_PORT_TRIES_NAT; i++) {
        const uint16_t port = sluice_source_port(hash, i, first, count);
        ASSERT_GE(port, first);
        seen.insert(port);
      }
      ASSERT_EQ(seen.size(), std::min<size_t>(count, SLUICE_PORT_TRIES_NAT)) << count;
    }
}

TEST(SourcePort, SpreadsEvenlyOverTheRange) {
  std::mt19937_64 random(2);
  std::array<int, 8> parts{};
  for (int i = 0; i < 80000; i++) parts[(sluice_source_port(random(), 0, 20000, 8000) - 20000) / 1000]++;
  for (const int part : parts) EXPECT_NEAR(part, 10000, 500);
}

TEST(SourcePort, OfLocalDeliveryIsTheClientsFirstAndNeverWellKnownAfter) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 20000; round++) {
    const uint64_t hash = random();
    EXPECT_EQ(sluice_local_port(hash, 0, 53), 53);
    for (uint32_t i = 1; i < SLUICE_PORT_TRIES_LOCAL; i++) ASSERT_GE(sluice_local_port(hash, i, 53), 1024);
  }
}

constexpr uint32_t kNew = 0, kReplied = SLUICE_FLOW_REPLIED;

class PortTestOf : public DataplaneTest {
 protected:
  explicit PortTestOf(Family family, const Options& options = {}) : DataplaneTest(family, options) {
    nat_ = plane_.add_service(service_end_, kTcp, {nat_backend()});
    nat_udp_ = plane_.add_service(service_end_, kUdp, {nat_backend()});
    local_ = plane_.add_service(local_service_, kTcp, {local_backend(local_end_)});
  }
  [[nodiscard]] Endpoint local_source(const Packet& packet, uint32_t i) const {
    return {.address = client_.address, .port = sluice_local_port(Dataplane::hash(packet), i, client_.port)};
  }
  [[nodiscard]] Packet to_local(uint8_t flags = kAck) const { return to_service(flags).to(local_service_); }
  // A record of somebody else under this tuple.
  Flow occupy(Endpoint backend, Endpoint source, uint8_t kind, uint32_t state = kReplied, uint8_t protocol = kTcp) {
    Flow other{.backend = backend, .source = source, .protocol = protocol, .kind = kind};
    other.client = stranger_;
    other.service = service_end_;
    other.seen = plane_.jiffies();
    other.state = state;
    other.half_open = false;
    plane_.put_flow(other);
    return other;
  }
  Endpoint local_service_ = at("203.0.113.11", 443), stranger_ = at("198.51.100.200", 7);
  Service nat_, nat_udp_, local_;
};
class PortTest : public PortTestOf, public ::testing::WithParamInterface<Family> {
 protected:
  PortTest() : PortTestOf(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Families, PortTest, kFamilies, family_name);

TEST_P(PortTest, AnOccupiedTupleIsLeftToItsFlowAndTheNextIsTaken) {
  for (uint32_t taken = 0; taken < SLUICE_PORT_TRIES_NAT; taken++) {
    SCOPED_TRACE(taken);
    plane_.forget_flows();
    const uint64_t changed = plane_.counted(SLUICE_REASON_PORT_CHANGED);
    for (uint32_t i = 0; i < taken; i++) occupy(nat_end_, nat_source(to_service(), i), SLUICE_FLOW_NAT);
    EXPECT_EQ(plane_.receive(to_service(kSyn)).source(), nat_source(to_service(), taken));
    EXPECT_EQ(plane_.receive(to_service()).source(), nat_source(to_service(), taken));
    EXPECT_EQ(plane_.counted(SLUICE_REASON_PORT_CHANGED), changed + (taken != 0 ? 1 : 0));
    EXPECT_EQ(plane_.flows().size(), taken + 1);
    for (uint32_t i = 0; i < taken; i++)
      EXPECT_EQ(plane_.flow(nat_end_, nat_source(to_service(), i), kTcp, SLUICE_FLOW_NAT)->client, stranger_);
  }
}

TEST_P(PortTest, InLocalDeliveryTheSame) {
  for (uint32_t taken = 0; taken < SLUICE_PORT_TRIES_LOCAL; taken++) {
    SCOPED_TRACE(taken);
    plane_.forget_flows();
    for (uint32_t i = 0; i < taken; i++) occupy(local_end_, local_source(to_local(), i), SLUICE_FLOW_LOCAL);
    EXPECT_EQ(plane_.receive(to_local(kSyn)).source(), local_source(to_local(), taken));
    EXPECT_EQ(plane_.receive(to_local()).source(), local_source(to_local(), taken));
  }
}

TEST_P(PortTest, WhenEveryTryIsTakenTheFlowIsRefused) {
  for (uint32_t i = 0; i < SLUICE_PORT_TRIES_NAT; i++) occupy(nat_end_, nat_source(to_service(), i), SLUICE_FLOW_NAT);
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(nat_, SLUICE_REASON_PORTS_EXHAUSTED), 1U);
  for (uint32_t i = 0; i < SLUICE_PORT_TRIES_LOCAL; i++)
    occupy(local_end_, local_source(to_local(), i), SLUICE_FLOW_LOCAL);
  EXPECT_EQ(plane_.receive(to_local(kSyn)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(local_, SLUICE_REASON_PORTS_EXHAUSTED), 1U);
  EXPECT_EQ(plane_.flows().size(), SLUICE_PORT_TRIES_NAT + SLUICE_PORT_TRIES_LOCAL);
}

TEST_P(PortTest, WhereEveryTryIsTakenAFlowThatHasJustClosedMakesRoom) {
  constexpr uint32_t kClosed = SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN | SLUICE_FLOW_BACKEND_FIRST;
  const auto fill = [&](uint64_t age) {
    plane_.forget_flows();
    for (uint32_t i = 0; i < SLUICE_PORT_TRIES_NAT; i++) {
      const uint32_t state = i == 9 ? kClosed : kReplied;
      plane_.age(occupy(nat_end_, nat_source(to_service(), i), SLUICE_FLOW_NAT, state), age);
    }
  };
  fill(SLUICE_IDLE_CLOSED_PRESSED - 1);
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  fill(SLUICE_IDLE_CLOSED_PRESSED + 1);
  EXPECT_EQ(plane_.receive(to_service(kSyn)).source(), nat_source(to_service(), 9));
  EXPECT_EQ(plane_.receive(to_service()).source(), nat_source(to_service(), 9));
}

TEST_P(PortTest, AFlowKeepsItsPortWhenThoseBeforeItBecomeFree) {
  for (uint32_t i = 0; i < 3; i++) occupy(nat_end_, nat_source(to_service(), i), SLUICE_FLOW_NAT);
  plane_.receive(to_service(kSyn));
  const auto flow = plane_.flow(nat_end_, nat_source(to_service(), 3), kTcp, SLUICE_FLOW_NAT);
  ASSERT_TRUE(flow.has_value());
  plane_.forget_flows();
  plane_.put_flow(*flow);
  for (const uint8_t flags : {kAck, kSyn})  // a SYN that is sent again is of the same connection
    EXPECT_EQ(plane_.receive(to_service(flags)).source(), nat_source(to_service(), 3));
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_P(PortTest, ALostRecordIsMadeAgainWithTheSamePort) {
  const Endpoint before = plane_.receive(to_service(kSyn)).source();
  plane_.forget_flows();
  EXPECT_EQ(plane_.receive(to_service()).source(), before);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TAKEN_UP), 1U);
}

TEST_P(PortTest, WhatIsTakenWhereTheOtherAffinityWouldLeadDoesNotMatter) {
  const Endpoint elsewhere = at("10.9.0.21", 8080);
  Backend other = nat_backend();
  other.end = elsewhere;
  Service service = plane_.add_service(at("203.0.113.60", 80), kTcp, {nat_backend(), other});
  Packet packet = to_service(kAck).to(service.end);
  const uint64_t affine = Dataplane::affinity_hash(packet);
  while ((Dataplane::hash(packet) & 15) == (affine & 15))
    packet.from({.address = client_.address, .port = static_cast<uint16_t>(packet.source().port + 1)});
  std::vector<uint16_t> slots(16);
  slots[affine & 15] = 1;
  plane_.set_planes(service, {slots});
  occupy(elsewhere, nat_source(packet, 0), SLUICE_FLOW_NAT);
  EXPECT_EQ(plane_.receive(packet).source(), nat_source(packet, 0)) << "the port that the connection had";
}

TEST_P(PortTest, ARangeOfOnePortServesOneFlowPerBackend) {
  plane_.settings().nat_port_first = plane_.settings().nat_port_last = 25000;
  EXPECT_EQ(plane_.receive(to_service(kSyn)).source(), at("10.9.0.1", 25000));
  EXPECT_EQ(plane_.receive(to_service(kSyn).from(at("198.51.100.8", 1))).action, XDP_DROP);
  EXPECT_EQ(plane_.receive(udp_to_service()).action, XDP_REDIRECT);  // another protocol, another tuple
}

struct Idle {
  const char* name;
  uint8_t protocol;
  uint32_t state;
  uint64_t limit;  // seconds
};
std::ostream& operator<<(std::ostream& out, const Idle& c) {
  return out << c.name;
}

class IdleRecord : public PortTestOf, public ::testing::WithParamInterface<std::tuple<Idle, Family>> {
 protected:
  IdleRecord() : PortTestOf(std::get<Family>(GetParam())) {}
  const Idle& idle_ = std::get<Idle>(GetParam());
};

TEST_P(IdleRecord, GivesItsTupleToAnotherFlowOnlyPastItsTime) {
  const Packet packet = idle_.protocol == kTcp ? to_service(kSyn) : udp_to_service();
  const auto occupied = occupy(nat_end_, nat_source(packet, 0), SLUICE_FLOW_NAT, idle_.state, idle_.protocol);
  plane_.age(occupied, idle_.limit - 1);
  EXPECT_EQ(plane_.receive(packet).source(), nat_source(packet, 1));

  plane_.forget_flows();
  occupy(nat_end_, nat_source(packet, 0), SLUICE_FLOW_NAT, idle_.state, idle_.protocol);
  plane_.age(occupied, idle_.limit + 1);
  EXPECT_EQ(plane_.receive(packet).source(), nat_source(packet, 0));
  EXPECT_EQ(only_flow().client, client_);
  EXPECT_EQ(only_flow().state, kNew);
}

INSTANTIATE_TEST_SUITE_P(
    States, IdleRecord,
    ::testing::Combine(
        ::testing::Values(Idle{"TcpNew", kTcp, kNew, SLUICE_IDLE_TCP_NEW},
                          Idle{"TcpEstablished", kTcp, kReplied, SLUICE_IDLE_TCP_ESTABLISHED},
                          Idle{"TcpHalfClosed", kTcp, kReplied | SLUICE_FLOW_CLIENT_FIN, SLUICE_IDLE_TCP_ESTABLISHED},
                          Idle{"TcpClosed", kTcp, kReplied | SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN,
                               SLUICE_IDLE_CLOSED},
                          Idle{"TcpClosedByTheBackendFirst", kTcp,
                               kReplied | SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN | SLUICE_FLOW_BACKEND_FIRST,
                               SLUICE_IDLE_BACKEND_CLOSED},
                          Idle{"TcpReset", kTcp, kReplied | SLUICE_FLOW_RESET, SLUICE_IDLE_CLOSED},
                          Idle{"UdpNew", kUdp, kNew, SLUICE_IDLE_UDP_NEW},
                          Idle{"UdpEstablished", kUdp, kReplied, SLUICE_IDLE_UDP_ESTABLISHED}),
        kFamilies),
    [](const auto& test) { return std::get<Idle>(test.param).name + name_of(std::get<Family>(test.param)); });

}  // namespace
}  // namespace sluice::packets
