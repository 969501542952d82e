#include "operator/planner/standing.h"

#include <algorithm>
#include <functional>

#include "operator/planner/families.h"

namespace sluice::planner {
namespace {

using GroupFollows = std::function<bool(const std::string& group)>;

// Of each name the group that is in the choice, else the one that was last.
std::vector<state::Group> known_groups(const state::Service& service) {
  std::map<std::string, std::pair<state::Revision, uint32_t>> latest;  // by name: until when, and its weight
  for (const state::Backend& backend : service.backends) {
    const state::Group& group = service.groups.at(backend.group);
    const std::pair stay{backend.left == 0 ? UINT64_MAX : backend.left, group.weight};
    const auto [entry, fresh] = latest.try_emplace(group.name, stay);
    if (!fresh && entry->second < stay) entry->second = stay;
  }
  std::vector<state::Group> out;
  out.reserve(latest.size());
  for (const auto& [name, stay] : latest) out.push_back({name, stay.second});
  return out;
}

void add_members(const state::Service& from, const std::string& name, uint32_t group, state::Service& into) {
  for (const state::Backend& backend : from.backends) {
    if (backend.left != 0 || from.groups.at(backend.group).name != name) continue;
    state::Backend member = backend;
    member.group = group;
    member.joined = 0;
    into.backends.push_back(std::move(member));
  }
}

// One service of `now`, the present spec's outcome.
struct Present {
  const state::Service* service = nullptr;  // nullptr: the present spec has no such port
  const std::vector<EndpointCount>* counts = nullptr;

  [[nodiscard]] EndpointCount count(const std::string& group) const {
    const auto found = std::ranges::find(service->groups, group, &state::Group::name);
    return found == service->groups.end() ? EndpointCount{}
                                          : counts->at(static_cast<size_t>(found - service->groups.begin()));
  }
};

Present find(const Resolved& now, const std::string& id) {
  const auto found = std::ranges::find(now.services, id, &state::Service::id);
  if (found == now.services.end()) return {};
  return {&*found, &now.counts.at(static_cast<size_t>(found - now.services.begin()))};
}

void follow(const state::Service& before, const Present& now, const GroupFollows& follows, Resolved& into) {
  state::Service out = before;
  out.sizes.clear();
  out.groups.clear();
  out.backends.clear();
  std::vector<EndpointCount> counts;
  std::vector<state::Group> groups = known_groups(before);
  if (groups.empty() && now.service != nullptr) groups = now.service->groups;
  for (state::Group& group : groups) {
    const bool from_now = now.service != nullptr && follows(group.name);
    const size_t others = out.backends.size();
    add_members(from_now ? *now.service : before, group.name, static_cast<uint32_t>(out.groups.size()), out);
    const size_t members = out.backends.size() - others;
    counts.push_back(from_now ? now.count(group.name) : EndpointCount{members, members});
    out.groups.push_back(std::move(group));
  }
  into.ready_on.emplace_back();
  if (out.traffic_policy == state::TrafficPolicy::local) {
    for (const state::Backend& backend : out.backends) into.ready_on.back().insert(backend.node);
  }
  into.services.push_back(std::move(out));
  into.counts.push_back(std::move(counts));
}

// Whether the present spec leads this group of this port to a Service and port that exist.
bool leads_somewhere(const resources::LoadBalancer& lb, const resources::LoadBalancerPort& port,
                     const std::string& group, net::Family family, const resources::ClusterState& cluster) {
  const auto backend = std::ranges::find(lb.backends, group, &resources::LoadBalancerBackend::name);
  if (backend == lb.backends.end()) return false;
  if (const auto address = net::IpAddress::parse(backend->address)) return address->family() == family;
  const auto service = cluster.services.find({lb.meta.key.ns, backend->service});
  if (service == cluster.services.end() || service->second->type == "ExternalName") return false;
  if (!families_of(*service->second).has(family)) return false;
  const auto other = std::ranges::find(backend->ports, port.name, [](const auto& entry) { return entry.first; });
  const resources::PortRef& wanted = other == backend->ports.end() ? port.backend_port : other->second;
  return resources::find_port(*service->second, wanted, port.protocol) != nullptr;
}

}  // namespace

InForce in_force_of(const Owner& owner, const state::DesiredState& state) {
  const std::string prefix = std::string(to_string(owner.kind)) + "/" + owner.key.ns + "/" + owner.key.name + "/";
  InForce out;
  for (auto it = state.services.lower_bound(prefix); it != state.services.end() && it->first.starts_with(prefix);
       ++it) {
    out.push_back(&it->second);
  }
  return out;
}

Resolved carry_on(const resources::Service& service, const InForce& in_force, const Resolved& now) {
  Resolved out;
  out.backends = now.backends;
  const Families families = families_of(service);
  for (const state::Service* before : in_force) {
    const bool has_port = std::ranges::any_of(service.ports, [&](const resources::ServicePort& port) {
      const std::string name = port.name.empty() ? std::to_string(port.port) : port.name;
      return port_of(before->id) == name && port.protocol == to_string(before->protocol);
    });
    const bool there = has_port && families.has(family_of(before->id));
    follow(
        *before, there ? find(now, before->id) : Present{}, [](const std::string&) { return true; }, out);
  }
  return out;
}

Resolved carry_on(const resources::LoadBalancer& lb, const InForce& in_force, const Resolved& now,
                  const resources::ClusterState& cluster) {
  Resolved out;
  out.backends = now.backends;
  for (const state::Service* before : in_force) {
    const auto port = std::ranges::find_if(lb.ports, [&](const resources::LoadBalancerPort& candidate) {
      return port_of(before->id) == candidate.name && candidate.protocol == to_string(before->protocol);
    });
    const auto follows = [&](const std::string& group) {
      return leads_somewhere(lb, *port, group, family_of(before->id), cluster);
    };
    follow(*before, port == lb.ports.end() ? Present{} : find(now, before->id), follows, out);
  }
  return out;
}

}  // namespace sluice::planner
