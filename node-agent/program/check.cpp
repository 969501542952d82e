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
  const uint32_t home = sluice_service_hash(key, SLUICE_SERVICE_TABLE_SEED(word)) & mask;
  const uint32_t first = SLUICE_SERVICE_TABLE_OFFSET(word);
  const uint32_t count = std::min<uint32_t>(SLUICE_MAX_PROBES, table.size() - home);
  regions.push_back(Region{MapId::service_keys, first + home, count});
  if (count < SLUICE_MAX_PROBES) {
    regions.push_back(Region{MapId::service_keys, first, SLUICE_MAX_PROBES - count});
  }
}

void add_service_regions(const Programmed& service, std::vector<Region>& regions) {
  regions.push_back(Region{MapId::services, service.index, 1});
  if (service.slots) {
    const size_t slots = size_t{SLUICE_TABLE_EARLIER(service.table) + 1} << SLUICE_TABLE_LOG2(service.table);
    regions.push_back(Region{MapId::slots, SLUICE_TABLE_OFFSET(service.table) / SLUICE_SLOTS_PER_ELEMENT,
                             static_cast<uint32_t>((slots + SLUICE_SLOTS_PER_ELEMENT - 1) / SLUICE_SLOTS_PER_ELEMENT)});
  }
  if (service.backends) {
    regions.push_back(Region{MapId::backends, service.backends->first, service.backends->size()});
  }
}

}  // namespace

std::vector<Region> Programmer::regions(const Touched* touched) const {
  std::vector<Region> regions{{MapId::config, 0, 1}, {MapId::egress, 0, SLUICE_MAX_EGRESS}};
  if (touched == nullptr) {
    regions.push_back(Region{MapId::service_keys, SLUICE_SERVICE_TABLE_OFFSET(keys_.word()), keys_.size()});
    for (const auto& [id, service] : programmed_) {
      add_service_regions(service, regions);
    }
    return regions;
  }
  for (const uint64_t key : touched->removed_keys) {
    add_key_regions(keys_, key, regions);
  }
  for (const auto& id : touched->services) {
    const auto service = programmed_.find(id);
    if (service == programmed_.end()) {
      continue;
    }
    for (const uint64_t key : service->second.keys) {
      add_key_regions(keys_, key, regions);
    }
    add_service_regions(service->second, regions);
  }
  return regions;
}

std::vector<dataplane::ServiceFailure> Programmer::check(const ImageView& image, const Touched* touched) const {
  std::vector<dataplane::ServiceFailure> failures;
  const auto check_one = [&](const std::string& id) {
    const auto programmed = programmed_.find(id);
    const auto desired = desired_.find(id);
    if (programmed == programmed_.end() || desired == desired_.end() || !programmed->second.settled) {
      return;
    }
    if (const auto differs = difference(image, desired->second)) {
      failures.push_back(dataplane::ServiceFailure{id, kReadBackDiffers, *differs});
    }
  };
  const auto must_be_gone = [&](uint64_t key) {
    if (find_service(image, key)) {
      failures.push_back(dataplane::ServiceFailure{key_text(key), kReadBackDiffers,
                                                   "the key leads to a service, and no service has it"});
    }
  };
  if (touched != nullptr) {
    std::for_each(touched->services.begin(), touched->services.end(), check_one);
    std::for_each(touched->removed_keys.begin(), touched->removed_keys.end(), must_be_gone);
    return failures;
  }
  for (const auto& [id, service] : programmed_) {
    check_one(id);
  }
  const KeyTable there = KeyTable::decode(image);
  for (const auto& [key, position] : there.positions()) {
    if (!keys_.find(key)) {
      must_be_gone(key);
    }
  }
  return failures;
}

std::optional<std::string> Programmer::difference(const ImageView& image, const state::Service& service) const {
  const auto projected = project(service, node_, ways_);
  if (!projected) {
    return projected.error().message();
  }
  const Projection& projection = *projected;
  std::optional<uint32_t> index;
  for (const uint64_t key : projection.keys) {
    const auto found = find_service(image, key);
    if (!found || (index && found != index)) {
      return key_text(key) + (found ? " leads to another service" : " is not in the service table");
    }
    index = found;
  }
  const sluice_service& element = image.services[*index];
  if (element.flags != projection.flags) {
    return "flags are " + std::to_string(element.flags) + ", not " + std::to_string(projection.flags);
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
      if (const auto differs = record_difference(image, *index, record, projection.backends[expected])) {
        return place() + ": " + *differs;
      }
    }
  }
  return std::nullopt;
}

std::optional<std::string> Programmer::record_difference(const ImageView& image, uint32_t index, uint32_t record,
                                                         const RecordIdentity& identity) const {
  if (record >= image.backends.size()) {
    return "leads outside of the records";
  }
  const sluice_backend& element = image.backends[record];
  if (element.service != index || RecordIdentity{element.address, element.port, element.forwarding} != identity) {
    return "record " + std::to_string(record) + " is another backend's";
  }
  const bool leads =
      identity.forwarding == SLUICE_FORWARD_LOCAL || (egress_.ran_out(identity.address) && element.next_hop == 0)
          ? element.next_hop == 0
          : EgressTable::leads(image, element.next_hop, identity.address, ways_);
  return leads ? std::nullopt : std::optional("record " + std::to_string(record) + " has another next hop");
}

}  // namespace sluice::agent::program
