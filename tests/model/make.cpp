#include "tests/model/make.h"

#include <algorithm>

namespace sluice::model {
namespace {

constexpr size_t kIpv4 = 20, kIpv6 = 40;

uint16_t l4_checksum(const Addressing& addressing, uint8_t protocol, View segment) {
  const uint16_t start = pseudo_sum(addressing.source, addressing.destination, protocol, segment.size());
  return static_cast<uint16_t>(~sum_of(segment, start));
}

}  // namespace

Bytes random_bytes(Random& random, size_t count) {
  Bytes bytes(count);
  std::generate(bytes.begin(), bytes.end(), [&random] { return static_cast<uint8_t>(random()); });
  return bytes;
}

Bytes make_ip(const Addressing& addressing, uint8_t protocol, View payload) {
  const bool v6 = !addressing.source.is_ipv4();
  Bytes frame(kEthernet + (v6 ? kIpv6 : kIpv4));
  set_ethernet(frame, addressing.to, addressing.from, v6 ? kTypeIpv6 : kTypeIpv4);
  put_address(frame, kEthernet + (v6 ? 8 : 12), addressing.source);
  put_address(frame, kEthernet + (v6 ? 24 : 16), addressing.destination);
  if (v6) {
    put16(frame, kEthernet, static_cast<uint16_t>(6U << 12 | addressing.traffic_class << 4));
    put16(frame, kEthernet + 4, static_cast<uint16_t>(addressing.extensions.size() + payload.size()));
    frame[kEthernet + 6] = addressing.extensions.empty() ? protocol : addressing.first_extension;
    frame[kEthernet + 7] = addressing.hops;
    append(frame, addressing.extensions);
  } else {
    frame[kEthernet] = static_cast<uint8_t>(0x40 | (kIpv4 + addressing.options.size()) / 4);
    frame[kEthernet + 1] = addressing.traffic_class;
    put16(frame, kEthernet + 2, static_cast<uint16_t>(kIpv4 + addressing.options.size() + payload.size()));
    put16(frame, kEthernet + 4, addressing.id);
    put16(frame, kEthernet + 6, addressing.dont_fragment ? 0x4000 : 0);
    frame[kEthernet + 8] = addressing.hops;
    frame[kEthernet + 9] = protocol;
    append(frame, addressing.options);
    set_header_checksum(frame, kEthernet);
  }
  append(frame, payload);
  return frame;
}

Bytes make_tcp(const Addressing& addressing, const Tcp& tcp, View payload) {
  Bytes segment(20);
  put16(segment, 0, tcp.source);
  put16(segment, 2, tcp.destination);
  put32(segment, 4, tcp.sequence);
  put32(segment, 8, tcp.acknowledged);
  segment[12] = static_cast<uint8_t>((20 + tcp.options.size()) / 4 << 4);
  segment[13] = tcp.flags;
  put16(segment, 14, 0xfaf0);
  append(segment, tcp.options);
  append(segment, payload);
  put16(segment, 16, l4_checksum(addressing, kTcp, segment));
  return make_ip(addressing, kTcp, segment);
}

Bytes make_udp(const Addressing& addressing, uint16_t source, uint16_t destination, View payload, bool checksum) {
  Bytes datagram(8);
  put16(datagram, 0, source);
  put16(datagram, 2, destination);
  put16(datagram, 4, static_cast<uint16_t>(8 + payload.size()));
  append(datagram, payload);
  if (checksum) {
    const uint16_t right = l4_checksum(addressing, kUdp, datagram);
    put16(datagram, 6, right == 0 ? 0xffff : right);
  }
  return make_ip(addressing, kUdp, datagram);
}

std::vector<Bytes> fragments_of(const Bytes& frame, size_t most, uint32_t id) {
  const bool v6 = get16(frame, 12) == kTypeIpv6;
  const size_t header = kEthernet + (v6 ? kIpv6 : size_t{frame[kEthernet] & 15U} * 4);
  const View payload = View(frame).subspan(header);
  std::vector<Bytes> parts;
  for (size_t from = 0; from < payload.size() || from == 0; from += most) {
    const size_t count = std::min(most, payload.size() - from);
    const bool more = from + count < payload.size();
    Bytes part(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(header));
    if (v6) {
      Bytes extension(8);
      extension[0] = frame[kEthernet + 6];
      put16(extension, 2, static_cast<uint16_t>(from | (more ? 1 : 0)));
      put32(extension, 4, id);
      part[kEthernet + 6] = 44;
      put16(part, kEthernet + 4, static_cast<uint16_t>(8 + count));
      append(part, extension);
    } else {
      put16(part, kEthernet + 2, static_cast<uint16_t>(header - kEthernet + count));
      put16(part, kEthernet + 4, static_cast<uint16_t>(id));
      put16(part, kEthernet + 6, static_cast<uint16_t>(from / 8 | (more ? 0x2000U : 0U)));
      set_header_checksum(part, kEthernet);
    }
    append(part, payload.subspan(from, count));
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace sluice::model
