// What a Programmer knows to stand in the maps. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "node-agent/program/buddy.h"
#include "node-agent/program/image.h"
#include "node-agent/program/projection.h"

namespace sluice::agent::program {

struct Record {
  enum class State : uint8_t {
    free,
    used,
    retired,  // nothing leads here any more, but a reader may still be on its way
  };
  RecordIdentity identity;
  RecordFlags flags;
  State state = State::free;
  uint64_t next_hop = 0;
};
// sluice_backend.what
uint64_t what_word(const Record& record, uint32_t service);

// One service in the maps.
struct Programmed {
  uint32_t index = 0;             // in `services`
  uint64_t table = 0;             // the word that stands there
  uint64_t settings = 0;          // the word that stands there
  std::optional<Range> slots;     // in units of SLUICE_SLOT_UNIT
  std::optional<Range> backends;  // in records
  std::vector<Record> records;    // of `backends`
  std::vector<WholeKey> keys;     // that lead here, ascending by word
  // Where tunnels lead to backends on this node: key -> index into the map, ascending.
  std::vector<std::pair<uint64_t, uint32_t>> backend_keys;
  bool damaged = false;  // `table` leads to what is no table of this service: to be taken out first
  bool settled = false;  // stands as it was desired last
};

// Who lives where, and what has been left but may still be read.
struct Arenas {
  explicit Arenas(const Sizes& sizes)
      : slots(sizes.slots / SLUICE_SLOT_UNIT), backends(sizes.backends), services(sizes.services) {}

  BuddyAllocator slots;  // units of SLUICE_SLOT_UNIT
  BuddyAllocator backends;
  BuddyAllocator services;  // single indices

  void retire_slots(const std::optional<Range>& range);
  void retire_backends(const std::optional<Range>& range);
  void retire_service(uint32_t index) { retired_services_.push_back(index); }
  void grace_over();
  [[nodiscard]] bool awaits_grace() const {
    return !retired_slots_.empty() || !retired_backends_.empty() || !retired_services_.empty();
  }

 private:
  std::vector<Range> retired_slots_;
  std::vector<Range> retired_backends_;
  std::vector<uint32_t> retired_services_;
};

}  // namespace sluice::agent::program
