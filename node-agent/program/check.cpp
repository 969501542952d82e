// Programmer::regions and Programmer::check: reading back.
#include <algorithm>
#include <set>
#include <unordered_set>

#include "node-agent/program/programmer.h"
#include "node-agent/program/reader.h"

namespace sluice::agent::program {
namespace {

constexpr const char* kReadBackDiffers = "ReadBackDiffers";

void add_key_regions(const KeyTable& table, uint64_t key, std::vector<Region>& regions) {
  if (table.size() == 0) {
    return;
  }
  const uint64_t word = table.word();
  const uint32_t mask = table.size() - 1;
  const uint32_t home = sluice_key_hash(key, SLUICE_KEY_TABLE_SEED(word)) & mask;
  const uint32_t first = SLUICE_KEY_TABLE_OFFSET(word);
  const uint32_t count = std::min<uint32_t>(SLUICE_MAX_PROBES, table.size() - home);
  regions.push_back(Region{MapId::keys, first + home, count});
  if (count < SLUICE_MAX_PROBES) {
    regions.push_back(Region{MapId::keys, first, SLUICE_MAX_PROBES - count});
  }
}

void add_service_regions(const Programmed& service, std::vector<Region>& regions) {
  regions.push_back(Region{MapId::services, service.index, 1});
  if (service.slots) {
    const size_t slots = size_t{SLUICE_TABLE_EARLIER(service.table) + 1} << SLUICE_TABLE_LOG2(service.table);
    regions.push_back(Region{MapId::slots, SLUICE_TABLE_OFFSET(service.table) / SLUICE_SLOTS_PER_WORD,
                             static_cast<uint32_t>((slots + SLUICE_SLOTS_PER_WORD - 1) / SLUICE_SLOTS_PER_WORD)});
  }
  if (service.backends) {
    regions.push_back(Region{MapId::backends, service.backends->first, service.backends->size()});
  }
}

constexpr const char* kNowhere = "the key leads to something, and nobody has it";

}  // namespace

std::vector<Region> Programmer::regions(const Touched* touched) const {
  std::vector<Region> regions{{MapId::config, 0, 1}, {MapId::egress, 0, SLUICE_MAX_EGRESS}};
  if (touched == nullptr) {
    regions.push_back(Region{MapId::keys, SLUICE_KEY_TABLE_OFFSET(keys_.word()), keys_.size()});
    regions.push_back(Region{MapId::keys6, 0, whole_keys_.extent()});
    for (const auto& [id, service] : programmed_) {
      add_service_regions(service, regions);
    }
    for (const uint32_t index : peers_.in_use()) {
      regions.push_back(Region{MapId::peers, index, 1});
    }
    std::erase_if(regions, [](const Region& region) { return region.count == 0; });
    return regions;
  }
  const auto add_key = [&](uint64_t word) {
    add_key_regions(keys_, word, regions);
    const auto value = keys_.find(word);
    if (value && SLUICE_KEY_KIND(word) == SLUICE_KEY_IPV6) {
      regions.push_back(Region{MapId::keys6, value->extra, 1});
    }
  };
  std::for_each(touched->removed_keys.begin(), touched->removed_keys.end(), add_key);
  std::for_each(touched->keys.begin(), touched->keys.end(), add_key);
  for (const auto& id : touched->services) {
    const auto service = programmed_.find(id);
    if (service == programmed_.end()) {
      continue;
    }
    for (const WholeKey& key : service->second.keys) {
      add_key(key.word());
    }
    for (const auto& [word, record] : service->second.backend_keys) {
      add_key(word);
    }
    add_service_regions(service->second, regions);
  }
  for (const uint32_t index : touched->peers) {
    regions.push_back(Region{MapId::peers, index, 1});
  }
  return regions;
}

std::vector<dataplane::ServiceFailure> Programmer::check(const ImageView& image, const Touched* touched) const {
  std::vector<dataplane::ServiceFailure> failures;
  const auto check_one = [&](const std::string& id) {
    const auto programmed = programmed_.find(id);
    const state::Service* wanted = roster_.find(id);
    if (programmed == programmed_.end() || wanted == nullptr || !programmed->second.settled) {
      return;
    }
    if (const auto differs = difference(image, programmed->second, *wanted)) {
      failures.push_back(dataplane::ServiceFailure{id, kReadBackDiffers, *differs});
    }
  };
  const auto check_peer = [&](const std::string& node) {
    if (!peers_.stands(image, node, ways_.rest())) {
      failures.push_back(dataplane::ServiceFailure{node, kReadBackDiffers, "the tunnel to this node differs"});
    }
  };
  if (touched != nullptr) {
    std::for_each(touched->services.begin(), touched->services.end(), check_one);
  } else {
    for (const auto& [id, service] : programmed_) {
      check_one(id);
    }
  }
  for (const auto& [node, peer] : ways_.rest().peers) {
    const auto index = peers_.index_of(node);
    if (touched == nullptr || std::binary_search(touched->peers.begin(), touched->peers.end(), index)) {
      check_peer(node);
    }
  }
  check_keys(image, touched, failures);
  return failures;
}

// Keys that are not services', and those that should not be there.
void Programmer::check_keys(const ImageView& image, const Touched* touched,
                            std::vector<dataplane::ServiceFailure>& failures) const {
  const auto must_be_gone = [&](uint64_t word) {
    if (!keys_.find(word) && find_word(image, word)) {
      failures.push_back(dataplane::ServiceFailure{word_text(image, word), kReadBackDiffers, kNowhere});
    }
  };
  const auto must_stand = [&](uint64_t word) {
    const auto wanted = keys_.find(word);
    if (wanted && find_word(image, word) != wanted) {
      failures.push_back(dataplane::ServiceFailure{word_text(image, word), kReadBackDiffers,
                                                   "the key is not there, or leads elsewhere"});
    }
  };
  if (touched != nullptr) {
    std::for_each(touched->keys.begin(), touched->keys.end(), must_stand);
    std::for_each(touched->removed_keys.begin(), touched->removed_keys.end(), must_be_gone);
    return;
  }
  std::unordered_set<uint64_t> of_services;
  for (const auto& [id, service] : programmed_) {
    for (const WholeKey& key : service.keys) {
      of_services.insert(key.word());
    }
    for (const auto& [word, record] : service.backend_keys) {
      of_services.insert(word);
    }
  }
  for (const auto& [word, position] : keys_.positions()) {
    if (!of_services.contains(word)) {
      must_stand(word);
    }
  }
  const KeyTable there = KeyTable::decode(image, [](const sluice_key_entry&) { return true; });
  for (const auto& [word, position] : there.positions()) {
    must_be_gone(word);
  }
}

std::optional<std::string> Programmer::keys_difference(const ImageView& image, const Programmed& programmed,
                                                       const Projection& projection) const {
  for (const WholeKey& key : projection.keys) {
    const auto found = find_key(image, key);
    if (!found || found->value != programmed.index) {
      return key.to_string() + (found ? " leads to another service" : " is not in the key table");
    }
  }
  for (const auto& [word, record] : programmed.backend_keys) {
    const auto found = find_word(image, word);
    if (!found || found->value != record) {
      return "tunnels do not find backend record " + std::to_string(record);
    }
  }
  return std::nullopt;
}

std::optional<std::string> Programmer::difference(const ImageView& image, const Programmed& programmed,
                                                  const state::Service& service) const {
  const auto projected = project(service, here());
  if (!projected) {
    return projected.error().message();
  }
  const Projection& projection = *projected;
  if (auto differs = keys_difference(image, programmed, projection)) {
    return differs;
  }
  const sluice_service& element = image.services[programmed.index];
  const uint32_t history = SLUICE_SETTINGS_FLAGS(programmed.settings) & SLUICE_SERVICE_AFFINITY_CHANGED;
  const uint64_t settings = SLUICE_SETTINGS_WORD(projection.flags | history, projection.affinity,
                                                 SLUICE_SETTINGS_SOURCES(programmed.settings));
  if (element.settings != settings) {
    return "settings are " + std::to_string(element.settings) + ", not " + std::to_string(settings);
  }
  if (projection.planes.empty()) {
    return element.table == 0 ? std::nullopt : std::optional<std::string>("has a table, and should have none");
  }
  if (element.table == 0 || SLUICE_TABLE_LOG2(element.table) != projection.log2 ||
      SLUICE_TABLE_EARLIER(element.table) + 1 != projection.planes.size()) {
    return "the table has another size or history";
  }
  // Which record stands for which backend, checked when a slot first leads there.
  std::vector<std::optional<uint16_t>> record_of(projection.backends.size());
  for (uint32_t plane = 0; plane < projection.planes.size(); ++plane) {
    for (uint32_t slot = 0; slot < projection.planes[plane].size(); ++slot) {
      const uint16_t expected = projection.planes[plane][slot];
      const auto found = read_slot(image, element.table, plane, slot);
      const auto place = [&] { return "slot " + std::to_string(slot) + " of plane " + std::to_string(plane); };
      if (!found || (expected == SLUICE_NO_BACKEND) != (*found == SLUICE_NO_BACKEND)) {
        return place() + " differs";
      }
      if (expected == SLUICE_NO_BACKEND || record_of[expected] == found) {
        continue;
      }
      if (record_of[expected]) {
        return place() + " leads to another backend";
      }
      record_of[expected] = found;
      const uint32_t record = SLUICE_TABLE_BACKENDS(element.table) + *found;
      if (const auto differs = record_difference(image, programmed.index, record, projection.backends[expected])) {
        return place() + ": " + *differs;
      }
    }
  }
  return ahead_difference(image, programmed, projection);
}

// Those that no slot leads to, but a tunnel may.
std::optional<std::string> Programmer::ahead_difference(const ImageView& image, const Programmed& programmed,
                                                        const Projection& projection) const {
  for (const ProjectedBackend& backend : projection.backends) {
    if (backend.identity.forwarding != SLUICE_FORWARD_LOCAL || !tunnels_) {
      continue;
    }
    const sluice_address address = to_element(backend.identity.address);
    const auto found = find_word(
        image, sluice_key_backend(programmed.index, address.words[0], address.words[1], backend.identity.port));
    if (!found) {
      return "tunnels do not find " + backend.identity.address.to_string();
    }
    if (const auto differs = record_difference(image, programmed.index, found->value, backend)) {
      return backend.identity.address.to_string() + ": " + *differs;
    }
  }
  return std::nullopt;
}

std::optional<std::string> Programmer::record_difference(const ImageView& image, uint32_t index, uint32_t record,
                                                         const ProjectedBackend& backend) const {
  if (record >= image.backends.size()) {
    return "leads outside of the records";
  }
  const sluice_backend& element = image.backends[record];
  const RecordIdentity& identity = backend.identity;
  const sluice_address address = to_element(identity.address);
  const Record wanted{identity, backend.flags, Record::State::used, 0};
  if (element.address.words[0] != address.words[0] || element.address.words[1] != address.words[1] ||
      element.what != what_word(wanted, index)) {
    return "record " + std::to_string(record) + " is another backend's";
  }
  const dataplane::NextHop* way = ways_.find(identity.address);
  const bool no_way =
      identity.forwarding == SLUICE_FORWARD_LOCAL || way == nullptr || (egress_.ran_out() && element.next_hop == 0);
  const bool leads =
      no_way ? element.next_hop == 0
             : EgressTable::leads(image, element.next_hop, *way, identity.address.family(), true, ways_.rest());
  return leads ? std::nullopt : std::optional("record " + std::to_string(record) + " has another next hop");
}

}  // namespace sluice::agent::program
