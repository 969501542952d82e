// What holds whatever happens: random lives of a small cluster, in which everything may be edited, deleted, lost and
// found.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "common/maglev/maglev.h"
#include "common/maglev/service_table.h"
#include "tests/unit/operator/world.h"

namespace sluice {
namespace {

using resources::Owner;
using test::Json;
using test::World;

constexpr int kNames = 4;

std::string name(int i) {
  return "s" + std::to_string(i);
}

// One random change of the cluster, its agents or time.
class Life {
 public:
  Life() {
    world_.put(test::pool("public", {"192.0.2.1-192.0.2.4"}));
    world_.put(test::pool("second", {"198.51.100.1-198.51.100.2"}, {{"autoAssign", false}}));
    for (const char* node : {"node1", "node2", "node3"}) world_.add_node(node);
  }

  void step() {
    const int i = *rc::gen::inRange(0, kNames);
    const int what = *rc::gen::inRange(0, 15);
    RC_LOG() << "step " << what << " on " << i << "\n";
    switch (what) {
      case 0:
      case 1:
        put_service(i);
        break;
      case 2:
        put_load_balancer(i);
        break;
      case 3:
        remove_service(i);
        break;
      case 4:
        world_.erase("LoadBalancer", "ns", name(i));
        break;
      case 5:
      case 6:
        put_slice(i);
        break;
      case 7:
        world_.erase("EndpointSlice", "ns", name(i) + "-abcde");
        break;
      case 8:
        edit_pool();
        break;
      case 9:
        world_.erase("AddressPool", "", *rc::gen::element<std::string>("public", "second"));
        break;
      case 10:
        delete_claim();
        break;
      case 11:
        agent();
        break;
      case 12:
        world_.pass(std::chrono::seconds(*rc::gen::element(1, 10, 60, 400)));
        break;
      case 13:
        exclude();
        break;
      default:
        world_.ack(node());
        break;
    }
  }
  planner::Round operate() {
    if (*rc::gen::inRange(0, 20) == 0) {  // another leader
      world_.memory = {};
      world_.cache = {};
      ++world_.options.epoch;
    }
    return world_.round();
  }
  World& world() { return world_; }

