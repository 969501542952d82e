// What this machine's own clients send: it comes in by the node link's far end, and its replies leave by it.
#include <linux/bpf.h>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

// `lan` is the node link here: both of its ends have kLanMac.
class NodeLinkTest : public DataplaneTest, public ::testing::WithParamInterface<Family> {
 protected:
  NodeLinkTest() : DataplaneTest(GetParam(), {.node_link = true}) {
    plane_.egress(kLanEgress).flags = SLUICE_EGRESS_NODE_LINK;
    tcp_ = plane_.add_service(service_end_, kTcp, {local_backend(local_end_)});
    udp_ = plane_.add_service(service_end_, kUdp, {local_backend(local_end_)});
  }
  [[nodiscard]] static Packet by_link(const Packet& packet) { return Packet(packet).macs(kLanMac, kLanMac); }
  // The source that a backend on this machine sees.
  [[nodiscard]] Endpoint link_source(const Packet& packet) const {
    return {address("192.0.2.1"), nat_source(packet).port};
  }
  [[nodiscard]] Packet reply_to(const Packet& packet, const Endpoint& from, const Endpoint& to) const {
    return packet.protocol_number() == kUdp ? Packet::udp(from, to) : Packet::tcp(from, to);
  }
  Service tcp_, udp_;
};
INSTANTIATE_TEST_SUITE_P(Families, NodeLinkTest, kFamilies, family_name);

TEST_P(NodeLinkTest, ABackendOnThisMachineIsReachedByTheLinkFromItsSource) {
  for (const Packet& packet : {to_service(kSyn), to_service(), udp_to_service(), udp_to_service()}) {
    const Outcome outcome = plane_.receive(by_link(packet));
    EXPECT_EQ(outcome.action, XDP_TX) << "passed up, the stack would drop it for its source";
    EXPECT_TRUE(same_frame(outcome.frame, by_link(packet).from(link_source(packet)).to(local_end_).ttl(63).frame()));
  }
  for (const Flow& flow : plane_.flows()) EXPECT_EQ(flow.kind, SLUICE_FLOW_NAT);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_LOCAL), 4U);
}

// The kernel knows another way to the client's address: it would be asked with the first reply.
TEST_P(NodeLinkTest, RepliesGoBackByTheLink) {
  for (const Packet& packet : {to_service(kSyn), udp_to_service()}) {
    plane_.receive(by_link(packet));
    const Packet back = by_link(reply_to(packet, local_end_, link_source(packet)).payload_size(17));
    for (int i = 0; i < 2; i++) {
      const Outcome outcome = plane_.receive(back);
      EXPECT_EQ(outcome.action, XDP_TX);
      EXPECT_TRUE(same_frame(outcome.frame, Packet(back).from(service_end_).to(client_).ttl(63).frame()));
    }
  }
}

TEST_P(NodeLinkTest, RepliesFromOtherNodesAreSentIntoTheLink) {
  const Endpoint service_end = at("203.0.113.12", 80);
  plane_.add_service(service_end, kTcp, {nat_backend()});
  const Packet packet = to_service(kSyn).to(service_end);
  const Outcome outcome = plane_.receive(by_link(packet));
  EXPECT_EQ(outcome.action, XDP_REDIRECT);
  EXPECT_EQ(outcome.source(), nat_source(packet));
  Dataplane core({.interface = interfaces().core, .egress = kCoreEgress, .mac = kCoreMac, .maps_of = &plane_});
  const Packet back = Packet::tcp(nat_end_, nat_source(packet)).macs(kBackendMac, kCoreMac);
  for (int i = 0; i < 2; i++) {
    const Outcome returned = core.receive(back);
    EXPECT_EQ(returned.action, XDP_REDIRECT);
    EXPECT_TRUE(
        same_frame(returned.frame, Packet(back).from(service_end).to(client_).ttl(63).macs(kLanMac, kLanMac).frame()));
  }
}

TEST_P(NodeLinkTest, ClientsFromElsewhereReachTheSameBackendAsBefore) {
  Dataplane core({.interface = interfaces().core, .egress = kCoreEgress, .mac = kCoreMac, .maps_of = &plane_});
  const Outcome outcome = core.receive(to_service(kSyn).macs(kRouterMac, kCoreMac));
  EXPECT_EQ(outcome.action, XDP_PASS);
  EXPECT_EQ(outcome.source(), client_);
  EXPECT_EQ(outcome.destination(), local_end_);
}

}  // namespace
}  // namespace sluice::packets
