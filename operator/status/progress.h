// How far the agents are with one object: the judgements behind Programmed, Announced and a Service's ingress.
#pragma once

#include "operator/status/conditions.h"
#include "operator/status/status.h"

namespace sluice::status {

class Progress {
 public:
  explicit Progress(const Input& input);

  struct Programmed {
    WantedCondition condition;  // of type "Programmed"
    size_t nodes_total = 0;     // with an agent
    size_t nodes_programmed = 0;
  };
  // True when every eligible node with a living agent has acknowledged the
  // object's generation; what changes after that counts against it only from kLag on.
  Programmed programmed(const planner::ObjectPlan& object);

  // Of type "Announced", over all of the object's addresses.
  [[nodiscard]] WantedCondition announced(const planner::ObjectPlan& object) const;

  // The announcing node has acknowledged the object as it is now.
  [[nodiscard]] bool address_ready(const planner::ObjectPlan& object, const net::IpAddress& address) const;

  // Nodes that have, or had, an agent.
  [[nodiscard]] const std::set<std::string>& nodes_with_agent() const { return with_agent_; }

  [[nodiscard]] std::optional<planner::Time> again_at() const { return again_at_; }
  void wake(planner::Time at);

 private:
  using Nodes = std::shared_ptr<const std::set<std::string>>;
  // A set of eligible nodes, as far as they can do anything: with the revision that the slowest of them has.
  struct Able {
    Nodes eligible;
    std::vector<std::pair<std::string, const planner::Agent*>> nodes;
    state::Revision slowest = UINT64_MAX;
  };
  struct Failure {
    std::string node;
    const planner::ServiceFailure* what = nullptr;
  };

  [[nodiscard]] Nodes eligible(const planner::ObjectPlan& object) const;
  const Able& able(const planner::ObjectPlan& object);
  // Of this object's services on any of these nodes.
  [[nodiscard]] const Failure* failure(const planner::ObjectPlan& object, const std::set<std::string>& nodes) const;
  [[nodiscard]] size_t count_programmed(const planner::ObjectPlan& object) const;
  [[nodiscard]] static planner::Finding lacks_generation(const planner::ObjectPlan& object, const Able& able);
  [[nodiscard]] planner::Finding lags(const planner::ObjectPlan& object, const Able& able);

  const Input& input_;
  std::optional<planner::Time> again_at_;
  std::set<std::string> with_agent_;
  std::vector<state::Revision> acked_;                    // of the connected ones of these, ascending
  std::map<std::string, std::vector<Failure>> failures_;  // by service; of connected agents
  std::map<const std::set<std::string>*, Able> able_;     // most objects share one set
};

}  // namespace sluice::status
