// What simple XDP load balancers are known not to do, one test each.
#include <linux/bpf.h>

#include <map>
#include <set>

#include "tests/packets/checksum_oracle.h"
#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

class SeedLimit : public DataplaneTest, public ::testing::WithParamInterface<Family> {
 protected:
  SeedLimit() : DataplaneTest(GetParam()) {
    for (uint32_t i = 0; i < 8; i++) {
      Backend backend = nat_backend();
      backend.end.address = backend.end.address + i;
      backends_.push_back(backend);
    }
    tcp_ = plane_.add_service(service_end_, kTcp, backends_);
    udp_ = plane_.add_service(service_end_, kUdp, backends_);
  }
  [[nodiscard]] Packet answer_to(const Outcome& forwarded, uint8_t flags) const {
    return Packet::tcp(forwarded.destination(), forwarded.source(), flags).macs(kBackendMac, kLanMac);
  }
  std::vector<Backend> backends_;
  Service tcp_, udp_;
};
INSTANTIATE_TEST_SUITE_P(Families, SeedLimit, kFamilies, family_name);

TEST_P(SeedLimit, PerPacketChoiceEveryPacketOfAFlowGoesToOneBackendAndFlowsSpread) {
  std::map<uint32_t, int> flows;
  for (uint16_t port = 1; port <= 200; port++) {
    const Packet syn = to_service(kSyn).from({client_.address, port});
    const Endpoint chosen = plane_.receive(syn).destination();
    flows[chosen.address.last()]++;
    for (int i = 0; i < 5; i++) ASSERT_EQ(plane_.receive(Packet(syn).flags(kAck)).destination(), chosen);
    plane_.forget_flows();  // not by memory alone
    ASSERT_EQ(plane_.receive(Packet(syn).flags(kAck)).destination(), chosen);
  }
  EXPECT_EQ(flows.size(), 8U);
  for (const auto& [backend, count] : flows) EXPECT_NEAR(count, 25, 20);
}

TEST_P(SeedLimit, StateEachOfManyClientsGetsItsOwnAnswerAndAFlowOutlivesAChangeOfTheTable) {
  std::vector<std::pair<Packet, Outcome>> flows;
  for (uint16_t i = 0; i < 300; i++) {
    // The same ports from many hosts, and many ports from one.
    const Endpoint client{address("198.51.100.1") + i % 100, static_cast<uint16_t>(40000 + i / 100)};
    const Packet syn = to_service(kSyn).from(client);
    flows.emplace_back(syn, plane_.receive(syn));
  }
  for (const auto& [syn, forwarded] : flows) {
    const Outcome back = plane_.receive(answer_to(forwarded, kSyn | kAck));
    ASSERT_EQ(back.source(), service_end_);
    ASSERT_EQ(back.destination(), syn.source());
  }
  std::vector<uint16_t> before(16), now(16, 7);
  for (size_t i = 0; i < before.size(); i++) before[i] = static_cast<uint16_t>(i % 8);
  plane_.set_planes(tcp_, {now, before});
  for (const auto& [syn, forwarded] : flows)
    ASSERT_EQ(plane_.receive(Packet(syn).flags(kAck)).destination(), forwarded.destination());
}

TEST_P(SeedLimit, ReclaimPortsOfClosedConnectionsServeNewOnes) {
  plane_.set_planes(tcp_, {std::vector<uint16_t>(8, 0)});
  plane_.settings().nat_port_last = kNatFirst + 15;  // sixteen connections at a time
  for (uint32_t round = 0; round < 4; round++) {
    std::vector<Packet> clients;
    for (uint16_t i = 0; i < 16; i++) {
      clients.push_back(to_service(kSyn).from({address("198.51.100.1") + round, static_cast<uint16_t>(1000 + i)}));
      const Outcome forwarded = plane_.receive(clients.back());
      ASSERT_EQ(forwarded.action, XDP_REDIRECT) << round << " " << i;
      plane_.receive(answer_to(forwarded, kSyn | kAck));
    }
    EXPECT_EQ(plane_.receive(to_service(kSyn).from(at("198.51.100.99", 1))).action, XDP_DROP) << "all are in use";
    for (const Packet& client : clients) {
      const Outcome forwarded = plane_.receive(Packet(client).flags(kFin | kAck));
      plane_.receive(answer_to(forwarded, kFin | kAck));
    }
    for (const Flow& flow : plane_.flows()) plane_.age(flow, SLUICE_IDLE_CLOSED + 1);
  }
  EXPECT_EQ(plane_.flows().size(), 16U);
  EXPECT_EQ(plane_.counted(tcp_, SLUICE_REASON_PORTS_EXHAUSTED), 4U);
}

TEST_P(SeedLimit, PortsClientsWithTheSameSourcePortNeverShareATranslatedOne) {
  plane_.set_planes(tcp_, {std::vector<uint16_t>(8, 0)});
  std::set<uint16_t> ports;
  for (uint32_t i = 0; i < 1500; i++) {
    const Endpoint client{address("198.51.0.1") + i, 40000};
    const Outcome outcome = plane_.receive(to_service(kSyn).from(client));
    ASSERT_EQ(outcome.action, XDP_REDIRECT);
    ASSERT_TRUE(ports.insert(outcome.source().port).second) << "port " << outcome.source().port << " twice";
  }
}

TEST_P(SeedLimit, ArpTheAddressIsAnsweredForAndNextHopsFollowWithoutBeingConfigured) {
  if (!ipv6()) {
    plane_.own(service_end_.address, interfaces().lan, 5);
    const Arp request{.source_mac = kRouterMac,
                      .destination_mac = kBroadcast,
                      .sender_mac = kRouterMac,
                      .sender = ip("192.0.2.254"),
                      .target_mac = {},
                      .target = service_end_.address.last()};
    EXPECT_EQ(plane_.receive(request.frame()).action, XDP_TX);
  }
  plane_.set_planes(tcp_, {std::vector<uint16_t>(8, 0)});
  plane_.set_backend(tcp_, 0, {.end = nat_end_, .forwarding = SLUICE_FORWARD_NAT});  // nobody has said its MAC
  const Outcome outcome = plane_.receive(to_service(kSyn));
  EXPECT_EQ(outcome.action, XDP_REDIRECT);
  EXPECT_TRUE(std::equal(kBackendMac.begin(), kBackendMac.end(), outcome.frame.begin()));
}

TEST_P(SeedLimit, ChecksumsOfTcpAndUdpAreRightForEveryLength) {
  for (size_t size = 0; size < 120; size++) {
    for (const Packet& packet :
         {to_service(kSyn).payload_size(size).tcp_options(size % 11), udp_to_service().payload_size(size)}) {
      const Outcome forwarded = plane_.receive(packet);
      ASSERT_EQ(checksum_error(forwarded.frame), "") << size;
      Packet answer =
          packet.protocol_number() == kTcp
              ? answer_to(forwarded, kAck).payload_size(size)
              : Packet::udp(forwarded.destination(), forwarded.source()).payload_size(size).macs(kBackendMac, kLanMac);
      ASSERT_EQ(checksum_error(plane_.receive(answer).frame), "") << size;
    }
  }
}

}  // namespace
}  // namespace sluice::packets
