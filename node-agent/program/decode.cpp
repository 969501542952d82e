// Programmer::decode: from raw maps to what is programmed.
#include <algorithm>
#include <set>

#include "common/maglev/maglev.h"
#include "node-agent/program/programmer.h"

namespace sluice::agent::program {
namespace {

// Which indices the slots of a table hold, ascending. `table` lies within the arena.
std::vector<uint16_t> referenced(const ImageView& image, uint64_t table, size_t slots) {
  std::vector<bool> seen(256);
  const uint32_t first = SLUICE_TABLE_OFFSET(table);
  for (size_t slot = first; slot < first + slots; ++slot) {
    const uint64_t element = image.slots[slot / SLUICE_SLOTS_PER_ELEMENT];
    const auto index = static_cast<uint16_t>(element >> (slot % SLUICE_SLOTS_PER_ELEMENT * 16));
    if (index >= seen.size()) {
      seen.resize(size_t{SLUICE_NO_BACKEND} + 1);
    }
    seen[index] = true;
  }
  std::vector<uint16_t> indices;
  for (uint32_t index = 0; index < seen.size() && index < SLUICE_NO_BACKEND; ++index) {
    if (seen[index]) {
      indices.push_back(static_cast<uint16_t>(index));
    }
  }
  return indices;
}

}  // namespace

Programmer Programmer::decode(const Sizes& sizes, NatPorts ports, const ImageView& image) {
  Programmer programmer(sizes, ports);
  programmer.keys_ = KeyTable::decode(image);
  std::map<uint32_t, std::vector<uint64_t>> services;
  for (const auto& [key, position] : programmer.keys_.positions()) {
    services[programmer.keys_.service_at(position)].push_back(key);
  }
  std::set<uint32_t> egress;
  for (auto& [index, keys] : services) {
    Programmed service;
    service.index = index;
    service.keys = std::move(keys);
    std::sort(service.keys.begin(), service.keys.end());
    programmer.arenas_.services.reserve(Range{index, 0});
    programmer.decode_service(image, service);
    for (const Record& record : service.records) {
      egress.insert(SLUICE_NEXT_HOP_EGRESS(record.next_hop));
    }
    programmer.unclaimed_.push_back(std::move(service));
  }
  programmer.egress_ = EgressTable::decode(image, egress);
  return programmer;
}

// Fills in what the service's word leads to, and takes it from the arenas. Left `damaged` where that is not a table of
// this service.
void Programmer::decode_service(const ImageView& image, Programmed& service) {
  service.table = image.services[service.index].table;
  service.flags = image.services[service.index].flags;
  if (service.table == 0) {
    return;
  }
  service.damaged = true;
  const uint32_t log2 = SLUICE_TABLE_LOG2(service.table);
  if (log2 > maglev::kMaxLog2) {
    return;
  }
  const size_t slots = size_t{SLUICE_TABLE_EARLIER(service.table) + 1} << log2;
  const size_t units = (slots + SLUICE_SLOT_UNIT - 1) / SLUICE_SLOT_UNIT;
  const uint32_t first = SLUICE_TABLE_OFFSET(service.table);
  if (first + units * SLUICE_SLOT_UNIT > image.slots.size() * SLUICE_SLOTS_PER_ELEMENT) {
    return;
  }
  const auto indices = referenced(image, service.table, slots);
  if (indices.empty()) {
    return;
  }
  const Range backends{SLUICE_TABLE_BACKENDS(service.table), log2_ceil(indices.back() + 1U)};
  if (size_t{backends.first} + backends.size() > image.backends.size()) {
    return;
  }
  std::vector<Record> records(backends.size());
  for (const uint16_t index : indices) {
    const sluice_backend& element = image.backends[backends.first + index];
    if (element.service != service.index ||
        (element.forwarding != SLUICE_FORWARD_LOCAL && element.forwarding != SLUICE_FORWARD_NAT)) {
      return;
    }
    records[index] = Record{{element.address, element.port, element.forwarding}, element.next_hop, Record::State::used};
  }
  const Range range{SLUICE_TABLE_OFFSET(service.table) / SLUICE_SLOT_UNIT, log2_ceil(static_cast<uint32_t>(units))};
  if (!arenas_.slots.reserve(range)) {
    return;
  }
  if (!arenas_.backends.reserve(backends)) {
    arenas_.slots.release(range);
    return;
  }
  service.slots = range;
  service.backends = backends;
  service.records = std::move(records);
  service.damaged = false;
}

}  // namespace sluice::agent::program
