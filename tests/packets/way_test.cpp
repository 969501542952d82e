// Which way packets leave where the agent has not said, and how replies find the client: the kernel's routes.
#include <linux/bpf.h>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

class WayTest : public DataplaneTest, public ::testing::WithParamInterface<Family> {
 protected:
  WayTest() : DataplaneTest(GetParam()) {
    service_ = plane_.add_service(service_end_, kTcp, {nat_backend()});
    plane_.add_service(service_end_, kUdp, {nat_backend()});
  }
  void unresolved(Endpoint backend) { plane_.set_backend(service_, 0, {.end = backend, .egress = 0}); }
  // Sends a SYN of this client, from this MAC, and gives the backend's reply to the program.
  Outcome reply_to(Endpoint client, const Mac& from, size_t payload = 0) {
    const Packet packet = to_service(kSyn).from(client).macs(from, kLanMac);
    EXPECT_EQ(plane_.receive(packet).action, XDP_REDIRECT);
    return plane_.receive(back(packet).payload_size(payload));
  }
  [[nodiscard]] Packet back(const Packet& packet) const {
    return Packet::tcp(nat_end_, nat_source(packet), kSyn | kAck).macs(kBackendMac, kLanMac);
  }
  [[nodiscard]] Packet at_client(Endpoint client, const Mac& source, const Mac& destination) const {
    return Packet::tcp(service_end_, client, kSyn | kAck).ttl(63).macs(source, destination);
  }
  // The flow's record as it is when the kernel has last been asked for the client's way a while ago.
  void forget_way() {
    Flow flow = only_flow();
    plane_.put_flow(flow);  // way_checked is 0 in it
  }
  Service service_;
};
INSTANTIATE_TEST_SUITE_P(Families, WayTest, kFamilies, family_name);

TEST_P(WayTest, AnUnresolvedBackendIsReachedByTheKernelsRoutes) {
  struct {
    const char* address;
    Mac next_hop;
  } const cases[] = {{"10.9.0.20", kBackendMac}, {"10.77.3.4", kBackendMac}};  // a neighbour; behind a router
  for (const auto& c : cases) {
    SCOPED_TRACE(c.address);
    plane_.forget_flows();
    unresolved(at(c.address, 8080));
    const Packet packet = to_service(kSyn);
    const Outcome outcome = plane_.receive(packet);
    EXPECT_EQ(outcome.action, XDP_REDIRECT);
    EXPECT_TRUE(same_frame(outcome.frame, Packet(packet)
                                              .from(back(packet).destination())
                                              .to(at(c.address, 8080))
                                              .ttl(63)
                                              .macs(kCoreMac, c.next_hop)
                                              .frame()));
  }
}

TEST_P(WayTest, TheSourceIsThatOfTheInterfaceTheRouteLeadsTo) {
  unresolved(at("192.0.2.50", 8080));
  const Packet packet = to_service(kSyn);
  const Outcome outcome = plane_.receive(packet);
  EXPECT_EQ(outcome.action, XDP_TX);
  EXPECT_TRUE(same_frame(outcome.frame, Packet(packet)
                                            .from({address("192.0.2.1"), back(packet).destination().port})
                                            .to(at("192.0.2.50", 8080))
                                            .ttl(63)
                                            .macs(kLanMac, kNeighbourMac)
                                            .frame()));
}

TEST_P(WayTest, ByAnInterfaceWithoutASourceForNatNothingIsSent) {
  plane_.egress(kCoreEgress).source4 = 0;
  plane_.egress(kCoreEgress).source6 = {};
  unresolved(nat_end_);
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(service_, SLUICE_REASON_NO_NEXT_HOP), 1U);
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(WayTest, AResolvedNextHopWithoutItsInterfaceFallsBackToTheKernelsRoutes) {
  Backend backend = nat_backend();
  backend.egress = 9;
  plane_.set_backend(service_, 0, backend);
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_REDIRECT);
}

TEST_P(WayTest, AFlowKeepsItsSourceWhenItsBackendIsResolvedLater) {
  unresolved(nat_end_);
  const Frame before = plane_.receive(to_service(kAck)).frame;
  plane_.set_backend(service_, 0, nat_backend());
  EXPECT_TRUE(same_frame(plane_.receive(to_service(kAck)).frame, before));
  EXPECT_EQ(plane_.flows().size(), 1U);
}

TEST_P(WayTest, WithoutAWayToTheBackendThePacketIsDroppedAndMakesNoRecord) {
  uint64_t dropped = 0;
  // no neighbour, blackhole, unreachable, prohibited, no route, the node's own address
  for (const char* address : {"10.9.0.99", "100.64.0.1", "100.64.1.1", "100.64.2.1", "172.31.0.1", "10.9.0.1"}) {
    SCOPED_TRACE(address);
    unresolved(at(address, 8080));
    EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
    EXPECT_EQ(plane_.counted(service_, SLUICE_REASON_NO_NEXT_HOP), ++dropped);
  }
  EXPECT_TRUE(plane_.flows().empty());
}

