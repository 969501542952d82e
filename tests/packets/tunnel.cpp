#include "tests/packets/tunnel.h"

#include <arpa/inet.h>

#include <cstring>

#include "node-agent/program/peer_table.h"

namespace sluice::packets {
namespace {

net::IpAddress value(const Address& address) {
  const sluice_address bytes = element(address);
  if (!address.ipv6()) return net::IpAddress::from_ipv4(bytes.ipv4);
  return net::IpAddress::from_ipv6(address.bytes());
}

}  // namespace

Bytes Tunnelled::option() const {
  Writer data;
  std::array<uint8_t, 8> token_bytes{};
  std::memcpy(token_bytes.data(), &token, sizeof(token));
  data.range(token_bytes.data(), token_bytes.size());
  data.u8(hops).u8(static_cast<unsigned>(candidates.size())).u8(flags);
  data.u8(nodes.empty() ? 0 : nodes.front().ipv6() ? 6 : 4);
  for (size_t i = 0; i < candidates.size(); i++) {
    data.address(candidates[i].address).u16(candidates[i].port).u16(0);
    if (i < nodes.size()) data.address(nodes[i]);
  }
  const Bytes all = data;
  const bool ipv6 = !inner.empty() && inner.front() >> 4 == 6;
  Writer option;
  option.u8(static_cast<unsigned>(all.size() / 4 + 1)).u8(0x40).u16(ipv6 ? kIpv6Type : kIpv4Type).u32(0);
  option.u16(0xff53).u8(0x81).u8(static_cast<unsigned>(all.size() / 4)).bytes(all);
  return option;
}

Frame Tunnelled::frame_with(const Bytes& option) const {
  Packet packet = Packet::udp({from, source_port}, {to, kTunnelPort});
  packet.payload(Writer().bytes(option).bytes(inner)).no_udp_checksum().tos(tos).ttl(ttl).id(0);
  return packet.macs(source_mac, destination_mac).frame();
}

Frame Tunnelled::frame() const {
  return frame_with(option());
}

TunnelTest::TunnelTest() : DataplaneTest(GetParam().inner) {
  sluice_config& config = plane_.settings();
  config.tunnel_port = htons(kTunnelPort);
  if (own_.ipv6())
    config.underlay6 = element(own_);
  else
    config.underlay4 = htonl(own_.last());
  for (const uint32_t index : {1U, 2U}) {
    const Address& node = index == 1 ? node1_ : node2_;
    agent::dataplane::Peer described;
    described.address = value(node);
    described.source = value(own_);
    described.port = kTunnelPort;
    const auto outer = agent::program::outer_template(described);
    sluice_peer& peer = plane_.peer(index);
    peer.next_hop = SLUICE_NEXT_HOP_WORD(kLanEgress, mac_word(mac_of_node(index)));
    peer.token = index == 1 ? kTokenTo1 : kTokenTo2;
    peer.accepted[0] = index == 1 ? kTokenOf1 : kTokenOf2;
    std::copy(outer.bytes.begin(), outer.bytes.end(), peer.outer);
    set_peer(index, SLUICE_PEER_USABLE);
    plane_.set_key(node, 0, 0, SLUICE_ADDRESS_PEER | index);
  }
}

void TunnelTest::set_peer(uint32_t peer, uint32_t flags, uint16_t fits4, uint16_t fits6) {
  if (GetParam().outer == Family::ipv6) flags |= SLUICE_PEER_OUTER_IPV6;
  plane_.peer(peer).state = SLUICE_PEER_WORD(flags, fits4, fits6);
}

Tunnelled TunnelTest::to_peer(uint32_t peer, const Packet& packet, std::vector<Endpoint> candidates,
                              std::vector<Address> nodes) const {
  const Bytes before = packet.ip_packet();
  const bool ipv6 = packet.ipv6();
  Tunnelled sent;
  sent.from = own_;
  sent.to = peer == 1 ? node1_ : node2_;
  sent.source_mac = kLanMac;
  sent.destination_mac = mac_of_node(peer);
  sent.source_port = static_cast<uint16_t>(0xc000 | (Dataplane::hash(packet) >> 48 & 0x3fff));
  sent.token = peer == 1 ? kTokenTo1 : kTokenTo2;
  sent.tos = ipv6 ? static_cast<uint8_t>(before[0] << 4 | before[1] >> 4) : before[1];
  sent.candidates = std::move(candidates);
  sent.nodes = std::move(nodes);
  sent.inner = Packet(packet).ttl(static_cast<uint8_t>(before[ipv6 ? 7 : 8] - 1)).ip_packet();
  return sent;
}

Tunnelled TunnelTest::from_peer(uint32_t peer, const Packet& packet, std::vector<Endpoint> candidates,
                                std::vector<Address> nodes) const {
  Tunnelled sent = to_peer(peer, packet, std::move(candidates), std::move(nodes));
  std::swap(sent.from, sent.to);
  std::swap(sent.source_mac, sent.destination_mac);
  sent.token = peer == 1 ? kTokenOf1 : kTokenOf2;
  sent.inner = packet.ip_packet();
  return sent;
}

}  // namespace sluice::packets
