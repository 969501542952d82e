// The key table: from services, addresses and backends as packets name them to what stands for them, a flat hash table
// with linear probing that readers walk while it changes. Pure.
//
// What keeps readers right without a lock: a key is written after what it leads to; an entry that held a key is
// not given to another one before a grace period is over; a table that grows, or whose entries crowd, is built anew
// elsewhere in the array and switched in by one store together with its seed. A new table is built by Robin Hood
// hashing (Celis, 1986), which keeps the longest probe sequence short.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "node-agent/program/buddy.h"
#include "node-agent/program/image.h"

namespace sluice::agent::program {

// What a key leads to: both are changed by one store.
struct KeyValue {
  uint32_t value = 0;
  uint32_t extra = 0;
  friend bool operator==(const KeyValue&, const KeyValue&) = default;
};

class KeyTable {
 public:
  // How the keys shall differ from those that are there. A key is named once.
  struct Delta {
    std::vector<std::pair<uint64_t, KeyValue>> set;  // to be there, with this value
    std::vector<uint64_t> removed;
    [[nodiscard]] bool empty() const { return set.empty() && removed.empty(); }
  };

  enum class Room : uint8_t { fits, after_grace, full };

  // No table yet. `entries`: of the map keys.
  explicit KeyTable(uint32_t entries);
  // What the image's table in force holds. Entries that no reader finds, or that are not `right`, are left out and make
  // the next change a new table.
  static KeyTable decode(const ImageView& image, const std::function<bool(const sluice_key_entry&)>& right);

  [[nodiscard]] std::optional<KeyValue> find(uint64_t key) const;
  [[nodiscard]] const std::unordered_map<uint64_t, uint32_t>& positions() const { return positions_; }
  [[nodiscard]] KeyValue value_at(uint32_t position) const { return cells_[position].value; }
  // How many keys there is room for.
  [[nodiscard]] uint32_t max_keys() const;
  // sluice_config.key_table
  [[nodiscard]] uint64_t word() const;

  // How the table can be made to differ so. Removing keys and leading them elsewhere always fits, unless the table that
  // decode() found was damaged.
  struct Change;
  [[nodiscard]] Change prepare(const Delta& delta) const;
  // Appends the stores that do it, and takes them as done. `change` is prepare()'s for the same delta, and fits.
  void commit(const Delta& delta, Change change, WriteList& writes);
  // decode() has found what is not to be followed: the next change makes a new table.
  [[nodiscard]] bool damaged() const { return damaged_; }
  // No reader is left that saw what has been removed.
  void grace_over();
  [[nodiscard]] bool awaits_grace() const { return !retired_cells_.empty() || !retired_tables_.empty(); }

  // Longest probe sequence over all keys, 1 for a key in its own place.
  [[nodiscard]] uint32_t longest_probe() const;
  [[nodiscard]] uint32_t size() const { return table_ ? table_->size() : 0; }

 private:
  struct Cell {
    uint64_t key = SLUICE_KEY_EMPTY;
    KeyValue value;
    bool retired = false;  // may still be read under its former key
  };
  struct Placed {
    uint64_t key;
    KeyValue value;
    uint32_t position;
  };
  struct Built {
    uint8_t log2 = 0;
    uint32_t seed = 0;
    std::vector<Cell> cells;
  };

  [[nodiscard]] bool place(std::vector<Placed>& added) const;
  [[nodiscard]] bool crowded(size_t added) const;
  [[nodiscard]] std::optional<uint8_t> new_table_log2(size_t keys) const;
  [[nodiscard]] std::vector<Cell> all_cells(const Delta& delta) const;
  [[nodiscard]] std::optional<Built> build(const std::vector<Cell>& wanted, uint8_t log2) const;
  void bridge(const Placed& placed, WriteList& writes);
  void remove_at(uint32_t position, WriteList& writes);
  void switch_to(Built built, WriteList& writes);
  void store_key(uint32_t position, uint64_t key, WriteList& writes) const;
  void store_value(uint32_t position, KeyValue value, bool ordered, WriteList& writes) const;

  uint32_t capacity_;
  BuddyAllocator ranges_;
  std::optional<Range> table_;
  uint32_t seed_ = 0;
  bool damaged_ = false;
  std::vector<Cell> cells_;                           // of the table in force
  std::unordered_map<uint64_t, uint32_t> positions_;  // key -> cell
  size_t tombstones_ = 0;
  std::vector<uint32_t> retired_cells_;
  std::vector<Range> retired_tables_;

 public:
  struct Change {
    Room room = Room::full;
    std::optional<Built> table;  // a new one; else in place
    std::vector<Placed> added;
  };
};

}  // namespace sluice::agent::program
