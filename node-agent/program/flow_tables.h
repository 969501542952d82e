// The flow tables' memory: looked through, cleaned and moved while CPUs make and use flows in it. Pure; the protocol is
// bpf/layout/flows.h's.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "bpf/sluice.h"

namespace sluice::agent::program {

enum class StoredFlow : uint8_t {
  stored,
  there_already,  // a live record has the key
  full,           // no position is free in the window, or the service has its share
  busy,           // another has the home for too long
};

// What a look at a table has found unfinished: where nothing has happened to it until the next, it is the work of a
// process that is gone.
struct Leftovers {
  std::unordered_map<uint32_t, uint64_t> records;  // position -> control, BUSY or DEAD
  std::unordered_set<uint32_t> homes;              // locked
};

// By how much the shares differ from the records that there are, as the map has them.
using ShareDrift = std::vector<int64_t>;

// One table of records, sluice_flow4 or sluice_flow6.
template <typename Record>
class FlowTable {
 public:
  // `records`: a power of two of them. `shares`: all of the map; `share` is this table's field. `key`:
  // sluice_config.flow_hash_key.
  FlowTable(std::span<Record> records, std::span<sluice_shares> shares, uint32_t sluice_shares::*share,
            std::array<uint64_t, 2> key);

  // The live record with the return tuple of `like`; nullptr: none.
  [[nodiscard]] Record* find(const Record& like) const;
  // Makes a live record as the kernel side does, with the tuple, client, service, backend, way and time of `record`,
  // whose `head.service` must have a share, and with the state and acknowledgement of its `head.control`.
  StoredFlow insert(const Record& record);
  // Calls visit(position, record) for each live record, with a copy that no one has changed into another's meanwhile;
  // its head.control is what remove() takes. Positions from `first` on, `count` of them at most.
  void for_each(const std::function<void(uint32_t position, const Record& record)>& visit, uint32_t first = 0,
                uint32_t count = UINT32_MAX) const;
  // Takes the record at a position out. False, and nothing is changed, where its `control` is not what was seen.
  bool remove(uint32_t position, uint64_t control);
  // The same for one that for_each() has shown: nor where it has been used since.
  bool remove(uint32_t position, const Record& shown);

  // Sets hints at the home of the tuple of `first`, in the established table.
  void hint(const Record& first, uint32_t hints);
  // The same at every home: flows have come here by another way than the kernel side's.
  void hint_everywhere(uint32_t hints);
  // Takes hints away everywhere.
  void take_hints(uint32_t hints);

  // Notes what is unfinished, and ends what was so already when `seen` was noted: a CPU takes nanoseconds for it, so
  // that calls a second apart find only what a killed process has left. Returns how much that was.
  size_t reclaim(Leftovers& seen);
  // Notes by how much shares and records differ, and mends what differed by just as much when `seen` was noted: a
  // process that was killed, or a flow whose service has moved to another index. Returns how many shares that were.
  size_t mend_shares(ShareDrift& seen);

  [[nodiscard]] uint32_t size() const { return static_cast<uint32_t>(records_.size()); }

 private:
  [[nodiscard]] uint32_t home_of(const Record& record) const;
  [[nodiscard]] std::optional<uint32_t> find_position(const Record& like) const;
  [[nodiscard]] std::optional<uint32_t> claim(uint32_t home, uint32_t& generation);
  bool take_share(uint32_t service);
  void give_share(uint32_t service);
  bool clear_bit(uint32_t position);
  bool lock(uint32_t home);
  void unlock(uint32_t home);
  [[nodiscard]] bool stays_locked(uint32_t home) const;

  std::span<Record> records_;
  std::span<sluice_shares> shares_;
  uint32_t sluice_shares::*share_;
  std::array<uint64_t, 2> key_;
};

// The tuple that a flow tried first, of one that has another (SLUICE_FLOW_DISPLACED); of the record only that is set.
// `key`: sluice_config.flow_hash_key; nat's ports from `first` on, `count` of them, at least 1.
sluice_flow4 first_tuple(const sluice_flow4& flow, std::array<uint64_t, 2> key, uint16_t first, uint32_t count);
sluice_flow6 first_tuple(const sluice_flow6& flow, std::array<uint64_t, 2> key, uint16_t first, uint32_t count);

extern template class FlowTable<sluice_flow4>;
extern template class FlowTable<sluice_flow6>;

}  // namespace sluice::agent::program
