#include "node-agent/program/keys.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

namespace sluice::agent::program {
namespace {

constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;

// A port of a protocol that services have, or neither.
bool possible(const WholeKey& key) {
  return key.is_address() || ((key.protocol == kTcp || key.protocol == kUdp) && key.port != 0);
}

}  // namespace

sluice_address to_element(const net::IpAddress& address) {
  sluice_address element{};
  std::copy(address.bytes().begin(), address.bytes().end(), std::begin(element.bytes));
  return element;
}

std::optional<net::IpAddress> from_element(const sluice_address& element, net::Family family) {
  if (family == net::Family::ipv4) {
    const bool rest = element.words[0] >> 32 != 0 || element.words[1] != 0;
    return rest ? std::nullopt : std::optional(net::IpAddress::from_ipv4(element.ipv4));
  }
  std::array<uint8_t, 16> bytes{};
  std::copy(std::begin(element.bytes), std::end(element.bytes), bytes.begin());
  return net::IpAddress::from_ipv6(bytes);
}

uint64_t WholeKey::word() const {
  if (address.is_ipv4()) {
    return sluice_key_ipv4(address.ipv4(), port, protocol);
  }
  const sluice_address element = to_element(address);
  return sluice_key_ipv6(element.words[0], element.words[1], port, protocol);
}

std::string WholeKey::to_string() const {
  if (is_address()) {
    return address.to_string();
  }
  const std::string host = address.is_ipv4() ? address.to_string() : "[" + address.to_string() + "]";
  return host + ":" + std::to_string(ntohs(port)) + "/" +
         (protocol == kTcp   ? "TCP"
          : protocol == kUdp ? "UDP"
                             : std::to_string(protocol));
}

std::optional<WholeKey> whole_key(uint64_t word) {
  if (SLUICE_KEY_KIND(word) != SLUICE_KEY_IPV4) {
    return std::nullopt;
  }
  const WholeKey key{net::IpAddress::from_ipv4(static_cast<uint32_t>(word >> 32)), static_cast<uint16_t>(word >> 16),
                     static_cast<uint8_t>(word >> 8)};
  return possible(key) ? std::optional(key) : std::nullopt;
}

std::optional<WholeKey> whole_key(const sluice_key6& element) {
  sluice_address address{};
  address.words[0] = element.address[0];
  address.words[1] = element.address[1];
  const WholeKey key{*from_element(address, net::Family::ipv6), element.port, element.protocol};
  const sluice_key6 again = to_element(key);
  return possible(key) && std::memcmp(&again, &element, sizeof again) == 0 ? std::optional(key) : std::nullopt;
}

sluice_key6 to_element(const WholeKey& key) {
  const sluice_address address = to_element(key.address);
  sluice_key6 element{};
  element.address[0] = address.words[0];
  element.address[1] = address.words[1];
  element.port = key.port;
  element.protocol = key.protocol;
  return element;
}

}  // namespace sluice::agent::program
