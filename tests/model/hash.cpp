#include "tests/model/hash.h"

#include <cstddef>

namespace sluice::model {
namespace {

constexpr uint64_t kFirst = 0x9e3779b97f4a7c15ULL, kSecond = 0xff51afd7ed558ccdULL, kThird = 0xc4ceb9fe1a85ec53ULL;

// Eight, four or two bytes as they lie in a packet, the first of them the lowest.
uint64_t word(const net::IpAddress& address, size_t from, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = bytes; i-- > 0;) value = value << 8 | address.bytes().at(from + i);
  return value;
}
uint64_t word(uint16_t port) {
  return static_cast<uint64_t>(static_cast<uint16_t>(port << 8 | port >> 8));
}

// Of an IPv6 service, the lowest byte set to 3.
uint64_t print_of(const net::IpAddress& address, uint16_t port, uint8_t protocol) {
  uint64_t h = (word(address, 0, 8) ^ (word(port) << 8 | protocol)) * kFirst;
  h = (h ^ (h >> 32) ^ word(address, 8, 8)) * kSecond;
  h = (h ^ (h >> 32)) * kThird;
  return (h & ~0xffULL) | 3;
}

uint64_t hash(const FlowEnds& ends, const HashKey& key) {
  uint64_t a = 0;
  if (ends.client.is_ipv4()) {
    a = ((word(ends.client, 0, 4) << 32 | word(ends.address, 0, 4)) ^ key[0]) * kFirst;
    a ^= a >> 32;
    a += (word(ends.client_port) << 32 | word(ends.port) << 8 | ends.protocol) ^ key[1];
    a *= kSecond;
    a ^= a >> 29;
  } else {
    a = (word(ends.client, 0, 8) ^ key[0]) * kFirst;
    a ^= a >> 32;
    a += word(ends.client, 8, 8) ^ key[1];
    a *= kSecond;
    a ^= a >> 29;
    a += print_of(ends.address, ends.port, ends.protocol) ^ word(ends.client_port);
    a *= kThird;
    a ^= a >> 32;
  }
  a *= key[1] | 1;
  return a ^ (a >> 32);
}

}  // namespace

uint64_t hash_by_flow(const FlowEnds& ends, const HashKey& key) {
  return hash(ends, key);
}

uint64_t hash_by_client(const FlowEnds& ends, const HashKey& key) {
  return hash({.client = ends.client, .address = ends.address}, key);
}

uint16_t nat_port(uint64_t hash, uint32_t i, uint16_t first, uint32_t count) {
  const uint64_t start = (hash >> 32) * count >> 32;
  const uint64_t step = 1 + ((hash >> 16 & 0xffff) * (count / kNatTries) >> 16);
  return static_cast<uint16_t>(first + (start + i * step) % count);
}

uint16_t local_port(uint64_t hash, uint32_t i, uint16_t client_port) {
  constexpr uint16_t kFirstPort = 1024;
  return i == 0 ? client_port : nat_port(hash, i - 1, kFirstPort, 65536 - kFirstPort);
}

uint16_t tunnel_port(uint64_t hash) {
  return static_cast<uint16_t>(0xc000 | (hash >> 48 & 0x3fff));
}

}  // namespace sluice::model
