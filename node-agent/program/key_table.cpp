#include "node-agent/program/key_table.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace sluice::agent::program {
namespace {

constexpr uint8_t kSmallestLog2 = 6;
constexpr int kSeeds = 64;        // tried for one new table
constexpr int kChoosySeeds = 12;  // of which the first so many must give short probe sequences
constexpr uint32_t kShortProbe = 4;

// A table is built at a load of at most a quarter, and grows when more than three eighths of it are keys.
constexpr bool fits_load(size_t keys, uint32_t size) {
  return keys * 8 <= size_t{size} * 3;
}

uint64_t value_word(KeyValue value) {
  return (uint64_t{value.extra} << 32) | value.value;
}

// The place of a key in `cells`, by Robin Hood: who is further from home keeps the place. False where a sequence gets
// too long.
template <typename Cell>
bool insert_robin_hood(std::vector<Cell>& cells, Cell cell, uint32_t seed, uint32_t& longest) {
  const auto mask = static_cast<uint32_t>(cells.size() - 1);
  uint32_t position = sluice_key_hash(cell.key, seed) & mask;
  for (uint32_t distance = 0; distance < SLUICE_MAX_PROBES; ++distance, position = (position + 1) & mask) {
    Cell& here = cells[position];
    if (here.key == SLUICE_KEY_EMPTY) {
      here = cell;
      longest = std::max(longest, distance + 1);
      return true;
    }
    const uint32_t its_distance = (position - sluice_key_hash(here.key, seed)) & mask;
    if (its_distance < distance) {
      std::swap(here, cell);
      longest = std::max(longest, distance + 1);
      distance = its_distance;
    }
  }
  return false;
}

}  // namespace

KeyTable::KeyTable(uint32_t entries) : capacity_(entries), ranges_(entries) {}

KeyTable KeyTable::decode(const ImageView& image, const std::function<bool(const sluice_key_entry&)>& right) {
  KeyTable table(static_cast<uint32_t>(image.keys.size()));
  const uint64_t word = image.config->key_table;
  if (word == 0) {
    return table;
  }
  table.damaged_ = true;  // until it has been seen whole
  const uint32_t log2 = SLUICE_KEY_TABLE_LOG2(word);
  if (log2 < kSmallestLog2 || log2 >= 24 || (2U << log2) > table.capacity_) {
    return table;
  }
  const Range range{SLUICE_KEY_TABLE_OFFSET(word), static_cast<uint8_t>(log2)};
  if (!table.ranges_.reserve(range)) {
    return table;
  }
  table.damaged_ = false;
  table.table_ = range;
  table.seed_ = SLUICE_KEY_TABLE_SEED(word);
  const auto entries = image.keys.subspan(range.first, range.size());
  const uint32_t mask = range.size() - 1;
  table.cells_.resize(range.size());
  for (uint32_t position = 0; position <= mask; ++position) {
    const sluice_key_entry& entry = entries[position];
    const uint64_t key = entry.key;
    table.cells_[position] = Cell{key, {entry.value, entry.extra}};
    if (key == SLUICE_KEY_EMPTY) {
      continue;
    }
    if (key == SLUICE_KEY_DELETED) {
      ++table.tombstones_;
      continue;
    }
    const uint32_t home = sluice_key_hash(key, table.seed_) & mask;
    const uint32_t distance = (position - home) & mask;
    bool found_here = distance < SLUICE_MAX_PROBES;
    for (uint32_t step = 0; found_here && step < distance; ++step) {
      const uint64_t before = entries[(home + step) & mask].key;
      found_here = before != SLUICE_KEY_EMPTY && before != key;
    }
    found_here = found_here && right(entry);
    if (found_here) {
      table.positions_[key] = position;
    } else {
      table.damaged_ = true;
    }
  }
  return table;
}

std::optional<KeyValue> KeyTable::find(uint64_t key) const {
  const auto found = positions_.find(key);
  return found == positions_.end() ? std::nullopt : std::optional(cells_[found->second].value);
}

uint32_t KeyTable::max_keys() const {
  // Two generations must fit: half of the array, rounded down to a power of two.
  const uint32_t half = capacity_ / 2;
  return half == 0 ? 0 : (1U << (log2_ceil(half + 1) - 1)) / 8 * 3;
}

