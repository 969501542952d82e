// History that nobody needs any more. Pure.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "operator/planner/values.h"

namespace sluice::planner {

struct RetirementInput {
  const Agents& agents;
  const Options& options;
  const Memory& memory;
  Time now;
};

struct Retirement {
  std::map<std::string, std::map<state::Revision, Time>> changes;  // for Memory::changes
  std::set<std::string> services;                                  // ids of those that have forgotten something
  std::optional<Time> again_at;                                    // more can be forgotten then
};

// Forgets what is older than a service's drain time, and at least Options::min_history, where no agent reports a flow
// that only history leads to its backend.
Retirement retire_history(const RetirementInput& input, std::map<std::string, state::Service>& services);

}  // namespace sluice::planner
