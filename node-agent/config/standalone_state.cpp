#include "node-agent/config/standalone_state.h"

#include <utility>

#include "common/maglev/service_table.h"
#include "common/state/history.h"

namespace sluice::agent::config {

state::DesiredState plan_standalone(const state::DesiredState* previous, const std::vector<state::Service>& services,
                                    const std::string& node, const std::array<uint64_t, 2>& key) {
  state::DesiredState next;
  next.cluster_id = kStandaloneCluster;
  next.epoch = previous != nullptr ? previous->epoch : 1;
  next.revision = previous != nullptr ? previous->revision + 1 : 1;
  next.flow_hash_key = previous != nullptr ? previous->flow_hash_key : key;
  next.nodes.emplace(node, state::Node{node, {}, {}});
  for (const state::Service& service : services) {
    const state::Service* before = nullptr;
    if (previous != nullptr) {
      const auto found = previous->services.find(service.id);
      if (found != previous->services.end()) before = &found->second;
    }
    next.services.insert_or_assign(service.id, state::evolve(before, service, next.revision));
    for (const net::IpAddress& address : service.addresses) {
      next.announcements.try_emplace(address, state::Announcement{address, {node}, {}});
    }
  }
  if (previous == nullptr) return next;
  state::DesiredState unchanged = next;
  unchanged.revision = previous->revision;
  return unchanged == *previous ? *previous : next;
}

void Retirement::observe(const state::DesiredState& state, Clock::time_point now) {
  decltype(since_) current;
  for (const auto& [id, service] : state.services) {
    for (const state::Revision boundary : maglev::boundaries(service)) {
      auto since = now;
      if (const auto known = since_.find(id); known != since_.end()) {
        if (const auto then = known->second.find(boundary); then != known->second.end()) since = then->second;
      }
      current[id].emplace(boundary, since);
    }
  }
  since_ = std::move(current);
}

std::optional<state::DesiredState> Retirement::retire(const state::DesiredState& state,
                                                      const std::set<std::string>& with_old_flows,
                                                      Clock::time_point now) const {
  std::optional<state::DesiredState> next;
  for (const auto& [id, boundaries] : since_) {
    const auto service = state.services.find(id);
    if (service == state.services.end() || with_old_flows.contains(id)) continue;
    const std::chrono::seconds drain(service->second.drain_seconds);
    state::Revision keep_from = 0;
    for (const auto& [boundary, since] : boundaries) {
      // Of a later boundary a flow may still have to be seen: its own drain time has not passed.
      if (now - since < drain) break;
      keep_from = boundary;
    }
    if (keep_from == 0) continue;
    if (!next) {
      next = state;
      ++next->revision;
    }
    next->services.at(id) = state::forget(service->second, keep_from);
  }
  return next;
}

}  // namespace sluice::agent::config