uint64_t KeyTable::word() const {
  return table_ ? SLUICE_KEY_TABLE_WORD(table_->first, table_->log2, seed_) : 0;
}

uint32_t KeyTable::longest_probe() const {
  uint32_t longest = 0;
  for (const auto& [key, position] : positions_) {
    longest = std::max(longest, ((position - sluice_key_hash(key, seed_)) & (size() - 1)) + 1);
  }
  return longest;
}

// Finds an entry for each in the table as it is. False where one has none within its probe sequence.
bool KeyTable::place(std::vector<Placed>& added) const {
  if (!table_) {
    return added.empty();
  }
  std::unordered_set<uint32_t> taken;
  for (Placed& placed : added) {
    const uint32_t home = sluice_key_hash(placed.key, seed_);
    bool found = false;
    for (uint32_t step = 0; step < SLUICE_MAX_PROBES && !found; ++step) {
      placed.position = (home + step) & (size() - 1);
      const Cell& cell = cells_[placed.position];
      const bool free = cell.key == SLUICE_KEY_EMPTY || cell.key == SLUICE_KEY_DELETED;
      found = free && !cell.retired && taken.insert(placed.position).second;
    }
    if (!found) {
      return false;
    }
  }
  return true;
}

bool KeyTable::crowded(size_t added) const {
  return !fits_load(positions_.size() + added, size()) || tombstones_ * 4 > size();
}

std::optional<uint8_t> KeyTable::new_table_log2(size_t keys) const {
  for (uint8_t log2 = std::max(kSmallestLog2, log2_ceil(static_cast<uint32_t>(keys * 4)));
       log2 >= kSmallestLog2 && fits_load(keys, 1U << log2); --log2) {
    if ((2U << log2) <= capacity_ && ranges_.has(log2)) {
      return log2;
    }
  }
  return std::nullopt;
}

// What a new table holds, by key.
std::vector<KeyTable::Cell> KeyTable::all_cells(const Delta& delta) const {
  std::unordered_set<uint64_t> others(delta.removed.begin(), delta.removed.end());
  std::vector<Cell> cells;
  cells.reserve(positions_.size() + delta.set.size());
  for (const auto& [key, value] : delta.set) {
    others.insert(key);
    cells.push_back(Cell{key, value});
  }
  for (const auto& [key, position] : positions_) {
    if (!others.contains(key)) {
      cells.push_back(Cell{key, cells_[position].value});
    }
  }
  std::sort(cells.begin(), cells.end(), [](const Cell& a, const Cell& b) { return a.key < b.key; });
  return cells;
}

std::optional<KeyTable::Built> KeyTable::build(const std::vector<Cell>& wanted, uint8_t log2) const {
  std::optional<Built> best;
  uint32_t best_longest = SLUICE_MAX_PROBES + 1;
  for (int attempt = 0; attempt < kSeeds; ++attempt) {
    Built built{log2, (seed_ + 1 + static_cast<uint32_t>(attempt)) * 0x9e3779b1U, std::vector<Cell>(size_t{1} << log2)};
    uint32_t longest = 0;
    const bool complete = std::all_of(wanted.begin(), wanted.end(), [&](const Cell& cell) {
      return insert_robin_hood(built.cells, cell, built.seed, longest);
    });
    if (complete && longest < best_longest) {
      best_longest = longest;
      best = std::move(built);
    }
    if (best && (best_longest <= kShortProbe || attempt >= kChoosySeeds)) {
      break;
    }
  }
  return best;
}

KeyTable::Change KeyTable::prepare(const Delta& delta) const {
  Change change;
  for (const auto& [key, value] : delta.set) {
    if (!positions_.contains(key)) {
      change.added.push_back(Placed{key, value, 0});
    }
  }
  const bool placed = !damaged_ && place(change.added);
  const bool wants_new_table = damaged_ || !placed || (!change.added.empty() && crowded(change.added.size()));
  if (wants_new_table) {
    const auto cells = all_cells(delta);
    if (const auto log2 = new_table_log2(cells.size())) {
      change.table = build(cells, *log2);
    }
  }
  if (change.table || placed) {
    change.room = Room::fits;
  } else {
    change.room = awaits_grace() ? Room::after_grace : Room::full;
  }
  return change;
}

