#include "operator/planner/planner.h"

#include <algorithm>
#include <tuple>

#include "common/state/history.h"
#include "operator/planner/acceptance.h"
#include "operator/planner/announcements.h"
#include "operator/planner/families.h"
#include "operator/planner/frontends.h"
#include "operator/planner/requests.h"
#include "operator/planner/retirement.h"
#include "operator/planner/standing.h"
#include "operator/planner/tunnel_keys.h"
#include "operator/planner/waiting.h"

namespace sluice::planner {
namespace {

// `before` has no history, and evolving it to `wanted` would give it back.
bool same_without_history(const state::Service& before, const state::Service& wanted) {
  const auto group = [](const state::Service& service, const state::Backend& b) { return service.groups.at(b.group); };
  const auto same_backend = [&](const state::Backend& a, const state::Backend& b) {
    return a.joined == 0 && a.left == 0 &&
           std::tie(a.address, a.port, a.node, a.zone) == std::tie(b.address, b.port, b.node, b.zone) &&
           group(before, a) == group(wanted, b);
  };
  return before.sizes.size() == 1 && before.addresses == wanted.addresses && before.port == wanted.port &&
         before.protocol == wanted.protocol && before.forwarding == wanted.forwarding &&
         before.affinity == wanted.affinity && before.affinity_seconds == wanted.affinity_seconds &&
         before.traffic_policy == wanted.traffic_policy && before.allowed_sources == wanted.allowed_sources &&
         before.drain_seconds == wanted.drain_seconds &&
         std::ranges::equal(before.backends, wanted.backends, same_backend);
}

size_t count_draining(const state::Service& service) {
  std::set<std::pair<net::IpAddress, uint16_t>> left;
  for (const state::Backend& b : service.backends) {
    if (b.left != 0) left.emplace(b.address, b.port);
  }
  for (const state::Backend& b : service.backends) {
    if (b.left == 0 && b.joined != state::kNotYet) left.erase({b.address, b.port});
  }
  return left.size();
}

// The nodes that can serve an object's addresses: those with a ready endpoint of every service with policy Local, else
// of any, else with one that still serves while it terminates. nullopt: every node can, or none has an endpoint, and
// somebody has to say so to clients.
std::optional<std::set<std::string>> serving_nodes(const Resolved& resolved) {
  std::optional<std::set<std::string>> all;
  std::set<std::string> any;
  std::set<std::string> terminating;
  for (size_t i = 0; i < resolved.services.size(); ++i) {
    const state::Service& service = resolved.services[i];
    if (service.traffic_policy != state::TrafficPolicy::local) return std::nullopt;
    for (const state::Backend& backend : service.backends) terminating.insert(backend.node);
    const std::set<std::string>& ready = resolved.ready_on.at(i);
    if (ready.empty()) continue;
    any.insert(ready.begin(), ready.end());
    if (!all) all = ready;
    std::erase_if(*all, [&](const std::string& node) { return !ready.contains(node); });
  }
  if (all && !all->empty()) return all;
  if (!any.empty()) return any;
  return terminating.empty() ? std::nullopt : std::optional(terminating);
}

// One that keeps its node waiting: everybody's progress is judged by those that can make any.
bool reachable(const Agent& agent, const Options& options, Time now) {
  return agent.connected || now - agent.since < options.lost_after;
}

class Planner {
 public:
  Planner(const Input& input, ResolveCache& cache)
      : input_(input),
        cache_(cache),
        previous_(input.previous.cluster_id == input.options.cluster_id ? input.previous : kEmpty) {}

  Plan run() {
    start();
    collect_wishes();
    cache_.end_round();
    build_services();
    forget_old_history();
    build_nodes();
    build_announcements();
    build_tunnel();
    settle_revision();
    remember_objects();
    tear_down();
    return std::move(plan_);
  }

 private:
  void start() {
    plan_.next.cluster_id = input_.options.cluster_id;
    plan_.next.epoch = input_.options.epoch;
    plan_.next.flow_hash_key = input_.options.flow_hash_key;
    revision_ = previous_.revision + 1;
    plan_.memory = input_.memory;
    plan_.memory.waiting.clear();
    for (const auto& [name, node] : input_.cluster.nodes) {
      plan_.nodes.emplace(name, judge_node(*node, input_.options));
      if (!input_.agents.contains(name)) plan_.memory.without_agent.try_emplace(name, input_.now);
    }
    std::erase_if(plan_.memory.without_agent, [this](const auto& entry) {
      return input_.agents.contains(entry.first) || !input_.cluster.nodes.contains(entry.first);
    });
  }

