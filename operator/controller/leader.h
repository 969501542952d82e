// What a replica does while it leads: takes over from whoever led before, and then, round by round, brings the
// cluster's objects and the agents to what they should be. Used by one thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "operator/certificates/keeper.h"
#include "operator/controller/options.h"
#include "operator/controller/succession.h"
#include "operator/controller/watches.h"
#include "operator/controller/writer.h"
#include "operator/kube/events.h"
#include "operator/kube/lease.h"
#include "operator/planner/planner.h"
#include "operator/publish/publisher.h"

namespace sluice::controller {

// What a leader works with; all of it outlives the leader.
struct Tools {
  const Options& options;
  kube::Api& api;
  Watches& watches;
  certificates::Keeper& certificates;
  publish::Publisher& publisher;
  Writer& writer;
  kube::EventRecorder& events;
  kube::LeaderElector& elector;
  // Runs it if this replica still leads, with no step-down in between. False: it does not lead any more.
  std::function<bool(const std::function<void()>&)> while_leading;
};

class Leader {
 public:
  using Clock = std::chrono::steady_clock;
  // `cluster`: what the watches have told so far; the caller goes on taking their changes into it.
  Leader(Tools tools, resources::ClusterState& cluster) : tools_(std::move(tools)), cluster_(cluster) {}

  // Certificates, one consistent look at everything that holds addresses, the epoch, and the state that the agents
  // hold. Blocks for up to some 50 s, longer where the API server is slow. To be repeated when it fails. Nothing is
  // allocated or pushed before it has succeeded.
  Status take_over();
  // One round: decide, push, write. Cheap where nothing has changed. Returns when to do the next though nothing
  // changes.
  Clock::time_point round();

  [[nodiscard]] state::Epoch epoch() const { return term_.epoch; }
  [[nodiscard]] const std::shared_ptr<const state::DesiredState>& state() const { return state_; }

 private:
  Status read_cluster_id();
  Status tend_certificates();
  Status look_consistently();
  Status succeed_agents();
  // A new term with a higher epoch, because an agent knows of one that is higher than ours. Returns when to try again
  // where that failed: the agent refuses in the same words again, which nobody is told of.
  std::optional<Clock::time_point> raise_epoch(state::Epoch at_least);
  void push(const planner::Plan& plan);
  std::optional<Clock::time_point> write(const planner::Round& round, const planner::Agents& agents,
                                         Clock::time_point now);

  const Tools tools_;
  resources::ClusterState& cluster_;
  planner::Options planning_;
  planner::Memory memory_;
  planner::ResolveCache cache_;
  publish::Term term_;
  std::shared_ptr<const state::DesiredState> state_;  // in force; never null after take_over
  bool pushed_ = false;
  certificates::Clock::time_point tend_again_;
  Patience patience_;             // with agents that may hold the state in force
  Clock::time_point next_raise_;  // of the epoch: not before, whatever else happens
};

}  // namespace sluice::controller
