#include "operator/status/progress.h"

#include <algorithm>

namespace sluice::status {
namespace {

using planner::Agent;
using planner::Finding;
using planner::ObjectPlan;

// Some names, for a message that stays readable in a large cluster.
std::string some(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  std::string out;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) out += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kShown) out += " and " + std::to_string(names.size() - kShown) + " more";
  return out;
}

bool living(const Agent& agent) {
  return agent.connected && agent.fault() == nullptr;
}

}  // namespace

void Progress::wake(planner::Time at) {
  if (at > input_.now && (!again_at_ || at < *again_at_)) again_at_ = at;
}

const std::set<std::string>& Progress::nodes_with_agent() {
  if (with_agent_) return *with_agent_;
  with_agent_.emplace();
  for (const auto& [name, node] : input_.cluster.nodes) {
    const auto agent = input_.agents.find(name);
    const bool seen = agent != input_.agents.end() && agent->second.seen;
    if (seen || input_.cluster.load_balancer_nodes.contains(name)) with_agent_->insert(name);
  }
  return *with_agent_;
}

std::set<std::string> Progress::eligible(const ObjectPlan& object) const {
  std::set<std::string> out;
  for (const ipam::Allocation& allocation : object.programmed) {
    const auto address = input_.round.plan.addresses.find(allocation.address);
    if (address == input_.round.plan.addresses.end() || address->second.eligible == nullptr) continue;
    out.insert(address->second.eligible->begin(), address->second.eligible->end());
  }
  return out;
}

const planner::ServiceFailure* Progress::failure(const Agent& agent, const ObjectPlan& object) const {
  for (const planner::ServiceFailure& failure : agent.failures) {
    if (std::ranges::find(object.services, failure.service) != object.services.end()) return &failure;
  }
  return nullptr;
}

Finding Progress::lacks_generation(const ObjectPlan& object, const std::vector<std::string>& nodes) const {
  std::vector<std::string> missing;
  for (const std::string& name : nodes) {
    const Agent& agent = input_.agents.at(name);
    if (agent.acked_revision >= object.generation_revision) continue;
    if (!agent.refusal.empty()) return {false, "Refused", name + " refused the state: " + agent.refusal};
    missing.push_back(name);
  }
  if (missing.empty()) return {};
  return {false, "Programming", "not yet in the maps of " + some(missing)};
}

Finding Progress::lags(const ObjectPlan& object, const std::vector<std::string>& nodes) {
  std::vector<std::string> late;
  for (const std::string& name : nodes) {
    if (input_.agents.at(name).acked_revision < object.changed_revision) late.push_back(name);
  }
  if (late.empty()) return {};
  if (input_.now - object.changed_at >= kLag) {
    return {false, "Lagging", "the newest endpoints are not yet in the maps of " + some(late)};
  }
  wake(object.changed_at + kLag);
  return {};
}

Progress::Programmed Progress::programmed(const ObjectPlan& object) {
  Programmed out;
  out.nodes_total = nodes_with_agent().size();
  for (const std::string& name : nodes_with_agent()) {
    const auto agent = input_.agents.find(name);
    if (agent == input_.agents.end() || object.services.empty() || !agent->second.connected) continue;
    const bool has = agent->second.acked_revision >= object.generation_revision;
    if (has && failure(agent->second, object) == nullptr) ++out.nodes_programmed;
  }
  const auto result = [&out](Finding finding) {
    out.condition = condition("Programmed", finding);
    return out;
  };
  if (!object.accepted.good) return result({false, object.accepted.reason, object.accepted.message});
  if (object.services.empty())
    return result({false, object.addresses.reason, "no address yet: " + object.addresses.message});
  const std::set<std::string> nodes = eligible(object);
  std::vector<std::string> able;
  for (const std::string& name : nodes) {
    const auto agent = input_.agents.find(name);
    if (agent != input_.agents.end() && living(agent->second)) able.push_back(name);
  }
  if (able.empty()) {
    const Finding& why = input_.round.plan.addresses.at(object.programmed.front().address).announced;
    if (!why.good) return result(why);
    return result({false, "NoLivingAgent",
                   "none of " + std::to_string(nodes.size()) +
                       " eligible nodes has an agent that is connected and can move packets"});
  }
  if (Finding missing = lacks_generation(object, able); !missing.good) return result(std::move(missing));
  for (const std::string& name : able) {
    if (const auto* failed = failure(input_.agents.at(name), object)) {
      return result({false, failed->reason, failed->service + " on " + name + ": " + failed->message});
    }
  }
  if (Finding late = lags(object, able); !late.good) return result(std::move(late));
  return result({true, "Programmed", "in the maps of every eligible node with a living agent"});
}

bool Progress::address_ready(const ObjectPlan& object, const net::IpAddress& address) const {
  const auto plan = input_.round.plan.addresses.find(address);
  if (plan == input_.round.plan.addresses.end() || plan->second.node.empty()) return false;
  const auto agent = input_.agents.find(plan->second.node);
  return agent != input_.agents.end() && living(agent->second) &&
         agent->second.acked_revision >= object.changed_revision && failure(agent->second, object) == nullptr;
}

WantedCondition Progress::announced(const ObjectPlan& object) const {
  const auto result = [](const char* status, std::string reason, std::string message) {
    return WantedCondition{"Announced", status, std::move(reason), std::move(message)};
  };
  if (object.services.empty())
    return result("False", "NotProgrammed", "nothing is announced before it can be programmed");
  std::string good;
  for (const ipam::Allocation& allocation : object.programmed) {
    const auto found = input_.round.plan.addresses.find(allocation.address);
    if (found == input_.round.plan.addresses.end()) continue;
    const std::string address = allocation.address.to_string();
    const planner::AddressPlan& plan = found->second;
    if (!plan.announced.good) return result("False", plan.announced.reason, address + ": " + plan.announced.message);
    const auto agent = input_.agents.find(plan.node);
    if (agent == input_.agents.end() || !agent->second.connected) {
      return result("Unknown", "AgentUnreachable",
                    address + ": the agent on " + plan.node + ", which announces it, cannot be reached");
    }
    if (std::ranges::find(agent->second.announcing, allocation.address) == agent->second.announcing.end()) {
      return result("False", "Pending", address + ": " + plan.node + " is to announce it and does not yet");
    }
    good += (good.empty() ? "" : "; ") + address + ": " + plan.announced.message;
  }
  return result("True", "Announced", good);
}

}  // namespace sluice::status
