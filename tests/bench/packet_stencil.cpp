#include "tests/bench/packet_stencil.h"

#include <algorithm>
#include <cstring>
#include <span>

namespace sluice::bench {
namespace {

constexpr uint32_t kEthernet = 14, kIpv4 = 20, kIpv6 = 40, kTcp = 20, kUdp = 8, kShortest = 64;
constexpr uint8_t kTtl = 64;

// Of 16-bit words as they stand in memory; not folded. The last may be half of one.
uint32_t sum_of(std::span<const uint8_t> bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    uint16_t word = 0;
    std::memcpy(&word, &bytes[i], std::min<size_t>(2, bytes.size() - i));
    sum += word;
  }
  return sum;
}

void put16(Frame& frame, size_t offset, uint32_t value) {
  frame[offset] = static_cast<uint8_t>(value >> 8);
  frame[offset + 1] = static_cast<uint8_t>(value);
}

void put32(Frame& frame, size_t offset, uint32_t value) {
  put16(frame, offset, value >> 16);
  put16(frame, offset + 2, value);
}

// `sum`: of 16-bit words as they stand in memory.
void put_checksum(Frame& frame, size_t offset, uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  const auto checksum = static_cast<uint16_t>(~sum);
  std::memcpy(&frame[offset], &checksum, sizeof(checksum));
}

// Sequence and acknowledgement numbers, and flags.
void put_flags(Frame& frame, uint32_t l4, uint8_t tcp_flags) {
  put32(frame, l4 + 4, (tcp_flags & kSyn) != 0 ? 0 : 1);
  put32(frame, l4 + 8, (tcp_flags & kAck) != 0 ? 1 : 0);
  frame[l4 + 13] = tcp_flags;
}

void put_ipv4(Frame& frame, const PacketSpec& spec) {
  put16(frame, 12, 0x0800);
  frame[kEthernet] = 0x45;
  put16(frame, kEthernet + 2, static_cast<uint32_t>(frame.size()) - kEthernet);
  put16(frame, kEthernet + 6, 0x4000);
  frame[kEthernet + 8] = kTtl;
  frame[kEthernet + 9] = static_cast<uint8_t>(spec.protocol);
  std::copy_n(spec.source.bytes().begin(), 4, &frame[kEthernet + 12]);
  std::copy_n(spec.destination.bytes().begin(), 4, &frame[kEthernet + 16]);
}

void put_ipv6(Frame& frame, const PacketSpec& spec) {
  put16(frame, 12, 0x86dd);
  frame[kEthernet] = 0x60;
  put16(frame, kEthernet + 4, static_cast<uint32_t>(frame.size()) - kEthernet - kIpv6);
  frame[kEthernet + 6] = static_cast<uint8_t>(spec.protocol);
  frame[kEthernet + 7] = kTtl;
  std::copy_n(spec.source.bytes().begin(), 16, &frame[kEthernet + 8]);
  std::copy_n(spec.destination.bytes().begin(), 16, &frame[kEthernet + 24]);
}

}  // namespace