void KeyTable::commit(const Delta& delta, Change change, WriteList& writes) {
  if (change.table) {
    switch_to(std::move(*change.table), writes);
    return;
  }
  for (const Placed& placed : change.added) {
    bridge(placed, writes);
    Cell& cell = cells_[placed.position];
    if (cell.key == SLUICE_KEY_DELETED) {
      --tombstones_;
    }
    cell = Cell{placed.key, placed.value};
    positions_[placed.key] = placed.position;
    store_value(placed.position, placed.value, false, writes);
    store_key(placed.position, placed.key, writes);
  }
  for (const auto& [key, value] : delta.set) {
    const uint32_t position = positions_.at(key);
    if (cells_[position].value != value) {
      cells_[position].value = value;
      store_value(position, value, true, writes);
    }
  }
  std::vector<uint32_t> removed;
  for (const uint64_t key : delta.removed) {
    const auto there = positions_.find(key);
    if (there != positions_.end()) {
      removed.push_back(there->second);
      positions_.erase(there);
    }
  }
  std::sort(removed.begin(), removed.end());
  for (const uint32_t position : removed) {
    remove_at(position, writes);
  }
}

// Turns empty entries before a key's place into tombstones: entries that were left too lately to be taken, and that
// would end the search for it.
void KeyTable::bridge(const Placed& placed, WriteList& writes) {
  const uint32_t mask = size() - 1;
  for (uint32_t position = sluice_key_hash(placed.key, seed_) & mask; position != placed.position;
       position = (position + 1) & mask) {
    if (cells_[position].key == SLUICE_KEY_EMPTY) {
      cells_[position].key = SLUICE_KEY_DELETED;
      ++tombstones_;
      store_key(position, SLUICE_KEY_DELETED, writes);
    }
  }
}

// A tombstone, or an empty entry where the next one is empty: no probe sequence goes on from there.
void KeyTable::remove_at(uint32_t position, WriteList& writes) {
  const uint32_t mask = size() - 1;
  cells_[position].retired = true;
  retired_cells_.push_back(position);
  if (cells_[(position + 1) & mask].key != SLUICE_KEY_EMPTY) {
    cells_[position].key = SLUICE_KEY_DELETED;
    ++tombstones_;
    store_key(position, SLUICE_KEY_DELETED, writes);
    return;
  }
  cells_[position].key = SLUICE_KEY_EMPTY;
  store_key(position, SLUICE_KEY_EMPTY, writes);
  for (uint32_t before = (position - 1) & mask; cells_[before].key == SLUICE_KEY_DELETED;
       before = (before - 1) & mask) {
    cells_[before].key = SLUICE_KEY_EMPTY;
    --tombstones_;
    store_key(before, SLUICE_KEY_EMPTY, writes);
  }
}

void KeyTable::switch_to(Built built, WriteList& writes) {
  const auto range = ranges_.allocate(built.log2);
  if (table_) {
    retired_tables_.push_back(*table_);
  }
  retired_cells_.clear();
  table_ = *range;
  seed_ = built.seed;
  cells_ = std::move(built.cells);
  positions_.clear();
  tombstones_ = 0;
  damaged_ = false;
  std::vector<uint64_t> words;
  words.reserve(cells_.size() * 2);
  for (uint32_t position = 0; position < cells_.size(); ++position) {
    words.push_back(cells_[position].key);
    words.push_back(value_word(cells_[position].value));
    if (cells_[position].key != SLUICE_KEY_EMPTY) {
      positions_[cells_[position].key] = position;
    }
  }
  writes.store_run(MapId::keys, range->first * element_words(MapId::keys), words);
  writes.store(MapId::config, offsetof(sluice_config, key_table) / 8, word(), true);
}

void KeyTable::store_key(uint32_t position, uint64_t key, WriteList& writes) const {
  writes.store(MapId::keys, (table_->first + position) * element_words(MapId::keys), key, true);
}

void KeyTable::store_value(uint32_t position, KeyValue value, bool ordered, WriteList& writes) const {
  writes.store(MapId::keys, (table_->first + position) * element_words(MapId::keys) + 1, value_word(value), ordered);
}

void KeyTable::grace_over() {
  for (const uint32_t position : retired_cells_) {
    cells_[position].retired = false;
  }
  for (const Range& range : retired_tables_) {
    ranges_.release(range);
  }
  retired_cells_.clear();
  retired_tables_.clear();
}

}  // namespace sluice::agent::program
