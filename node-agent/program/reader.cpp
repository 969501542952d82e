#include "node-agent/program/reader.h"

namespace sluice::agent::program {

std::optional<uint32_t> find_service(const ImageView& image, uint64_t key) {
  const uint64_t word = image.config->service_table;
  const uint32_t log2 = SLUICE_SERVICE_TABLE_LOG2(word);
  if (word == 0 || log2 > 24) {
    return std::nullopt;
  }
  const uint32_t mask = (1U << log2) - 1;
  const uint32_t home = sluice_service_hash(key, SLUICE_SERVICE_TABLE_SEED(word));
  for (uint32_t step = 0; step < SLUICE_MAX_PROBES; ++step) {
    const size_t position = size_t{SLUICE_SERVICE_TABLE_OFFSET(word)} + ((home + step) & mask);
    if (position >= image.service_keys.size() || image.service_keys[position].key == SLUICE_KEY_EMPTY) {
      return std::nullopt;
    }
    if (image.service_keys[position].key == key) {
      const uint32_t service = image.service_keys[position].service;
      return service < image.services.size() ? std::optional(service) : std::nullopt;
    }
  }
  return std::nullopt;
}

std::optional<uint16_t> read_slot(const ImageView& image, uint64_t table, uint32_t plane, uint32_t slot) {
  const uint32_t first = SLUICE_TABLE_OFFSET(table);
  const uint64_t position = first + (uint64_t{plane} << SLUICE_TABLE_LOG2(table)) + slot;
  const uint64_t element = position / SLUICE_SLOTS_PER_ELEMENT;
  if (element >= image.slots.size()) {
    return std::nullopt;
  }
  return static_cast<uint16_t>(image.slots[element] >> (position % SLUICE_SLOTS_PER_ELEMENT * 16));
}

}  // namespace sluice::agent::program
