// The keys of the tunnel between nodes, and their rotation. Pure.
//
// A new key is first accepted only. When every living agent has it, it takes the sending over, and the former one is
// accepted on; when every living agent sends by the new one, and what was under way has had a minute to arrive, the
// former one is dropped. A key's id is the minute it was made at, since the Unix epoch: it says which of two keys is
// the newer one, and how old a key is, also to a leader that finds it.
#pragma once

#include <chrono>
#include <functional>

#include "operator/planner/values.h"

namespace sluice::planner {

struct TunnelInput {
  const state::Tunnel& previous;
  const Options& options;
  const Memory& memory;
  state::Revision previous_revision = 0;
  std::array<uint64_t, 2> random{};            // for a new key; never all zero
  std::chrono::system_clock::time_point wall;  // what keys' ages are told by
  Time now;
  // Every living agent holds the content of this revision.
  std::function<bool(state::Revision)> everywhere;
};

struct TunnelPlan {
  state::Tunnel tunnel;
  // For Memory: the revision from which on agents have these keys, where they did not change, and since when they all
  // do.
  state::Revision revision = 0;
  std::optional<Time> everywhere_since;
  std::optional<Time> again_at;
};

TunnelPlan plan_tunnel(const TunnelInput& input);

}  // namespace sluice::planner
