#include "operator/status/parts.h"

namespace sluice::status {
namespace {

using planner::ObjectPlan;
using resources::LoadBalancer;

std::string ratio(size_t part, size_t whole) {
  return std::to_string(part) + "/" + std::to_string(whole);
}

Json addresses_json(const Input& input, const ObjectPlan& object) {
  Json out = Json::array();
  for (const ipam::Allocation& allocation : object.programmed) {
    Json entry = {{"address", allocation.address.to_string()}};
    if (!allocation.pool.empty()) entry["pool"] = allocation.pool;
    const auto plan = input.round.plan.addresses.find(allocation.address);
    if (plan != input.round.plan.addresses.end() && !plan->second.node.empty()) entry["node"] = plan->second.node;
    out.push_back(std::move(entry));
  }
  return out;
}

std::string addresses_text(const ObjectPlan& object) {
  std::string out;
  for (const ipam::Allocation& allocation : object.programmed) {
    out += (out.empty() ? "" : ",") + allocation.address.to_string();
  }
  return out;
}

std::vector<Event> transitions(const LoadBalancer& lb, const std::vector<WantedCondition>& wanted) {
  std::vector<Event> out;
  for (const WantedCondition& one : wanted) {
    const bool waits = one.reason == "Claiming" || one.reason == "Pending" || one.reason == "NotProgrammed";
    const bool judged = one.type != "Programmed" && !waits;
    if (one.status == "False" && judged && turned(lb.conditions, one))
      out.push_back({lb.raw, true, one.reason, one.message});
    // What is not accepted is not judged further: one warning is enough.
    if (one.type == "Accepted" && one.status == "False") break;
    if (one.type == "Programmed" && one.status == "True" && status_of(lb.conditions, one.type) != "True") {
      out.push_back({lb.raw, false, "Programmed", one.message});
    }
  }
  return out;
}

// Of the object's leaving backends, on all nodes; of agents that cannot be reached, what they said last.
uint64_t draining_flows(const Input& input, const ObjectPlan& object) {
  uint64_t flows = 0;
  if (object.endpoints_draining == 0) return flows;
  for (const auto& [node, agent] : input.agents) {
    if (agent.leaving.empty()) continue;
    for (const std::string& service : object.services) {
      const auto leaving = agent.leaving.find(service);
      if (leaving == agent.leaving.end()) continue;
      for (const planner::LeavingFlows& one : leaving->second) flows += one.flows;
    }
  }
  return flows;
}

// Whether the patch says nothing new but how many flows are left.
bool only_draining_flows(const Json& object, const Json& patch) {
  const Json& changed = member(patch, "status");
  if (changed.size() != 1 || !changed.contains("backends")) return false;
  Json before = member(member(object, "status"), "backends");
  Json now = changed["backends"];
  if (!before.is_object()) return false;
  before.erase("drainingFlows");
  now.erase("drainingFlows");
  return before == now;
}

}  // namespace

void load_balancer_writes(const Input& input, Progress& progress, const LoadBalancer& lb, std::vector<Write>& out) {
  const auto plan = input.round.plan.objects.find({resources::OwnerKind::load_balancer, lb.meta.key});
  if (plan == input.round.plan.objects.end()) return;
  const ObjectPlan& object = plan->second;
  const Progress::Programmed programmed = progress.programmed(object);
  const std::vector<WantedCondition> wanted = {
      condition("Accepted", object.accepted),
      condition("AddressesAllocated", object.addresses),
      condition("BackendsResolved", object.accepted.good ? object.backends_resolved : object.accepted),
      programmed.condition,
      progress.announced(object),
  };
  const Json& before = member(member(*lb.raw, "status"), "conditions");
  const Json status = {
      {"observedGeneration", lb.meta.generation},
      {"addresses", addresses_json(input, object)},
      {"summary",
       {{"addresses", addresses_text(object)},
        {"backends", ratio(object.endpoints_ready, object.endpoints_total)},
        {"nodes", ratio(programmed.nodes_programmed, programmed.nodes_total)}}},
      {"backends",
       {{"total", object.endpoints_total},
        {"ready", object.endpoints_ready},
        {"draining", object.endpoints_draining},
        {"drainingFlows", draining_flows(input, object)}}},
      {"nodes", {{"total", programmed.nodes_total}, {"programmed", programmed.nodes_programmed}}},
      {"conditions", condition_list(wanted, before, lb.conditions, lb.meta.generation, timestamp(input.wall))},
  };
  Json patch = status_patch(*lb.raw, status);
  if (patch.is_null()) return;
  const bool only_counts = only_draining_flows(*lb.raw, patch);
  out.push_back({kube::kLoadBalancers, lb.meta.key, Verb::merge_patch, "status",
                 std::make_shared<const Json>(std::move(patch)), transitions(lb, wanted), only_counts});
}

}  // namespace sluice::status
