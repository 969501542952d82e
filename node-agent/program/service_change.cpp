#include "node-agent/program/service_change.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <tuple>
#include <utility>

namespace sluice::agent::program {
namespace {

constexpr uint32_t kTableWord = 0;
constexpr uint32_t kSettingsWord = 1;
constexpr uint32_t kNextHopWord = 0;
constexpr uint32_t kWhatWord = 3;
static_assert(offsetof(sluice_backend, next_hop) == 8 * kNextHopWord &&
              offsetof(sluice_backend, what) == 8 * kWhatWord);

uint32_t service_word(uint32_t index, uint32_t word) {
  return index * element_words(MapId::services) + word;
}

uint32_t record_word(const Programmed& service, uint32_t record, uint32_t word) {
  return (service.backends->first + record) * element_words(MapId::backends) + word;
}

// Of a service that had the other affinity once: flows that began then are looked for where they were.
uint32_t flags_of(const Projection& projection, const Programmed* before) {
  const uint32_t had = before == nullptr ? projection.flags : SLUICE_SETTINGS_FLAGS(before->settings);
  const bool changed =
      (had & SLUICE_SERVICE_AFFINITY_CHANGED) != 0 || ((had ^ projection.flags) & SLUICE_SERVICE_AFFINITY) != 0;
  return projection.flags | (changed ? SLUICE_SERVICE_AFFINITY_CHANGED : 0);
}

uint8_t next_generation(uint64_t table) {
  // Never 0, so that the word of a table is never 0 either.
  return static_cast<uint8_t>(SLUICE_TABLE_GENERATION(table) % 127 + 1);
}

sluice_backend backend_element(const Record& record, uint32_t service) {
  sluice_backend element{};
  element.next_hop = record.next_hop;
  element.address = to_element(record.identity.address);
  element.what = what_word(record, service);
  return element;
}

// Where each backend of the projection has its record.
struct Placement {
  std::vector<uint16_t> index_of;
  bool complete = true;  // false: the range is too small
};

// Where records of these identities are, ascending by identity. Where two are the same backend, the one in use is it.
std::vector<std::pair<RecordIdentity, uint16_t>> by_identity(const std::vector<Record>& records) {
  std::vector<std::pair<RecordIdentity, uint16_t>> known;
  for (uint32_t index = 0; index < records.size(); ++index) {
    if (records[index].state != Record::State::free) {
      known.emplace_back(records[index].identity, static_cast<uint16_t>(index));
    }
  }
  std::sort(known.begin(), known.end(), [&records](const auto& a, const auto& b) {
    const auto rank = [&records](uint16_t index) { return records[index].state == Record::State::used ? 0 : 1; };
    return std::tuple(a.first, rank(a.second), a.second) < std::tuple(b.first, rank(b.second), b.second);
  });
  return known;
}

// Keeps the index of a record that is there; gives the lowest free one to others, where `capacity` allows.
Placement place_records(const Projection& projection, const std::vector<Record>& records, uint32_t capacity,
                        bool same_range) {
  const auto known = by_identity(records);
  std::vector<bool> taken(capacity);
  if (same_range) {
    for (const auto& [identity, index] : known) {
      taken[index] = true;
    }
  }
  Placement placement{std::vector<uint16_t>(projection.backends.size(), SLUICE_NO_BACKEND), true};
  for (size_t i = 0; i < projection.backends.size(); ++i) {
    const RecordIdentity& identity = projection.backends[i].identity;
    const auto found = std::lower_bound(known.begin(), known.end(), identity,
                                        [](const auto& entry, const auto& wanted) { return entry.first < wanted; });
    if (found != known.end() && found->first == identity && found->second < capacity) {
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
    const ProjectedBackend& backend = projection.backends[i];
    // One that was just left holds the same identity, but its other words have not been followed since.
    const bool written_whole = record.state == Record::State::free || left[index];
    const uint64_t word = next_hop(backend, written_whole ? 0 : record.next_hop);
    if (written_whole) {
      change.new_records.push_back(index);
    } else if (word != record.next_hop || record.flags != backend.flags) {
      change.changed_records.push_back(index);
    }
    record = Record{backend.identity, backend.flags, Record::State::used, word};
  }
  next.records = std::move(records);
  index_of = std::move(placement.index_of);
  return true;
}

std::vector<uint64_t> pack_slots(const Projection& projection, const std::vector<uint16_t>& index_of) {
  const size_t plane_slots = size_t{1} << projection.log2;
  const size_t units = (projection.planes.size() * plane_slots + SLUICE_SLOT_UNIT - 1) / SLUICE_SLOT_UNIT;
  std::vector<uint64_t> words(units * SLUICE_SLOT_UNIT / SLUICE_SLOTS_PER_WORD, ~uint64_t{0});
  size_t position = 0;
  for (const auto& plane : projection.planes) {
    for (const uint16_t slot : plane) {
      const uint64_t value = slot == SLUICE_NO_BACKEND ? uint64_t{SLUICE_NO_BACKEND} : index_of[slot];
      const size_t shift = position % SLUICE_SLOTS_PER_WORD * 16;
      uint64_t& word = words[position / SLUICE_SLOTS_PER_WORD];
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
  const auto there = image.slots.subspan(size_t{before.slots->first} * SLUICE_SLOT_UNIT / SLUICE_SLOTS_PER_WORD);
  // What lies behind the last slot is nobody's.
  const size_t slots = projection.planes.size() << projection.log2;
  const size_t whole = slots / SLUICE_SLOTS_PER_WORD;
  for (size_t slot = whole * SLUICE_SLOTS_PER_WORD; slot < slots; ++slot) {
    if (((there[whole] ^ words[whole]) >> (slot % SLUICE_SLOTS_PER_WORD * 16) & 0xffff) != 0) {
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

ServiceChange plan_service(const Projection& projection, uint32_t sources, bool tunnels, const Programmed* before,
                           const ImageView& image, Arenas& arenas, const NextHopWord& next_hop) {
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
  next.settings = SLUICE_SETTINGS_WORD(flags_of(projection, before), projection.affinity, sources);
  next.damaged = false;
  next.settled = true;
  next.backend_keys.clear();
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
  if (tunnels) {
    next.backend_keys = backend_keys_of(next);
  }
  std::vector<uint64_t> words = pack_slots(projection, index_of);
  if (before != nullptr && !before->damaged && same_slots(*before, next, projection, image, words)) {
    return change;
  }
  const size_t units = words.size() * SLUICE_SLOTS_PER_WORD / SLUICE_SLOT_UNIT;
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

namespace {

// Those that lie side by side in one run.
void store_new_records(const ServiceChange& change, WriteList& writes) {
  const Programmed& next = change.next;
  std::vector<uint64_t> words;
  for (size_t i = 0; i < change.new_records.size(); ++i) {
    const uint16_t index = change.new_records[i];
    const sluice_backend element = backend_element(next.records[index], next.index);
    const size_t at = words.size();
    words.resize(at + element_words(MapId::backends));
    std::memcpy(words.data() + at, &element, sizeof element);
    if (i + 1 == change.new_records.size() || change.new_records[i + 1] != index + 1) {
      const auto run = static_cast<uint32_t>(words.size() / element_words(MapId::backends));
      writes.store_run(MapId::backends, record_word(next, index + 1 - run, 0), words);
      words.clear();
    }
  }
}

// Single words of records that something leads to. A backend leaves the choice after the switch, and comes back before
// it: no table in force names one that has left. `late`: those of after.
void store_changed_records(const ServiceChange& change, bool late, WriteList& writes) {
  const Programmed& next = change.next;
  for (const uint16_t index : change.changed_records) {
    const Record& record = next.records[index];
    const Record& before = change.before->records[index];
    if (!late && record.next_hop != before.next_hop) {
      writes.store(MapId::backends, record_word(next, index, kNextHopWord), record.next_hop, true);
    }
    const bool leaves = (record.flags.flags & ~before.flags.flags & SLUICE_BACKEND_LEFT) != 0;
    if (record.flags != before.flags && leaves == late) {
      writes.store(MapId::backends, record_word(next, index, kWhatWord), what_word(record, next.index), true);
    }
  }
}

}  // namespace

std::vector<std::pair<uint64_t, uint32_t>> backend_keys_of(const Programmed& service) {
  std::vector<std::pair<uint64_t, uint32_t>> keys;
  for (uint32_t index = 0; index < service.records.size(); ++index) {
    const Record& record = service.records[index];
    if (record.state == Record::State::used && record.identity.forwarding == SLUICE_FORWARD_LOCAL) {
      const sluice_address address = to_element(record.identity.address);
      keys.emplace_back(sluice_key_backend(service.index, address.words[0], address.words[1], record.identity.port),
                        service.backends->first + index);
    }
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

void make(ServiceChange& change, Arenas& arenas, WriteList& writes) {
  const Programmed& next = change.next;
  store_new_records(change, writes);
  store_changed_records(change, false, writes);
  if (!change.slots.empty()) {
    writes.store_run(MapId::slots, next.slots->first * (SLUICE_SLOT_UNIT / SLUICE_SLOTS_PER_WORD), change.slots);
  }
  // The choice by client alone or by flow may change at another store than the table: either hash leads to a slot of
  // either table, and connections that are under way are searched by both.
  if (!change.before || change.before->settings != next.settings) {
    writes.store(MapId::services, service_word(next.index, kSettingsWord), next.settings, true);
  }
  if (change.switches()) {
    writes.store(MapId::services, service_word(next.index, kTableWord), next.table, true);
  }
  store_changed_records(change, true, writes);
  if (change.before) {
    if (change.before->slots != next.slots) {
      arenas.retire_slots(change.before->slots);
    }
    if (change.before->backends != next.backends) {
      arenas.retire_backends(change.before->backends);
    }
  }
}

bool refresh_records(Programmed& service, const std::function<bool(const Record&)>& concerns,
                     const std::function<Record(const Record&)>& now, WriteList& writes,
                     const std::function<void(const Record& before, const Record& after)>& changed) {
  bool any = false;
  for (uint32_t index = 0; index < service.records.size(); ++index) {
    Record& record = service.records[index];
    if (record.state != Record::State::used || !concerns(record)) {
      continue;
    }
    const Record fresh = now(record);
    if (fresh.next_hop != record.next_hop) {
      writes.store(MapId::backends, record_word(service, index, kNextHopWord), fresh.next_hop, true);
    }
    if (fresh.flags != record.flags) {
      writes.store(MapId::backends, record_word(service, index, kWhatWord), what_word(fresh, service.index), true);
    }
    if (fresh.next_hop != record.next_hop || fresh.flags != record.flags) {
      changed(record, fresh);
      record = fresh;
      any = true;
    }
  }
  return any;
}

void remove(const Programmed& service, Arenas& arenas) {
  arenas.retire_slots(service.slots);
  arenas.retire_backends(service.backends);
  arenas.retire_service(service.index);
}

}  // namespace sluice::agent::program
