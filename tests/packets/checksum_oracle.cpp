#include "tests/packets/checksum_oracle.h"

#include <fmt/format.h>

#include <cstdint>
#include <span>

namespace sluice::packets {
namespace {

using Range = std::span<const uint8_t>;

constexpr uint16_t kTunnelPort = 6081;
constexpr uint8_t kIpInIp = 4, kIp6InIp = 41;

// One's complement addition of 16-bit words is addition modulo 65535: a covered range, its own checksum included, is a
// multiple of it. The bytes are taken one by one as digits of a number to the base 256, padded to an even count; 65536
// is 1.
uint32_t residue(Range bytes) {
  uint32_t value = 0;
  for (const uint8_t byte : bytes) value = (value * 256 + byte) % 65535;
  return bytes.size() % 2 == 0 ? value : value * 256 % 65535;
}

unsigned two(Range bytes, size_t at) {
  return bytes[at] * 256U + bytes[at + 1];
}

std::string error_of(Range packet);

std::string inner_error(Range packet) {
  const std::string error = error_of(packet);
  return error.empty() ? error : "inside: " + error;
}

// `addresses`: both, as they lie in the IP header.
std::string transport_error(uint8_t protocol, Range addresses, Range segment, bool ipv6) {
  const uint64_t pseudo_header = residue(addresses) + protocol + segment.size();
  if (protocol == kIpInIp || protocol == kIp6InIp) return inner_error(segment);
  if (protocol == kIcmp && !ipv6) return residue(segment) == 0 ? "" : "ICMP checksum";
  if (protocol == kIcmp6 && ipv6) return (pseudo_header + residue(segment)) % 65535 == 0 ? "" : "ICMPv6 checksum";
  if (protocol != kTcp && protocol != kUdp) return {};
  if (segment.size() < (protocol == kTcp ? 20U : 8U)) return "segment is shorter than its header";
  if (protocol == kUdp && two(segment, 2) == kTunnelPort && segment.size() >= 16) {
    const size_t header = 8 + 8 + size_t{4} * (segment[8] & 0x3fU);
    if (header < segment.size()) {
      if (std::string error = inner_error(segment.subspan(header)); !error.empty()) return error;
    }
  }
  const unsigned stored = two(segment, protocol == kTcp ? 16 : 6);
  // RFC 6935: over IPv6, too, a tunnel's outer checksum may be left out; nothing else's.
  if (protocol == kUdp && stored == 0) return ipv6 && two(segment, 2) != kTunnelPort ? "no UDP checksum" : "";
  if (protocol == kTcp && stored == 0xffff) return "TCP checksum is negative zero";
  if ((pseudo_header + residue(segment)) % 65535 != 0)
    return fmt::format("{} checksum {:04x}", protocol == kTcp ? "TCP" : "UDP", stored);
  return {};
}

std::string ipv4_error(Range packet) {
  const size_t header = size_t{4} * (packet[0] & 15U);
  const size_t total = two(packet, 2);
  if (header < 20 || total < header || total > packet.size()) return "lengths do not add up";
  if (residue(packet.first(header)) != 0) return "IP header checksum";
  // A header whose words are all zero apart, 0xffff is never a right value: the complement of a sum that is not zero.
  if (packet[10] == 0xff && packet[11] == 0xff) return "IP header checksum is negative zero";
  if ((packet[6] & 0x3f) != 0 || packet[7] != 0) return {};
  return transport_error(packet[9], packet.subspan(12, 8), packet.subspan(header, total - header), false);
}

std::string ipv6_error(Range packet) {
  const size_t total = 40 + two(packet, 4);
  if (total > packet.size()) return "lengths do not add up";
  size_t at = 40;
  uint8_t next = packet[6];
  while (next == 0 || next == 43 || next == 60 || next == 51) {
    if (at + 8 > total) return "extension headers do not end";
    const size_t size = next == 51 ? (packet[at + 1] + 2U) * 4 : (packet[at + 1] + 1U) * 8;
    next = packet[at];
    at += size;
  }
  if (next == 44) return {};  // a fragment
  if (at > total) return "extension headers do not end";
  return transport_error(next, packet.subspan(8, 32), packet.subspan(at, total - at), true);
}

std::string error_of(Range packet) {
  if (packet.size() >= 20 && packet[0] >> 4 == 4) return ipv4_error(packet);
  if (packet.size() >= 40 && packet[0] >> 4 == 6) return ipv6_error(packet);
  return "no IP packet";
}

}  // namespace

std::string checksum_error(const Frame& frame) {
  const bool ipv4 = frame.size() >= 34 && word_at(frame, 12) == kIpv4Type && frame[14] >> 4 == 4;
  const bool ipv6 = frame.size() >= 54 && word_at(frame, 12) == kIpv6Type && frame[14] >> 4 == 6;
  return ipv4 || ipv6 ? error_of(Range(frame).subspan(14)) : std::string();
}

std::string packet_error(const Bytes& packet) {
  return error_of(packet);
}

}  // namespace sluice::packets
