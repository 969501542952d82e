#include "operator/planner/waiting.h"

#include <algorithm>
#include <set>

namespace sluice::planner {
namespace {

bool may_be_tunnelled(const state::Service& service) {
  return (service.forwarding == state::Forwarding::automatic || service.forwarding == state::Forwarding::tunnel) &&
         service.traffic_policy == state::TrafficPolicy::cluster;
}

// Where a service's {address, port} has been listed so far.
struct Known {
  std::set<std::string> nodes;  // that know it: it has been in the choice there
  bool waits = false;
};

std::map<Memory::Endpoint, Known> known_endpoints(const state::Service& service) {
  std::map<Memory::Endpoint, Known> out;
  for (const state::Backend& backend : service.backends) {
    Known& known = out[{backend.address, backend.port}];
    if (backend.joined == state::kNotYet)
      known.waits = true;
    else
      known.nodes.insert(backend.node);
  }
  return out;
}

}  // namespace

const Agent* Waiting::agent_of(const state::Backend& backend) const {
  const auto agent = input_.agents.find(backend.node);
  if (agent == input_.agents.end() || !agent->second.seen || agent->second.fault() != nullptr) return nullptr;
  return &agent->second;
}

Memory::Listed Waiting::listed(const std::string& service, const state::Backend& backend) const {
  if (const auto remembered = input_.memory.waiting.find(service); remembered != input_.memory.waiting.end()) {
    const auto found = remembered->second.find({backend.address, backend.port});
    if (found != remembered->second.end()) return found->second;
  }
  return {input_.previous.revision, input_.now};
}

std::optional<Time> Waiting::mark(const state::Service* before, state::Service& wanted) const {
  // Of a service that is new, nobody is in the choice: they all join at once.
  if (before == nullptr || !may_be_tunnelled(wanted)) return std::nullopt;
  const std::map<Memory::Endpoint, Known> known = known_endpoints(*before);
  std::optional<Time> again;
  for (state::Backend& backend : wanted.backends) {
    const Agent* const agent = agent_of(backend);
    if (agent == nullptr) continue;
    const auto found = known.find({backend.address, backend.port});
    if (found != known.end() && found->second.nodes.contains(backend.node)) continue;
    if (found != known.end() && found->second.waits) {
      const Memory::Listed since = listed(wanted.id, backend);
      const Time until =
          agent->connected ? std::max(since.at, agent->since) + kMostWaiting : since.at + kMostWaitingForAbsent;
      if (agent->acked_revision >= since.revision || input_.now >= until) continue;
      again = std::min(again.value_or(until), until);
    }
    backend.joined = state::kNotYet;
  }
  return again;
}

std::map<Memory::Endpoint, Memory::Listed> Waiting::remember(const state::Service& next,
                                                             state::Revision revision) const {
  std::set<Memory::Endpoint> listed_before;
  if (const auto before = input_.previous.services.find(next.id); before != input_.previous.services.end()) {
    for (const state::Backend& backend : before->second.backends) {
      if (backend.joined == state::kNotYet) listed_before.emplace(backend.address, backend.port);
    }
  }
  std::map<Memory::Endpoint, Memory::Listed> out;
  for (const state::Backend& backend : next.backends) {
    if (backend.joined != state::kNotYet) continue;
    const Memory::Endpoint endpoint{backend.address, backend.port};
    const bool known = listed_before.contains(endpoint);
    out.emplace(endpoint, known ? listed(next.id, backend) : Memory::Listed{revision, input_.now});
  }
  return out;
}

}  // namespace sluice::planner
