// Whether there is room left: in the flow tables, in the tables of services, among the source ports of nat. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "node-agent/health/facts.h"

namespace sluice::agent::health {

// Of the room that there is, in percent. What was told of once is told of until it has fallen below the second.
constexpr unsigned kNearlyFull = 80;
constexpr unsigned kRoomAgain = 75;

// Something of which little is left.
struct Shortage {
  std::string reason;    // one word
  std::string what;      // "established IPv4 flows": which, and the same from one look to the next
  unsigned percent = 0;  // in use, rounded down to a multiple of five: a condition is not to change with each packet
  uint64_t room = 0;     // all of it; 0: that changes all the time
  std::string way_out;   // what to do about it
  friend bool operator==(const Shortage&, const Shortage&) = default;
};

// In the order in which they are told. `before`: of the last look.
std::vector<Shortage> find_shortages(const Usage& usage, const std::vector<Shortage>& before);

// CapacityLeft: there is no shortage. The first one's reason, and of all, or the first few, which they are and what to
// do.
Condition capacity_condition(const std::vector<Shortage>& shortages);

}  // namespace sluice::agent::health
