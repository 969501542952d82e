// From {what stands in the maps, the desired state as seen from one node, the ways from it} to the stores that make the
// one the other, in an order in which no reader is ever between two states of a service. Pure: the caller makes the
// stores, waits out grace periods and reads back.
//
// How readers stay right:
//  - Backend records and slots are written where no word leads; then one 64-bit store of sluice_service.table switches;
//  keys come last,
//    and go first. What the old word led to is retired, and used again only after grace_over().
//  - What is in use follows from the maps alone, by references from the service table in force: decode() after a
//  restart finds it, and
//    what an interrupted plan had written without leading to it is free.
//  - A service that cannot be programmed for want of room keeps what it had; others go on.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "node-agent/program/egress_table.h"
#include "node-agent/program/key_table.h"
#include "node-agent/program/service_change.h"

namespace sluice::agent::program {

// The source ports for nat, in host order, both inclusive.
struct NatPorts {
  uint16_t first = 10000;
  uint16_t last = 29999;
};

// What a plan changes: to be read back.
struct Touched {
  std::vector<std::string> services;
  std::vector<uint64_t> removed_keys;
};

// An index of the maps of counters that stands for another service or backend from now on: to be set, before the stores
// are made, to what stood at `from`, where the same backend had its record, or to nothing.
struct CounterMove {
  uint32_t to = 0;
  std::optional<uint32_t> from;
};

struct Plan {
  WriteList writes;
  std::vector<dataplane::ServiceFailure> failures;
  Touched touched;
  std::vector<uint32_t> new_services;  // indices whose counters begin
  std::vector<CounterMove> backend_counters;
  bool retry_after_grace = false;  // some failures may pass when planned again after grace_over()
};

// A part of a map: `count` elements from `first`.
struct Region {
  MapId map = MapId::config;
  uint32_t first = 0;
  uint32_t count = 0;
};

class Programmer {
 public:
  using Services = std::map<std::string, state::Service>;

  // Nothing is programmed: fresh maps.
  Programmer(const Sizes& sizes, NatPorts ports);
  // What an image holds, whoever wrote it. The caller makes sure that a grace period has passed since it was written.
  // What is inconsistent in it is treated as not there, to be written anew.
  static Programmer decode(const Sizes& sizes, NatPorts ports, const ImageView& image);

  // Takes over what was desired last, so that plan_ways() brings the maps to it.
  void remember(const Programmer& before);

  // `image` is what the maps hold now, that is what decode() saw plus every store planned since. The stores planned are
  // taken as made.
  Plan plan(const ImageView& image, const state::DesiredState& desired, const std::string& node, const Ways& ways);
  // The same desired state as last time, other ways.
  Plan plan_ways(const ImageView& image, const Ways& ways);

  // No reader is left that saw the maps as they were before the last plan's stores. Gives what is to be cleared now;
  // empty as a rule.
  WriteList grace_over();
  // Something waits for that.
  [[nodiscard]] bool awaits_grace() const;

  // Where everything lies that these, or all services (nullptr), consist of. With it check() needs nothing else of an
  // image.
  [[nodiscard]] std::vector<Region> regions(const Touched* touched) const;
  // Compares what an image leads to, read as the XDP program reads it, with what is desired: one failure for each of
  // the services (all: nullptr) that differs, and for keys that should lead nowhere. Services that stand as they did
  // for want of room are left out.
  [[nodiscard]] std::vector<dataplane::ServiceFailure> check(const ImageView& image, const Touched* touched) const;

  // What is programmed, by id.
  [[nodiscard]] const std::map<std::string, Programmed>& programmed() const { return programmed_; }
  [[nodiscard]] const KeyTable& keys() const { return keys_; }
  [[nodiscard]] const Arenas& arenas() const { return arenas_; }
  // The id of the service at an index of `services`; nullptr where there is none.
  [[nodiscard]] const std::string* id_at(uint32_t index) const;

 private:
  struct Work;
  Plan run(const ImageView& image, const Services& services, const Ways& ways);
  void decode_service(const ImageView& image, Programmed& service);
  void store_settings(Work& work) const;
  void take_out_damaged(Work& work);
  void select(Work& work) const;
  void claim(Work& work);
  void plan_changes(Work& work);
  [[nodiscard]] bool unchanged(const Work& work, const state::Service& service) const;
  void admit_keys(Work& work);
  [[nodiscard]] KeyTable::Keys wanted_keys(const Work& work) const;
  void reject(Work& work, const std::string& id, const std::string& what);
  void reject_new_keys(Work& work);
  void make_changes(Work& work);
  static void note_counters(const ServiceChange& change, Plan& plan);
  void refresh_ways(Work& work);
  void change_keys(Work& work);
  void remove_unwanted(Work& work);
  void retain_egress();
  void report_ways(Work& work) const;
  [[nodiscard]] std::optional<std::string> difference(const ImageView& image, const state::Service& service) const;
  [[nodiscard]] std::optional<std::string> record_difference(const ImageView& image, uint32_t index, uint32_t record,
                                                             const RecordIdentity& identity) const;

  Sizes sizes_;
  NatPorts ports_;
  KeyTable keys_;
  Arenas arenas_;
  EgressTable egress_;
  std::map<std::string, Programmed> programmed_;
  std::vector<Programmed> unclaimed_;  // found by decode(), not yet known by a service's id
  std::vector<std::string> ids_;       // by index; empty: none

  // What was asked for last.
  Services desired_;
  std::array<uint64_t, 2> flow_hash_key_{};
  std::string node_;
  Ways ways_;
  bool ways_incomplete_ = true;  // words are to be compared although the ways are the same
};

}  // namespace sluice::agent::program
