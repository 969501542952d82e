// A cluster, its agents and the operator's rounds over both, without any I/O: what is written goes into the cluster as
// an API server would take it, what is pushed is acknowledged when the test says so.
#pragma once

#include "operator/planner/planner.h"
#include "operator/status/status.h"
#include "tests/unit/operator/builders.h"

namespace sluice::test {

class World {
 public:
  World();

  // --- the API server
  void put(Json object);
  void erase(const std::string& kind, const std::string& ns, const std::string& name);
  // Merges into the object that is there.
  void edit(const std::string& kind, const std::string& ns, const std::string& name, const Json& patch);
  [[nodiscard]] const Json& object(const std::string& kind, const std::string& ns, const std::string& name) const;
  [[nodiscard]] bool has(const std::string& kind, const std::string& ns, const std::string& name) const;

  // --- nodes and agents
  // A node 172.30.0.1N with a connected agent that has acknowledged everything so far.
  void add_node(const std::string& name);
  void disconnect(const std::string& name);
  void connect(const std::string& name);
  // It has what was pushed last and announces what it is first in.
  void ack(const std::string& name);
  void ack_all();

  // --- the operator
  [[nodiscard]] planner::RoundInput input() const {
    return {state, cluster, agents, options, memory, now, wall(), random};
  }
  // One decision; claims are written, the state is taken over. `statuses`: and these too.
  planner::Round round(bool statuses = true);
  // Rounds and acknowledgements until nothing changes any more.
  planner::Round settle();
  void pass(std::chrono::seconds time) { now += time; }

  // --- what came out
  [[nodiscard]] const state::Service& service(const std::string& id) const { return state.services.at(id); }
  // "10.0.0.1:8080 10.0.0.2:8080", those in the choice.
  [[nodiscard]] std::string backends(const std::string& id) const;
  [[nodiscard]] std::string announcer(const std::string& address) const;
  // "True Reason" of a condition; "" where there is none.
  [[nodiscard]] std::string condition(const std::string& kind, const std::string& ns, const std::string& name,
                                      const std::string& type) const;
  [[nodiscard]] std::string message(const std::string& kind, const std::string& ns, const std::string& name,
                                    const std::string& type) const;
  // "reason: message" of those told since the last call.
  std::vector<std::string> take_events();

  resources::ClusterState cluster;
  state::DesiredState state;
  planner::Agents agents;
  planner::Options options;
  planner::Memory memory;
  planner::Time now{std::chrono::hours(1)};
  [[nodiscard]] std::chrono::system_clock::time_point wall() const;
  std::array<uint64_t, 2> random{7, 1};  // for the next round
  planner::ResolveCache cache;
  size_t writes = 0;     // status writes and patches so far
  size_t conflicts = 0;  // of these, those made from an old version

 private:
  void apply(const status::Write& write);
  void store(Json object);

  std::map<std::tuple<std::string, std::string, std::string>, Json> objects_;
  uint64_t version_ = 100;
  int nodes_ = 0;
  std::vector<std::string> events_;
};

}  // namespace sluice::test
