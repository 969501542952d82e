#include "tests/model/bytes.h"

#include <algorithm>

namespace sluice::model {

uint16_t get16(View bytes, size_t at) {
  return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

uint32_t get32(View bytes, size_t at) {
  return static_cast<uint32_t>(get16(bytes, at)) << 16 | get16(bytes, at + 2);
}

void put16(Bytes& bytes, size_t at, uint16_t value) {
  bytes.at(at) = static_cast<uint8_t>(value >> 8);
  bytes.at(at + 1) = static_cast<uint8_t>(value);
}

void put32(Bytes& bytes, size_t at, uint32_t value) {
  put16(bytes, at, static_cast<uint16_t>(value >> 16));
  put16(bytes, at + 2, static_cast<uint16_t>(value));
}

Mac get_mac(View bytes, size_t at) {
  Mac mac{};
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), mac.size(), mac.begin());
  return mac;
}

void put_mac(Bytes& bytes, size_t at, const Mac& mac) {
  std::copy(mac.begin(), mac.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
}

net::IpAddress get_address(View bytes, size_t at, bool v6) {
  std::array<uint8_t, 16> raw{};
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), v6 ? 16 : 4, raw.begin());
  if (v6) return net::IpAddress::from_ipv6(raw);
  uint32_t word = 0;
  std::copy_n(raw.begin(), 4, reinterpret_cast<uint8_t*>(&word));
  return net::IpAddress::from_ipv4(word);
}

void put_address(Bytes& bytes, size_t at, const net::IpAddress& address) {
  std::copy_n(address.bytes().begin(), address.size(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
}

void append(Bytes& bytes, View more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}

uint16_t sum_of(View bytes, uint16_t start) {
  uint64_t sum = start;
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) sum += get16(bytes, i);
  if (bytes.size() % 2 != 0) sum += static_cast<uint64_t>(bytes.back()) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

uint16_t pseudo_sum(const net::IpAddress& source, const net::IpAddress& destination, uint8_t protocol, size_t length) {
  Bytes header(8);
  put32(header, 0, static_cast<uint32_t>(length));
  header[7] = protocol;
  append(header, View(source.bytes()).first(source.size()));
  append(header, View(destination.bytes()).first(destination.size()));
  return sum_of(header);
}

uint16_t carried_over(uint16_t field, uint16_t before, uint16_t after) {
  constexpr uint32_t kModulus = 0xffff;
  const uint32_t said = static_cast<uint16_t>(~field) % kModulus;
  const uint32_t sum = (after % kModulus + said + kModulus - before % kModulus) % kModulus;
  // Of the two zeros of one's complement a sum of anything is the one of all ones.
  return static_cast<uint16_t>(~(sum == 0 ? kModulus : sum));
}

std::string hex(View bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i != 0 && i % 4 == 0) text += i % 32 == 0 ? '\n' : ' ';
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

Bytes from_hex(const std::string& text) {
  Bytes bytes;
  int high = -1;
  for (const char c : text) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) continue;
    if (high >= 0) bytes.push_back(static_cast<uint8_t>(high << 4 | digit));
    high = high >= 0 ? -1 : digit;
  }
  return bytes;
}

}  // namespace sluice::model