  void collect_wishes() {
    const ResolveCache::Guard guard = cache_.guard(make_guard());
    for (const auto& entry : input_.cluster.services) {
      const resources::Ptr<resources::Service>& service = entry.second;
      if (!is_ours(*service, input_.options)) continue;
      const Owner owner{resources::OwnerKind::service, entry.first};
      const FamilyList families = families_for(owner, families_of(*service));
      const auto resolve = [&] { return cache_.get(owner, service, families, input_.cluster, guard); };
      const auto stay = [&](const InForce& in_force) { return carry_on(*service, in_force, *resolve()); };
      collect(owner, service->meta, service->fingerprint, accept(*service), resolve, stay);
    }
    for (const auto& entry : input_.cluster.load_balancers) {
      const resources::Ptr<resources::LoadBalancer>& lb = entry.second;
      const Owner owner{resources::OwnerKind::load_balancer, entry.first};
      const FamilyList families = families_for(owner, families_of(*lb, input_.cluster));
      const auto resolve = [&] { return cache_.get(owner, lb, families, input_.cluster, guard); };
      const auto stay = [&](const InForce& in_force) { return carry_on(*lb, in_force, *resolve(), input_.cluster); };
      collect(owner, lb->meta, lb->meta.generation, accept(*lb), resolve, stay);
    }
  }

  [[nodiscard]] resources::EndpointGuard make_guard() const {
    resources::EndpointGuard guard = resources::make_guard(input_.cluster);
    for (const net::Prefix& pods : input_.options.ranges.pods) guard.forbid_pods(pods);
    guard.allow_outside(input_.options.allowed_static_backends);
    return guard;
  }

  // Those that it has addresses of, or is about to have. Without any, its first one: its endpoints are told of already.
  [[nodiscard]] FamilyList families_for(const Owner& owner, const Families& families) const {
    std::set<net::Family> out;
    if (const auto decision = input_.addresses.find(owner); decision != input_.addresses.end()) {
      for (const ipam::Allocation& held : decision->second.held) out.insert(held.address.family());
      for (const ipam::Allocation& claiming : decision->second.claiming) out.insert(claiming.address.family());
    }
    if (out.empty()) out.insert(families.wanted.front());
    return {out.begin(), out.end()};
  }

  template <typename Resolve, typename Stay>
  void collect(const Owner& owner, const resources::ObjectMeta& meta, int64_t generation, Finding accepted,
               const Resolve& resolve, const Stay& stay) {
    if (meta.deleting) return;
    ObjectPlan& object = plan_.objects[owner];
    object.generation = generation;
    object.accepted = std::move(accepted);
    const auto decision = input_.addresses.find(owner);
    if (decision != input_.addresses.end()) {
      object.addresses = {decision->second.complete(), decision->second.reason, decision->second.message};
    } else {
      object.addresses = {false, "Pending", "not decided yet"};
    }
    Wish wish{owner, &meta, {}, {}, !object.accepted.good};
    if (wish.standing) {
      const InForce in_force = same_object(owner, meta) ? in_force_of(owner, previous_) : InForce{};
      if (!in_force.empty()) wish.resolved = std::make_shared<const Resolved>(stay(in_force));
    } else {
      wish.resolved = resolve();
    }
    if (wish.resolved != nullptr) {
      object.backends_resolved = wish.resolved->backends;
      const EndpointCount count = wish.resolved->count();
      object.endpoints_total = count.total;
      object.endpoints_ready = count.ready;
      if (decision != input_.addresses.end()) wish.addresses = usable(wish, decision->second);
    }
    if (wish.standing) {
      object.accepted.message += wish.addresses.empty()
                                     ? "; nothing of this object is programmed until that is corrected"
                                     : "; what was in force before stays as it was until that is corrected";
    }
    object.programmed = wish.addresses;
    object.addresses_to_come =
        decision != input_.addresses.end() &&
        std::ranges::any_of(decision->second.claiming, [&wish](const ipam::Allocation& claiming) {
          return std::ranges::find(wish.addresses, claiming) == wish.addresses.end();
        });
    object.uid = meta.uid;
    if (!wish.addresses.empty()) wishes_.push_back(std::move(wish));
  }

  // Not one that was deleted and made again under the same name between two rounds.
  [[nodiscard]] bool same_object(const Owner& owner, const resources::ObjectMeta& meta) const {
    const auto known = input_.memory.objects.find(owner);
    return known == input_.memory.objects.end() || known->second.uid == meta.uid;
  }

