#include "tests/model/packet.h"

#include <algorithm>

namespace sluice::model {
namespace {

constexpr size_t kIpv4 = 20, kIpv6 = 40, kTcpHeader = 20, kUdpHeader = 8;
constexpr uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44, kAuthentication = 51, kDestination = 60;

bool is_extension(uint8_t protocol) {
  return protocol == kHopByHop || protocol == kRouting || protocol == kFragment || protocol == kAuthentication ||
         protocol == kDestination;
}

void read_ports(View frame, Packet& packet) {
  packet.source_port = get16(frame, packet.at);
  packet.destination_port = get16(frame, packet.at + 2);
  if (packet.protocol != kTcp) return;
  if (packet.at + kTcpHeader > frame.size()) {
    if (packet.at + 14 <= frame.size()) packet.flags = frame[packet.at + 13];
    return;
  }
  packet.sequence = get32(frame, packet.at + 4);
  packet.acknowledged = get32(frame, packet.at + 8);
  packet.flags = frame[packet.at + 13];
}

Packet read_ipv4(View frame) {
  Packet packet;
  packet.length = get16(frame, kEthernet + 2);
  packet.source = get_address(frame, kEthernet + 12, false);
  packet.destination = get_address(frame, kEthernet + 16, false);
  packet.traffic_class = frame[kEthernet + 1];
  packet.hops = frame[kEthernet + 8];
  packet.protocol = frame[kEthernet + 9];
  packet.at = kEthernet + size_t{frame[kEthernet] & 15U} * 4;
  const uint16_t fragment = get16(frame, kEthernet + 6);
  packet.dont_fragment = (fragment & 0x4000) != 0;
  packet.part = (fragment & 0x1fff) != 0 ? Part::later : (fragment & 0x2000) != 0 ? Part::first : Part::whole;
  packet.id = get16(frame, kEthernet + 4);
  return packet;
}

Packet read_ipv6(View frame) {
  Packet packet;
  packet.v6 = true;
  packet.length = kIpv6 + get16(frame, kEthernet + 4);
  packet.source = get_address(frame, kEthernet + 8, true);
  packet.destination = get_address(frame, kEthernet + 24, true);
  packet.traffic_class = static_cast<uint8_t>(get16(frame, kEthernet) >> 4);
  packet.hops = frame[kEthernet + 7];
  packet.protocol = frame[kEthernet + 6];
  packet.at = kEthernet + kIpv6;
  packet.dont_fragment = true;
  return packet;
}

bool walk(View frame, Packet& packet) {
  for (int headers = 0; is_extension(packet.protocol); ++headers) {
    if (headers == kMostExtensions || packet.at + 8 > frame.size()) return false;
    const uint8_t here = packet.protocol;
    const size_t units = frame[packet.at + 1];
    packet.protocol = frame[packet.at];
    if (here != kFragment) {
      packet.at += here == kAuthentication ? (units + 2) * 4 : (units + 1) * 8;
      continue;
    }
    const uint16_t position = get16(frame, packet.at + 2);
    packet.id = get32(frame, packet.at + 4);
    packet.at += 8;
    if ((position & 0xfff8) != 0) {
      packet.part = Part::later;
      return true;
    }
    if ((position & 1) != 0) packet.part = Part::first;
  }
  return true;
}

size_t checksum_at(const Packet& packet) {
  return packet.at + (packet.protocol == kTcp ? 16 : 6);
}

// What TCP's or UDP's checksum covers, as far as it lies in this packet, without the field.
uint16_t sum_covered(View frame, const Packet& packet) {
  const size_t least = packet.at + (packet.protocol == kTcp ? kTcpHeader : kUdpHeader);
  const size_t end = std::max(least, std::min(frame.size(), kEthernet + packet.length));
  const size_t addresses = kEthernet + (packet.v6 ? 8 : 12);
  const View covered = frame.subspan(packet.at, end - packet.at);
  const size_t field = checksum_at(packet) - packet.at;
  const uint16_t sum = sum_of(frame.subspan(addresses, packet.v6 ? 32 : 8), sum_of(covered.first(field)));
  return sum_of(covered.subspan(field + 2), sum);
}

uint16_t sum_header(View frame) {
  const size_t bytes = size_t{frame[kEthernet] & 15U} * 4;
  const View header = frame.subspan(kEthernet, std::min(bytes, frame.size() - kEthernet));
  return sum_of(header.subspan(12), sum_of(header.first(10)));
}

}  // namespace

std::optional<Header> read_header(View frame, bool v6) {
  if (frame.size() < kEthernet + (v6 ? kIpv6 : kIpv4)) return std::nullopt;
  const uint8_t first = frame[kEthernet];
  return Header{.right = v6 ? first >> 4 == 6 : first >> 4 == 4 && (first & 15) >= 5,
                .destination = get_address(frame, kEthernet + (v6 ? 24 : 16), v6)};
}

std::optional<Packet> read_plain(View frame, bool v6) {
  const auto header = read_header(frame, v6);
  if (!header || !header->right) return std::nullopt;
  Packet packet = v6 ? read_ipv6(frame) : read_ipv4(frame);
  if (packet.part != Part::whole || !has_ports(frame, packet)) return std::nullopt;
  read_ports(frame, packet);
  return packet;
}

std::optional<Packet> read_any(View frame, bool v6) {
  const auto header = read_header(frame, v6);
  if (!header || !header->right) return std::nullopt;
  Packet packet = v6 ? read_ipv6(frame) : read_ipv4(frame);
  if (v6 && !walk(frame, packet)) return std::nullopt;
  if (has_ports(frame, packet)) read_ports(frame, packet);
  return packet;
}

bool has_ports(View frame, const Packet& packet) {
  return (packet.protocol == kTcp || packet.protocol == kUdp) && packet.part != Part::later &&
         packet.at - kEthernet <= kMostHeaders && packet.at + 4 <= frame.size();
}

bool lengths_right(View frame, const Packet& packet) {
  if (kEthernet + packet.length > frame.size()) return false;
  if (packet.part == Part::later) return true;
  const size_t least = packet.protocol == kTcp ? kTcpHeader : kUdpHeader;
  if (packet.at - kEthernet + least > packet.length) return false;
  if (packet.part == Part::first) return true;  // the rest is still to come
  const size_t said =
      packet.protocol == kTcp ? (size_t{get16(frame, packet.at + 12)} >> 12) * 4 : get16(frame, packet.at + 4);
  return said >= least && packet.at - kEthernet + said <= packet.length;
}

void give_ends(Bytes& frame, const Packet& packet, const Ends& ends) {
  const bool ports = packet.part != Part::later;
  const uint16_t header_before = packet.v6 ? 0 : sum_header(frame);
  const uint16_t before = ports ? sum_covered(frame, packet) : 0;
  const size_t addresses = kEthernet + (packet.v6 ? 8 : 12);
  put_address(frame, addresses, ends.source);
  put_address(frame, addresses + (packet.v6 ? 16 : 4), ends.destination);
  if (!packet.v6)
    put16(frame, kEthernet + 10, carried_over(get16(frame, kEthernet + 10), header_before, sum_header(frame)));
  if (!ports) return;
  put16(frame, packet.at, ends.source_port);
  put16(frame, packet.at + 2, ends.destination_port);
  const size_t field = checksum_at(packet);
  const uint16_t said = get16(frame, field);
  // RFC 768: zero means that the sender computed none, and a computed zero is sent as all ones.
  if (packet.protocol == kUdp && said == 0) return;
  const uint16_t now = carried_over(said, before, sum_covered(frame, packet));
  put16(frame, field, packet.protocol == kUdp && now == 0 ? 0xffff : now);
}

void set_hops(Bytes& frame, bool v6, uint8_t hops) {
  if (v6) {
    frame[kEthernet + 7] = hops;
    return;
  }
  const uint16_t before = sum_header(frame);
  frame[kEthernet + 8] = hops;
  put16(frame, kEthernet + 10, carried_over(get16(frame, kEthernet + 10), before, sum_header(frame)));
}

void take_hop(Bytes& frame, bool v6) {
  set_hops(frame, v6, static_cast<uint8_t>(frame[kEthernet + (v6 ? 7 : 8)] - 1));
}

void set_header_checksum(Bytes& frame, size_t at) {
  put16(frame, at + 10, 0);
  put16(frame, at + 10, static_cast<uint16_t>(~sum_of(View(frame).subspan(at, size_t{frame[at] & 15U} * 4))));
}

void set_ethernet(Bytes& frame, const Mac& destination, const Mac& source, uint16_t type) {
  put_mac(frame, 0, destination);
  put_mac(frame, 6, source);
  put16(frame, 12, type);
}

}  // namespace sluice::model
