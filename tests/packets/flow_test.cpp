// The life of a record: what each packet does to it.
#include <arpa/inet.h>
#include <linux/bpf.h>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

// Both forwardings keep the same record by the same rules, so each rule is tried on both.
class FlowTest : public DataplaneTest, public ::testing::WithParamInterface<uint8_t> {
 protected:
  FlowTest() {
    const Backend backend = GetParam() == SLUICE_FORWARD_LOCAL ? local_backend(local_end_) : nat_backend();
    tcp_ = plane_.add_service(service_end_, kTcp, {backend});
    udp_ = plane_.add_service(service_end_, kUdp, {backend});
  }
  int client(uint8_t flags) { return plane_.receive(to_service(flags)).action; }
  void backend(uint8_t flags) { answer(Packet::tcp({}, {}, flags)); }
  void answer(Packet packet) {
    const sluice_flow_key key = only_flow().first;
    packet.from({.address = ntohl(key.backend), .port = ntohs(key.backend_port)})
        .to({.address = ntohl(key.source), .port = ntohs(key.source_port)});
    if (GetParam() == SLUICE_FORWARD_LOCAL)
      plane_.send(packet.macs(kLanMac, kRouterMac));
    else
      plane_.receive(packet.macs(kBackendMac, kLanMac));
  }
  [[nodiscard]] int state() const { return only_flow().second.state; }
  [[nodiscard]] uint64_t flows_made() const { return plane_.service_counters(tcp_.index).flows; }
  void age_flow(uint64_t seconds) { plane_.age(only_flow().first, seconds); }
  Service tcp_, udp_;
};

INSTANTIATE_TEST_SUITE_P(Forwarding, FlowTest, ::testing::Values(SLUICE_FORWARD_LOCAL, SLUICE_FORWARD_NAT),
                         [](const auto& test) { return test.param == SLUICE_FORWARD_LOCAL ? "Local" : "Nat"; });

TEST_P(FlowTest, ATcpConnectionGoesThroughItsStates) {
  client(kSyn);
  EXPECT_EQ(state(), SLUICE_FLOW_NEW);
  client(kSyn);
  EXPECT_EQ(state(), SLUICE_FLOW_NEW);
  backend(kSyn | kAck);
  EXPECT_EQ(state(), SLUICE_FLOW_ESTABLISHED);
  client(kAck);
  client(kAck | kPsh);
  backend(kAck);
  EXPECT_EQ(state(), SLUICE_FLOW_ESTABLISHED);
  client(kFin | kAck);
  EXPECT_EQ(state(), SLUICE_FLOW_ESTABLISHED | SLUICE_FLOW_CLIENT_FIN);
  backend(kAck);
  EXPECT_EQ(state(), SLUICE_FLOW_ESTABLISHED | SLUICE_FLOW_CLIENT_FIN);
  EXPECT_FALSE(SLUICE_FLOW_CLOSED(state()));
  backend(kFin | kAck);
  EXPECT_EQ(state(), SLUICE_FLOW_ESTABLISHED | SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN);
  EXPECT_TRUE(SLUICE_FLOW_CLOSED(state()));
  client(kAck);  // the last acknowledgement still finds its way
  EXPECT_EQ(plane_.flows().size(), 1U);
  EXPECT_EQ(flows_made(), 1U);
}

TEST_P(FlowTest, ABackendThatClosesFirstClosesToo) {
  client(kSyn);
  backend(kFin | kAck);
  EXPECT_EQ(state(), SLUICE_FLOW_ESTABLISHED | SLUICE_FLOW_BACKEND_FIN | SLUICE_FLOW_BACKEND_FIRST);
  EXPECT_FALSE(SLUICE_FLOW_CLOSED(state()));
  client(kFin | kAck);
  EXPECT_TRUE(SLUICE_FLOW_CLOSED(state()));
}

TEST_P(FlowTest, AResetOfEitherSideClosesButDoesNotDelete) {
  client(kSyn);
  client(kRst);
  EXPECT_TRUE(SLUICE_FLOW_CLOSED(state()));
  plane_.forget_flows();
  client(kSyn);
  backend(kRst | kAck);
  EXPECT_TRUE(SLUICE_FLOW_CLOSED(state()));
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_P(FlowTest, AResetThatOtherPacketsFollowWasNone) {
  for (const bool from_client : {true, false}) {
    SCOPED_TRACE(from_client);
    plane_.forget_flows();
    client(kSyn);
    backend(kSyn | kAck);
    client(kRst);  // somebody guessed the ports, not the sequence number
    from_client ? static_cast<void>(client(kAck)) : backend(kAck);
    EXPECT_EQ(state(), SLUICE_FLOW_ESTABLISHED);
    backend(kRst);
    EXPECT_TRUE(SLUICE_FLOW_CLOSED(state()));
  }
}

TEST_P(FlowTest, ASynOnALiveRecordChangesNothing) {
  client(kSyn);
  backend(kSyn | kAck);
  client(kFin | kAck);
  client(kSyn);
  EXPECT_EQ(state(), SLUICE_FLOW_ESTABLISHED | SLUICE_FLOW_CLIENT_FIN);
  EXPECT_EQ(flows_made(), 1U);
}

TEST_P(FlowTest, ASynOnAClosedRecordBeginsAnew) {
  client(kSyn);
  backend(kRst | kAck);
  EXPECT_NE(client(kSyn), XDP_DROP);
  EXPECT_EQ(state(), SLUICE_FLOW_NEW);
  EXPECT_EQ(flows_made(), 2U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_PORT_CHANGED), 0U);
}