Stencil make_stencil(const PacketSpec& spec) {
  const bool ipv4 = spec.source.is_ipv4();
  const uint32_t address_bytes = ipv4 ? 4 : 16;
  const uint32_t addresses = kEthernet + (ipv4 ? 12 : 8);
  const uint32_t l4 = kEthernet + (ipv4 ? kIpv4 : kIpv6);
  Stencil stencil;
  bench_shape& shape = stencil.shape;
  const bool tcp = spec.protocol == state::Protocol::tcp;
  shape.words = (l4 + (tcp ? kTcp : kUdp) + 7) / 8;
  shape.length = std::max(kShortest, shape.words * 8);
  shape.source = addresses + address_bytes - 4;
  shape.destination = shape.source + address_bytes;
  shape.ports = l4;
  shape.ip_check = ipv4 ? kEthernet + 10 : 0;
  shape.l4_check = l4 + (tcp ? 16 : 6);

  Frame& frame = stencil.frame;
  frame.resize(shape.length);
  std::copy(spec.destination_mac.begin(), spec.destination_mac.end(), frame.begin());
  std::copy(spec.source_mac.begin(), spec.source_mac.end(), frame.begin() + 6);
  ipv4 ? put_ipv4(frame, spec) : put_ipv6(frame, spec);
  const auto l4_length = static_cast<uint8_t>(shape.length - l4);
  if (tcp) {
    frame[l4 + 12] = kTcp / 4 << 4;
    put_flags(frame, l4, spec.tcp_flags);
    put16(frame, l4 + 14, 0xffff);
  } else {
    put16(frame, l4 + 4, l4_length);
  }
  for (const uint32_t address : {shape.source, shape.destination}) std::fill_n(frame.begin() + address, 4, 0);

  const std::span<const uint8_t> bytes(frame);
  stencil.headers.ip_sum = ipv4 ? sum_of(bytes.subspan(kEthernet, kIpv4)) : 0;
  stencil.headers.l4_sum = sum_of(bytes.subspan(addresses, 2UL * address_bytes)) + sum_of(bytes.subspan(l4)) +
                           static_cast<uint32_t>(static_cast<uint8_t>(spec.protocol) << 8) +
                           static_cast<uint32_t>(l4_length << 8);
  std::memcpy(stencil.headers.words, frame.data(), size_t{shape.words} * 8);
  return stencil;
}

Stencil rows_like(const Frame& frame) {
  Stencil stencil;
  stencil.frame = frame;
  stencil.shape.from_rows = 1;
  stencil.shape.length = static_cast<uint32_t>(frame.size());
  stencil.shape.words = std::min<uint32_t>(BENCH_MAX_WORDS, stencil.shape.length / 8);
  return stencil;
}

Frame make_frame(const Stencil& stencil, const bench_flows& flows, uint32_t number) {
  const bench_shape& shape = stencil.shape;
  const uint32_t flow = (number * BENCH_ODD) & flows.mask;
  const auto service = static_cast<uint32_t>((uint64_t{uint32_t{flow * BENCH_ODD}} * flows.services) >> 32);
  Frame frame = stencil.frame;
  put32(frame, shape.source, flows.client + (flow & 0x1ffff));
  put32(frame, shape.destination, flows.service + service);
  put16(frame, shape.ports, flows.first_client_port + (flow >> 17));
  put16(frame, shape.ports + 2, flows.service_port);
  const std::span<const uint8_t> bytes(frame);
  const uint32_t addresses = sum_of(bytes.subspan(shape.source, 4)) + sum_of(bytes.subspan(shape.destination, 4));
  put_checksum(frame, shape.l4_check, stencil.headers.l4_sum + addresses + sum_of(bytes.subspan(shape.ports, 4)));
  if (shape.ip_check != 0) put_checksum(frame, shape.ip_check, stencil.headers.ip_sum + addresses);
  return frame;
}

Frame reply_to(Frame frame, uint8_t tcp_flags) {
  const bool ipv4 = frame[12] == 0x08;
  const auto at = [&frame](uint32_t offset) { return frame.begin() + offset; };
  const uint32_t address_bytes = ipv4 ? 4 : 16;
  const uint32_t addresses = kEthernet + (ipv4 ? 12 : 8);
  const uint32_t l4 = kEthernet + (ipv4 ? kIpv4 : kIpv6);
  // No checksum changes by that: the sum is over 16-bit words, wherever they stand.
  std::swap_ranges(at(0), at(6), at(6));
  std::swap_ranges(at(addresses), at(addresses + address_bytes), at(addresses + address_bytes));
  std::swap_ranges(at(l4), at(l4 + 2), at(l4 + 2));
  const auto sum_of_flags = [&] { return sum_of(std::span<const uint8_t>(frame).subspan(l4 + 4, 10)); };
  uint16_t checksum = 0;
  std::memcpy(&checksum, &frame[l4 + 16], sizeof(checksum));
  const uint32_t without = static_cast<uint16_t>(~checksum) + (5 * 0xffffU - sum_of_flags());
  put_flags(frame, l4, tcp_flags);
  put_checksum(frame, l4 + 16, without + sum_of_flags());
  return frame;
}

}  // namespace sluice::bench
