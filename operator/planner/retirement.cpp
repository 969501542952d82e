#include "operator/planner/retirement.h"

#include <algorithm>

#include "common/maglev/service_table.h"
#include "common/state/history.h"

namespace sluice::planner {
namespace {

bool has_history(const state::Service& service) {
  return service.sizes.size() > 1 ||
         std::ranges::any_of(service.backends, [](const state::Backend& b) { return b.joined != 0 || b.left != 0; });
}

// When the service's boundaries were made; those that nobody remembers count from now.
std::map<state::Revision, Time> changes_of(const RetirementInput& input, const std::string& id,
                                           const state::Service& service) {
  const auto remembered = input.memory.changes.find(id);
  std::map<state::Revision, Time> out;
  for (const state::Revision boundary : maglev::boundaries(service)) {
    Time at = input.now;
    if (remembered != input.memory.changes.end()) {
      const auto known = remembered->second.find(boundary);
      if (known != remembered->second.end()) at = known->second;
    }
    out.emplace(boundary, at);
  }
  return out;
}

}  // namespace

Retirement retire_history(const RetirementInput& input, std::map<std::string, state::Service>& services) {
  Retirement out;
  std::set<std::string> in_use;  // services with flows that only history leads to their backend
  for (const auto& [name, agent] : input.agents) {
    in_use.insert(agent.services_with_old_flows.begin(), agent.services_with_old_flows.end());
  }
  for (auto& [id, service] : services) {
    if (!has_history(service)) continue;
    std::map<state::Revision, Time> made = changes_of(input, id, service);
    const Duration kept = std::max<Duration>(std::chrono::seconds(service.drain_seconds), input.options.min_history);
    state::Revision keep_from = 0;
    for (const auto& [boundary, at] : made) {
      const bool young = input.now - at < kept;
      if (!young && !in_use.contains(id)) keep_from = boundary;
      if (young && (!out.again_at || at + kept < *out.again_at)) out.again_at = at + kept;
    }
    if (keep_from != 0) {
      service = state::forget(std::move(service), keep_from);
      std::erase_if(made, [keep_from](const auto& entry) { return entry.first <= keep_from; });
      out.services.insert(id);
    }
    if (!made.empty()) out.changes.emplace(id, std::move(made));
  }
  return out;
}

}  // namespace sluice::planner
