#include "operator/planner/announcements.h"

#include <algorithm>
#include <iterator>
#include <optional>

namespace sluice::planner {
namespace {

constexpr const char* kAutoscalerTaint = "ToBeDeletedByClusterAutoscaler";
// The chosen node and who would come next: what an agent needs to know, not the whole ranking of a large cluster.
constexpr size_t kRanked = 3;

using Hashed = std::pair<uint64_t, const std::string*>;

// MurmurHash3's finisher.
uint64_t scatter(uint64_t hash) {
  hash = (hash ^ (hash >> 33U)) * 0xff51afd7ed558ccdU;
  hash = (hash ^ (hash >> 33U)) * 0xc4ceb9fe1a85ec53U;
  return hash ^ (hash >> 33U);
}

// FNV-1a: the same wherever it is computed, unlike std::hash.
template <typename Bytes>
uint64_t hash_bytes(const Bytes& bytes, size_t count) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (size_t i = 0; i < count; ++i) hash = (hash ^ static_cast<uint8_t>(bytes[i])) * 0x100000001b3U;
  return hash;
}

// The first `count` of the address's ranking.
std::vector<std::string> rank(const net::IpAddress& address, const std::vector<Hashed>& nodes, size_t count) {
  const uint64_t seed = hash_bytes(address.bytes(), address.size());
  std::vector<Hashed> best;
  const auto heavier = [](const Hashed& a, const Hashed& b) {
    return a.first != b.first ? a.first > b.first : *a.second < *b.second;
  };
  for (const auto& [hash, name] : nodes) {
    const Hashed entry{scatter(seed ^ hash), name};
    if (best.size() == count && !heavier(entry, best.back())) continue;
    best.insert(std::ranges::upper_bound(best, entry, heavier), entry);
    if (best.size() > count) best.pop_back();
  }
  std::vector<std::string> out;
  out.reserve(best.size());
  for (const Hashed& entry : best) out.push_back(*entry.second);
  return out;
}

bool layer2(const resources::PoolAnnouncement& announcement) {
  return announcement.type == "Layer2";
}

}  // namespace

const AgentCondition* Agent::fault() const {
  const auto found =
      std::ranges::find_if(conditions, [](const AgentCondition& c) { return c.type == "Ready" && !c.status; });
  return found == conditions.end() ? nullptr : &*found;
}

NodePlan judge_node(const resources::Node& node, const Options& options) {
  const std::string& name = node.meta.key.name;
  // The value "false" excludes nothing: people who write it mean it.
  const auto label = node.meta.labels.find(kExcludeLabel);
  if (!options.ignore_exclude_label && label != node.meta.labels.end() && label->second != "false") {
    return {{false, "ExcludedByLabel",
             "the node is labelled " + std::string(kExcludeLabel) +
                 "; to let it announce addresses, remove the label (kubectl label node " + name + " " + kExcludeLabel +
                 "-) or run the operator with --ignore-exclude-label"}};
  }
  for (const resources::Taint& taint : node.taints) {
    if (taint.key == kAutoscalerTaint) return {{false, "BeingDeleted", "the node has the taint " + taint.key}};
  }
  if (node.meta.deleting) return {{false, "BeingDeleted", "the Node is being deleted"}};
  if (node.network_unavailable)
    return {{false, "NetworkUnavailable", "the node's condition NetworkUnavailable is True"}};
  return {{true, "Eligible", "the node may announce addresses"}};
}

bool is_lost(const std::string& node, const resources::ClusterState& cluster, const Agents& agents,
             const Memory& memory, const Options& options, Time now) {
  const auto object = cluster.nodes.find(node);
  if (object == cluster.nodes.end()) return true;
  const auto agent = agents.find(node);
  if (agent != agents.end() && agent->second.connected) return agent->second.fault() != nullptr;
  Time since = now;
  if (agent != agents.end()) {
    since = agent->second.since;
  } else if (const auto missing = memory.without_agent.find(node); missing != memory.without_agent.end()) {
    since = missing->second;
  }
  return now - since >= (object->second->ready ? options.lost_after : options.not_ready_lost_after);
}

bool Announcer::alive(const std::string& node) const {
  const auto agent = input_.agents.find(node);
  const auto object = input_.cluster.nodes.find(node);
  return agent != input_.agents.end() && agent->second.connected && agent->second.fault() == nullptr &&
         object != input_.cluster.nodes.end() && object->second->ready;
}

const Announcer::Eligible& Announcer::eligible(const std::string& pool) {
  const auto found = by_pool_.find(pool);
  if (found != by_pool_.end()) return found->second;
  return by_pool_.emplace(pool, find_eligible(pool)).first->second;
}

