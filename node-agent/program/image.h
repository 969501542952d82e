// What stands in the kernel's memory-mapped maps, as memory, and what is to be stored there. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bpf/sluice.h"

namespace sluice::agent::program {

// The maps that say where packets go. Flow tables are not among them (flow_tables.h).
enum class MapId : uint8_t { keys, keys6, services, slots, backends, egress, peers, config };
constexpr size_t kMapCount = 8;

const char* map_name(MapId map);  // as in bpf/layout/

// Bytes of one element of a map; a multiple of eight.
constexpr uint32_t element_bytes(MapId map) {
  switch (map) {
    case MapId::keys:
      return sizeof(sluice_key_entry);
    case MapId::keys6:
      return sizeof(sluice_key6);
    case MapId::services:
      return sizeof(sluice_service);
    case MapId::slots:
      return sizeof(uint64_t);
    case MapId::backends:
      return sizeof(sluice_backend);
    case MapId::egress:
      return sizeof(sluice_egress);
    case MapId::peers:
      return sizeof(sluice_peer);
    case MapId::config:
      return sizeof(sluice_config);
  }
  return 0;
}
constexpr uint32_t element_words(MapId map) {
  return element_bytes(map) / 8;
}

// How large the maps are; powers of two, as the XDP program masks indices.
struct Sizes {
  uint32_t keys = 1U << 18;   // entries; two generations of the key table lie in them
  uint32_t keys6 = 1U << 16;  // IPv6 services' keys and addresses
  uint32_t services = 16384;
  uint32_t slots = 1U << 24;  // slots, a multiple of SLUICE_SLOT_UNIT
  uint32_t backends = 65536;
  friend bool operator==(const Sizes&, const Sizes&) = default;
};
// Elements of a map of these sizes.
uint32_t element_count(const Sizes& sizes, MapId map);

// The maps' contents, wherever they lie: the mapping itself, a copy read back, a test's vectors.
struct ImageView {
  std::span<const sluice_key_entry> keys;
  std::span<const sluice_key6> keys6;
  std::span<const sluice_service> services;
  std::span<const uint64_t> slots;  // four slots each
  std::span<const sluice_backend> backends;
  std::span<const sluice_egress> egress;
  std::span<const sluice_peer> peers;
  const sluice_config* config = nullptr;
};

// An image in memory of its own, all zero at first as fresh maps are.
class Image {
 public:
  explicit Image(const Sizes& sizes);
  [[nodiscard]] ImageView view() const;
  [[nodiscard]] void* data(MapId map) { return words_[static_cast<size_t>(map)].data(); }
  friend bool operator==(const Image&, const Image&) = default;

 private:
  Sizes sizes_;
  std::vector<std::vector<uint64_t>> words_;
};
// The view over memory that is laid out as the maps are: one pointer a map, in the order of MapId.
ImageView view_of(const Sizes& sizes, std::span<const void* const, kMapCount> maps);

// A run of aligned 64-bit stores.
struct Write {
  MapId map = MapId::config;
  bool ordered = false;  // a reader that sees this must see everything before it
  uint32_t word = 0;     // the first 64-bit word, from the start of the map
  uint32_t count = 0;    // words
  uint32_t value = 0;    // the first value, in WriteList::values
};

// Stores in the order in which they must be made.
class WriteList {
 public:
  void store(MapId map, uint32_t word, uint64_t value, bool ordered = false);
  void store_run(MapId map, uint32_t word, std::span<const uint64_t> values, bool ordered = false);
  // Makes room for so many words more.
  void reserve(size_t words) { values_.reserve(values_.size() + words); }
  // A whole element. For elements that no reader can be led to yet.
  template <typename T>
  void store_element(MapId map, uint32_t index, const T& element) {
    static_assert(sizeof(T) % 8 == 0);
    uint64_t words[sizeof(T) / 8];
    __builtin_memcpy(words, &element, sizeof(T));
    store_run(map, index * element_words(map), words);
  }

  [[nodiscard]] bool empty() const { return writes_.empty(); }
  [[nodiscard]] const std::vector<Write>& writes() const { return writes_; }
  [[nodiscard]] std::span<const uint64_t> values(const Write& write) const {
    return std::span(values_).subspan(write.value, write.count);
  }
  // Map elements that the stores fall into, counted once a run.
  [[nodiscard]] size_t elements() const;

 private:
  std::vector<Write> writes_;
  std::vector<uint64_t> values_;
};

// Makes the stores of one run, each of 64 bits at once, in memory where the map begins at `map`. Orders them after
// earlier ones where the write asks for it.
void apply(const Write& write, std::span<const uint64_t> values, void* map);

}  // namespace sluice::agent::program
