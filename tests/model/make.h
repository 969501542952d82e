// Packets as hosts send them: right in every field, with checksums, unless asked otherwise.
#pragma once

#include <random>

#include "tests/model/packet.h"

namespace sluice::model {

using Random = std::mt19937_64;

// Uniform in [least, most].
inline uint64_t between(Random& random, uint64_t least, uint64_t most) {
  return std::uniform_int_distribution<uint64_t>(least, most)(random);
}
inline bool chance(Random& random, unsigned percent) {
  return between(random, 0, 99) < percent;
}
template <typename Container>
const auto& one_of(Random& random, const Container& among) {
  return *std::next(among.begin(), static_cast<std::ptrdiff_t>(between(random, 0, among.size() - 1)));
}
Bytes random_bytes(Random& random, size_t count);

struct Addressing {
  Mac to{}, from{};
  net::IpAddress source, destination;
  uint8_t hops = 64, traffic_class = 0;
  bool dont_fragment = true;
  uint16_t id = 0;
  Bytes options;     // IPv4: a multiple of 4, at most 40
  Bytes extensions;  // IPv6: whole headers; the last one's next header is set
  uint8_t first_extension = 0;
};

struct Tcp {
  uint16_t source = 0, destination = 0;
  uint32_t sequence = 0, acknowledged = 0;
  uint8_t flags = 0;
  Bytes options;  // a multiple of 4, at most 40
};

Bytes make_ip(const Addressing& addressing, uint8_t protocol, View payload);
Bytes make_tcp(const Addressing& addressing, const Tcp& tcp, View payload);
Bytes make_udp(const Addressing& addressing, uint16_t source, uint16_t destination, View payload, bool checksum = true);
// The same packet in parts of at most `most` bytes of payload each (a multiple of 8), in order. It must be whole, and,
// of IPv6, without extensions.
std::vector<Bytes> fragments_of(const Bytes& frame, size_t most, uint32_t id);

}  // namespace sluice::model
