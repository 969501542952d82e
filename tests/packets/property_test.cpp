// Checksums and ends over random packets: what comes out is what a builder that computes everything anew would make,
// and what an independent verifier finds right.
#include <linux/bpf.h>

#include <random>

#include "tests/packets/checksum_oracle.h"
#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr int kRounds = 6000;

// Addresses and ports full of the bits at which carries begin and end, and plain random ones.
class RandomPackets {
 public:
  RandomPackets(uint64_t seed, Family family) : random_(seed), family_(family) {}
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }
  Endpoint end() {
    static constexpr uint32_t kEdges[] = {0x01000000, 0x0a0000ff, 0x0affffff, 0xc0000000,
                                          0xdfffffff, 0x7f000001, 0x0a00ffff};
    static constexpr uint16_t kPorts[] = {1, 0xff, 0x100, 0x7fff, 0x8000, 0xfffe, 0xffff};
    Endpoint end{.address = static_cast<uint32_t>(random_()), .port = static_cast<uint16_t>(random_())};
    if (below(3) == 0) end.address = kEdges[below(7)];
    if (below(3) == 0) end.port = kPorts[below(7)];
    if (end.address == Address(0)) end.address = 1;
    if (end.port == 0) end.port = 1;
    if (family_ == Family::ipv6) end.address = ipv6();
    return end;
  }
  Address ipv6() {
    std::array<uint8_t, 16> bytes{};
    const uint32_t kind = below(4);
    for (uint8_t& byte : bytes) byte = kind == 0 ? 0xff : kind == 1 ? 0 : static_cast<uint8_t>(random_());
    bytes[0] = static_cast<uint8_t>(0x20 + below(16));
    return Address::of(bytes);
  }
  Packet packet(Endpoint from, Endpoint to) {
    Packet packet = below(2) == 0 ? Packet::tcp(from, to).tcp_options(below(11)) : Packet::udp(from, to);
    std::vector<uint8_t> payload(below(4) == 0 ? below(1200) : below(40));
    const uint32_t kind = below(4);
    for (uint8_t& byte : payload) byte = kind == 0 ? 0 : kind == 1 ? 0xff : static_cast<uint8_t>(random_());
    packet.payload(payload)
        .ip_options(below(3) == 0 && !to.address.ipv6() ? below(11) : 0)
        .tos(static_cast<uint8_t>(random_()));
    packet.ttl(static_cast<uint8_t>(2 + below(254))).padding(below(4) == 0 ? below(12) : 0);
    if (below(5) == 0 && !to.address.ipv6()) packet.no_udp_checksum();
    return packet;
  }

 private:
  std::mt19937_64 random_;
  Family family_;
};

class PropertyTest : public DataplaneTest, public ::testing::WithParamInterface<Family> {
 protected:
  // Room for all flows: at its share a service makes room among its own, where it has any in the window.
  PropertyTest() : DataplaneTest(GetParam(), {.flow_entries = 16384}) {}
};
INSTANTIATE_TEST_SUITE_P(Families, PropertyTest, kFamilies, family_name);

// One service for each round at the same place of the tables: the key, the service's record and the backend are written
// anew.
class RewrittenService {
 public:
  RewrittenService(Dataplane& plane, uint8_t forwarding, Endpoint first) : plane_(plane), forwarding_(forwarding) {
    service_ = plane.add_service(first, kTcp, {local_backend(first)});
  }
  void set(Endpoint end, uint8_t protocol, Endpoint backend) {
    plane_.forget_key(service_.end.address, service_.end.port, service_.protocol);
    plane_.forget_key(service_.end.address, 0, 0);
    service_.end = end;
    service_.protocol = protocol;
    plane_.set_key(end.address, end.port, protocol, service_.index);
    plane_.set_key(end.address, 0, 0, SLUICE_ADDRESS_SERVICE);
    plane_.set_backend(service_, 0,
                       {.end = backend, .forwarding = forwarding_, .egress = kCoreEgress, .mac = kBackendMac});
  }

 private:
  Dataplane& plane_;
  uint8_t forwarding_;
  Service service_;
};

