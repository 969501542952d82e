// Packets in tunnels, built byte by byte (RFC 8926), and a dataplane with two other nodes.
#pragma once

#include <tuple>

#include "tests/packets/dataplane.h"

namespace sluice::packets {

struct Tunnelled {
  Address from, to;  // outer
  Mac source_mac{}, destination_mac{};
  uint16_t source_port = 0;
  uint8_t tos = 0, ttl = 64;
  uint64_t token = 0;  // as it lies in memory
  uint8_t hops = SLUICE_TUNNEL_HOPS, flags = 0;
  std::vector<Endpoint> candidates;
  std::vector<Address> nodes;  // of the second candidate and those behind it
  Bytes inner;

  [[nodiscard]] Bytes option() const;  // Geneve's header and our option
  [[nodiscard]] Frame frame() const;
  [[nodiscard]] Frame frame_with(const Bytes& option) const;
};

constexpr uint16_t kTunnelPort = 6081;
constexpr uint64_t kTokenTo1 = 0x1111222233334444, kTokenTo2 = 0x5555666677778888;  // in what we send
constexpr uint64_t kTokenOf1 = 0xaaaabbbbccccdddd, kTokenOf2 = 0x1234567890abcdef;  // in what they send

// The family outside, and inside.
struct TunnelFamilies {
  Family outer, inner;
};
inline std::ostream& operator<<(std::ostream& out, const TunnelFamilies& families) {
  return out << name_of(families.inner) << "In" << name_of(families.outer);
}
inline const auto kTunnelFamilies =
    ::testing::Values(TunnelFamilies{Family::ipv4, Family::ipv4}, TunnelFamilies{Family::ipv4, Family::ipv6},
                      TunnelFamilies{Family::ipv6, Family::ipv4}, TunnelFamilies{Family::ipv6, Family::ipv6});
inline std::string tunnel_name(const ::testing::TestParamInfo<TunnelFamilies>& info) {
  return ::testing::PrintToString(info.param);
}

// Node 1 (peer 1) is a neighbour on `lan`, node 2 (peer 2) behind the router there.
class TunnelTest : public DataplaneTest, public ::testing::WithParamInterface<TunnelFamilies> {
 protected:
  TunnelTest();

  [[nodiscard]] static Address outer(const std::string& text) {
    return GetParam().outer == Family::ipv6 ? Address::of(text).in_ipv6() : Address::of(text);
  }
  [[nodiscard]] static const Mac& mac_of_node(uint32_t peer) { return peer == 1 ? kNeighbourMac : kRouterMac; }
  // Sets the flags, and which inner packets fit.
  void set_peer(uint32_t peer, uint32_t flags, uint16_t fits4 = 1400, uint16_t fits6 = 1400);
  [[nodiscard]] static Backend behind(uint32_t peer, Endpoint end, uint32_t flags = 0) {
    return {.end = end, .forwarding = SLUICE_FORWARD_TUNNEL, .peer = peer, .flags = flags};
  }
  // As we send it to a peer: the inner packet is `packet` with one hop less.
  [[nodiscard]] Tunnelled to_peer(uint32_t peer, const Packet& packet, std::vector<Endpoint> candidates,
                                  std::vector<Address> nodes = {}) const;
  // As a peer sends it to us.
  [[nodiscard]] Tunnelled from_peer(uint32_t peer, const Packet& packet, std::vector<Endpoint> candidates,
                                    std::vector<Address> nodes = {}) const;

  const Address own_ = outer("192.0.2.1"), node1_ = outer("192.0.2.50"), node2_ = outer("192.0.2.77");
};

}  // namespace sluice::packets