Announcer::Eligible Announcer::find_eligible(const std::string& pool) const {
  const auto spec = input_.cluster.pools.find(pool);
  const bool gone = spec == input_.cluster.pools.end();
  std::set<std::string> nodes;
  const Finding* refusal = nullptr;  // of a node that would match otherwise
  size_t refused = 0;
  for (const auto& [name, node] : input_.cluster.nodes) {
    const auto& labels = node->meta.labels;
    const bool selected =
        gone || std::ranges::any_of(spec->second->announcements, [&labels](const resources::PoolAnnouncement& a) {
          return layer2(a) && a.node_selector.matches(labels);
        });
    if (!selected) continue;
    const Finding& finding = input_.nodes.at(name).eligible;
    if (finding.good) {
      nodes.insert(name);
    } else {
      ++refused;
      if (refusal == nullptr || finding.reason == "ExcludedByLabel") refusal = &finding;
    }
  }
  Eligible out;
  if (!nodes.empty()) {
    // No reason needed.
  } else if (!gone && std::ranges::none_of(spec->second->announcements, layer2)) {
    out.none_because = "NotAnnounced";
    out.message = "AddressPool " + pool + " has no announcement of type Layer2; nobody answers for its addresses";
  } else if (refusal != nullptr) {
    out.none_because = refusal->reason;
    out.message = (refused == 1 ? "the only node that could announce may not: "
                                : "none of " + std::to_string(refused) + " nodes may announce; of the last one: ") +
                  refusal->message;
  } else {
    out.none_because = "NoEligibleNode";
    out.message =
        gone ? "there are no nodes" : "no node matches the nodeSelector of AddressPool " + pool + "'s announcements";
  }
  out.nodes = std::make_shared<const std::set<std::string>>(std::move(nodes));
  add_hashes(out);
  return out;
}

void Announcer::add_hashes(Eligible& eligible) const {
  for (const std::string& name : *eligible.nodes) {
    eligible.hashed.emplace_back(hash_bytes(name, name.size()), &name);
    if (alive(name)) eligible.living.push_back(eligible.hashed.back());
  }
}

Announcer::Eligible Announcer::only(const Eligible& of, const std::set<std::string>& nodes) const {
  if (of.nodes->empty()) return of;
  std::set<std::string> both;
  std::ranges::copy_if(nodes, std::inserter(both, both.end()),
                       [&](const std::string& node) { return of.nodes->contains(node); });
  Eligible out;
  if (both.empty()) {
    out.none_because = "NoLocalEndpoint";
    out.message = "externalTrafficPolicy Local: endpoints are on " + *nodes.begin() +
                  (nodes.size() > 1 ? " and others" : "") + " only, which may not announce the address";
  }
  out.nodes = std::make_shared<const std::set<std::string>>(std::move(both));
  add_hashes(out);
  return out;
}

std::vector<std::string> Announcer::interfaces(const std::string& pool, const std::string& node,
                                               const net::IpAddress& address) const {
  const auto spec = input_.cluster.pools.find(pool);
  if (spec == input_.cluster.pools.end()) {
    const auto before = input_.previous.announcements.find(address);
    return before == input_.previous.announcements.end() ? std::vector<std::string>{} : before->second.interfaces;
  }
  const auto object = input_.cluster.nodes.find(node);
  std::set<std::string> out;
  for (const resources::PoolAnnouncement& announcement : spec->second->announcements) {
    if (!layer2(announcement) || object == input_.cluster.nodes.end()) continue;
    if (!announcement.node_selector.matches(object->second->meta.labels)) continue;
    if (announcement.interfaces.empty()) return {};
    out.insert(announcement.interfaces.begin(), announcement.interfaces.end());
  }
  return {out.begin(), out.end()};
}

Announcer::Choice Announcer::choose(const net::IpAddress& address, const std::string& pool,
                                    const std::set<std::string>* serving) {
  std::optional<Eligible> narrowed;
  if (serving != nullptr) narrowed = only(eligible(pool), *serving);
  const Eligible& candidates = narrowed ? *narrowed : eligible(pool);
  Choice out;
  out.plan.eligible = candidates.nodes;
  if (candidates.nodes->empty()) {
    out.plan.announced = {false, candidates.none_because, candidates.message};
    return out;
  }
  const auto before = input_.previous.announcements.find(address);
  std::string chosen;
  if (before != input_.previous.announcements.end() && !before->second.nodes.empty())
    chosen = before->second.nodes.front();
  std::string why_not_before;
  if (!chosen.empty()) {
    if (!candidates.nodes->contains(chosen))
      why_not_before = chosen + (serving != nullptr && eligible(pool).nodes->contains(chosen)
                                     ? " has no endpoint that is ready, and externalTrafficPolicy is Local"
                                     : " may not announce it any more");
    else if (is_lost(chosen, input_.cluster, input_.agents, input_.memory, input_.options, input_.now))
      why_not_before = chosen + " was lost";
  }
  const std::string after = why_not_before.empty() ? "" : "; " + why_not_before;
  if (!chosen.empty() && why_not_before.empty()) {
    out.plan.why = "as before";
  } else if (std::vector<std::string> first = rank(address, candidates.living, 1); !first.empty()) {
    chosen = std::move(first.front());
    out.plan.why = "first of " + std::to_string(candidates.living.size()) + " living eligible nodes" + after;
  } else {
    // Nobody better: a node that is lost may come back, and nobody else answers meanwhile.
    if (!candidates.nodes->contains(chosen)) chosen.clear();
    out.plan.why = "no living eligible node" + after;
    out.plan.announced = {false, "NoLivingAgent",
                          "none of " + std::to_string(candidates.nodes->size()) +
                              " eligible nodes is Ready with an agent that is connected and can move packets" + after};
  }
  if (chosen.empty()) return out;
  if (out.plan.announced.good) out.plan.announced = {true, "Announced", chosen + " announces it"};
  out.plan.node = chosen;
  // Who would come next, living or not, so that an agent that blinks changes nothing for anybody.
  std::vector<std::string> ranking = rank(address, candidates.hashed, kRanked);
  std::erase(ranking, chosen);
  ranking.insert(ranking.begin(), chosen);
  if (ranking.size() > kRanked) ranking.resize(kRanked);
  out.announcement = state::Announcement{address, std::move(ranking), interfaces(pool, chosen, address)};
  return out;
}

}  // namespace sluice::planner
