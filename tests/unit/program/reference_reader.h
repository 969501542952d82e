// The XDP program's look-up, written a second time from bpf/layout alone: what a packet would find in an image. Any
// disagreement with the layout shows as a Found that is `broken`.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/program/image.h"
#include "node-agent/program/keys.h"

namespace sluice::agent::program::testing {

inline sluice_address raw(const net::IpAddress& address) {
  sluice_address element{};
  std::memcpy(&element, address.bytes().data(), sizeof element);
  return element;
}

struct FoundBackend {
  sluice_address address{};
  uint16_t port = 0;
  uint32_t forwarding = 0;
  // What may change while a table stands.
  uint32_t flags = 0;
  std::string peer;  // the outer destination, where there is one
  friend bool operator==(const FoundBackend& a, const FoundBackend& b) {
    return std::memcmp(&a.address, &b.address, sizeof a.address) == 0 && a.port == b.port &&
           a.forwarding == b.forwarding && a.flags == b.flags && a.peer == b.peer;
  }
};

// A whole service as readers find it: every slot of every plane, resolved.
struct Found {
  std::string broken;  // a reason, where a slot leads to no record of this service
  uint8_t log2 = 0;
  std::vector<std::vector<std::optional<FoundBackend>>> planes;
  friend bool operator==(const Found&, const Found&) = default;
};

// Without what may change at another store than the table.
inline Found identities(Found found) {
  for (auto& plane : found.planes) {
    for (auto& slot : plane) {
      if (slot) {
        slot->flags = 0;
        slot->peer.clear();
      }
    }
  }
  return found;
}

// The entry of a word that `right` says yes to.
template <typename Right>
const sluice_key_entry* find_entry(const ImageView& image, uint64_t key, Right right) {
  const uint64_t word = image.config->key_table;
  if (word == 0) {
    return nullptr;
  }
  const uint32_t size = 1U << SLUICE_KEY_TABLE_LOG2(word);
  for (uint32_t i = 0; i < SLUICE_MAX_PROBES; ++i) {
    const uint32_t position = (sluice_key_hash(key, SLUICE_KEY_TABLE_SEED(word)) + i) & (size - 1);
    const auto& entry = image.keys[SLUICE_KEY_TABLE_OFFSET(word) + position];
    if (entry.key == SLUICE_KEY_EMPTY) {
      return nullptr;
    }
    if (entry.key == key && right(entry)) {
      return &entry;
    }
  }
  return nullptr;
}

inline std::optional<uint32_t> find_value(const ImageView& image, const net::IpAddress& address, uint16_t port,
                                          uint8_t protocol) {
  const sluice_key_entry* entry = nullptr;
  if (address.is_ipv4()) {
    entry = find_entry(image, sluice_key_ipv4(address.ipv4(), port, protocol), [](const auto&) { return true; });
  } else {
    const sluice_address wanted = raw(address);
    entry = find_entry(image, sluice_key_ipv6(wanted.words[0], wanted.words[1], port, protocol), [&](const auto& one) {
      const sluice_key6& whole = image.keys6[one.extra];
      return whole.address[0] == wanted.words[0] && whole.address[1] == wanted.words[1] && whole.port == port &&
             whole.protocol == protocol;
    });
  }
  return entry == nullptr ? std::nullopt : std::optional(entry->value);
}

inline std::optional<uint32_t> find_value(const ImageView& image, const WholeKey& key) {
  return find_value(image, key.address, key.port, key.protocol);
}

// What the address is to the node; 0: nothing.
inline uint32_t find_address(const ImageView& image, const net::IpAddress& address) {
  return find_value(image, address, 0, 0).value_or(0);
}

inline std::string outer_destination(const ImageView& image, uint32_t peer) {
  if (peer == 0 || peer >= image.peers.size()) {
    return {};
  }
  const sluice_peer& element = image.peers[peer];
  if ((SLUICE_PEER_FLAGS(element.state) & SLUICE_PEER_OUTER_IPV6) == 0) {
    uint32_t address = 0;
    std::memcpy(&address, element.outer + 16, sizeof address);
    return net::IpAddress::from_ipv4(address).to_string();
  }
  std::array<uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), element.outer + 24, bytes.size());
  return net::IpAddress::from_ipv6(bytes).to_string();
}

inline FoundBackend found_backend(const ImageView& image, const sluice_backend& element) {
  return FoundBackend{element.address, SLUICE_BACKEND_PORT(element.what), SLUICE_BACKEND_FORWARDING(element.what),
                      SLUICE_BACKEND_FLAGS(element.what), outer_destination(image, SLUICE_BACKEND_PEER(element.what))};
}

inline Found read_table(const ImageView& image, uint32_t service, uint64_t word) {
  Found found;
  if (word == 0) {
    return found;
  }
  found.log2 = static_cast<uint8_t>(SLUICE_TABLE_LOG2(word));
  for (uint32_t plane = 0; plane <= SLUICE_TABLE_EARLIER(word); ++plane) {
    auto& slots = found.planes.emplace_back();
    for (uint32_t hash = 0; hash < (1U << found.log2); ++hash) {
      const uint32_t first = SLUICE_TABLE_OFFSET(word);
      const size_t slot = first + (size_t{plane} << found.log2) + hash;
      const auto index = static_cast<uint16_t>(image.slots[slot / 4] >> (slot % 4 * 16));
      if (index == SLUICE_NO_BACKEND) {
        slots.emplace_back(std::nullopt);
        continue;
      }
      const size_t record = size_t{SLUICE_TABLE_BACKENDS(word)} + index;
      if (record >= image.backends.size()) {
        found.broken = "record out of range";
        return found;
      }
      const auto& backend = image.backends[record];
      if (SLUICE_BACKEND_SERVICE(backend.what) != service || SLUICE_BACKEND_FORWARDING(backend.what) == 0) {
        found.broken = "record " + std::to_string(record) + " is another service's";
        return found;
      }
      slots.emplace_back(found_backend(image, backend));
    }
  }
  // A table without any backend is none.
  bool any = false;
  for (const auto& plane : found.planes) {
    for (const auto& slot : plane) {
      any = any || slot.has_value();
    }
  }
  return any ? found : Found{};
}

// nullopt: no such service.
inline std::optional<Found> read_service(const ImageView& image, const WholeKey& key) {
  const auto index = find_value(image, key);
  if (!index) {
    return std::nullopt;
  }
  if (*index >= image.services.size() ||
      (SLUICE_SETTINGS_FLAGS(image.services[*index].settings) & SLUICE_SERVICE_VALID) == 0) {
    return Found{"service " + std::to_string(*index) + " is not valid", 0, {}};
  }
  return read_table(image, *index, image.services[*index].table);
}

// The record that a tunnelled packet finds which names this backend of the service; nullptr: none.
inline const sluice_backend* read_backend(const ImageView& image, uint32_t service, const net::IpAddress& address,
                                          uint16_t port) {
  const sluice_address wanted = raw(address);
  const auto* entry = find_entry(image, sluice_key_backend(service, wanted.words[0], wanted.words[1], port),
                                 [](const auto&) { return true; });
  return entry == nullptr ? nullptr : &image.backends[entry->value];
}

}  // namespace sluice::agent::program::testing
