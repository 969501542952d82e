// A client's connections stay together: by the slot that its address chooses, and where the slot has moved by a record.
#include <linux/bpf.h>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr uint32_t kSlots = 8, kAffinitySeconds = 100;

class AffinityTest : public DataplaneTest, public ::testing::WithParamInterface<Variant> {
 protected:
  AffinityTest() : DataplaneTest(GetParam().family) {
    std::vector<Backend> backends;
    for (uint8_t i = 0; i < 3; i++) {
      Backend backend = local() ? local_backend(local_end_) : nat_backend();
      backend.end.address = backend.end.address + i;
      ends_.push_back(backend.end);
      backends.push_back(backend);
    }
    for (const uint8_t protocol : {kTcp, kUdp}) {
      Service& service = protocol == kTcp ? tcp_ : udp_;
      service = plane_.add_service(service_end_, protocol, backends);
      plane_.service(service.index).settings =
          SLUICE_SETTINGS_WORD(service.flags | SLUICE_SERVICE_AFFINITY, kAffinitySeconds, 0);
    }
  }
  [[nodiscard]] static bool local() { return GetParam().forwarding == SLUICE_FORWARD_LOCAL; }
  void planes(const std::vector<uint16_t>& candidates) {
    std::vector<std::vector<uint16_t>> all;
    all.reserve(candidates.size());
    for (const uint16_t candidate : candidates) all.emplace_back(kSlots, candidate);
    plane_.set_planes(tcp_, all);
    plane_.set_planes(udp_, all);
  }
  int goes_to(const Packet& packet) {
    const Outcome outcome = plane_.receive(packet);
    if (outcome.action == XDP_DROP || outcome.destination() == packet.source()) return -1;
    return static_cast<int>(outcome.destination().address.last() - ends_[0].address.last());
  }
  [[nodiscard]] Endpoint client(uint16_t port) const { return {client_.address, port}; }
  // What shows that a client is one: it is answered, and goes on.
  void talk(uint16_t port, int backend) {
    ASSERT_EQ(goes_to(udp_to_service().from(client(port))), backend);
    for (const Flow& flow : plane_.flows()) {
      if (flow.kind == SLUICE_FLOW_AFFINITY || flow.client != client(port)) continue;
      const Packet answer =
          Packet::udp(flow.backend, flow.source).macs(local() ? kLanMac : kBackendMac, local() ? kRouterMac : kLanMac);
      local() ? plane_.send(answer) : plane_.receive(answer);
    }
    ASSERT_EQ(goes_to(udp_to_service().from(client(port))), backend);
  }
  void connect(uint16_t port, int backend) {
    ASSERT_EQ(goes_to(to_service(kSyn).from(client(port))), backend);
    for (const Flow& flow : plane_.flows()) {
      if (flow.kind == SLUICE_FLOW_AFFINITY || flow.client != client(port)) continue;
      const Packet answer = Packet::tcp(flow.backend, flow.source, kSyn | kAck)
                                .macs(local() ? kLanMac : kBackendMac, local() ? kRouterMac : kLanMac);
      local() ? plane_.send(answer) : plane_.receive(answer);
    }
    ASSERT_EQ(goes_to(to_service(kAck).from(client(port))), backend);
  }
  [[nodiscard]] std::vector<Flow> favourites() const {
    std::vector<Flow> found;
    for (const Flow& flow : plane_.flows()) {
      if (flow.kind == SLUICE_FLOW_AFFINITY) found.push_back(flow);
    }
    return found;
  }
  std::vector<Endpoint> ends_;
  Service tcp_, udp_;
};

INSTANTIATE_TEST_SUITE_P(Forwarding, AffinityTest, kVariants, variant_name);

TEST_P(AffinityTest, AClientThatHasBeenAtABackendGoesThereAgainWhenItsSlotHasMoved) {
  planes({0});
  connect(1001, 0);
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn).from(client(1002))), 0);
  planes({2, 1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn).from(client(1003))), 0);
  ASSERT_EQ(favourites().size(), 1U);
  EXPECT_EQ(favourites().front().client, ends_[0]);
}

TEST_P(AffinityTest, OfDatagramsToo) {
  planes({0});
  talk(1001, 0);
  planes({1, 0});
  EXPECT_EQ(goes_to(udp_to_service().from(client(1002))), 0);
}

TEST_P(AffinityTest, AClientThatHasNotBeenHereGoesToTheNewestCandidate) {
  planes({0});
  connect(1001, 0);
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn).from(at("198.51.100.99", 1001))), 1);
}

// Anybody can send a SYN in a client's name.
TEST_P(AffinityTest, ASynAloneLeavesNothingBehind) {
  planes({0});
  EXPECT_EQ(goes_to(to_service(kSyn).from(client(1001))), 0);
  EXPECT_TRUE(favourites().empty());
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn).from(client(1002))), 1);
}

TEST_P(AffinityTest, ItEndsWithTheServicesTimeout) {
  planes({0});
  connect(1001, 0);
  planes({1, 0});
  ASSERT_EQ(favourites().size(), 1U);
  plane_.age(favourites().front(), kAffinitySeconds + 1);
  EXPECT_EQ(goes_to(to_service(kSyn).from(client(1002))), 1);
}

TEST_P(AffinityTest, ItIsRenewedByEachConnection) {
  planes({0});
  connect(1001, 0);
  plane_.age(favourites().front(), kAffinitySeconds - 10);
  connect(1002, 0);
  plane_.age(favourites().front(), kAffinitySeconds - 10);
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn).from(client(1003))), 0);
}

TEST_P(AffinityTest, ABackendThatHasLeftTheChoiceIsNobodysFavourite) {
  planes({0});
  connect(1001, 0);
  Backend gone = local() ? local_backend(local_end_) : nat_backend();
  gone.flags = SLUICE_BACKEND_LEFT;
  plane_.set_backend(tcp_, 0, gone);
  planes({1, 0});
  EXPECT_EQ(goes_to(to_service(kSyn).from(client(1002))), 1);
  EXPECT_EQ(goes_to(to_service(kAck).from(client(1001))), 0);  // what is under way stays
}

TEST_P(AffinityTest, AClientThatIsServedElsewhereHasItsFavouriteThere) {
  planes({0});
  connect(1001, 0);
  planes({1});  // without history
  connect(1002, 1);
  ASSERT_EQ(favourites().size(), 1U);
  EXPECT_EQ(favourites().front().client, ends_[1]);
}

}  // namespace
}  // namespace sluice::packets
