// Follows the kernel's links, addresses, routes and neighbours over rtnetlink, and keeps the neighbours that backends
// are reached through resolved. Holds no decision: ways.h does.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <set>

#include "common/result.h"
#include "node-agent/nexthop/ways.h"

namespace sluice::agent::nexthop {

class NetworkWatcher {
 public:
  struct Update {
    NetworkView view;
    Ways ways;
    friend bool operator==(const Update&, const Update&) = default;
  };
  // From the watcher's thread, when something has changed. Must not block for long.
  using Callback = std::function<void(const Update&)>;

  // Returns when the first view is read.
  static Result<std::unique_ptr<NetworkWatcher>> start(Callback callback, const Abilities& can = {});
  virtual ~NetworkWatcher() = default;  // joins the thread; neighbours stay kept by the kernel

  // What to find ways to, over which interfaces. What was wanted before and is no more is released.
  virtual void set_targets(Targets targets, std::set<uint32_t> usable) = 0;
  // The ways to the targets set last, as soon as no neighbour is waited for any more, at the latest after `patience`.
  virtual Update wait(std::chrono::milliseconds patience) = 0;
};

}  // namespace sluice::agent::nexthop
