// The XDP program's look-up, written a second time from bpf/sluice.h alone: what a packet would find in an image. Any
// disagreement with the layout shows as a Found that is `broken`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/program/image.h"

namespace sluice::agent::program::testing {

struct FoundBackend {
  uint32_t address = 0;
  uint16_t port = 0;
  uint8_t forwarding = 0;
  friend bool operator==(const FoundBackend&, const FoundBackend&) = default;
};

// A whole service as readers find it: every slot of every plane, resolved.
struct Found {
  std::string broken;  // a reason, where a slot leads to no record of this service
  uint8_t log2 = 0;
  std::vector<std::vector<std::optional<FoundBackend>>> planes;
  friend bool operator==(const Found&, const Found&) = default;
};

inline std::optional<uint32_t> find_index(const ImageView& image, uint64_t key) {
  const uint64_t word = image.config->service_table;
  if (word == 0) {
    return std::nullopt;
  }
  const uint32_t size = 1U << SLUICE_SERVICE_TABLE_LOG2(word);
  for (uint32_t i = 0; i < SLUICE_MAX_PROBES; ++i) {
    const uint32_t position = (sluice_service_hash(key, SLUICE_SERVICE_TABLE_SEED(word)) + i) & (size - 1);
    const auto& entry = image.service_keys[SLUICE_SERVICE_TABLE_OFFSET(word) + position];
    if (entry.key == SLUICE_KEY_EMPTY) {
      return std::nullopt;
    }
    if (entry.key == key) {
      return entry.service;
    }
  }
  return std::nullopt;
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
      if (backend.service != service || backend.forwarding == 0) {
        found.broken = "record " + std::to_string(record) + " is another service's";
        return found;
      }
      slots.emplace_back(FoundBackend{backend.address, backend.port, backend.forwarding});
    }
  }
  return found;
}

// nullopt: no such service.
inline std::optional<Found> read_service(const ImageView& image, uint64_t key) {
  const auto index = find_index(image, key);
  if (!index) {
    return std::nullopt;
  }
  if (*index >= image.services.size() || (image.services[*index].flags & SLUICE_SERVICE_VALID) == 0) {
    return Found{"service " + std::to_string(*index) + " is not valid", 0, {}};
  }
  return read_table(image, *index, image.services[*index].table);
}

}  // namespace sluice::agent::program::testing
