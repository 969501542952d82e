#include "tests/unit/operator/world.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace sluice::test {
namespace {

bool cluster_scoped(const std::string& kind) {
  return kind == "AddressPool" || kind == "AddressClaim" || kind == "LoadBalancerNode" || kind == "Node" ||
         kind == "Namespace";
}

// As the API server merges a list of conditions: by type.
void merge_conditions(Json& conditions, const Json& patch) {
  for (const Json& one : patch) {
    const std::string type = one.at("type");
    const auto found =
        std::find_if(conditions.begin(), conditions.end(), [&](const Json& c) { return c.at("type") == type; });
    if (one.contains("$patch")) {
      if (found != conditions.end()) conditions.erase(found);
    } else if (found != conditions.end()) {
      found->merge_patch(one);
    } else {
      conditions.push_back(one);
    }
  }
}

}  // namespace

World::World() {
  options.cluster_id = "cluster-uid";
  options.epoch = 1;
  options.flow_hash_key = {1, 2};
  options.tunnel_key_rotation = {};
}

void World::store(Json object) {
  const std::string kind = object.at("kind");
  object["metadata"]["resourceVersion"] = std::to_string(++version_);
  const auto taken = cluster.upsert(shared(object));
  ASSERT_TRUE(taken) << taken.error().message();
  const std::string ns = cluster_scoped(kind) ? "" : object["metadata"].value("namespace", "");
  const std::string name = object["metadata"].at("name");
  objects_.insert_or_assign({kind, ns, name}, std::move(object));
}

void World::put(Json object) {
  store(std::move(object));
}

void World::erase(const std::string& kind, const std::string& ns, const std::string& name) {
  objects_.erase({kind, ns, name});
  cluster.erase(kind, {ns, name});
}

void World::edit(const std::string& kind, const std::string& ns, const std::string& name, const Json& patch) {
  Json edited = object(kind, ns, name);
  edited.merge_patch(patch);
  if (patch.contains("spec") && edited["metadata"].contains("generation")) {
    edited["metadata"]["generation"] = edited["metadata"]["generation"].get<int>() + 1;
  }
  store(std::move(edited));
}

const Json& World::object(const std::string& kind, const std::string& ns, const std::string& name) const {
  return objects_.at({kind, ns, name});
}

bool World::has(const std::string& kind, const std::string& ns, const std::string& name) const {
  return objects_.contains({kind, ns, name});
}

void World::add_node(const std::string& name) {
  put(node(name, "172.30.0." + std::to_string(++nodes_)));
  connect(name);
}

void World::connect(const std::string& name) {
  planner::Agent& agent = agents[name];
  agent.connected = true;
  agent.seen = true;
  agent.since = now;
  agent.error.clear();
  agent.version = "1.0.0";
  agent.interfaces = {{"eth0", "Native", "veth"}};
  agent.acked_revision = state.revision;
}

void World::disconnect(const std::string& name) {
  agents[name].connected = false;
  agents[name].since = now;
  agents[name].error = "connection refused";
}

void World::ack(const std::string& name) {
  planner::Agent& agent = agents.at(name);
  if (!agent.connected) return;
  agent.acked_revision = state.revision;
  agent.announcing.clear();
  for (const auto& [address, announcement] : state.announcements) {
    if (announcement.nodes.front() == name) agent.announcing.push_back(address);
  }
}

void World::ack_all() {
  for (const auto& [name, agent] : agents) ack(name);
}

void World::apply(const status::Write& write) {
  const std::string kind(write.resource.kind);
  ++writes;
  if (write.verb == status::Verb::create) {
    store(*write.body);
    return;
  }
  if (write.verb == status::Verb::remove) {
    erase(kind, write.key.ns, write.key.name);
    return;
  }
  Json edited = object(kind, write.key.ns, write.key.name);
  if (edited.at("metadata").at("resourceVersion") != write.body->at("metadata").at("resourceVersion")) {
    ++conflicts;
    return;
  }
  Json patch = *write.body;
  if (write.verb == status::Verb::strategic_patch && patch["status"].contains("conditions")) {
    Json& conditions = edited["status"]["conditions"];
    if (!conditions.is_array()) conditions = Json::array();
    merge_conditions(conditions, patch["status"]["conditions"]);
    patch["status"].erase("conditions");
  }
  edited.merge_patch(patch);
  for (const status::Event& event : write.events) events_.push_back(event.reason + ": " + event.message);
  const bool gone = edited["metadata"].contains("deletionTimestamp") &&
                    (!edited["metadata"].contains("finalizers") || edited["metadata"]["finalizers"].empty());
  if (gone)
    erase(kind, write.key.ns, write.key.name);
  else
    store(std::move(edited));
}

std::chrono::system_clock::time_point World::wall() const {
  return std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(now.time_since_epoch()));
}

planner::Round World::round(bool statuses) {
  planner::Round out = planner::decide(input(), cache);
  ++random[1];
  const Status valid = state::validate(out.plan.next);
  EXPECT_TRUE(valid) << valid.error().message();
  EXPECT_GE(out.plan.next.revision, state.revision);
  EXPECT_EQ(out.plan.changed, out.plan.next.revision != state.revision);
  state = out.plan.next;
  memory = out.plan.memory;
  if (statuses) {
    for (const status::Write& write : status::status({cluster, out, agents, options, now, wall()}).writes) apply(write);
  }
  for (const auto* list : {&out.addresses.writes.create, &out.addresses.writes.update}) {
    for (const resources::AddressClaim& claim : *list) store(resources::claim_object(claim));
  }
  for (const resources::AddressClaim& claim : out.addresses.writes.remove)
    erase("AddressClaim", "", claim.meta.key.name);
  return out;
}

planner::Round World::settle() {
  for (int i = 0; i < 30; ++i) {
    const uint64_t version = version_;
    const size_t objects = objects_.size();
    ack_all();
    planner::Round out = round();
    if (version_ == version && objects_.size() == objects && !out.plan.changed &&
        (!out.plan.again_at || *out.plan.again_at > now)) {
      return out;
    }
  }
  ADD_FAILURE() << "does not settle";
  return {};
}

std::string World::backends(const std::string& id) const {
  std::string out;
  for (const state::Backend& backend : service(id).backends) {
    if (!backend.in_choice_at(UINT64_MAX)) continue;
    out += (out.empty() ? "" : " ") + backend.address.to_string() + ":" + std::to_string(backend.port);
  }
  return out;
}

std::string World::announcer(const std::string& address) const {
  const auto found = state.announcements.find(ip(address));
  return found == state.announcements.end() ? std::string() : found->second.nodes.front();
}

std::string World::condition(const std::string& kind, const std::string& ns, const std::string& name,
                             const std::string& type) const {
  const Json& from = object(kind, ns, name);
  if (!from.contains("status") || !from["status"].contains("conditions")) return {};
  for (const Json& one : from["status"]["conditions"]) {
    if (one.at("type") == type) return one.at("status").get<std::string>() + " " + one.at("reason").get<std::string>();
  }
  return {};
}

std::string World::message(const std::string& kind, const std::string& ns, const std::string& name,
                           const std::string& type) const {
  for (const Json& one : object(kind, ns, name).at("status").at("conditions")) {
    if (one.at("type") == type) return one.at("message");
  }
  return {};
}

std::vector<std::string> World::take_events() {
  return std::exchange(events_, {});
}

}  // namespace sluice::test
