#include "node-agent/program/image.h"

#include <array>

namespace sluice::agent::program {

// The layout that the kernel side and this side agree on: whoever changes one of these raises SLUICE_LAYOUT_VERSION.
static_assert(sizeof(sluice_key_entry) == 16 && offsetof(sluice_key_entry, value) == 8 &&
              offsetof(sluice_key_entry, extra) == 12);
static_assert(sizeof(sluice_key6) == 24 && offsetof(sluice_key6, port) == 16 && offsetof(sluice_key6, protocol) == 18);
static_assert(sizeof(sluice_service) == 16 && offsetof(sluice_service, settings) == 8);
static_assert(sizeof(sluice_backend) == 32 && offsetof(sluice_backend, address) == 8 &&
              offsetof(sluice_backend, what) == 24);
static_assert(sizeof(sluice_egress) == 64 && offsetof(sluice_egress, mac) == 8 &&
              offsetof(sluice_egress, source4) == 16 && offsetof(sluice_egress, source6) == 24);
static_assert(sizeof(sluice_peer) == 128 && offsetof(sluice_peer, token) == 16 && offsetof(sluice_peer, outer) == 24 &&
              offsetof(sluice_peer, accepted) == 72);
static_assert(sizeof(sluice_config) == 64 && offsetof(sluice_config, flow_hash_key) == 8 &&
              offsetof(sluice_config, nat_port_first) == 24 && offsetof(sluice_config, tunnel_port) == 28);
static_assert(sizeof(sluice_flow_head) == 32 && offsetof(sluice_flow_head, control) == 8 &&
              offsetof(sluice_flow_head, next_hop) == 16 && offsetof(sluice_flow_head, service) == 24);
static_assert(sizeof(sluice_flow4) == 64 && offsetof(sluice_flow4, tuple) == 40 &&
              offsetof(sluice_flow4, client) == 48);
static_assert(sizeof(sluice_flow6) == 112 && offsetof(sluice_flow6, tuple) == 64 &&
              offsetof(sluice_flow6, client) == 80);
static_assert(sizeof(sluice_shares) == 16);

const char* map_name(MapId map) {
  static constexpr std::array<const char*, kMapCount> kNames = {"keys",     "keys6",  "services", "slots",
                                                                "backends", "egress", "peers",    "config"};
  return kNames.at(static_cast<size_t>(map));
}

uint32_t element_count(const Sizes& sizes, MapId map) {
  switch (map) {
    case MapId::keys:
      return sizes.keys;
    case MapId::keys6:
      return sizes.keys6;
    case MapId::services:
      return sizes.services;
    case MapId::slots:
      return sizes.slots / SLUICE_SLOTS_PER_WORD;
    case MapId::backends:
      return sizes.backends;
    case MapId::egress:
      return SLUICE_MAX_EGRESS;
    case MapId::peers:
      return SLUICE_MAX_PEERS;
    case MapId::config:
      return 1;
  }
  return 0;
}

ImageView view_of(const Sizes& sizes, std::span<const void* const, kMapCount> maps) {
  const auto at = [&maps](MapId map) { return maps[static_cast<size_t>(map)]; };
  ImageView view;
  view.keys = {static_cast<const sluice_key_entry*>(at(MapId::keys)), element_count(sizes, MapId::keys)};
  view.keys6 = {static_cast<const sluice_key6*>(at(MapId::keys6)), element_count(sizes, MapId::keys6)};
  view.services = {static_cast<const sluice_service*>(at(MapId::services)), element_count(sizes, MapId::services)};
  view.slots = {static_cast<const uint64_t*>(at(MapId::slots)), element_count(sizes, MapId::slots)};
  view.backends = {static_cast<const sluice_backend*>(at(MapId::backends)), element_count(sizes, MapId::backends)};
  view.egress = {static_cast<const sluice_egress*>(at(MapId::egress)), element_count(sizes, MapId::egress)};
  view.peers = {static_cast<const sluice_peer*>(at(MapId::peers)), element_count(sizes, MapId::peers)};
  view.config = static_cast<const sluice_config*>(at(MapId::config));
  return view;
}

Image::Image(const Sizes& sizes) : sizes_(sizes) {
  for (size_t map = 0; map < kMapCount; ++map) {
    const auto id = static_cast<MapId>(map);
    words_.emplace_back(static_cast<size_t>(element_count(sizes, id)) * element_words(id));
  }
}

ImageView Image::view() const {
  std::array<const void*, kMapCount> maps{};
  for (size_t map = 0; map < kMapCount; ++map) {
    maps.at(map) = words_[map].data();
  }
  return view_of(sizes_, maps);
}

void WriteList::store(MapId map, uint32_t word, uint64_t value, bool ordered) {
  store_run(map, word, std::span(&value, 1), ordered);
}

void WriteList::store_run(MapId map, uint32_t word, std::span<const uint64_t> values, bool ordered) {
  if (values.empty()) {
    return;
  }
  writes_.push_back(
      Write{map, ordered, word, static_cast<uint32_t>(values.size()), static_cast<uint32_t>(values_.size())});
  values_.insert(values_.end(), values.begin(), values.end());
}

size_t WriteList::elements() const {
  size_t count = 0;
  for (const Write& write : writes_) {
    const uint32_t words = element_words(write.map);
    count += (write.word + write.count - 1) / words - write.word / words + 1;
  }
  return count;
}

void apply(const Write& write, std::span<const uint64_t> values, void* map) {
  // The same memory is read as the maps' structures.
  using Word = uint64_t __attribute__((may_alias));
  auto* word = static_cast<Word*>(map) + write.word;
  if (write.ordered) {
    __atomic_thread_fence(__ATOMIC_RELEASE);
  }
  for (const uint64_t value : values) {
    __atomic_store_n(word++, value, __ATOMIC_RELAXED);
  }
}

}  // namespace sluice::agent::program
