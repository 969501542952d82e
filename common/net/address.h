// IP addresses, prefixes and ranges as values. IPv4 and IPv6 in one type; bytes are in network order.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "common/result.h"

namespace sluice::net {

enum class Family : uint8_t { ipv4 = 4, ipv6 = 6 };

class IpAddress {
 public:
  IpAddress() = default;  // 0.0.0.0
  // `network_order`: the four bytes as they stand in a packet, read as one word.
  static IpAddress from_ipv4(uint32_t network_order);
  static IpAddress from_ipv6(const std::array<uint8_t, 16>& bytes);
  // Canonical text only (RFC 5952): "192.0.2.10", "2001:db8::1"; leading zeros, brackets, zones and IPv4-mapped forms
  // are refused. The reason names the canonical text where there is one.
  static Result<IpAddress> parse(std::string_view text);

  [[nodiscard]] Family family() const { return family_; }
  [[nodiscard]] bool is_ipv4() const { return family_ == Family::ipv4; }
  // The four bytes of an IPv4 address as one word in network order. Asserts is_ipv4().
  [[nodiscard]] uint32_t ipv4() const;
  // The address, IPv4 in the first four bytes.
  [[nodiscard]] const std::array<uint8_t, 16>& bytes() const { return bytes_; }
  [[nodiscard]] size_t size() const { return is_ipv4() ? 4 : 16; }
  [[nodiscard]] std::string to_string() const;

  // Usable as the address of one host on the internet or a private network: not unspecified, loopback, link-local,
  // multicast, broadcast (255.255.255.255) or 0/8, 240/4.
  [[nodiscard]] bool is_global_unicast() const;
  // The next address up; the highest wraps to the lowest.
  [[nodiscard]] IpAddress next() const;

  // IPv4 before IPv6, then by value.
  friend std::strong_ordering operator<=>(const IpAddress& a, const IpAddress& b) = default;
  friend bool operator==(const IpAddress& a, const IpAddress& b) = default;

 private:
  Family family_ = Family::ipv4;
  std::array<uint8_t, 16> bytes_{};
};

// An inclusive range of one family: first <= last.
struct AddressRange {
  IpAddress first;
  IpAddress last;
  // "192.0.2.0/24", "198.51.100.10-198.51.100.20", or one address. A prefix with host bits set is refused.
  static Result<AddressRange> parse(std::string_view text);
  [[nodiscard]] bool contains(const IpAddress& address) const;
  [[nodiscard]] bool overlaps(const AddressRange& other) const;
  // How many addresses, in decimal: a /64 does not fit in 64 bits.
  [[nodiscard]] std::string size_text() const;
  // How many addresses, at most UINT64_MAX.
  [[nodiscard]] uint64_t size_clamped() const;
  [[nodiscard]] std::string to_string() const;  // an address, a prefix where it is one, "a-b" elsewhere
  friend auto operator<=>(const AddressRange&, const AddressRange&) = default;
  friend bool operator==(const AddressRange&, const AddressRange&) = default;
};

// address/length with no host bits set.
struct Prefix {
  IpAddress address;
  uint8_t length = 0;
  static Result<Prefix> parse(std::string_view text);
  // As Kubernetes reads a source range: any text form of the address, with host bits, which do not count, and with
  // space around it.
  static Result<Prefix> parse_loosely(std::string_view text);
  [[nodiscard]] AddressRange range() const;
  [[nodiscard]] std::string to_string() const;
  friend auto operator<=>(const Prefix&, const Prefix&) = default;
  friend bool operator==(const Prefix&, const Prefix&) = default;
};

}  // namespace sluice::net

template <>
struct std::hash<sluice::net::IpAddress> {
  size_t operator()(const sluice::net::IpAddress& address) const noexcept;
};
