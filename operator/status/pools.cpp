#include <algorithm>

#include "operator/resources/json_read.h"
#include "operator/status/parts.h"

namespace sluice::status {

void pool_writes(const Input& input, std::vector<Write>& out) {
  const std::map<std::string, ipam::Usage> usage = ipam::usage(input.round.pools, input.cluster.claims);
  for (const auto& [name, pool] : input.round.pools.by_name()) {
    const ipam::Usage& used = usage.at(name);
    const WantedCondition ready{"Ready", pool.ready ? "True" : "False", pool.reason, pool.message};
    const Json& object = *pool.spec->raw;
    const std::vector<resources::Condition> before =
        resources::json_read::conditions(member(object, "status"), "conditions");
    const Json status = {
        {"ipv4", {{"total", used.ipv4_total}, {"assigned", used.ipv4_assigned}}},
        {"ipv6", {{"total", used.ipv6_total}, {"assigned", used.ipv6_assigned}}},
        {"conditions", condition_list({ready}, member(member(object, "status"), "conditions"), before,
                                      pool.spec->meta.generation, timestamp(input.wall))},
    };
    Json patch = status_patch(object, status);
    if (patch.is_null()) continue;
    std::vector<Event> events;
    if (!pool.ready && turned(before, ready)) events.push_back({pool.spec->raw, true, pool.reason, pool.message});
    out.push_back({kube::kAddressPools, pool.spec->meta.key, Verb::merge_patch, "status",
                   std::make_shared<const Json>(std::move(patch)), std::move(events)});
  }
}

}  // namespace sluice::status
