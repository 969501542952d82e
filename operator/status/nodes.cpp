#include <algorithm>

#include "operator/resources/json_read.h"
#include "operator/status/parts.h"

namespace sluice::status {
namespace {

using planner::Agent;

WantedCondition ready(const Input& input, const std::string& name, const Agent* agent) {
  if (agent == nullptr || !agent->connected) {
    const std::string why = agent == nullptr ? "" : ": " + agent->error;
    return {"Ready", "False", "AgentUnreachable",
            "the operator cannot reach the agent on this node" + why + "; what it has programmed goes on forwarding"};
  }
  WantedCondition out{"Ready", "True", "Ready", "the agent is connected and moves packets"};
  for (const planner::AgentCondition& said : agent->conditions) {
    if (said.type == "Ready") out = {"Ready", said.status ? "True" : "False", said.reason, said.message};
  }
  const auto plan = input.round.plan.nodes.find(name);
  if (out.status == "True" && plan != input.round.plan.nodes.end() && !plan->second.eligible.good) {
    out.reason = plan->second.eligible.reason;
    out.message += "; it announces no address: " + plan->second.eligible.message;
  }
  return out;
}

WantedCondition programmed(const Input& input, Progress& progress, const Agent* agent, const std::string& before) {
  const auto result = [](bool good, std::string reason, std::string message) {
    return WantedCondition{"Programmed", good ? "True" : "False", std::move(reason), std::move(message)};
  };
  if (agent == nullptr || !agent->connected) {
    return {"Programmed", "Unknown", "AgentUnreachable", "what the agent has is not known while it cannot be reached"};
  }
  if (agent->acked_revision < input.round.plan.next.revision) {
    if (!agent->refusal.empty()) return result(false, "Refused", "the agent refused the state: " + agent->refusal);
    const bool late = input.now - agent->lagging_since >= kLag;
    if (before != "True" || late)
      return result(false, late ? "Lagging" : "Programming", "the newest state is not in the maps yet");
    progress.wake(agent->lagging_since + kLag);
  }
  if (!agent->failures.empty()) {
    const planner::ServiceFailure& first = agent->failures.front();
    const size_t more = agent->failures.size() - 1;
    return result(
        false, first.reason,
        first.service + ": " + first.message + (more == 0 ? "" : "; and " + std::to_string(more) + " more services"));
  }
  return result(true, "Programmed", "the maps hold what is wanted, read back");
}

Json interfaces_json(const Agent& agent) {
  std::map<std::string, const planner::AgentInterface*> sorted;
  for (const planner::AgentInterface& one : agent.interfaces) sorted.emplace(one.name, &one);
  Json out = Json::array();
  for (const auto& [name, one] : sorted) out.push_back({{"name", name}, {"mode", one->mode}, {"driver", one->driver}});
  return out;
}

// What an agent that cannot be reached said last, without what has been given to another node since: of that the node
// is no announcer any more, whatever it does.
Json addresses_left(const Input& input, const std::string& node, const Json& status) {
  Json out = Json::array();
  for (const std::string& text : resources::json_read::texts(status, "addresses")) {
    const auto address = net::IpAddress::parse(text);
    if (!address) continue;
    const auto plan = input.round.plan.addresses.find(*address);
    const bool moved =
        plan != input.round.plan.addresses.end() && !plan->second.node.empty() && plan->second.node != node;
    if (!moved) out.push_back(text);
  }
  return out;
}

Json addresses_json(const Agent& agent) {
  std::vector<net::IpAddress> sorted = agent.announcing;
  std::ranges::sort(sorted);
  Json out = Json::array();
  for (const net::IpAddress& address : sorted) out.push_back(address.to_string());
  return out;
}

void status_write(const Input& input, Progress& progress, const resources::LoadBalancerNode& node,
                  std::vector<Write>& out) {
  const std::string& name = node.meta.key.name;
  const auto found = input.agents.find(name);
  const Agent* agent = found == input.agents.end() ? nullptr : &found->second;
  const Json& raw_status = member(*node.raw, "status");
  const std::vector<resources::Condition> before = resources::json_read::conditions(raw_status, "conditions");
  std::vector<WantedCondition> wanted = {ready(input, name, agent),
                                         programmed(input, progress, agent, status_of(before, "Programmed"))};
  Json status = Json::object();
  // Of an agent that cannot be reached, what it said last stays, but for addresses that have moved.
  if (agent != nullptr && agent->connected) {
    for (const planner::AgentCondition& said : agent->conditions) {
      if (said.type == "Ready" || said.type == "Programmed") continue;
      wanted.push_back({said.type, said.status ? "True" : "False", said.reason, said.message});
    }
    status["agent"] = {{"version", agent->version}, {"startTime", timestamp(agent->start_time)}};
    status["interfaces"] = interfaces_json(*agent);
    status["addresses"] = addresses_json(*agent);
  } else if (raw_status.contains("addresses")) {
    status["addresses"] = addresses_left(input, name, raw_status);
  }
  status["conditions"] = condition_list(wanted, member(raw_status, "conditions"), before, 0, timestamp(input.wall));
  Json patch = status_patch(*node.raw, status);
  if (patch.is_null()) return;
  std::vector<Event> events;
  if (wanted.front().status == "False" && turned(before, wanted.front())) {
    events.push_back({node.raw, true, wanted.front().reason, wanted.front().message});
  }
  out.push_back({kube::kLoadBalancerNodes, node.meta.key, Verb::merge_patch, "status",
                 std::make_shared<const Json>(std::move(patch)), std::move(events)});
}

}  // namespace

void node_writes(const Input& input, Progress& progress, std::vector<Write>& out) {
  for (const auto& [name, node] : input.cluster.load_balancer_nodes) {
    if (input.cluster.nodes.contains(name))
      status_write(input, progress, *node, out);
    else
      out.push_back({kube::kLoadBalancerNodes, node->meta.key, Verb::remove, "", nullptr, {}});
  }
  for (const std::string& name : progress.nodes_with_agent()) {
    if (input.cluster.load_balancer_nodes.contains(name)) continue;
    Json body = {{"apiVersion", "sluice.io/v1alpha1"}, {"kind", "LoadBalancerNode"}, {"metadata", {{"name", name}}}};
    out.push_back(
        {kube::kLoadBalancerNodes, {"", name}, Verb::create, "", std::make_shared<const Json>(std::move(body)), {}});
  }
}

}  // namespace sluice::status
