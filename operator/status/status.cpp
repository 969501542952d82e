#include "operator/status/status.h"

#include "operator/status/parts.h"

namespace sluice::status {

std::string status_of(const std::vector<resources::Condition>& conditions, std::string_view type) {
  const resources::Condition* found = resources::find_condition(conditions, type);
  return found == nullptr ? std::string() : found->status;
}

bool turned(const std::vector<resources::Condition>& before, const WantedCondition& wanted) {
  const resources::Condition* found = resources::find_condition(before, wanted.type);
  return found == nullptr || found->status != wanted.status || found->reason != wanted.reason;
}

Output status(const Input& input) {
  Output out;
  Progress progress(input);
  for (const auto& [key, service] : input.cluster.services) service_writes(input, progress, *service, out.writes);
  for (const auto& [key, lb] : input.cluster.load_balancers) load_balancer_writes(input, progress, *lb, out.writes);
  pool_writes(input, out.writes);
  node_writes(input, progress, out.writes);
  out.again_at = progress.again_at();
  return out;
}

}  // namespace sluice::status
