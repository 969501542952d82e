// What one run of a Programmer knows on its way. Internal to program/.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>

#include "node-agent/program/programmer.h"

namespace sluice::agent::program {

constexpr const char* kTableFull = "TableFull";

// How ways differ from those before.
struct WayChange {
  bool any = false;
  bool all = false;                     // every record is to be looked at
  std::unordered_set<uint32_t> others;  // IPv4 addresses whose way is another, network order
  std::unordered_set<uint32_t>
      moved;  // of those, such that have come to this machine or left it: their records become others
};

WayChange compare(const Ways& before, const Ways& now);

struct Programmer::Work {
  const ImageView& image;
  const Services& services;
  const Ways& ways;
  WayChange way_change;
  Plan plan;
  std::map<std::string, const state::Service*> wanted;  // those that this node can do
  std::map<std::string, ServiceChange> changes;
  std::set<std::string> rejected;  // want of room: stay as they are
  KeyTable::Keys keys;             // as they shall be
  std::optional<KeyTable::Change> key_change;
  std::set<std::string> touched;
  bool short_of_room = false;

  NextHopWord next_hop(EgressTable& egress) {
    return [this, &egress](uint32_t address) { return egress.word_for(address, plan.writes); };
  }
};

}  // namespace sluice::agent::program
