// Packets as bytes: network order throughout, and checksums computed over what they cover.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/net/address.h"

namespace sluice::model {

using Bytes = std::vector<uint8_t>;
using View = std::span<const uint8_t>;
using Mac = std::array<uint8_t, 6>;

// Of the bytes from `at` on, which must be there.
uint16_t get16(View bytes, size_t at);
uint32_t get32(View bytes, size_t at);
void put16(Bytes& bytes, size_t at, uint16_t value);
void put32(Bytes& bytes, size_t at, uint32_t value);
Mac get_mac(View bytes, size_t at);
void put_mac(Bytes& bytes, size_t at, const Mac& mac);
net::IpAddress get_address(View bytes, size_t at, bool v6);
void put_address(Bytes& bytes, size_t at, const net::IpAddress& address);
void append(Bytes& bytes, View more);

// RFC 1071: the one's complement sum of 16-bit words, not complemented; an odd last byte is followed by a zero.
uint16_t sum_of(View bytes, uint16_t start = 0);
// The sum of the pseudo-header that TCP, UDP and ICMPv6 put in front: addresses, protocol, length.
uint16_t pseudo_sum(const net::IpAddress& source, const net::IpAddress& destination, uint8_t protocol, size_t length);
// What a checksum field becomes when the sum of what it covers (without itself) goes from `before` to `after`: right
// where it was right, and as far off as it was where it was not. A packet that came damaged must leave damaged, or its
// receiver would take it for whole.
uint16_t carried_over(uint16_t field, uint16_t before, uint16_t after);

std::string hex(View bytes);
// Of hexadecimal digits; everything else is skipped.
Bytes from_hex(const std::string& text);

}  // namespace sluice::model
