// The maps: made or taken over from their pins, mapped into memory, shared by the programs. Internal to dataplane/.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "bpf/sluice.h"
#include "common/result.h"
#include "node-agent/dataplane/fd.h"
#include "node-agent/dataplane/loader.h"
#include "node-agent/dataplane/mapping.h"
#include "node-agent/program/flow_tables.h"
#include "node-agent/program/image.h"

struct bpf_object;

namespace sluice::agent::dataplane {

struct FlowTables {
  program::FlowTable<sluice_flow4> flows4, half_open4;
  program::FlowTable<sluice_flow6> flows6, half_open6;
};

// What has been counted by records that are gone. Written by the agent alone. Kept as a map for a process that comes
// after this one: one value that holds, behind each other, one sluice_counters for each service and one sluice_count
// for each reason (modulo 2^64: what one reason has too little another has too much).
struct CounterBase {
  std::span<sluice_counters> services;
  std::span<sluice_count> reasons;
};

class Maps {
 public:
  // Takes over the maps pinned in the layout's directory that are as they should be and makes the others. The maps that
  // make up tables, and the counters by their indices, are taken over or made all together: one of them alone means
  // nothing. So are the flow tables.
  static Result<Maps> open(const std::string& directory, const MapSizes& sizes);

  // The map named so in bpf/layout/.
  [[nodiscard]] int fd(const std::string& name) const { return fds_.at(name).get(); }
  // Where a table lies in memory.
  [[nodiscard]] void* memory(program::MapId map) const { return memory_.at(program::map_name(map)).data(); }
  [[nodiscard]] program::ImageView view() const;
  // By the flow hash key that stands in the maps.
  [[nodiscard]] FlowTables flow_tables() const;
  [[nodiscard]] CounterBase counter_base() const;
  // By the index of `peers`. The kernel side writes them.
  [[nodiscard]] std::span<const sluice_proof> proofs() const;
  [[nodiscard]] const MapSizes& sizes() const { return sizes_; }
  // The tables were made now, and hold nothing.
  [[nodiscard]] bool fresh_tables() const { return fresh_tables_; }
  // Some map is not in the place of its pin yet: programs that are attached still use another.
  [[nodiscard]] bool replacing() const { return !unpinned_.empty(); }

  // Lets a program object use these maps instead of making its own, but for those that lead to its own programs. Before
  // it is loaded.
  Status share_with(bpf_object* object) const;
  // Copies the flows that older tables of another size have and these do not.
  void take_over_flows() const;
  // Puts these maps in the place of what is pinned.
  Status pin_all();

 private:
  Maps() = default;
  Status map_memory();
  Status take_over_owned(int older) const;
  Status keep_older_flows(const std::map<std::string, Fd>& older);

  std::string directory_;
  MapSizes sizes_;
  std::map<std::string, Fd> fds_;
  std::map<std::string, Mapping> memory_;  // tables, by name
  bool fresh_tables_ = false;
  std::vector<std::string> unpinned_;
  std::map<std::string, Mapping> older_flows_;
};

}  // namespace sluice::agent::dataplane
