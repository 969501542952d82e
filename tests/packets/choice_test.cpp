// Which backend a flow gets: always the one its slot names.
#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr uint32_t kBackends = 5;

class ChoiceTest : public DataplaneTest, public ::testing::WithParamInterface<Family> {
 protected:
  ChoiceTest() : DataplaneTest(GetParam()) {
    for (uint32_t i = 0; i < kBackends; i++)
      backends_.push_back(local_backend({.address = local_end_.address + i, .port = 8080}));
    service_ = plane_.add_service(service_end_, kTcp, backends_);
    affine_ = plane_.add_service(affine_end_, kTcp, backends_, SLUICE_SERVICE_AFFINITY);
    plane_.add_service(affine_end_, kUdp, backends_, SLUICE_SERVICE_AFFINITY);
  }
  uint32_t chosen(const Packet& packet) {
    return plane_.receive(packet).destination().address.last() - local_end_.address.last();
  }
  std::vector<Backend> backends_;
  Endpoint affine_end_ = at("203.0.113.40", 80);
  Service service_, affine_;
};

INSTANTIATE_TEST_SUITE_P(Families, ChoiceTest, kFamilies, family_name);

TEST_P(ChoiceTest, FollowsTheSlotOfTheFlowsHash) {
  for (const size_t size : {8, 64, 512}) {
    plane_.forget_flows();
    std::vector<uint16_t> slots(size);
    for (size_t i = 0; i < size; i++) slots[i] = static_cast<uint16_t>((i * i + i / 3) % kBackends);
    plane_.set_planes(service_, {slots});
    for (uint16_t port = 1024; port < 1324; port++) {
      const Packet packet = to_service(kSyn).from(at("198.51.100.7", port));
      ASSERT_EQ(chosen(packet), slots[Dataplane::slot(packet, static_cast<uint32_t>(size))]);
    }
  }
}

TEST_P(ChoiceTest, IsTheSameForEveryPacketOfAFlowEvenWithoutItsRecord) {
  for (uint16_t port = 1024; port < 1124; port++) {
    const Packet packet = to_service(kSyn).from(at("198.51.100.7", port));
    const uint32_t first = chosen(packet);
    ASSERT_EQ(chosen(Packet(packet).flags(kAck)), first);
    plane_.forget_flows();
    ASSERT_EQ(chosen(Packet(packet).flags(kAck)), first);
  }
}

TEST_P(ChoiceTest, SpreadsFlowsOverTheSlots) {
  std::vector<uint16_t> slots(64);
  for (size_t i = 0; i < slots.size(); i++) slots[i] = static_cast<uint16_t>(i % 4);
  plane_.set_planes(service_, {slots});
  std::array<int, 4> count{};
  for (uint16_t port = 1; port <= 2000; port++) count[chosen(to_service(kSyn).from(at("198.51.100.7", port)))]++;
  for (const int flows : count) EXPECT_NEAR(flows, 500, 100);  // over four standard deviations
}

TEST_P(ChoiceTest, AnotherHashKeyIsAnotherSpread) {
  std::vector<uint32_t> before, after;
  for (uint16_t port = 1; port <= 64; port++) before.push_back(chosen(to_service(kSyn).from(at("198.51.100.7", port))));
  plane_.forget_flows();
  plane_.settings().flow_hash_key[1] ^= 1;
  for (uint16_t port = 1; port <= 64; port++) after.push_back(chosen(to_service(kSyn).from(at("198.51.100.7", port))));
  EXPECT_NE(before, after);
}

TEST_P(ChoiceTest, WithAffinityAClientHasOneBackendWhateverItsPortsAndProtocol) {
  std::set<uint32_t> seen;
  for (uint32_t host = 1; host <= 40; host++) {
    const Endpoint client{.address = address("198.51.100.0") + host, .port = 40000};
    const uint32_t first = chosen(to_service(kSyn).from(client).to(affine_end_));
    for (uint16_t port = 1; port <= 20; port++) {
      ASSERT_EQ(chosen(to_service(kSyn).from({.address = client.address, .port = port}).to(affine_end_)), first);
      ASSERT_EQ(chosen(udp_to_service().from({.address = client.address, .port = port}).to(affine_end_)), first);
    }
    seen.insert(first);
  }
  EXPECT_EQ(seen.size(), kBackends);
}

