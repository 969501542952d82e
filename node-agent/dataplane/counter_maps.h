// The kernel's counters, summed over its CPUs. Internal to dataplane/.
#pragma once

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/result.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/dataplane/maps.h"
#include "node-agent/program/programmer.h"

namespace sluice::agent::dataplane {

// Of what is programmed.
Result<Counters> read_counters(const Maps& maps, const program::Programmer& programmer);

// Keeps counters with whom they count for, as indices change hands: a backend's go with it to another record, and what
// was counted by records that are gone stays in its service's and the reasons' sums.
class CounterKeeper {
 public:
  // `fresh`: nothing has been counted by any index yet.
  CounterKeeper(const Maps& maps, bool fresh);
  // Before the plan's stores are made.
  Status prepare(const Maps& maps, const program::Programmer& programmer, const program::Plan& plan);
  // After the grace period of all plans that were prepared for.
  Status settle(const Maps& maps, const program::Programmer& programmer);

 private:
  // A record that is counted by.
  struct Owner {
    uint32_t service = SLUICE_MAX_SERVICES;  // index
    uint8_t forwarding = 0;
  };
  Status begin_services(const Maps& maps, const std::vector<uint32_t>& indices);
  Status move(const Maps& maps, const program::Programmer& programmer, const program::CounterMove& move);
  Status fold(const Maps& maps, uint32_t record);
  Status settle_service(const Maps& maps, uint32_t index, const program::Programmed* now);

  std::vector<bool> services_;  // may hold counts of an earlier owner
  std::vector<bool> backends_;
  std::vector<Owner> owners_;                                    // by record
  std::unordered_map<uint32_t, std::vector<uint32_t>> records_;  // by service's index
  std::unordered_map<uint32_t, sluice_counters> moved_;          // by record: what has gone with its backend
  std::map<std::string, uint32_t> indices_;                      // of services, by id
  std::set<std::string> pending_;                                // services that may have lost records
  bool everything_ = true;                                       // not compared yet
};

}  // namespace sluice::agent::dataplane
