// How far the agents are with one object: the judgements behind Programmed, Announced and a Service's ingress.
#pragma once

#include "operator/status/conditions.h"
#include "operator/status/status.h"

namespace sluice::status {

class Progress {
 public:
  explicit Progress(const Input& input) : input_(input) {}

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
  [[nodiscard]] const std::set<std::string>& nodes_with_agent();

  [[nodiscard]] std::optional<planner::Time> again_at() const { return again_at_; }
  void wake(planner::Time at);

 private:
  [[nodiscard]] std::set<std::string> eligible(const planner::ObjectPlan& object) const;
  [[nodiscard]] const planner::ServiceFailure* failure(const planner::Agent& agent,
                                                       const planner::ObjectPlan& object) const;
  [[nodiscard]] planner::Finding lacks_generation(const planner::ObjectPlan& object,
                                                  const std::vector<std::string>& living) const;
  [[nodiscard]] planner::Finding lags(const planner::ObjectPlan& object, const std::vector<std::string>& living);

  const Input& input_;
  std::optional<planner::Time> again_at_;
  std::optional<std::set<std::string>> with_agent_;
};

}  // namespace sluice::status