  // What it holds, and what it is about to claim again while the nodes have it already (its claim was deleted by hand).
  std::vector<ipam::Allocation> usable(const Wish& wish, const ipam::Decision& decision) const {
    const auto programmed = [&](const ipam::Allocation& allocation) {
      return std::ranges::any_of(wish.resolved->services, [&](const state::Service& service) {
        const auto before = previous_.services.find(service.id);
        return before != previous_.services.end() &&
               std::ranges::find(before->second.addresses, allocation.address) != before->second.addresses.end();
      });
    };
    std::vector<ipam::Allocation> out = decision.held;
    if (wish.standing) std::erase_if(out, [&](const ipam::Allocation& held) { return !programmed(held); });
    std::ranges::copy_if(decision.claiming, std::back_inserter(out), programmed);
    return out;
  }

  void build_services() {
    const Frontends frontends(previous_, wishes_, plan_.objects);
    for (const Wish& wish : wishes_) {
      for (const state::Service& resolved : wish.resolved->services) {
        state::Service wanted = resolved;
        wanted.addresses.clear();
        for (const ipam::Allocation& allocation : wish.addresses) {
          if (frontends.has(resolved, allocation.address)) wanted.addresses.push_back(allocation.address);
        }
        if (wanted.addresses.empty()) continue;
        std::ranges::sort(wanted.addresses);
        add_service(wish.owner, std::move(wanted));
      }
    }
  }

  void add_service(const Owner& owner, state::Service wanted) {
    const auto before = previous_.services.find(wanted.id);
    const bool known = before != previous_.services.end();
    // Nothing of most services changes in most rounds: no need to put their history together to see that.
    state::Service next;
    if (known && same_without_history(before->second, wanted)) {
      next = before->second;
    } else {
      const Waiting waiting({previous_, input_.agents, input_.memory, input_.now});
      const auto again = waiting.mark(known ? &before->second : nullptr, wanted);
      next = state::evolve(known ? &before->second : nullptr, std::move(wanted), revision_);
      auto listed = waiting.remember(next, revision_);
      if (!listed.empty()) {
        wake(again.value_or(input_.now + kMostWaiting));
        plan_.memory.waiting.emplace(next.id, std::move(listed));
      }
    }
    if (next.backends.size() > state::kMaxBackends) next = state::forget(std::move(next), UINT64_MAX);
    const std::string id = next.id;
    plan_.objects.at(owner).services.push_back(id);
    if (!known || next != before->second) changed_.insert(owner);
    plan_.next.services.insert_or_assign(id, std::move(next));
  }

  void forget_old_history() {
    Retirement retired =
        retire_history({input_.agents, input_.options, input_.memory, input_.now}, plan_.next.services);
    plan_.memory.changes = std::move(retired.changes);
    for (const std::string& id : retired.services) {
      if (const auto owner = owner_of(id)) changed_.insert(*owner);
    }
    if (retired.again_at) wake(*retired.again_at);
  }

  void build_nodes() {
    for (const auto& [name, node] : input_.cluster.nodes) {
      state::Node entry;
      entry.name = name;
      for (const resources::NodeAddress& address : node->addresses) {
        if (address.type == "InternalIP") entry.addresses.push_back(address.address);
      }
      plan_.next.nodes.emplace(name, std::move(entry));
    }
  }

  void build_announcements() {
    Announcer announcer(
        {previous_, input_.cluster, input_.agents, input_.options, plan_.memory, plan_.nodes, input_.now});
    for (const Wish& wish : wishes_) {
      const auto serving = serving_nodes(*wish.resolved);
      for (const ipam::Allocation& allocation : wish.addresses) {
        if (plan_.addresses.contains(allocation.address)) continue;
        Announcer::Choice choice = announcer.choose(allocation.address, allocation.pool, serving ? &*serving : nullptr);
        if (choice.announcement) plan_.next.announcements.emplace(allocation.address, std::move(*choice.announcement));
        plan_.addresses.emplace(allocation.address, std::move(choice.plan));
      }
    }
    for (const auto& [name, agent] : input_.agents) {
      if (agent.connected || !input_.cluster.nodes.contains(name)) continue;
      for (const Duration delay : {input_.options.not_ready_lost_after, input_.options.lost_after}) {
        if (agent.since + delay > input_.now) wake(agent.since + delay);
      }
    }
  }

  void build_tunnel() {
    const TunnelPlan planned =
        plan_tunnel({previous_.tunnel, input_.options, plan_.memory, previous_.revision, input_.random, input_.wall,
                     input_.now, [this](state::Revision revision) { return everywhere(revision); }});
    plan_.next.tunnel = planned.tunnel;
    const bool same = planned.tunnel.keys == previous_.tunnel.keys;
    plan_.memory.tunnel = {same ? planned.revision : revision_, same ? planned.everywhere_since : std::nullopt};
    if (planned.again_at) wake(*planned.again_at);
  }

