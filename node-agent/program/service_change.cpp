#include "node-agent/program/service_change.h"

#include <algorithm>
#include <map>
#include <utility>

namespace sluice::agent::program {
namespace {

constexpr uint32_t kTableWord = 0;
constexpr uint32_t kFlagsWord = 1;

uint32_t service_word(uint32_t index, uint32_t word) {
  return index * element_words(MapId::services) + word;
}

uint8_t next_generation(uint64_t table) {
  // Never 0, so that the word of a table is never 0 either.
  return static_cast<uint8_t>(SLUICE_TABLE_GENERATION(table) % 127 + 1);
}

sluice_backend to_element(const Record& record, uint32_t service) {
  sluice_backend element{};
  element.next_hop = record.next_hop;
  element.address = record.identity.address;
  element.port = record.identity.port;
  element.forwarding = record.identity.forwarding;
  element.service = service;
  return element;
}

// Where each backend of the projection has its record.
struct Placement {
  std::vector<uint16_t> index_of;
  bool complete = true;  // false: the range is too small
};

// Keeps the index of a record that is there; gives the lowest free one to others, where `capacity` allows.
Placement place_records(const Projection& projection, const std::vector<Record>& records, uint32_t capacity,
                        bool same_range) {
  std::map<RecordIdentity, uint16_t> known;
  std::vector<bool> taken(capacity);
  for (uint32_t index = 0; index < records.size(); ++index) {
    if (records[index].state == Record::State::free) {
      continue;
    }
    // Where two records are the same backend, the one in use is it.
    if (records[index].state == Record::State::used || !known.contains(records[index].identity)) {
      known[records[index].identity] = static_cast<uint16_t>(index);
    }
    if (same_range && index < capacity) {
      taken[index] = true;
    }
  }
  Placement placement{std::vector<uint16_t>(projection.backends.size(), SLUICE_NO_BACKEND), true};
  for (size_t i = 0; i < projection.backends.size(); ++i) {
    const auto found = known.find(projection.backends[i]);
    if (found != known.end() && found->second < capacity) {
      placement.index_of[i] = found->second;
      taken[found->second] = true;
    }
  }
  size_t free = 0;
  for (uint16_t& index : placement.index_of) {
    if (index != SLUICE_NO_BACKEND) {
      continue;
    }
    while (free < capacity && taken[free]) {
      ++free;
    }
    if (free == capacity) {
      placement.complete = false;
      return placement;
    }
    taken[free] = true;
    index = static_cast<uint16_t>(free);
  }
  return placement;
}

// Puts the projection's backends into records: in the range that there is where they fit, in a new one elsewhere.
// False: no range.
bool settle_records(const Projection& projection, ServiceChange& change, Arenas& arenas, const NextHopWord& next_hop,
                    std::vector<uint16_t>& index_of) {
  Programmed& next = change.next;
  const auto wanted = log2_ceil(static_cast<uint32_t>(projection.backends.size()));
  // A range four times as large as needed is left for a smaller one.
  const bool stays = next.backends && next.backends->log2 <= wanted + 1 + (wanted == 0 ? 1 : 0);
  Placement placement;
  placement.complete = false;
  if (stays || (next.backends && !arenas.backends.has(wanted))) {
    placement = place_records(projection, next.records, next.backends->size(), true);
  }
  std::vector<Record> records;
  std::vector<bool> left;
  if (placement.complete) {
    records = next.records;
    for (Record& record : records) {
      left.push_back(record.state == Record::State::retired);
      record.state = record.state == Record::State::used ? Record::State::retired : record.state;
    }
  } else {
    const auto range = arenas.backends.allocate(wanted);
    if (!range) {
      return false;
    }
    placement = place_records(projection, next.records, range->size(), false);
    next.backends = range;
    records.resize(range->size());
    left.resize(range->size());
  }
  for (size_t i = 0; i < projection.backends.size(); ++i) {
    const uint16_t index = placement.index_of[i];
    Record& record = records[index];
    // One that was just left holds the same identity, but its next hop has not been followed since.
    if (record.state == Record::State::free || left[index]) {
      record.identity = projection.backends[i];
      record.next_hop = record.identity.forwarding == SLUICE_FORWARD_LOCAL ? 0 : next_hop(record.identity.address);
      change.new_records.push_back(index);
    }
    record.state = Record::State::used;
  }
  next.records = std::move(records);
  index_of = std::move(placement.index_of);
  return true;
}

std::vector<uint64_t> pack_slots(const Projection& projection, const std::vector<uint16_t>& index_of) {
  const size_t plane_slots = size_t{1} << projection.log2;
  const size_t units = (projection.planes.size() * plane_slots + SLUICE_SLOT_UNIT - 1) / SLUICE_SLOT_UNIT;
  std::vector<uint64_t> words(units * SLUICE_SLOT_UNIT / SLUICE_SLOTS_PER_ELEMENT, ~uint64_t{0});
  size_t position = 0;
  for (const auto& plane : projection.planes) {
    for (const uint16_t slot : plane) {
      const uint64_t value = slot == SLUICE_NO_BACKEND ? uint64_t{SLUICE_NO_BACKEND} : index_of[slot];
      const size_t shift = position % SLUICE_SLOTS_PER_ELEMENT * 16;
      uint64_t& word = words[position / SLUICE_SLOTS_PER_ELEMENT];
      word = (word & ~(uint64_t{0xffff} << shift)) | (value << shift);
      ++position;
    }
  }
  return words;
}

// Whether the slots in force are these already.
bool same_slots(const Programmed& before, const Programmed& next, const Projection& projection, const ImageView& image,
                const std::vector<uint64_t>& words) {
  if (!before.slots || before.backends != next.backends || SLUICE_TABLE_LOG2(before.table) != projection.log2 ||
      SLUICE_TABLE_EARLIER(before.table) + 1 != projection.planes.size()) {
    return false;
  }
  const auto there = image.slots.subspan(size_t{before.slots->first} * SLUICE_SLOT_UNIT / SLUICE_SLOTS_PER_ELEMENT);
  // What lies behind the last slot is nobody's.
  const size_t slots = projection.planes.size() << projection.log2;
  const size_t whole = slots / SLUICE_SLOTS_PER_ELEMENT;
  for (size_t slot = whole * SLUICE_SLOTS_PER_ELEMENT; slot < slots; ++slot) {
    if (((there[whole] ^ words[whole]) >> (slot % SLUICE_SLOTS_PER_ELEMENT * 16) & 0xffff) != 0) {
      return false;
    }
  }
  return std::equal(words.begin(), words.begin() + static_cast<ptrdiff_t>(whole), there.begin());
}

ServiceChange exhausted(const ServiceChange& change, Arenas& arenas, const char* what) {
  give_up(change, arenas);
  ServiceChange none;
  none.exhausted = what;
  return none;
}

}  // namespace

ServiceChange plan_service(const Projection& projection, const Programmed* before, const ImageView& image,
                           Arenas& arenas, const NextHopWord& next_hop) {
  ServiceChange change;
  if (before != nullptr) {
    change.before = *before;
    change.next = *before;
  } else {
    const auto index = arenas.services.allocate(0);
    if (!index) {
      change.exhausted = "services";
      return change;
    }
    change.next.index = index->first;
  }
  Programmed& next = change.next;
  next.keys = projection.keys;
  next.flags = projection.flags;
  next.damaged = false;
  next.settled = true;
  if (projection.backends.empty()) {
    next.table = 0;
    next.slots.reset();
    next.backends.reset();
    next.records.clear();
    return change;
  }
  std::vector<uint16_t> index_of;
  if (!settle_records(projection, change, arenas, next_hop, index_of)) {
    return exhausted(change, arenas, "backends");
  }
  std::vector<uint64_t> words = pack_slots(projection, index_of);
  if (before != nullptr && !before->damaged && same_slots(*before, next, projection, image, words)) {
    return change;
  }
  const size_t units = words.size() * SLUICE_SLOTS_PER_ELEMENT / SLUICE_SLOT_UNIT;
  const auto range = arenas.slots.allocate(log2_ceil(static_cast<uint32_t>(units)));
  if (!range) {
    return exhausted(change, arenas, "slots");
  }
  next.slots = range;
  next.table = SLUICE_TABLE_WORD(range->first * SLUICE_SLOT_UNIT, projection.log2, projection.planes.size() - 1,
                                 next_generation(next.table), next.backends->first);
  change.slots = std::move(words);
  return change;
}

void give_up(const ServiceChange& change, Arenas& arenas) {
  const Programmed& next = change.next;
  if (!change.before) {
    arenas.services.release(Range{next.index, 0});
  }
  if (next.backends && (!change.before || next.backends != change.before->backends)) {
    arenas.backends.release(*next.backends);
  }
  if (next.slots && (!change.before || next.slots != change.before->slots)) {
    arenas.slots.release(*next.slots);
  }
}

void make(ServiceChange& change, Arenas& arenas, WriteList& writes) {
  const Programmed& next = change.next;
  for (const uint16_t index : change.new_records) {
    writes.store_element(MapId::backends, next.backends->first + index, to_element(next.records[index], next.index));
  }
  if (!change.slots.empty()) {
    writes.store_run(MapId::slots, next.slots->first * (SLUICE_SLOT_UNIT / SLUICE_SLOTS_PER_ELEMENT), change.slots);
  }
  // The choice by client alone or by flow may change at another store than the table: either hash leads to a slot of
  // either table, and connections that are under way are searched by both.
  if (!change.before || change.before->flags != next.flags) {
    writes.store(MapId::services, service_word(next.index, kFlagsWord), next.flags);
  }
  if (change.switches()) {
    writes.store(MapId::services, service_word(next.index, kTableWord), next.table, true);
  }
  if (change.before) {
    if (change.before->slots != next.slots) {
      arenas.retire_slots(change.before->slots);
    }
    if (change.before->backends != next.backends) {
      arenas.retire_backends(change.before->backends);
    }
  }
}

bool refresh_next_hops(Programmed& service, const std::function<bool(const Record&)>& concerns,
                       const NextHopWord& next_hop, WriteList& writes) {
  bool changed = false;
  for (uint32_t index = 0; index < service.records.size(); ++index) {
    Record& record = service.records[index];
    if (record.state != Record::State::used || !concerns(record)) {
      continue;
    }
    const uint64_t word = record.identity.forwarding == SLUICE_FORWARD_LOCAL ? 0 : next_hop(record.identity.address);
    if (word != record.next_hop) {
      record.next_hop = word;
      writes.store(MapId::backends, (service.backends->first + index) * element_words(MapId::backends), word, true);
      changed = true;
    }
  }
  return changed;
}

void remove(const Programmed& service, Arenas& arenas) {
  arenas.retire_slots(service.slots);
  arenas.retire_backends(service.backends);
  arenas.retire_service(service.index);
}

}  // namespace sluice::agent::program
