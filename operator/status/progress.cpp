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

Progress::Progress(const Input& input) : input_(input) {
  for (const auto& [name, node] : input.cluster.nodes) {
    const auto agent = input.agents.find(name);
    const bool known = agent != input.agents.end();
    if (!(known && agent->second.seen) && !input.cluster.load_balancer_nodes.contains(name)) continue;
    with_agent_.insert(name);
    if (!known || !agent->second.connected) continue;
    acked_.push_back(agent->second.acked_revision);
    for (const planner::ServiceFailure& failed : agent->second.failures)
      failures_[failed.service].push_back({name, &failed});
  }
  std::ranges::sort(acked_);
}

Progress::Nodes Progress::eligible(const ObjectPlan& object) const {
  Nodes out = std::make_shared<std::set<std::string>>();
  for (const ipam::Allocation& allocation : object.programmed) {
    const auto address = input_.round.plan.addresses.find(allocation.address);
    if (address == input_.round.plan.addresses.end() || address->second.eligible == nullptr) continue;
    const Nodes& nodes = address->second.eligible;
    if (nodes == out || std::ranges::includes(*out, *nodes)) continue;
    if (out->empty()) {
      out = nodes;
    } else {
      auto both = std::make_shared<std::set<std::string>>(*out);
      both->insert(nodes->begin(), nodes->end());
      out = std::move(both);
    }
  }
  return out;
}

const Progress::Able& Progress::able(const ObjectPlan& object) {
  Nodes nodes = eligible(object);
  const auto found = able_.find(nodes.get());
  if (found != able_.end()) return found->second;
  Able out;
  for (const std::string& name : *nodes) {
    const auto agent = input_.agents.find(name);
    if (agent == input_.agents.end() || !living(agent->second)) continue;
    out.nodes.emplace_back(name, &agent->second);
    out.slowest = std::min(out.slowest, agent->second.acked_revision);
  }
  const auto* key = nodes.get();
  out.eligible = std::move(nodes);
  return able_.emplace(key, std::move(out)).first->second;
}

const Progress::Failure* Progress::failure(const ObjectPlan& object, const std::set<std::string>& nodes) const {
  if (failures_.empty()) return nullptr;
  for (const std::string& service : object.services) {
    const auto found = failures_.find(service);
    if (found == failures_.end()) continue;
    const auto first = std::ranges::find_if(found->second, [&](const Failure& f) { return nodes.contains(f.node); });
    if (first != found->second.end()) return &*first;
  }
  return nullptr;
}

Finding Progress::lacks_generation(const ObjectPlan& object, const Able& able) {
  if (able.slowest >= object.generation_revision) return {};
  std::vector<std::string> missing;
  for (const auto& [name, agent] : able.nodes) {
    if (agent->acked_revision >= object.generation_revision) continue;
    if (!agent->refusal.empty()) return {false, "Refused", name + " refused the state: " + agent->refusal};
    missing.push_back(name);
  }
  return {false, "Programming", "not yet in the maps of " + some(missing)};
}

Finding Progress::lags(const ObjectPlan& object, const Able& able) {
  if (able.slowest >= object.changed_revision) return {};
  if (input_.now - object.changed_at < kLag) {
    wake(object.changed_at + kLag);
    return {};
  }
  std::vector<std::string> late;
  for (const auto& [name, agent] : able.nodes) {
    if (agent->acked_revision < object.changed_revision) late.push_back(name);
  }
  return {false, "Lagging", "the newest endpoints are not yet in the maps of " + some(late)};
}

size_t Progress::count_programmed(const ObjectPlan& object) const {
  // What stands of an object whose spec is not accepted is of an earlier generation.
  if (object.services.empty() || !object.accepted.good) return 0;
  const auto first = std::ranges::lower_bound(acked_, object.generation_revision);
  auto count = static_cast<size_t>(acked_.end() - first);
  std::set<std::string> failed;
  for (const std::string& service : failures_.empty() ? std::vector<std::string>{} : object.services) {
    const auto found = failures_.find(service);
    if (found == failures_.end()) continue;
    for (const Failure& one : found->second) {
      if (input_.agents.at(one.node).acked_revision >= object.generation_revision) failed.insert(one.node);
    }
  }
  return count - failed.size();
}

Progress::Programmed Progress::programmed(const ObjectPlan& object) {
  Programmed out;
  out.nodes_total = with_agent_.size();
  out.nodes_programmed = count_programmed(object);
  const auto result = [&out](const Finding& finding) {
    out.condition = condition("Programmed", finding);
    return out;
  };
  if (!object.accepted.good) return result(object.accepted);
  if (object.services.empty())
    return result({false, object.addresses.reason, "no address yet: " + object.addresses.message});
  // Who waits for this condition reads the addresses next. Those that cannot be had keep nobody waiting.
  if (object.addresses_to_come)
    return result({false, object.addresses.reason, "not all addresses yet: " + object.addresses.message});
  const Able& nodes = able(object);
  if (nodes.nodes.empty()) {
    const Finding& why = input_.round.plan.addresses.at(object.programmed.front().address).announced;
    if (!why.good) return result(why);
    return result({false, "NoLivingAgent",
                   "none of " + std::to_string(nodes.eligible->size()) +
                       " eligible nodes has an agent that is connected and can move packets"});
  }
  if (const Finding missing = lacks_generation(object, nodes); !missing.good) return result(missing);
  if (const Failure* failed = failure(object, *nodes.eligible)) {
    return result(
        {false, failed->what->reason, failed->what->service + " on " + failed->node + ": " + failed->what->message});
  }
  if (const Finding late = lags(object, nodes); !late.good) return result(late);
  return result({true, "Programmed", "in the maps of every eligible node with a living agent"});
}

bool Progress::address_ready(const ObjectPlan& object, const net::IpAddress& address) const {
  const auto plan = input_.round.plan.addresses.find(address);
  if (plan == input_.round.plan.addresses.end() || plan->second.node.empty()) return false;
  const auto agent = input_.agents.find(plan->second.node);
  return agent != input_.agents.end() && living(agent->second) &&
         agent->second.acked_revision >= object.changed_revision && failure(object, {plan->second.node}) == nullptr;
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
