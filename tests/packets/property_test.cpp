// Checksums and ends over random packets: what comes out is what a builder that computes everything anew would make,
// and what an independent verifier finds right.
#include <arpa/inet.h>
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
  explicit RandomPackets(uint64_t seed) : random_(seed) {}
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }
  Endpoint end() {
    static constexpr uint32_t kEdges[] = {0x01000000, 0x0a0000ff, 0x0affffff, 0xc0000000,
                                          0xdfffffff, 0x7f000001, 0x0a00ffff};
    static constexpr uint16_t kPorts[] = {1, 0xff, 0x100, 0x7fff, 0x8000, 0xfffe, 0xffff};
    Endpoint end{.address = static_cast<uint32_t>(random_()), .port = static_cast<uint16_t>(random_())};
    if (below(3) == 0) end.address = kEdges[below(7)];
    if (below(3) == 0) end.port = kPorts[below(7)];
    if (end.address == 0) end.address = 1;
    if (end.port == 0) end.port = 1;
    return end;
  }
  Packet packet(Endpoint from, Endpoint to) {
    Packet packet = below(2) == 0 ? Packet::tcp(from, to).tcp_options(below(11)) : Packet::udp(from, to);
    std::vector<uint8_t> payload(below(4) == 0 ? below(1200) : below(40));
    const uint32_t kind = below(4);
    for (uint8_t& byte : payload) byte = kind == 0 ? 0 : kind == 1 ? 0xff : static_cast<uint8_t>(random_());
    packet.payload(payload).ip_options(below(3) == 0 ? below(11) : 0).tos(static_cast<uint8_t>(random_()));
    packet.ttl(static_cast<uint8_t>(2 + below(254))).padding(below(4) == 0 ? below(12) : 0);
    if (below(5) == 0) packet.no_udp_checksum();
    return packet;
  }

 private:
  std::mt19937_64 random_;
};

class PropertyTest : public DataplaneTest {};

// One service for each round at the same place of the tables: the key, the service's record and the backend are written
// anew.
class RewrittenService {
 public:
  RewrittenService(Dataplane& plane, uint8_t forwarding) : plane_(plane), forwarding_(forwarding) {
    service_ = plane.add_service(at("203.0.113.1", 1), kTcp, {local_backend(at("10.0.0.1", 1))});
    plane.settings().service_table = SLUICE_SERVICE_TABLE_WORD(200, 0, 0);  // a table of one entry
    plane.write_settings();
  }
  void set(Endpoint end, uint8_t protocol, Endpoint backend) {
    plane_.set_key(200, {.key = sluice_key_ipv4(htonl(end.address), htons(end.port), protocol),
                         .service = service_.index,
                         .reserved = 0});
    plane_.set_backend(service_, 0,
                       {.end = backend, .forwarding = forwarding_, .egress = kCoreEgress, .mac = kBackendMac});
  }

 private:
  Dataplane& plane_;
  uint8_t forwarding_;
  Service service_;
};

TEST_F(PropertyTest, LocalDeliveryAndItsReplyEqualAFullRecomputation) {
  RandomPackets random(0x51ce1);
  RewrittenService service(plane_, SLUICE_FORWARD_LOCAL);
  for (int round = 0; round < kRounds; round++) {
    SCOPED_TRACE(round);
    const Endpoint client = random.end(), address = random.end(), backend = random.end();
    const Packet packet = random.packet(client, address).macs(kRouterMac, kLanMac);
    const uint8_t protocol = packet.frame()[23];
    service.set(address, protocol, backend);
    ASSERT_EQ(checksum_error(packet.frame()), "");
    const Outcome in = plane_.receive(packet);
    ASSERT_EQ(in.action, XDP_PASS);
    const Endpoint source{.address = client.address,
                          .port = static_cast<uint16_t>(in.frame[14 + packet.ip_header_size()] << 8 |
                                                        in.frame[15 + packet.ip_header_size()])};
    ASSERT_TRUE(same_frame(in.frame, Packet(packet).from(source).to(backend).frame()));

    Packet reply = random.packet(backend, source).macs(kLanMac, kRouterMac);
    if (reply.frame()[23] != protocol) continue;
    ASSERT_TRUE(same_frame(plane_.send(reply).frame, Packet(reply).from(address).to(client).frame()));
  }
  EXPECT_EQ(plane_.counted(SLUICE_REASON_FORWARDED_LOCAL), static_cast<uint64_t>(kRounds));
  EXPECT_GT(plane_.counted(SLUICE_REASON_RETURNED_LOCAL), static_cast<uint64_t>(kRounds) / 3);
}

TEST_F(PropertyTest, NatInBothDirectionsEqualsAFullRecomputation) {
  RandomPackets random(0x51ce2);
  RewrittenService service(plane_, SLUICE_FORWARD_NAT);
  const Endpoint routed = at("198.51.100.0", 0);
  for (int round = 0; round < kRounds; round++) {
    SCOPED_TRACE(round);
    const Endpoint address = random.end(), backend = random.end();
    // The client's host part and port are random; its network is one that there is a route to.
    const Endpoint client{.address = routed.address + 1 + random.below(254), .port = random.end().port};
    const Packet packet = random.packet(client, address).macs(kRouterMac, kLanMac);
    const Frame frame = packet.frame();
    service.set(address, frame[23], backend);
    const Outcome in = plane_.receive(packet);
    ASSERT_EQ(in.action, XDP_REDIRECT);
    const Endpoint source{.address = ip("10.9.0.1"),
                          .port = static_cast<uint16_t>(in.frame[14 + packet.ip_header_size()] << 8 |
                                                        in.frame[15 + packet.ip_header_size()])};
    const auto ttl = static_cast<uint8_t>(frame[22] - 1);
    ASSERT_TRUE(
        same_frame(in.frame, Packet(packet).from(source).to(backend).ttl(ttl).macs(kCoreMac, kBackendMac).frame()));

    Packet reply = random.packet(backend, source).macs(kBackendMac, kLanMac);
    if (reply.frame()[23] != frame[23]) continue;
    const auto reply_ttl = static_cast<uint8_t>(reply.frame()[22] - 1);
    ASSERT_TRUE(same_frame(plane_.receive(reply).frame,
                           Packet(reply).from(address).to(client).ttl(reply_ttl).macs(kLanMac, kRouterMac).frame()));
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
