#include "common/net/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cassert>

namespace sluice::net {

namespace {

constexpr size_t kMaxTextLength = INET6_ADDRSTRLEN - 1;

bool is_ipv4_mapped(const std::array<uint8_t, 16>& bytes) {
  return std::all_of(bytes.begin(), bytes.begin() + 10, [](uint8_t byte) { return byte == 0; }) && bytes[10] == 0xff &&
         bytes[11] == 0xff;
}

bool ipv4_is_host(const std::array<uint8_t, 16>& bytes) {
  // 240/4 includes the broadcast address.
  return bytes[0] != 0 && bytes[0] != 127 && bytes[0] < 224 && !(bytes[0] == 169 && bytes[1] == 254);
}

bool ipv6_is_host(const std::array<uint8_t, 16>& bytes) {
  const bool high_zero = std::all_of(bytes.begin(), bytes.begin() + 15, [](uint8_t byte) { return byte == 0; });
  if (high_zero && bytes[15] <= 1) return false;                    // ::, ::1
  if (bytes[0] == 0xff) return false;                               // multicast
  if (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) return false;  // fe80::/10
  return !is_ipv4_mapped(bytes);
}

}  // namespace

IpAddress IpAddress::from_ipv4(uint32_t network_order) {
  IpAddress address;
  std::memcpy(address.bytes_.data(), &network_order, sizeof network_order);
  return address;
}

IpAddress IpAddress::from_ipv6(const std::array<uint8_t, 16>& bytes) {
  IpAddress address;
  address.family_ = Family::ipv6;
  address.bytes_ = bytes;
  return address;
}

Result<IpAddress> IpAddress::parse(std::string_view text) {
  const auto refuse = [&](const char* reason) {
    return fail(ErrorKind::invalid, "parse address", "\"" + std::string(text) + "\"", reason);
  };
  // inet_pton stops at a NUL: what follows one must not pass unseen.
  if (text.empty() || text.size() > kMaxTextLength || text.find('\0') != std::string_view::npos) {
    return refuse("not an IPv4 or IPv6 address");
  }
  const std::string terminated(text);
  if (text.find(':') == std::string_view::npos) {
    uint32_t word = 0;
    // inet_pton takes four decimal parts without leading zeros and nothing else.
    if (inet_pton(AF_INET, terminated.c_str(), &word) != 1) return refuse("not an IPv4 or IPv6 address");
    return from_ipv4(word);
  }
  std::array<uint8_t, 16> bytes{};
  if (inet_pton(AF_INET6, terminated.c_str(), bytes.data()) != 1) return refuse("not an IPv4 or IPv6 address");
  if (is_ipv4_mapped(bytes)) return refuse("an IPv4-mapped IPv6 address: write the IPv4 address");
  IpAddress address = from_ipv6(bytes);
  if (const std::string canonical = address.to_string(); canonical != text) {
    return refuse(("not in canonical form (RFC 5952): write " + canonical).c_str());
  }
  return address;
}

uint32_t IpAddress::ipv4() const {
  assert(is_ipv4());
  uint32_t word = 0;
  std::memcpy(&word, bytes_.data(), sizeof word);
  return word;
}

std::string IpAddress::to_string() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(is_ipv4() ? AF_INET : AF_INET6, bytes_.data(), text.data(), text.size());
  return text.data();
}

bool IpAddress::is_global_unicast() const {
  return is_ipv4() ? ipv4_is_host(bytes_) : ipv6_is_host(bytes_);
}

IpAddress IpAddress::next() const {
  IpAddress address = *this;
  for (size_t i = size(); i-- > 0;) {
    if (++address.bytes_[i] != 0) break;
  }
  return address;
}

}  // namespace sluice::net

size_t std::hash<sluice::net::IpAddress>::operator()(const sluice::net::IpAddress& address) const noexcept {
  uint64_t high = 0;
  uint64_t low = 0;
  std::memcpy(&high, address.bytes().data(), sizeof high);
  std::memcpy(&low, address.bytes().data() + sizeof high, sizeof low);
  uint64_t mixed = (high ^ static_cast<uint64_t>(address.family())) * 0x9e3779b97f4a7c15ULL;
  mixed = (mixed ^ (mixed >> 32) ^ low) * 0xff51afd7ed558ccdULL;
  return mixed ^ (mixed >> 32);
}