TEST_P(ChoiceTest, ConnectionsThatBeganBeforeAChangeOfAffinityStayWhereTheyAre) {
  for (const bool to_affinity : {true, false}) {
    SCOPED_TRACE(to_affinity);
    plane_.forget_flows();
    const Service& service = to_affinity ? service_ : affine_;
    std::vector<uint32_t> before;
    for (uint16_t port = 1; port <= 50; port++)
      before.push_back(chosen(to_service(kSyn).from(at("198.51.100.7", port)).to(service.end)));
    const uint32_t flags =
        SLUICE_SERVICE_VALID | SLUICE_SERVICE_AFFINITY_CHANGED | (to_affinity ? SLUICE_SERVICE_AFFINITY : 0);
    plane_.set_flags(service, flags);
    for (uint16_t port = 1; port <= 50; port++) {
      const Packet packet = to_service().from(at("198.51.100.7", port)).to(service.end);
      ASSERT_EQ(chosen(packet), before[port - 1U]);
      ASSERT_EQ(chosen(packet), before[port - 1U]) << "nor does the record move";
    }
    EXPECT_EQ(plane_.flows().size(), 50U);
    std::vector<uint32_t> after;
    for (uint16_t port = 51; port <= 100; port++)
      after.push_back(chosen(to_service(kSyn).from(at("198.51.100.7", port)).to(service.end)));
    EXPECT_EQ(std::ranges::all_of(after, [&](uint32_t backend) { return backend == after[0]; }), to_affinity)
        << "new ones follow the new rule";
  }
}

TEST_P(ChoiceTest, ARecordInTheSlotOfAnotherAffinityIsNobodysWhereThatWasNeverInForce) {
  uint32_t moved = 0;
  for (uint16_t port = 1; port <= 50; port++) {
    const Endpoint client = at("198.51.100.7", port);
    plane_.forget_flows();
    plane_.set_flags(service_, SLUICE_SERVICE_VALID | SLUICE_SERVICE_AFFINITY);
    const uint32_t by_client = chosen(to_service(kSyn).from(client));
    plane_.set_flags(service_, SLUICE_SERVICE_VALID);
    plane_.forget_flows();
    const uint32_t by_flow = chosen(to_service(kSyn).from(client));
    plane_.forget_flows();
    if (by_client == by_flow) continue;
    moved++;
    plane_.set_flags(service_, SLUICE_SERVICE_VALID | SLUICE_SERVICE_AFFINITY);
    ASSERT_EQ(chosen(to_service(kSyn).from(client)), by_client);
    plane_.set_flags(service_, SLUICE_SERVICE_VALID);
    EXPECT_EQ(chosen(to_service().from(client)), by_flow) << "what was there under this port is another connection";
  }
  EXPECT_GT(moved, 10U);
}

TEST_P(ChoiceTest, ASynEndsTheConnectionOfBeforeTheAffinityWasChanged) {
  const uint32_t changed = SLUICE_SERVICE_VALID | SLUICE_SERVICE_AFFINITY_CHANGED;
  uint32_t moved = 0;
  for (uint16_t port = 1; port <= 50; port++) {
    const Endpoint client = at("198.51.100.7", port);
    plane_.forget_flows();
    plane_.set_flags(service_, changed | SLUICE_SERVICE_AFFINITY);
    const uint32_t before = chosen(to_service(kSyn).from(client));
    ASSERT_EQ(chosen(to_service(kRst).from(client)), before);
    plane_.set_flags(service_, changed);
    const uint32_t after = chosen(to_service(kSyn).from(client));
    moved += before == after ? 0 : 1;
    ASSERT_EQ(chosen(to_service().from(client)), after);
    ASSERT_EQ(plane_.flows().size(), 1U) << "the record of before is gone";
  }
  EXPECT_GT(moved, 10U);
}

TEST_P(ChoiceTest, WithAffinityAClientsFlowsStillHaveSourcePortsOfTheirOwn) {
  const Service nat = plane_.add_service(at("203.0.113.41", 80), kTcp, {nat_backend()}, SLUICE_SERVICE_AFFINITY);
  for (uint16_t port = 1; port <= 200; port++)
    ASSERT_EQ(plane_.receive(to_service(kSyn).from(at("198.51.100.7", port)).to(nat.end)).action, XDP_REDIRECT);
  EXPECT_EQ(plane_.flows().size(), 200U);
  EXPECT_LT(plane_.counted(SLUICE_REASON_PORT_CHANGED), 20U);
}

}  // namespace
}  // namespace sluice::packets
