// The maps of allowed sources. Internal to dataplane/.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/result.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/dataplane/maps.h"
#include "node-agent/program/programmer.h"

namespace sluice::agent::dataplane {

class SourceKeeper {
 public:
  // Before a plan's stores are made: puts in what they lead to. Goes on past prefixes that find no room: their clients
  // stay outside until a later call finds some.
  void prepare(const Maps& maps, const program::Plan& plan);
  // Something waits for the grace period to be taken out.
  [[nodiscard]] bool awaits_grace() const { return !former_.empty(); }
  // After it: takes that out, and tries again what had found no room.
  Status grace_over(const Maps& maps);
  // Takes out what no service of the maps names: an interrupted process has left it, and its id may be given again.
  Status keep_only(const Maps& maps, const std::vector<uint32_t>& sets);

  // Tries again what has found no room.
  void fill(const Maps& maps);
  // The services that lack allowed sources for want of room.
  [[nodiscard]] std::vector<ServiceFailure> failures(const program::Programmer& programmer) const;
  // Reads everything back: one failure for each service whose allowed sources are others than those in the map.
  [[nodiscard]] static Result<std::vector<ServiceFailure>> check(const Maps& maps,
                                                                 const program::Programmer& programmer,
                                                                 const std::vector<ServiceFailure>& known);

 private:
  struct Unfinished {
    program::SourceSet rest;  // the prefixes that are not there yet
    std::string why;
  };
  void fill(const Maps& maps, Unfinished& set);

  std::set<uint32_t> former_;                  // to be taken out after the grace period
  std::map<uint32_t, Unfinished> unfinished_;  // by id
};

}  // namespace sluice::agent::dataplane
