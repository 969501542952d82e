// Source ports: which ones a flow tries, and what happens when others have them.
#include <arpa/inet.h>
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

class PortTest : public DataplaneTest {
 protected:
  explicit PortTest(const Options& options = {}) : DataplaneTest(options) {
    nat_ = plane_.add_service(service_end_, kTcp, {nat_backend()});
    nat_udp_ = plane_.add_service(service_end_, kUdp, {nat_backend()});
    local_ = plane_.add_service(local_service_, kTcp, {local_backend(local_end_)});
  }
  [[nodiscard]] static Endpoint nat_source(const Packet& packet, uint32_t i) {
    return {.address = ip("10.9.0.1"),
            .port = sluice_source_port(Dataplane::hash(packet), i, kNatFirst, kNatLast - kNatFirst + 1)};
  }
  [[nodiscard]] Endpoint local_source(const Packet& packet, uint32_t i) const {
    return {.address = client_.address, .port = sluice_local_port(Dataplane::hash(packet), i, client_.port)};
  }
  [[nodiscard]] Packet to_local(uint8_t flags = kAck) const { return to_service(flags).to(local_service_); }
  // A record of somebody else under this tuple.
  sluice_flow_key occupy(Endpoint backend, Endpoint source, uint8_t forwarding, uint8_t state = SLUICE_FLOW_ESTABLISHED,
                         uint8_t protocol = kTcp) {
    sluice_flow other{};
    other.last_seen = monotonic_now();
    other.client = htonl(ip("198.51.100.200"));
    other.client_port = htons(7);
    other.address = htonl(service_end_.address);
    other.port = htons(service_end_.port);
    other.state = state;
    other.forwarding = forwarding;
    const sluice_flow_key key = flow_key(backend, source, protocol);
    plane_.put_flow(key, other);
    return key;
  }
  [[nodiscard]] static Endpoint source_of(const Outcome& outcome) {
    const Frame& f = outcome.frame;
    return {.address = static_cast<uint32_t>(f[26] << 24 | f[27] << 16 | f[28] << 8 | f[29]),
            .port = static_cast<uint16_t>(f[34] << 8 | f[35])};
  }
  Endpoint local_service_ = at("203.0.113.11", 443);
  Service nat_, nat_udp_, local_;
};

TEST_F(PortTest, AnOccupiedTupleIsLeftToItsFlowAndTheNextIsTaken) {
  for (uint32_t taken = 0; taken < SLUICE_PORT_TRIES_NAT; taken++) {
    SCOPED_TRACE(taken);
    plane_.forget_flows();
    const uint64_t changed = plane_.counted(SLUICE_REASON_PORT_CHANGED);
    for (uint32_t i = 0; i < taken; i++) occupy(nat_end_, nat_source(to_service(), i), SLUICE_FORWARD_NAT);
    EXPECT_EQ(source_of(plane_.receive(to_service(kSyn))), nat_source(to_service(), taken));
    EXPECT_EQ(source_of(plane_.receive(to_service())), nat_source(to_service(), taken));
    EXPECT_EQ(plane_.counted(SLUICE_REASON_PORT_CHANGED), changed + (taken != 0 ? 1 : 0));
    EXPECT_EQ(plane_.flows().size(), taken + 1);
    for (uint32_t i = 0; i < taken; i++)
      EXPECT_EQ(plane_.flow(nat_end_, nat_source(to_service(), i), kTcp)->client, htonl(ip("198.51.100.200")));
  }
}

TEST_F(PortTest, InLocalDeliveryTheSame) {
  for (uint32_t taken = 0; taken < SLUICE_PORT_TRIES_LOCAL; taken++) {
    SCOPED_TRACE(taken);
    plane_.forget_flows();
    for (uint32_t i = 0; i < taken; i++) occupy(local_end_, local_source(to_local(), i), SLUICE_FORWARD_LOCAL);
    EXPECT_EQ(source_of(plane_.receive(to_local(kSyn))), local_source(to_local(), taken));
    EXPECT_EQ(source_of(plane_.receive(to_local())), local_source(to_local(), taken));
  }
}

