// The ways that the last plan was made for, and how others differ from them. Pure.
#pragma once

#include <set>
#include <unordered_map>
#include <vector>

#include "node-agent/program/ways.h"

namespace sluice::agent::program {

struct WayChange {
  bool all = false;                    // every way may lead elsewhere
  bool rest = false;                   // something other than next hops differs
  std::vector<net::IpAddress> others;  // backends' addresses whose way is another
  std::vector<net::IpAddress> moved;   // of those, such that have come to this machine or left it
};

class WayBook {
 public:
  // Takes over the ways; `only` (nullptr: all) bounds which next hops may differ.
  WayChange take(const Ways& ways, const std::set<net::IpAddress>* only);

  [[nodiscard]] const std::unordered_map<net::IpAddress, dataplane::NextHop>& next_hops() const { return next_hops_; }
  // nullptr: not known.
  [[nodiscard]] const dataplane::NextHop* find(const net::IpAddress& address) const;
  // All but the next hops.
  [[nodiscard]] const Ways& rest() const { return rest_; }

 private:
  void note(const net::IpAddress& address, const dataplane::NextHop* now, WayChange& change);

  std::unordered_map<net::IpAddress, dataplane::NextHop> next_hops_;
  Ways rest_;
};

}  // namespace sluice::agent::program
