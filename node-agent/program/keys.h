// What packets are looked up by, in full and as the word in the key table. Pure.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

#include "bpf/sluice.h"
#include "common/net/address.h"

namespace sluice::agent::program {

// As it lies in maps and packets.
sluice_address to_element(const net::IpAddress& address);
// nullopt: not as an address of that family is written.
std::optional<net::IpAddress> from_element(const sluice_address& element, net::Family family);

// {address, port, protocol}: a service; {address, 0, 0}: an address, whatever comes to it.
struct WholeKey {
  net::IpAddress address;
  uint16_t port = 0;  // network order
  uint8_t protocol = 0;
  // sluice_key_entry.key. Of IPv6 it is a print that other keys may have too.
  [[nodiscard]] uint64_t word() const;
  [[nodiscard]] bool is_address() const { return port == 0 && protocol == 0; }
  // "192.0.2.10:80/TCP", "[2001:db8::1]:53/UDP"; an address alone as it is.
  [[nodiscard]] std::string to_string() const;
  friend auto operator<=>(const WholeKey&, const WholeKey&) = default;
  friend bool operator==(const WholeKey&, const WholeKey&) = default;
};

// What an IPv4 key's word says; nullopt where it is no such key's.
std::optional<WholeKey> whole_key(uint64_t word);
// What an element of `keys6` says; nullopt where no key is written so.
std::optional<WholeKey> whole_key(const sluice_key6& element);
sluice_key6 to_element(const WholeKey& key);

}  // namespace sluice::agent::program