  void settle_revision() {
    plan_.changed = plan_.next.services != previous_.services || plan_.next.nodes != previous_.nodes ||
                    plan_.next.announcements != previous_.announcements || plan_.next.tunnel != previous_.tunnel ||
                    plan_.next.cluster_id != previous_.cluster_id ||
                    plan_.next.flow_hash_key != previous_.flow_hash_key;
    plan_.next.revision = plan_.changed ? revision_ : previous_.revision;
    if (plan_.memory.term_revision == 0) plan_.memory.term_revision = plan_.next.revision;
  }

  void remember_objects() {
    for (const auto& [address, announcement] : plan_.next.announcements) {
      const auto before = previous_.announcements.find(address);
      if (before == previous_.announcements.end() || before->second != announcement) moved_.insert(address);
    }
    for (auto& [owner, object] : plan_.objects) {
      const bool moved =
          std::ranges::any_of(object.programmed, [this](const auto& a) { return moved_.contains(a.address); });
      const auto [entry, fresh] = plan_.memory.objects.try_emplace(owner);
      Memory::Object& memory = entry->second;
      memory.uid = object.uid;
      if (fresh || memory.generation != object.generation) {
        memory.generation = object.generation;
        memory.generation_revision = plan_.next.revision;
      }
      if (fresh || moved || changed_.contains(owner)) {
        memory.changed_revision = plan_.next.revision;
        memory.changed_at = input_.now;
      }
      object.generation_revision = memory.generation_revision;
      object.changed_revision = memory.changed_revision;
      object.changed_at = memory.changed_at;
      for (const std::string& id : object.services)
        object.endpoints_draining += count_draining(plan_.next.services.at(id));
    }
    std::erase_if(plan_.memory.objects, [this](const auto& entry) { return !plan_.objects.contains(entry.first); });
  }

  // Every agent that can say anything says that its maps hold `revision`.
  [[nodiscard]] bool everywhere(state::Revision revision) {
    bool all = true;
    for (const auto& [name, agent] : input_.agents) {
      if (agent.acked_revision >= revision || !reachable(agent, input_.options, input_.now)) continue;
      all = false;
      if (!agent.connected) wake(agent.since + input_.options.lost_after);
    }
    return all;
  }

  void tear_down() {
    Memory& memory = plan_.memory;
    const auto programmed = [this](const Owner& owner) {
      const auto object = plan_.objects.find(owner);
      return object != plan_.objects.end() && !object->second.services.empty();
    };
    for (const auto& [id, service] : previous_.services) {
      for (const net::IpAddress& address : service.addresses) {
        if (!plan_.addresses.contains(address)) memory.releasing.insert_or_assign(address, plan_.next.revision);
      }
      if (plan_.next.services.contains(id)) continue;
      const auto owner = owner_of(id);
      if (owner && !programmed(*owner)) memory.removed.insert_or_assign(*owner, plan_.next.revision);
    }
    const size_t released = std::erase_if(
        memory.releasing, [&](const auto& e) { return plan_.addresses.contains(e.first) || everywhere(e.second); });
    // The allocator ran before this was known: what waits for these addresses can have them in another round.
    if (released > 0) plan_.again_at = input_.now;
    std::erase_if(memory.removed, [&](const auto& e) { return programmed(e.first) || everywhere(e.second); });
    // A new leader does not know what was removed before its term: all of that is gone where its own first state
    // stands.
    const bool known = everywhere(memory.term_revision);
    for (const auto& [key, service] : input_.cluster.services) {
      const Owner owner{resources::OwnerKind::service, key};
      const bool wanted = is_ours(*service, input_.options) && !service->meta.deleting;
      if (!wanted && service->meta.has_finalizer(kCleanupFinalizer) && known && !memory.removed.contains(owner)) {
        plan_.torn_down.insert(owner);
      }
    }
  }

  void wake(Time at) {
    if (at > input_.now && (!plan_.again_at || at < *plan_.again_at)) plan_.again_at = at;
  }

  static const state::DesiredState kEmpty;

  const Input& input_;
  ResolveCache& cache_;
  const state::DesiredState& previous_;
  state::Revision revision_ = 0;  // of the next state, if it differs
  Plan plan_;
  std::vector<Wish> wishes_;  // older first
  std::set<Owner> changed_;
  std::set<net::IpAddress> moved_;
};

const state::DesiredState Planner::kEmpty;

}  // namespace

Plan plan(const Input& input, ResolveCache& cache) {
  return Planner(input, cache).run();
}

}  // namespace sluice::planner
