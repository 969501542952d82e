#include "tests/model/mutate.h"

#include <algorithm>

namespace sluice::model {
namespace {

struct Change {
  Random& random;
  Bytes& frame;
  const std::vector<net::IpAddress>& addresses;
  bool v6;
  size_t at;  // where TCP or UDP may begin

  [[nodiscard]] bool has(size_t position, size_t bytes = 1) const { return position + bytes <= frame.size(); }
  void set(size_t position, uint64_t value) {
    if (has(position)) frame[position] = static_cast<uint8_t>(value);
  }
  void set16(size_t position, uint64_t value) {
    if (has(position, 2)) put16(frame, position, static_cast<uint16_t>(value));
  }
  uint16_t some16() { return static_cast<uint16_t>(random()); }
  // IPv4's header checksum follows what is changed in the header, or not.
  void mend_header() {
    if (!v6 && has(kEthernet, 20) && chance(random, 70) && has(kEthernet, size_t{frame[kEthernet] & 15U} * 4))
      set_header_checksum(frame, kEthernet);
  }
};

void cut(Change& change) {
  change.frame.resize(between(change.random, kEthernet + 1, change.frame.size()));
}
void pad(Change& change) {
  append(change.frame, random_bytes(change.random, between(change.random, 1, 40)));
}
void flip_bit(Change& change) {
  change.frame[between(change.random, 0, change.frame.size() - 1)] ^=
      static_cast<uint8_t>(1U << between(change.random, 0, 7));
}
void randomise_byte(Change& change) {
  const size_t most = std::min<size_t>(change.frame.size() - 1, 80);
  change.frame[between(change.random, 12, std::max<size_t>(most, 12))] = static_cast<uint8_t>(change.random());
}
void other_ip_length(Change& change) {
  const size_t position = kEthernet + (change.v6 ? 4 : 2);
  const uint16_t said = change.has(position, 2) ? get16(change.frame, position) : uint16_t{0};
  change.set16(position, chance(change.random, 50) ? said + between(change.random, 0, 16) - 8 : change.some16());
  change.mend_header();
}
void other_header_length(Change& change) {
  change.set(kEthernet, chance(change.random, 50) ? change.random()
                                                  : (change.frame[kEthernet] & 0xf0U) | between(change.random, 0, 15));
}
void other_hops(Change& change) {
  constexpr std::array<uint8_t, 5> kHops{0, 1, 2, 3, 255};
  change.set(kEthernet + (change.v6 ? 7 : 8), one_of(change.random, kHops));
  change.mend_header();
}
void other_fragment_word(Change& change) {
  constexpr std::array<uint16_t, 6> kWords{0x2000, 0x4000, 0x2001, 0x0001, 0x1fff, 0x8000};
  if (!change.v6) change.set16(kEthernet + 6, one_of(change.random, kWords));
  change.mend_header();
}
void other_protocol(Change& change) {
  constexpr std::array<uint8_t, 10> kProtocols{0, 2, 4, 6, 17, 41, 43, 47, 60, 132};
  change.set(kEthernet + (change.v6 ? 6 : 9),
             chance(change.random, 80) ? one_of(change.random, kProtocols) : change.random());
  change.mend_header();
}
void other_l4_length(Change& change) {
  if (chance(change.random, 50)) {
    change.set(change.at + 12, change.random());  // TCP's data offset
  } else {
    change.set16(change.at + 4, between(change.random, 0, 80));  // UDP's length
  }
}
void other_flags(Change& change) {
  change.set(change.at + 13, change.random());
}
void no_checksum(Change& change) {
  change.set16(change.at + 6, 0);
}
void damage_checksum(Change& change) {
  constexpr std::array<uint16_t, 3> kFields{0, 0xffff, 1};
  const size_t where = between(change.random, 0, 2);
  const size_t position = where == 0 ? kEthernet + 10 : change.at + (where == 1 ? 6 : 16);
  if (change.v6 && where == 0) return;
  change.set16(position, chance(change.random, 50) ? one_of(change.random, kFields) : change.some16());
}
void other_mac(Change& change) {
  Mac mac{2, 0, 0, 0, 0, static_cast<uint8_t>(change.random())};
  const size_t kind = between(change.random, 0, 3);
  if (kind == 0) mac = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  if (kind == 1) mac = {0x33, 0x33, 0xff, 0, 0, 1};
  if (kind == 2) mac = {1, 0, 0x5e, 0, 0, 1};
  put_mac(change.frame, chance(change.random, 60) ? 0 : 6, mac);
}
void other_type(Change& change) {
  constexpr std::array<uint16_t, 8> kTypes{0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x8847, 0x0040, 0x88cc};
  change.set16(12, one_of(change.random, kTypes));
}
void tag(Change& change) {
  const Bytes word{0x81, 0x00, static_cast<uint8_t>(change.random() & 15), static_cast<uint8_t>(change.random())};
  change.frame.insert(change.frame.begin() + 12, word.begin(), word.end());
}
void other_port(Change& change) {
  constexpr std::array<uint16_t, 8> kPorts{0, 1, 53, 80, 443, 6082, 6081, 65535};
  change.set16(change.at + (chance(change.random, 50) ? 0 : 2),
               chance(change.random, 60) ? one_of(change.random, kPorts) : change.some16());
}
void other_address(Change& change) {
  const auto& address = one_of(change.random, change.addresses);
  if (address.is_ipv4() == change.v6) return;
  const size_t bytes = change.v6 ? 16 : 4;
  const size_t position = kEthernet + (change.v6 ? 8 : 12) + (chance(change.random, 50) ? bytes : 0);
  if (change.has(position, bytes)) put_address(change.frame, position, address);
  change.mend_header();
}
void other_class(Change& change) {
  if (change.v6) {
    change.set16(kEthernet, 0x6000U | (change.random() & 0xfff));
  } else {
    change.set(kEthernet + 1, change.random());
    change.mend_header();
  }
}
void repeat_end(Change& change) {
  const Bytes tail(change.frame.end() - static_cast<std::ptrdiff_t>(change.frame.size() / 2), change.frame.end());
  append(change.frame, tail);
}

constexpr void (*kChanges[])(Change&) = {
    cut,
    cut,
    pad,
    flip_bit,
    flip_bit,
    randomise_byte,
    other_ip_length,
    other_header_length,
    other_hops,
    other_hops,
    other_fragment_word,
    other_protocol,
    other_l4_length,
    other_l4_length,
    other_flags,
    other_flags,
    no_checksum,
    damage_checksum,
    other_mac,
    other_type,
    tag,
    other_port,
    other_address,
    other_address,
    other_class,
    repeat_end,
};

}  // namespace

void mutate(Random& random, Bytes& frame, const std::vector<net::IpAddress>& addresses) {
  const bool v6 = frame.size() >= kEthernet + 1 && get16(frame, 12) == kTypeIpv6;
  const size_t header = v6 ? 40 : frame.size() > kEthernet ? size_t{frame[kEthernet] & 15U} * 4 : 20;
  Change change{random, frame, addresses, v6, kEthernet + header};
  if (frame.size() <= kEthernet + 1) return;
  one_of(random, std::span(kChanges))(change);
}

}  // namespace sluice::model
