#include "tests/packets/checksum_oracle.h"

#include <fmt/format.h>

#include <cstdint>
#include <span>

namespace sluice::packets {
namespace {

// One's complement addition of 16-bit words is addition modulo 65535: a covered range, its own checksum included, is a
// multiple of it. The bytes are taken one by one as digits of a number to the base 256, padded to an even count; 65536
// is 1.
uint32_t residue(std::span<const uint8_t> bytes) {
  uint32_t value = 0;
  for (const uint8_t byte : bytes) value = (value * 256 + byte) % 65535;
  return bytes.size() % 2 == 0 ? value : value * 256 % 65535;
}

}  // namespace

std::string checksum_error(const Frame& frame) {
  if (frame.size() < 34 || frame[12] != 0x08 || frame[13] != 0x00 || frame[14] >> 4 != 4) return {};
  const std::span<const uint8_t> packet(frame.begin() + 14, frame.end());
  const size_t header = size_t{4} * (packet[0] & 15U);
  const size_t total = static_cast<size_t>(packet[2]) * 256 + packet[3];
  if (header < 20 || total < header || total > packet.size()) return "lengths do not add up";
  if (residue(packet.first(header)) != 0) return "IP header checksum";
  // A header whose words are all zero apart, 0xffff is never a right value: the complement of a sum that is not zero.
  if (packet[10] == 0xff && packet[11] == 0xff) return "IP header checksum is negative zero";
  if ((packet[6] & 0x3f) != 0 || packet[7] != 0) return {};

  const std::span<const uint8_t> segment = packet.subspan(header, total - header);
  const uint8_t protocol = packet[9];
  if (protocol != kTcp && protocol != kUdp) return {};
  if (segment.size() < (protocol == kTcp ? 20U : 8U)) return "segment is shorter than its header";
  const size_t position = protocol == kTcp ? 16 : 6;
  const unsigned stored = segment[position] * 256U + segment[position + 1];
  if (protocol == kUdp && stored == 0) return {};
  if (protocol == kTcp && stored == 0xffff) return "TCP checksum is negative zero";
  const uint64_t pseudo_header = residue(packet.subspan(12, 8)) + protocol + segment.size();
  if ((pseudo_header + residue(segment)) % 65535 != 0)
    return fmt::format("{} checksum {:04x}", protocol == kTcp ? "TCP" : "UDP", stored);
  return {};
}

}  // namespace sluice::packets