 private:
  static Json annotations() {
    Json out = Json::object();
    const int choice = *rc::gen::inRange(0, 6);
    if (choice == 0) out["sluice.io/addresses"] = "192.0.2." + std::to_string(*rc::gen::inRange(1, 6));
    if (choice == 2) out["sluice.io/sharing-key"] = "x";
    if (choice == 1) out["sluice.io/address-pools"] = *rc::gen::element<std::string>("public", "second", "gone");
    return {{"metadata", {{"annotations", out}, {"creationTimestamp", test::created(*rc::gen::inRange(0, 9))}}}};
  }
  void put_service(int i) {
    if (world_.has("Service", "ns", name(i)) &&
        world_.object("Service", "ns", name(i))["metadata"].contains("deletionTimestamp"))
      return;
    Json more = annotations();
    const int choice = *rc::gen::inRange(0, 8);
    if (choice == 0) more["spec"]["externalTrafficPolicy"] = "Local";
    if (choice == 1) more["spec"] = {{"type", "ClusterIP"}, {"loadBalancerClass", nullptr}};
    if (choice == 2) more["spec"]["ports"] = {{{"name", "http"}, {"port", 81}}};
    Json object = test::service("ns", name(i), more);
    if (world_.has("Service", "ns", name(i))) {
      const Json& before = world_.object("Service", "ns", name(i));
      object["metadata"]["finalizers"] = before["metadata"].value("finalizers", Json::array());
      object["metadata"]["creationTimestamp"] = before["metadata"]["creationTimestamp"];
      if (before.contains("status")) object["status"] = before["status"];
    } else {
      object["metadata"].erase("finalizers");
    }
    world_.put(object);
  }
  void put_load_balancer(int i) {
    Json spec = {{"backends",
                  {{{"name", "v"},
                    {"service", {{"name", name(*rc::gen::inRange(0, kNames))}}},
                    {"weight", *rc::gen::inRange(0, 3)}}}}};
    const int choice = *rc::gen::inRange(0, 5);
    if (choice == 0) spec["addresses"] = {"192.0.2.2", "192.0.2.3"};
    if (choice == 1) spec["addressPools"] = {"second", "public"};
    if (choice == 2) spec["sharingKey"] = "x";
    Json more = {
        {"metadata",
         {{"creationTimestamp", test::created(*rc::gen::inRange(0, 9))}, {"generation", *rc::gen::inRange(1, 99)}}}};
    if (world_.has("LoadBalancer", "ns", name(i))) {
      const Json& before = world_.object("LoadBalancer", "ns", name(i));
      more["metadata"]["creationTimestamp"] = before["metadata"]["creationTimestamp"];
      if (before.contains("status")) more["status"] = before["status"];
    }
    world_.put(test::load_balancer("ns", name(i), spec, more));
  }
  void remove_service(int i) {
    if (!world_.has("Service", "ns", name(i))) return;
    const Json& object = world_.object("Service", "ns", name(i));
    if (!object["metadata"].contains("finalizers") || object["metadata"]["finalizers"].empty()) {
      world_.erase("Service", "ns", name(i));
    } else {
      world_.edit("Service", "ns", name(i), {{"metadata", {{"deletionTimestamp", test::created(59)}}}});
    }
  }
  void put_slice(int i) {
    std::vector<std::string> addresses;
    for (int host = 1; host < 6; ++host) {
      if (*rc::gen::inRange(0, 2) == 0) addresses.push_back("10.244." + std::to_string(i) + "." + std::to_string(host));
    }
    world_.put(test::slice("ns", name(i), addresses, node()));
  }
  void edit_pool() {
    const Json spec =
        *rc::gen::element<Json>(Json{{"autoAssign", true}}, Json{{"autoAssign", false}}, Json{{"avoidBuggyIPs", true}},
                                Json{{"namespaceSelector", {{"matchLabels", {{"a", "b"}}}}}},
                                Json{{"announcements", Json::array()}}, Json{{"addresses", {"192.0.2.3-192.0.2.9"}}},
                                Json{{"addresses", {"nonsense"}}}, Json{{"addresses", {"192.0.2.0/24"}}});
    world_.put(test::pool(*rc::gen::element<std::string>("public", "second"), {"192.0.2.1-192.0.2.4"}, spec));
  }
  void delete_claim() {
    if (world_.cluster.claims.empty()) return;
    auto claim = world_.cluster.claims.begin();
    std::advance(claim, *rc::gen::inRange<std::size_t>(0, world_.cluster.claims.size()));
    // What was taken from a pool asked for by name that has been edited since, only the claim knows.
    const Owner& owner = claim->second->owners.at(0).owner;
    const std::string kind = resources::to_string(owner.kind);
    if (world_.has(kind, "ns", owner.key.name)) {
      const Json& object = world_.object(kind, "ns", owner.key.name);
      if (object["spec"].contains("addressPools") || object.dump().find("sluice.io/address-pools") != std::string::npos)
        return;
    }
    world_.erase("AddressClaim", "", claim->first);
  }
  void agent() {
    const std::string which = node();
    if (world_.agents[which].connected)
      world_.disconnect(which);
    else
      world_.connect(which);
  }
  void exclude() {
    const std::string which = node();
    const bool excluded = world_.object("Node", "", which)["metadata"]["labels"].contains(planner::kExcludeLabel);
    world_.edit("Node", "", which,
                {{"metadata", {{"labels", {{planner::kExcludeLabel, excluded ? Json(nullptr) : Json("")}}}}}});
  }
  static std::string node() { return *rc::gen::element<std::string>("node1", "node2", "node3"); }