TEST_P(PropertyTest, LocalDeliveryAndItsReplyEqualAFullRecomputation) {
  RandomPackets random(0x51ce1, family_);
  RewrittenService service(plane_, SLUICE_FORWARD_LOCAL, service_end_);
  for (int round = 0; round < kRounds; round++) {
    SCOPED_TRACE(round);
    const Endpoint client = random.end(), service_end = random.end(), backend = random.end();
    const Packet packet = random.packet(client, service_end).macs(kRouterMac, kLanMac);
    const uint8_t protocol = packet.protocol_number();
    service.set(service_end, protocol, backend);
    ASSERT_EQ(checksum_error(packet.frame()), "");
    const Outcome in = plane_.receive(packet);
    ASSERT_EQ(in.action, XDP_PASS);
    const Endpoint source{client.address, in.source().port};
    ASSERT_TRUE(same_frame(in.frame, Packet(packet).from(source).to(backend).frame()));

    Packet reply = random.packet(backend, source).macs(kLanMac, kRouterMac);
    if (reply.protocol_number() != protocol) continue;
    ASSERT_TRUE(same_frame(plane_.send(reply).frame, Packet(reply).from(service_end).to(client).frame()));
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_LOCAL), static_cast<uint64_t>(kRounds));
  EXPECT_GT(plane_.counted(SLUICE_REASON_RETURNED_LOCAL), static_cast<uint64_t>(kRounds) / 3);
}

TEST_P(PropertyTest, NatInBothDirectionsEqualsAFullRecomputation) {
  RandomPackets random(0x51ce2, family_);
  RewrittenService service(plane_, SLUICE_FORWARD_NAT, service_end_);
  const Endpoint routed = at("198.51.100.0", 0);
  for (int round = 0; round < kRounds; round++) {
    SCOPED_TRACE(round);
    const Endpoint service_end = random.end(), backend = random.end();
    // The client's host part and port are random; its network is one that there is a route to.
    const Endpoint client{routed.address + (1 + random.below(254)), random.end().port};
    const Packet packet = random.packet(client, service_end).macs(kRouterMac, kLanMac);
    const Frame frame = packet.frame();
    const size_t hops_at = ipv6() ? 21 : 22;
    service.set(service_end, packet.protocol_number(), backend);
    const Outcome in = plane_.receive(packet);
    ASSERT_EQ(in.action, XDP_REDIRECT);
    const Endpoint source{address("10.9.0.1"), in.source().port};
    const auto ttl = static_cast<uint8_t>(frame[hops_at] - 1);
    ASSERT_TRUE(
        same_frame(in.frame, Packet(packet).from(source).to(backend).ttl(ttl).macs(kCoreMac, kBackendMac).frame()));

    Packet reply = random.packet(backend, source).macs(kBackendMac, kLanMac);
    if (reply.protocol_number() != packet.protocol_number()) continue;
    const auto reply_ttl = static_cast<uint8_t>(reply.frame()[hops_at] - 1);
    ASSERT_TRUE(
        same_frame(plane_.receive(reply).frame,
                   Packet(reply).from(service_end).to(client).ttl(reply_ttl).macs(kLanMac, kRouterMac).frame()));
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_NAT), static_cast<uint64_t>(kRounds));
  EXPECT_GT(plane_.counted(SLUICE_REASON_RETURNED_NAT), static_cast<uint64_t>(kRounds) / 3);
}

TEST(ChecksumOracle, NoticesEveryChangedBitThatAChecksumCovers) {
  for (const Packet& packet : {Packet::tcp(at("192.0.2.1", 1), at("192.0.2.2", 2)).payload_size(3).ip_options(1),
                               Packet::udp(at("192.0.2.1", 1), at("192.0.2.2", 2)).payload_size(4)}) {
    const Frame good = Packet(packet).padding(4).frame();
    ASSERT_EQ(checksum_error(good), "");
    for (size_t bit = size_t{14} * 8; bit < (good.size() - 4) * 8; bit++) {
      Frame damaged = good;
      damaged[bit / 8] ^= static_cast<uint8_t>(1U << bit % 8);
      if (bit / 8 == 14 && bit % 8 >= 4) continue;  // another IP version: not the oracle's
      EXPECT_NE(checksum_error(damaged), "") << bit / 8;
    }
  }
}

}  // namespace
}  // namespace sluice::packets
