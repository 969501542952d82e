#include "node-agent/tunnel/probe_frame.h"

#include <gtest/gtest.h>

#include <cstring>

#include "bpf/sluice.h"
#include "tests/unit/tunnel/underlay.h"

namespace sluice::agent::tunnel {
namespace {

constexpr size_t kEthernet = 14;

dataplane::Peer peer(bool ipv6) {
  dataplane::Peer peer;
  peer.source = ip(ipv6 ? "fd00::1" : "10.0.0.1");
  peer.address = ip(ipv6 ? "fd00::2" : "10.0.0.2");
  peer.port = 6082;
  peer.way = {false, 7, {2, 0, 0, 0, 0, 2}, peer.source};
  peer.token = 0x1122334455667788;
  return peer;
}

uint16_t word_at(const Frame& frame, size_t at) {
  return static_cast<uint16_t>(frame.bytes.at(at) << 8 | frame.bytes.at(at + 1));
}
uint64_t as_it_lies(const Frame& frame, size_t at) {
  uint64_t value = 0;
  std::memcpy(&value, &frame.bytes.at(at), sizeof value);
  return value;
}

class ProbeFrame : public testing::TestWithParam<bool> {};

TEST_P(ProbeFrame, IsGeneveWithTokenAndNonceOfTheSizeAskedFor) {
  const bool ipv6 = GetParam();
  constexpr uint64_t kNonce = 0xa1b2c3d4e5f60718;
  const Frame frame = probe_frame(peer(ipv6), {2, 0, 0, 0, 0, 1}, {"n2", kNonce, 1400});
  EXPECT_EQ(frame.ifindex, 7U);
  ASSERT_EQ(frame.bytes.size(), kEthernet + 1400);
  EXPECT_EQ(frame.bytes[5], 2) << "to the neighbour";
  EXPECT_EQ(frame.bytes[11], 1) << "from this interface";
  EXPECT_EQ(word_at(frame, 12), ipv6 ? 0x86dd : 0x0800);
  const size_t udp = kEthernet + (ipv6 ? 40U : 20U);
  EXPECT_EQ(ipv6 ? word_at(frame, kEthernet + 4) + 40 : word_at(frame, kEthernet + 2), 1400);
  EXPECT_EQ(frame.bytes[kEthernet + (ipv6 ? 6U : 9U)], 17);
  EXPECT_GE(word_at(frame, udp), 0xc000) << "a dynamic port";
  EXPECT_EQ(word_at(frame, udp + 2), 6082);
  EXPECT_EQ(word_at(frame, udp + 4), 1400 - (ipv6 ? 40 : 20));
  EXPECT_EQ(word_at(frame, udp + 6), 0) << "no checksum (RFC 6935)";
  const size_t geneve = udp + 8;
  EXPECT_EQ(frame.bytes[geneve], 6) << "words of options";
  EXPECT_EQ(frame.bytes[geneve + 1], SLUICE_GENEVE_CRITICAL);
  EXPECT_EQ(word_at(frame, geneve + 8), SLUICE_GENEVE_CLASS);
  EXPECT_EQ(frame.bytes[geneve + 10], SLUICE_GENEVE_TYPE);
  EXPECT_EQ(frame.bytes[geneve + 11], 5) << "words of data: token, meta, nonce";
  EXPECT_EQ(as_it_lies(frame, geneve + 12), peer(ipv6).token);
  EXPECT_EQ(frame.bytes[geneve + 20], 0) << "hops";
  EXPECT_EQ(frame.bytes[geneve + 21], 0) << "candidates";
  EXPECT_EQ(frame.bytes[geneve + 22], SLUICE_TUNNEL_PROBE);
  EXPECT_EQ(as_it_lies(frame, geneve + 24), kNonce);
}

TEST_P(ProbeFrame, SmallestHasRoomForTheNonceAlone) {
  const bool ipv6 = GetParam();
  const Frame frame = probe_frame(peer(ipv6), {}, {"n2", 5, small_bytes(ipv6)});
  EXPECT_EQ(frame.bytes.size(), kEthernet + (ipv6 ? 40 : 20) + 8 + 8 + SLUICE_TUNNEL_OPTION + 8);
  EXPECT_EQ(as_it_lies(frame, frame.bytes.size() - 8), 5U);
}

INSTANTIATE_TEST_SUITE_P(Families, ProbeFrame, testing::Bool());

TEST(ProbeFrameIpv4, HasARightHeaderChecksum) {
  for (const uint32_t bytes : {small_bytes(false), 1400U, 9000U, 65535U}) {
    const Frame frame = probe_frame(peer(false), {}, {"n2", 5, bytes});
    uint32_t sum = 0;
    for (size_t i = 0; i < 20; i += 2) sum += word_at(frame, kEthernet + i);
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    EXPECT_EQ(sum, 0xffffU) << bytes;
  }
}

}  // namespace
}  // namespace sluice::agent::tunnel