  World world_;
};

using ByAddress = std::map<net::IpAddress, std::string>;  // owner

ByAddress programmed(const state::DesiredState& state) {
  ByAddress out;
  for (const auto& [id, service] : state.services) {
    const std::string owner = id.substr(0, id.rfind('/'));
    for (const net::IpAddress& address : service.addresses) {
      const auto [entry, fresh] = out.emplace(address, owner);
      RC_ASSERT(entry->second == owner);  // no address for two
    }
  }
  return out;
}

// What each Service or LoadBalancer asks for: a move is right only where this has changed.
std::string asked(const World& world, const std::string& owner) {
  const std::string kind = owner.substr(0, owner.find('/'));
  const std::string object = owner.substr(owner.rfind('/') + 1);
  if (!world.has(kind, "ns", object)) return "gone";
  const Json& it = world.object(kind, "ns", object);
  if (it["metadata"].contains("deletionTimestamp")) return "gone";
  if (kind == "Service") return it["metadata"]["annotations"].dump() + it["spec"].dump();
  return it["spec"].value("addresses", Json()).dump() + it["spec"].value("addressPools", Json()).dump() +
         it["spec"].value("sharingKey", "");
}

RC_GTEST_PROP(Properties, AnAddressIsNeverForTwoAndNeverMovesFromAnOwnerThatWantsIt, ()) {
  Life life;
  std::map<std::string, std::pair<net::IpAddress, std::string>> had;  // owner -> address, and what it asked for
  const int steps = *rc::gen::inRange(10, 60);
  for (int i = 0; i < steps; ++i) {
    life.step();
    const planner::Round round = life.operate();
    std::map<std::string, std::vector<net::IpAddress>> now;
    for (const auto& [address, owner] : programmed(life.world().state)) now[owner].push_back(address);
    for (const auto& [owner, before] : had) {
      if (asked(life.world(), owner) != before.second) continue;
      RC_LOG() << owner << " had " << before.first.to_string() << ", asks " << before.second << "\n";
      RC_ASSERT(now.contains(owner));
      RC_ASSERT(std::ranges::find(now[owner], before.first) != now[owner].end());
    }
    had.clear();
    for (const auto& [owner, addresses] : now) {
      // One that has not got all it asks for moves when it does.
      const Owner of{
          owner.starts_with("Service/") ? resources::OwnerKind::service : resources::OwnerKind::load_balancer,
          {"ns", owner.substr(owner.rfind('/') + 1)}};
      if (addresses.size() == 1 && round.addresses.decisions.at(of).complete())
        had[owner] = {addresses[0], asked(life.world(), owner)};
    }
  }
}

RC_GTEST_PROP(Properties, ClaimsAreForOneOwnerAndCoverWhatIsProgrammed, ()) {
  Life life;
  const int steps = *rc::gen::inRange(10, 60);
  for (int i = 0; i < steps; ++i) {
    life.step();
    life.operate();
  }
  life.world().settle();
  for (const auto& [claim, value] : life.world().cluster.claims) RC_ASSERT(value->owners.size() == 1U);
  for (const auto& [address, owner] : programmed(life.world().state)) {
    RC_ASSERT(life.world().cluster.claims.contains(resources::claim_name(address)));
  }
}

RC_GTEST_PROP(Properties, WithoutChangesEverythingComesToRest, ()) {
  Life life;
  const int steps = *rc::gen::inRange(5, 40);
  for (int i = 0; i < steps; ++i) {
    life.step();
    if (*rc::gen::inRange(0, 3) > 0) life.operate();
  }
  for (const char* node : {"node1", "node2", "node3"}) life.world().connect(node);
  life.world().settle();
  const state::DesiredState rest = life.world().state;
  const size_t writes = life.world().writes;
  life.world().pass(std::chrono::seconds(400));
  life.world().settle();
  life.world().settle();
  const size_t after = life.world().writes;
  life.world().pass(std::chrono::seconds(4000));
  life.world().settle();
  RC_ASSERT(life.world().writes == after);
  // The history goes, addresses and backends stay.
  for (const auto& [id, service] : life.world().state.services) {
    RC_ASSERT(maglev::boundaries(service).empty());
    RC_ASSERT(service.addresses == rest.services.at(id).addresses);
  }
  RC_ASSERT(writes <= after);
}

RC_GTEST_PROP(Properties, EveryTableOfTheHistoryIsAsItWas, ()) {
  Life life;
  life.step();
  std::map<state::Revision, state::DesiredState> states;
  const int steps = *rc::gen::inRange(10, 40);
  for (int i = 0; i < steps; ++i) {
    life.step();
    life.operate();
    states[life.world().state.revision] = life.world().state;
  }
  for (const auto& [id, service] : life.world().state.services) {
    for (const state::Revision boundary : maglev::boundaries(service)) {
      const auto before = states.lower_bound(boundary);
      if (before == states.begin() || before == states.end()) continue;
      const auto& [revision, state] = *std::prev(before);
      const auto then = state.services.find(id);
      if (then == state.services.end()) continue;
      // The table just before the boundary, by what backends stand in it.
      const auto addresses = [](const state::Service& s, state::Revision at) {
        std::vector<std::pair<net::IpAddress, uint16_t>> out;
        for (const uint16_t index : maglev::table_at(s, at)) {
          if (index == maglev::kNoBackend)
            out.emplace_back();
          else
            out.emplace_back(s.backends[index].address, s.backends[index].port);
        }
        return out;
      };
      RC_ASSERT(addresses(service, boundary - 1) == addresses(then->second, revision));
    }
  }
}

RC_GTEST_PROP(Properties, APlanIsAFunctionOfItsInputs, ()) {
  Life life;
  const int steps = *rc::gen::inRange(5, 30);
  for (int i = 0; i < steps; ++i) {
    life.step();
    life.operate();
  }
  life.step();
  World& world = life.world();
  planner::ResolveCache fresh;
  const planner::RoundInput input = world.input();
  const planner::Round with = planner::decide(input, world.cache);
  const planner::Round without = planner::decide(input, fresh);
  RC_ASSERT(with.plan.next == without.plan.next);
  RC_ASSERT(with.addresses.decisions == without.addresses.decisions);
}

}  // namespace
}  // namespace sluice