TEST_P(FlowTest, ASynOnARecordIdleForTooLongBeginsAnew) {
  client(kSyn);
  backend(kSyn | kAck);
  age_flow(SLUICE_IDLE_TCP_ESTABLISHED + 1);
  client(kSyn);
  EXPECT_EQ(state(), SLUICE_FLOW_NEW);
  EXPECT_EQ(flows_made(), 2U);
}

TEST_P(FlowTest, ASynWithAcknowledgementIsNoSyn) {
  client(kSyn);
  backend(kFin | kAck);
  client(kFin | kAck);
  client(kSyn | kAck);
  EXPECT_TRUE(SLUICE_FLOW_CLOSED(state()));
  EXPECT_EQ(flows_made(), 1U);
}

TEST_P(FlowTest, DataOnAClosedRecordKeepsUsingIt) {
  client(kSyn);
  client(kFin | kAck);
  backend(kFin | kAck);
  age_flow(SLUICE_IDLE_CLOSED + 10);
  EXPECT_NE(client(kAck), XDP_DROP);
  EXPECT_TRUE(SLUICE_FLOW_CLOSED(state()));
  EXPECT_EQ(flows_made(), 1U);
  EXPECT_LT(monotonic_now() - only_flow().second.last_seen, 1'000'000'000U);
}

TEST_P(FlowTest, TcpWithoutSynAndWithoutRecordIsTakenUpAndCounted) {
  struct {
    uint8_t flags, state;
  } const cases[] = {{kAck, SLUICE_FLOW_NEW},
                     {kAck | kPsh, SLUICE_FLOW_NEW},
                     {kFin | kAck, SLUICE_FLOW_CLIENT_FIN},
                     {kRst, SLUICE_FLOW_RESET},
                     {kSyn | kAck, SLUICE_FLOW_NEW}};
  uint64_t taken_up = 0;
  for (const auto& c : cases) {
    SCOPED_TRACE(int{c.flags});
    plane_.forget_flows();
    EXPECT_NE(client(c.flags), XDP_DROP);
    EXPECT_EQ(state(), c.state);
    EXPECT_EQ(plane_.counted(SLUICE_REASON_TAKEN_UP), ++taken_up);
  }
}

TEST_P(FlowTest, NewConnectionsAndUdpAreNotTakenUp) {
  client(kSyn);
  plane_.forget_flows();
  plane_.receive(udp_to_service());
  EXPECT_EQ(plane_.counted(SLUICE_REASON_TAKEN_UP), 0U);
}

TEST_P(FlowTest, UdpIsEstablishedByTheFirstReplyAndNeverCloses) {
  plane_.receive(udp_to_service());
  EXPECT_EQ(state(), SLUICE_FLOW_NEW);
  plane_.receive(udp_to_service());
  EXPECT_EQ(state(), SLUICE_FLOW_NEW);
  answer(Packet::udp({}, {}).payload_size(40));  // where TCP has its flags there is payload
  EXPECT_EQ(state(), SLUICE_FLOW_ESTABLISHED);
  std::vector<uint8_t> all_flags(32, 0xff);
  plane_.receive(udp_to_service().payload(all_flags));
  answer(Packet::udp({}, {}).payload(all_flags));
  EXPECT_EQ(state(), SLUICE_FLOW_ESTABLISHED);
  EXPECT_EQ(plane_.service_counters(udp_.index).flows, 1U);
}

TEST_P(FlowTest, PacketsOfBothDirectionsRefreshTheRecord) {
  client(kSyn);
  const auto idle = [&] { return monotonic_now() - only_flow().second.last_seen; };
  age_flow(20);
  EXPECT_GE(idle(), 20'000'000'000U);
  client(kAck);
  EXPECT_LT(idle(), 1'000'000'000U);
  age_flow(20);
  backend(kAck);
  EXPECT_LT(idle(), 1'000'000'000U);
}

TEST_P(FlowTest, ARecordRefreshedJustNowIsNotWrittenAgain) {
  client(kSyn);
  const uint64_t first = only_flow().second.last_seen;
  client(kAck);
  backend(kAck);
  EXPECT_EQ(only_flow().second.last_seen, first);
}

TEST_P(FlowTest, RefreshingTakesInWhatHasMoved) {
  client(kSyn);
  auto [key, record] = only_flow();
  record.service = 63;
  record.backend = 200;
  record.ifindex = 4242;
  record.hash = 0;
  plane_.put_flow(key, record);
  plane_.age(key, 20);
  plane_.receive(to_service().macs(kOtherMac, kLanMac));
  record = only_flow().second;
  EXPECT_EQ(record.service, tcp_.index);
  EXPECT_EQ(record.backend, tcp_.first_backend);
  EXPECT_EQ(record.ifindex, interfaces().lan);
  EXPECT_EQ(record.hash, static_cast<uint32_t>(Dataplane::hash(to_service())));
  EXPECT_TRUE(std::equal(kOtherMac.begin(), kOtherMac.end(), record.client_mac));
}

TEST_P(FlowTest, ARecordOfAnotherForwardingIsNotTheFlows) {
  client(kSyn);
  auto [key, record] = only_flow();
  record.forwarding = record.forwarding == SLUICE_FORWARD_LOCAL ? SLUICE_FORWARD_NAT : SLUICE_FORWARD_LOCAL;
  plane_.put_flow(key, record);
  client(kAck);
  EXPECT_EQ(plane_.flows().size(), 2U);
}

}  // namespace
}  // namespace sluice::packets