TEST_P(WayTest, AnUnresolvedBackendBeyondASmallMtuGetsOnlyWhatFits) {
  plane_.egress(kCoreEgress).mtu = 1400;
  unresolved(nat_end_);
  const size_t most = ipv6() ? 1340 : 1360;
  EXPECT_EQ(plane_.receive(to_service().payload_size(most)).action, XDP_REDIRECT);
  EXPECT_NE(plane_.receive(to_service().payload_size(most + 1)).action, XDP_REDIRECT);
  EXPECT_EQ(plane_.counted(service_, SLUICE_REASON_TOO_BIG), 1U);
}

TEST_P(WayTest, AReplyTakesTheKernelsRouteToTheClient) {
  const Endpoint routed = at("198.51.100.7", 40001), neighbour = at("192.0.2.50", 40002),
                 elsewhere = at("10.9.0.20", 40003);
  Outcome outcome = reply_to(routed, kRouterMac);
  EXPECT_EQ(outcome.action, XDP_TX);
  EXPECT_TRUE(same_frame(outcome.frame, at_client(routed, kLanMac, kRouterMac).frame()));
  // Not the MAC that the client's packets came from, where the kernel knows better.
  outcome = reply_to(neighbour, kOtherMac);
  EXPECT_EQ(outcome.action, XDP_TX);
  EXPECT_TRUE(same_frame(outcome.frame, at_client(neighbour, kLanMac, kNeighbourMac).frame()));
  outcome = reply_to(elsewhere, kRouterMac);
  EXPECT_EQ(outcome.action, XDP_REDIRECT);
  EXPECT_TRUE(same_frame(outcome.frame, at_client(elsewhere, kCoreMac, kBackendMac).frame()));
}

TEST_P(WayTest, WithoutANeighbourAReplyGoesBackToTheMacThatTheClientsPacketsCameFrom) {
  const Endpoint client = at("192.0.2.60", 40001);
  const Outcome outcome = reply_to(client, kOtherMac);
  EXPECT_EQ(outcome.action, XDP_TX);
  EXPECT_TRUE(same_frame(outcome.frame, at_client(client, kLanMac, kOtherMac).frame()));
}

TEST_P(WayTest, WithoutANeighbourOnAnotherInterfaceAReplyIsDropped) {
  EXPECT_EQ(reply_to(at("10.9.0.60", 40001), kOtherMac).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(service_, SLUICE_REASON_NO_NEXT_HOP), 1U);
}

TEST_P(WayTest, WithoutARouteToTheClientAReplyIsDropped) {
  for (const char* client : {"100.64.0.1", "100.64.1.1", "100.64.2.1", "172.31.0.1"})
    EXPECT_EQ(reply_to(at(client, 40001), kRouterMac).action, XDP_DROP) << client;
  EXPECT_EQ(plane_.counted(service_, SLUICE_REASON_NO_NEXT_HOP), 4U);
}

TEST_P(WayTest, OnANodeThatDoesNotForwardAReplyGoesBackTheWayTheClientCame) {
  // Of IPv6 the interface decides.
  const ScopedSysctl forwarding(ipv6() ? "net/ipv6/conf/lan/forwarding" : "net/ipv4/ip_forward", "0");
  const Outcome outcome = reply_to(client_, kOtherMac);
  EXPECT_EQ(outcome.action, XDP_TX);
  EXPECT_TRUE(same_frame(outcome.frame, at_client(client_, kLanMac, kOtherMac).frame()));
}

TEST_P(WayTest, AReplyTooBigForTheClientsInterfaceIsDropped) {
  plane_.egress(kCoreEgress).mtu = 1400;
  const size_t most = ipv6() ? 1340 : 1360;
  EXPECT_EQ(reply_to(at("10.9.0.20", 40003), kRouterMac, most).action, XDP_REDIRECT);
  EXPECT_EQ(reply_to(at("10.9.0.20", 40003), kRouterMac, most + 1).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(service_, SLUICE_REASON_TOO_BIG), 1U);
}

TEST_P(WayTest, AReplyThatLeavesByTheInterfaceItCameInFitsWhateverItsMtu) {
  // In generic mode the receiving side has put segments together; on their way out they are taken apart again.
  plane_.egress(kLanEgress).mtu = 600;
  EXPECT_EQ(reply_to(client_, kRouterMac, 1300).action, XDP_TX);
}

// What the kernel has said is kept for a while.
TEST_P(WayTest, AChangedRouteToTheClientIsFollowedByReplies) {
  const Packet packet = to_service(kSyn);
  plane_.receive(packet);
  EXPECT_TRUE(same_frame(plane_.receive(back(packet)).frame, at_client(client_, kLanMac, kRouterMac).frame()));
  const std::string route =
      ipv6() ? "route change 2001:db8:c633:6400::/56 via 2001:db8:" : "route change 198.51.100.0/24 via ";
  ip_commands(route + (ipv6() ? "c000:200::32" : "192.0.2.50"));
  forget_way();
  EXPECT_TRUE(same_frame(plane_.receive(back(packet)).frame, at_client(client_, kLanMac, kNeighbourMac).frame()));
  ip_commands(route + (ipv6() ? "c000:200::fe" : "192.0.2.254"));
}

}  // namespace
}  // namespace sluice::packets
