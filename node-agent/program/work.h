// What one run of a Programmer knows on its way. Internal to program/.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "node-agent/program/programmer.h"

namespace sluice::agent::program {

constexpr const char* kTableFull = "TableFull";
constexpr const char* kNotSupported = "NotSupported";

struct Programmer::Work {
  const ImageView& image;
  WayChange way_change;
  Plan plan;

  std::vector<std::string> dirty;                // ids to be looked at, ascending
  std::map<std::string, ServiceChange> changes;  // of those that are to be programmed
  std::vector<std::string> removed;              // that are programmed and shall not be
  std::set<std::string> rejected;                // stay as they are
  bool short_of_room = false;

  // How keys shall be: a value, or not at all. `whole` is not there for backends' keys.
  struct Wish {
    std::optional<KeyValue> value;
    const WholeKey* whole = nullptr;
  };
  std::unordered_map<uint64_t, Wish> wishes;
  std::unordered_map<net::IpAddress, int> address_counts;  // keys of services more
  std::optional<KeyTable::Delta> delta;
  std::optional<KeyTable::Change> key_change;

  std::set<std::string> touched;
  std::set<uint32_t> touched_peers;
};

}  // namespace sluice::agent::program
