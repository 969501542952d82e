#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "common/net/address.h"

namespace sluice::net {

namespace {

__extension__ using Number = unsigned __int128;

Number to_number(const IpAddress& address) {
  Number number = 0;
  for (size_t i = 0; i < address.size(); ++i) number = (number << 8) | address.bytes()[i];
  return number;
}

IpAddress from_number(Family family, Number number) {
  std::array<uint8_t, 16> bytes{};
  const size_t size = family == Family::ipv4 ? 4 : 16;
  for (size_t i = size; i-- > 0; number >>= 8) bytes[i] = static_cast<uint8_t>(number);
  if (family == Family::ipv6) return IpAddress::from_ipv6(bytes);
  uint32_t word = 0;
  std::memcpy(&word, bytes.data(), sizeof word);
  return IpAddress::from_ipv4(word);
}

// The bits that a prefix of this length leaves to the host.
Number host_bits(Family family, uint8_t length) {
  const unsigned width = family == Family::ipv4 ? 32 : 128;
  const unsigned bits = width - length;
  return bits == 128 ? ~Number{0} : (Number{1} << bits) - 1;
}

// How many addresses less one: the count of ::/0 itself does not fit.
Number size_less_one(const AddressRange& range) {
  return to_number(range.last) - to_number(range.first);
}

// With the reason alone where it fails.
tl::expected<Prefix, std::string> read_prefix(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return tl::unexpected<std::string>("no /LENGTH");
  auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return tl::unexpected(address.error().reason);
  const std::string_view digits = text.substr(slash + 1);
  unsigned length = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  const unsigned width = address->is_ipv4() ? 32 : 128;
  if (error != std::errc{} || end != digits.data() + digits.size() || length > width ||
      (digits.size() > 1 && digits.front() == '0')) {
    return tl::unexpected("the length is not a number from 0 to " + std::to_string(width));
  }
  return Prefix{*address, static_cast<uint8_t>(length)};
}

Prefix without_host_bits(const Prefix& prefix) {
  const Number mask = host_bits(prefix.address.family(), prefix.length);
  return {from_number(prefix.address.family(), to_number(prefix.address) & ~mask), prefix.length};
}

// The canonical text of an IPv6 address in any form; anything else as it is.
std::string canonical(std::string_view text) {
  const std::string terminated(text);
  std::array<uint8_t, 16> bytes{};
  if (inet_pton(AF_INET6, terminated.c_str(), bytes.data()) != 1) return terminated;
  return IpAddress::from_ipv6(bytes).to_string();
}

}  // namespace

Result<Prefix> Prefix::parse(std::string_view text) {
  const auto refuse = [&](std::string reason) {
    return fail(ErrorKind::invalid, "parse prefix", "\"" + std::string(text) + "\"", std::move(reason));
  };
  const auto prefix = read_prefix(text);
  if (!prefix) return refuse(prefix.error());
  const Prefix cleared = without_host_bits(*prefix);
  if (cleared != *prefix) return refuse("host bits are set: write " + cleared.to_string());
  return *prefix;
}

Result<Prefix> Prefix::parse_loosely(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = std::min(text.find_first_not_of(kSpace), text.size());
  const std::string_view trimmed = text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
  const size_t slash = std::min(trimmed.find('/'), trimmed.size());
  const auto prefix = read_prefix(canonical(trimmed.substr(0, slash)) + std::string(trimmed.substr(slash)));
  if (!prefix) {
    return fail(ErrorKind::invalid, "parse prefix", "\"" + std::string(text) + "\"", prefix.error());
  }
  return without_host_bits(*prefix);
}

AddressRange Prefix::range() const {
  return {address, from_number(address.family(), to_number(address) | host_bits(address.family(), length))};
}

std::string Prefix::to_string() const {
  return address.to_string() + "/" + std::to_string(length);
}

Result<AddressRange> AddressRange::parse(std::string_view text) {
  const auto refuse = [&](std::string reason) {
    return fail(ErrorKind::invalid, "parse address range", "\"" + std::string(text) + "\"", std::move(reason));
  };
  if (text.find('/') != std::string_view::npos) {
    auto prefix = Prefix::parse(text);
    if (!prefix) return refuse(prefix.error().reason);
    return prefix->range();
  }
  const size_t dash = text.find('-');
  auto first = IpAddress::parse(text.substr(0, dash));
  if (!first) return refuse(first.error().reason);
  if (dash == std::string_view::npos) return AddressRange{*first, *first};
  auto last = IpAddress::parse(text.substr(dash + 1));
  if (!last) return refuse(last.error().reason);
  if (first->family() != last->family()) return refuse("the ends are of different families");
  if (*last < *first) return refuse("the end is below the start");
  return AddressRange{*first, *last};
}

bool AddressRange::contains(const IpAddress& address) const {
  // Families do not mix: the order puts every IPv4 address below every IPv6 address.
  return first <= address && address <= last;
}

bool AddressRange::overlaps(const AddressRange& other) const {
  return first <= other.last && other.first <= last;
}

std::string AddressRange::size_text() const {
  Number rest = size_less_one(*this);
  // One is added to the decimal text, as 2^128 does not fit in the number.
  std::string reversed;
  unsigned carry = 1;
  do {
    const unsigned digit = static_cast<unsigned>(rest % 10) + carry;
    reversed.push_back(static_cast<char>('0' + digit % 10));
    carry = digit / 10;
    rest /= 10;
  } while (rest != 0 || carry != 0);
  return {reversed.rbegin(), reversed.rend()};
}

uint64_t AddressRange::size_clamped() const {
  const Number less_one = size_less_one(*this);
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  return less_one >= kMax ? kMax : static_cast<uint64_t>(less_one) + 1;
}

std::string AddressRange::to_string() const {
  if (first == last) return first.to_string();
  const Number difference = to_number(first) ^ to_number(last);
  const bool all_hosts = (difference & (difference + 1)) == 0 && (to_number(first) & difference) == 0;
  if (!all_hosts) return first.to_string() + "-" + last.to_string();
  auto length = static_cast<uint8_t>(first.is_ipv4() ? 32 : 128);
  for (Number rest = difference; rest != 0; rest >>= 1) --length;
  return Prefix{first, length}.to_string();
}

}  // namespace sluice::net