TEST_F(PortTest, WhenEveryTryIsTakenTheFlowIsRefused) {
  for (uint32_t i = 0; i < SLUICE_PORT_TRIES_NAT; i++)
    occupy(nat_end_, nat_source(to_service(), i), SLUICE_FORWARD_NAT);
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(nat_, SLUICE_REASON_PORTS_EXHAUSTED), 1U);
  for (uint32_t i = 0; i < SLUICE_PORT_TRIES_LOCAL; i++)
    occupy(local_end_, local_source(to_local(), i), SLUICE_FORWARD_LOCAL);
  EXPECT_EQ(plane_.receive(to_local(kSyn)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(local_, SLUICE_REASON_PORTS_EXHAUSTED), 1U);
  EXPECT_EQ(plane_.flows().size(), SLUICE_PORT_TRIES_NAT + SLUICE_PORT_TRIES_LOCAL);
}

TEST_F(PortTest, WhereEveryTryIsTakenAFlowThatHasJustClosedMakesRoom) {
  constexpr uint8_t kClosed = SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN | SLUICE_FLOW_BACKEND_FIRST;
  const auto fill = [&](uint64_t age) {
    plane_.forget_flows();
    for (uint32_t i = 0; i < SLUICE_PORT_TRIES_NAT; i++) {
      const uint8_t state = i == 9 ? kClosed : SLUICE_FLOW_ESTABLISHED;
      plane_.age(occupy(nat_end_, nat_source(to_service(), i), SLUICE_FORWARD_NAT, state), age);
    }
  };
  fill(SLUICE_IDLE_CLOSED_PRESSED - 1);
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  fill(SLUICE_IDLE_CLOSED_PRESSED + 1);
  EXPECT_EQ(source_of(plane_.receive(to_service(kSyn))), nat_source(to_service(), 9));
  EXPECT_EQ(source_of(plane_.receive(to_service())), nat_source(to_service(), 9));
}

TEST_F(PortTest, AFlowKeepsItsPortWhenThoseBeforeItBecomeFree) {
  for (uint32_t i = 0; i < 3; i++) occupy(nat_end_, nat_source(to_service(), i), SLUICE_FORWARD_NAT);
  plane_.receive(to_service(kSyn));
  const auto record = plane_.flow(nat_end_, nat_source(to_service(), 3), kTcp);
  ASSERT_TRUE(record.has_value());
  plane_.forget_flows();
  plane_.put_flow(flow_key(nat_end_, nat_source(to_service(), 3), kTcp), *record);
  for (const uint8_t flags : {kAck, kSyn})  // a SYN that is sent again is of the same connection
    EXPECT_EQ(source_of(plane_.receive(to_service(flags))), nat_source(to_service(), 3));
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_F(PortTest, ALostRecordIsMadeAgainWithTheSamePort) {
  const Endpoint before = source_of(plane_.receive(to_service(kSyn)));
  plane_.forget_flows();
  EXPECT_EQ(source_of(plane_.receive(to_service())), before);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TAKEN_UP), 1U);
}

TEST_F(PortTest, WhatIsTakenWhereTheOtherAffinityWouldLeadDoesNotMatter) {
  const Endpoint elsewhere = at("10.9.0.21", 8080);
  Backend other = nat_backend();
  other.end = elsewhere;
  Service service = plane_.add_service(at("203.0.113.60", 80), kTcp, {nat_backend(), other});
  const auto affine =
      sluice_flow_hash(htonl(client_.address), htonl(service.end.address), 0, 0, 0, kHashKey0, kHashKey1);
  Packet packet = to_service(kAck).to(service.end);
  while ((Dataplane::hash(packet) & 15) == (affine & 15))
    packet.from({.address = client_.address, .port = static_cast<uint16_t>(packet.source().port + 1)});
  std::vector<uint16_t> slots(16);
  slots[affine & 15] = 1;
  plane_.set_planes(service, {slots});
  occupy(elsewhere, nat_source(packet, 0), SLUICE_FORWARD_NAT);
  EXPECT_EQ(source_of(plane_.receive(packet)), nat_source(packet, 0)) << "the port that the connection had";
}

TEST_F(PortTest, ARangeOfOnePortServesOneFlowPerBackend) {
  plane_.settings().nat_port_first = plane_.settings().nat_port_last = 25000;
  plane_.write_settings();
  EXPECT_EQ(source_of(plane_.receive(to_service(kSyn))), at("10.9.0.1", 25000));
  EXPECT_EQ(plane_.receive(to_service(kSyn).from(at("198.51.100.8", 1))).action, XDP_DROP);
  EXPECT_EQ(plane_.receive(udp_to_service()).action, XDP_REDIRECT);  // another protocol, another tuple
}

