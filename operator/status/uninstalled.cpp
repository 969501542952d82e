#include "operator/status/uninstalled.h"

#include <algorithm>

#include "operator/resources/json_read.h"
#include "operator/status/conditions.h"
#include "operator/status/ingress.h"

namespace sluice::status {
namespace {

constexpr const char* kReason = "Uninstalled";

using Names = std::vector<std::string_view>;

// `wanted` takes the place of what was judged; conditions in `dropped` and members in `cleared` go.
Json uninstalled(const Json& object, const std::vector<WantedCondition>& wanted, const Names& dropped,
                 const Names& cleared, std::chrono::system_clock::time_point wall) {
  const Json& before = member(member(object, "status"), "conditions");
  const auto conditions = resources::json_read::conditions(member(object, "status"), "conditions");
  const bool judged = std::ranges::any_of(
      wanted, [&](const auto& one) { return resources::find_condition(conditions, one.type) != nullptr; });
  if (!judged) return nullptr;
  const int64_t generation = resources::json_read::integer(member(object, "metadata"), "generation");
  Json status = {{"conditions", Json::array()}};
  for (Json& one : condition_list(wanted, before, conditions, generation, timestamp(wall))) {
    const std::string type = resources::json_read::text(one, "type");
    if (std::ranges::find(dropped, type) == dropped.end()) status["conditions"].push_back(std::move(one));
  }
  for (const std::string_view name : cleared) status[std::string(name)] = nullptr;
  return status_patch(object, status);
}

}  // namespace

Json uninstalled_load_balancer(const Json& object, std::chrono::system_clock::time_point wall) {
  return uninstalled(
      object,
      {{"Programmed", "False", kReason, "Sluice was uninstalled; AddressClaims keep the addresses for another install"},
       {"Announced", "False", kReason, "Sluice was uninstalled"}},
      {"Accepted", "AddressesAllocated", "BackendsResolved"},
      {"observedGeneration", "addresses", "summary", "backends", "nodes"}, wall);
}

Json uninstalled_pool(const Json& object, std::chrono::system_clock::time_point wall) {
  return uninstalled(object,
                     {{"Ready", "False", kReason,
                       "Sluice was uninstalled: nobody gives out addresses; AddressClaims keep those in use"}},
                     {}, {"ipv4", "ipv6"}, wall);
}

Json uninstalled_service(const Json& service, const std::function<bool(const std::string& ip)>& ours) {
  const Json& before = member(service, "status");
  Json conditions = Json::array();
  for (const Json& condition : resources::json_read::items(before, "conditions")) {
    if (!resources::json_read::text(condition, "type").starts_with(kConditionPrefix)) conditions.push_back(condition);
  }
  Json status = {{"conditions", std::move(conditions)}};
  if (const auto ingress = others_ingress(service, ours)) status["loadBalancer"] = {{"ingress", *ingress}};
  if (!before.contains("conditions")) status.erase("conditions");
  return status_patch(service, status);
}

}  // namespace sluice::status
