// The life of a record: what each packet does to it.
#include <linux/bpf.h>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

// Both forwardings keep the same record by the same rules, so each rule is tried on both.
class FlowTest : public DataplaneTest, public ::testing::WithParamInterface<Variant> {
 protected:
  FlowTest() : DataplaneTest(GetParam().family) {
    const Backend backend = local() ? local_backend(local_end_) : nat_backend();
    tcp_ = plane_.add_service(service_end_, kTcp, {backend});
    udp_ = plane_.add_service(service_end_, kUdp, {backend});
  }
  [[nodiscard]] static bool local() { return GetParam().forwarding == SLUICE_FORWARD_LOCAL; }
  int client(uint8_t flags) { return plane_.receive(to_service(flags)).action; }
  void backend(uint8_t flags) { answer(Packet::tcp({}, {}, flags)); }
  void answer(Packet packet) {
    const Flow flow = only_flow();
    packet.from(flow.backend).to(flow.source);
    if (local())
      plane_.send(packet.macs(kLanMac, kRouterMac));
    else
      plane_.receive(packet.macs(kBackendMac, kLanMac));
  }
  [[nodiscard]] uint32_t state() const { return only_flow().state; }
  [[nodiscard]] uint64_t flows_made() const { return plane_.service_counters(tcp_).flows; }
  void age_flow(uint64_t seconds) { plane_.age(only_flow(), seconds); }
  // Seconds since the record's last packet.
  [[nodiscard]] uint32_t idle() const {
    return (plane_.jiffies() - only_flow().seen) / Dataplane::jiffies_per_second();
  }
  Service tcp_, udp_;
};

constexpr uint32_t kNew = 0, kReplied = SLUICE_FLOW_REPLIED;

INSTANTIATE_TEST_SUITE_P(Forwarding, FlowTest, kVariants, variant_name);

TEST_P(FlowTest, ATcpConnectionGoesThroughItsStates) {
  client(kSyn);
  EXPECT_EQ(state(), kNew);
  client(kSyn);
  EXPECT_EQ(state(), kNew);
  backend(kSyn | kAck);
  EXPECT_EQ(state(), kReplied);
  client(kAck);
  client(kAck | kPsh);
  backend(kAck);
  EXPECT_EQ(state(), kReplied);
  client(kFin | kAck);
  EXPECT_EQ(state(), kReplied | SLUICE_FLOW_CLIENT_FIN);
  backend(kAck);
  EXPECT_EQ(state(), kReplied | SLUICE_FLOW_CLIENT_FIN);
  EXPECT_FALSE(SLUICE_FLOW_CLOSED(state()));
  backend(kFin | kAck);
  EXPECT_EQ(state(), kReplied | SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN);
  EXPECT_TRUE(SLUICE_FLOW_CLOSED(state()));
  client(kAck);  // the last acknowledgement still finds its way
  EXPECT_EQ(plane_.flows().size(), 1U);
  EXPECT_EQ(flows_made(), 1U);
}

TEST_P(FlowTest, ABackendThatClosesFirstClosesToo) {
  client(kSyn);
  backend(kFin | kAck);
  EXPECT_EQ(state(), kReplied | SLUICE_FLOW_BACKEND_FIN | SLUICE_FLOW_BACKEND_FIRST);
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
    EXPECT_EQ(state(), kReplied);
    backend(kRst);
    EXPECT_TRUE(SLUICE_FLOW_CLOSED(state()));
  }
}

TEST_P(FlowTest, ASynOnALiveRecordChangesNothing) {
  client(kSyn);
  backend(kSyn | kAck);
  client(kFin | kAck);
  client(kSyn);
  EXPECT_EQ(state(), kReplied | SLUICE_FLOW_CLIENT_FIN);
  EXPECT_EQ(flows_made(), 1U);
}

TEST_P(FlowTest, ASynOnAClosedRecordBeginsAnew) {
  client(kSyn);
  backend(kRst | kAck);
  EXPECT_NE(client(kSyn), XDP_DROP);
  EXPECT_EQ(state(), kNew);
  EXPECT_EQ(flows_made(), 2U);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_PORT_CHANGED), 0U);
}

TEST_P(FlowTest, ASynOnARecordIdleForTooLongBeginsAnew) {
  client(kSyn);
  backend(kSyn | kAck);
  age_flow(SLUICE_IDLE_TCP_ESTABLISHED + 1);
  client(kSyn);
  EXPECT_EQ(state(), kNew);
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
  EXPECT_LT(idle(), 1U);
}

TEST_P(FlowTest, TcpWithoutSynAndWithoutRecordIsTakenUpAndCounted) {
  struct {
    uint8_t flags;
    uint32_t state;
  } const cases[] = {{kAck, kNew},
                     {kAck | kPsh, kNew},
                     {kFin | kAck, SLUICE_FLOW_CLIENT_FIN},
                     {kRst, SLUICE_FLOW_RESET},
                     {kSyn | kAck, kNew}};
  uint64_t taken_up = 0;
  for (const auto& c : cases) {
    SCOPED_TRACE(int{c.flags});
    plane_.forget_flows();
    EXPECT_NE(client(c.flags), XDP_DROP);
    EXPECT_EQ(state(), c.state | SLUICE_FLOW_ADOPTED);
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
  EXPECT_EQ(state(), kNew);
  plane_.receive(udp_to_service());
  EXPECT_EQ(state(), kNew);
  answer(Packet::udp({}, {}).payload_size(40));  // where TCP has its flags there is payload
  EXPECT_EQ(state(), kReplied);
  std::vector<uint8_t> all_flags(32, 0xff);
  plane_.receive(udp_to_service().payload(all_flags));
  answer(Packet::udp({}, {}).payload(all_flags));
  EXPECT_EQ(state(), kReplied);
  EXPECT_EQ(plane_.service_counters(udp_).flows, 1U);
}

TEST_P(FlowTest, PacketsOfBothDirectionsRefreshTheRecord) {
  client(kSyn);
  age_flow(20);
  EXPECT_GE(idle(), 20U);
  client(kAck);
  EXPECT_LT(idle(), 1U);
  age_flow(20);
  backend(kAck);
  EXPECT_LT(idle(), 1U);
}

TEST_P(FlowTest, RefreshingTakesInWhatHasMoved) {
  client(kSyn);
  for (const bool half_open : {true, false}) {
    Flow flow = only_flow();
    flow.service_index = 63;
    flow.backend_index = 200;
    flow.half_open = half_open;
    plane_.age(flow, 20);
    client(kAck);
    EXPECT_EQ(only_flow().service_index, tcp_.index);
    EXPECT_EQ(only_flow().backend_index, tcp_.first_backend);
  }
}

TEST_P(FlowTest, ARecordOfAnotherForwardingIsNotTheFlows) {
  client(kSyn);
  Flow flow = only_flow();
  plane_.forget_flows();
  flow.kind = local() ? SLUICE_FLOW_NAT : SLUICE_FLOW_LOCAL;
  plane_.put_flow(flow);
  client(kAck);
  EXPECT_EQ(plane_.flows().size(), 2U);
}

}  // namespace
}  // namespace sluice::packets