struct Idle {
  const char* name;
  uint8_t protocol, state;
  uint64_t limit;  // seconds
};
std::ostream& operator<<(std::ostream& out, const Idle& c) {
  return out << c.name;
}

class IdleRecord : public PortTest, public ::testing::WithParamInterface<Idle> {};

TEST_P(IdleRecord, GivesItsTupleToAnotherFlowOnlyPastItsTime) {
  const Packet packet = GetParam().protocol == kTcp ? to_service(kSyn) : udp_to_service();
  const auto occupied =
      occupy(nat_end_, nat_source(packet, 0), SLUICE_FORWARD_NAT, GetParam().state, GetParam().protocol);
  plane_.age(occupied, GetParam().limit - 1);
  EXPECT_EQ(source_of(plane_.receive(packet)), nat_source(packet, 1));

  plane_.forget_flows();
  plane_.put_flow(occupied, sluice_flow{});
  occupy(nat_end_, nat_source(packet, 0), SLUICE_FORWARD_NAT, GetParam().state, GetParam().protocol);
  plane_.age(occupied, GetParam().limit + 1);
  EXPECT_EQ(source_of(plane_.receive(packet)), nat_source(packet, 0));
  const auto [key, record] = only_flow();
  EXPECT_EQ(ntohl(record.client), client_.address);
  EXPECT_EQ(record.state, SLUICE_FLOW_NEW);
}

INSTANTIATE_TEST_SUITE_P(
    States, IdleRecord,
    ::testing::Values(
        Idle{"TcpNew", kTcp, SLUICE_FLOW_NEW, SLUICE_IDLE_TCP_NEW},
        Idle{"TcpEstablished", kTcp, SLUICE_FLOW_ESTABLISHED, SLUICE_IDLE_TCP_ESTABLISHED},
        Idle{"TcpHalfClosed", kTcp, SLUICE_FLOW_ESTABLISHED | SLUICE_FLOW_CLIENT_FIN, SLUICE_IDLE_TCP_ESTABLISHED},
        Idle{"TcpClosed", kTcp, SLUICE_FLOW_ESTABLISHED | SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN,
             SLUICE_IDLE_CLOSED},
        Idle{"TcpClosedByTheBackendFirst", kTcp,
             SLUICE_FLOW_ESTABLISHED | SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN | SLUICE_FLOW_BACKEND_FIRST,
             SLUICE_IDLE_BACKEND_CLOSED},
        Idle{"TcpReset", kTcp, SLUICE_FLOW_ESTABLISHED | SLUICE_FLOW_RESET, SLUICE_IDLE_CLOSED},
        Idle{"UdpNew", kUdp, SLUICE_FLOW_NEW, SLUICE_IDLE_UDP_NEW},
        Idle{"UdpEstablished", kUdp, SLUICE_FLOW_ESTABLISHED, SLUICE_IDLE_UDP_ESTABLISHED}),
    [](const auto& test) { return std::string(test.param.name); });

class FullFlowTable : public PortTest {
 protected:
  FullFlowTable() : PortTest({.flow_entries = 2, .plain_flow_table = true}) {}
};

TEST_F(FullFlowTable, RefusesNewFlowsAndKeepsThoseItHas) {
  const Packet third = to_service(kSyn).from(at("198.51.100.9", 3));
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_REDIRECT);
  EXPECT_EQ(plane_.receive(to_local(kSyn)).action, XDP_PASS);
  EXPECT_EQ(plane_.receive(third).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(nat_, SLUICE_REASON_FLOW_TABLE_FULL), 1U);
  EXPECT_EQ(plane_.receive(to_service()).action, XDP_REDIRECT);
  EXPECT_EQ(plane_.receive(to_local()).action, XDP_PASS);
}

class SmallFlowTable : public PortTest {
 protected:
  SmallFlowTable() : PortTest({.flow_entries = 64}) {}
};

TEST_F(SmallFlowTable, EvictsRatherThanRefuse) {
  for (uint16_t port = 1000; port < 3000; port++)
    ASSERT_EQ(plane_.receive(to_service(kSyn).from(at("198.51.100.9", port))).action, XDP_REDIRECT);
  EXPECT_LE(plane_.flows().size(), 64U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FLOW_TABLE_FULL), 0U);
}

}  // namespace
}  // namespace sluice::packets
