// What is written back, when, and what is told: on Services, LoadBalancers, pools and nodes.
#include "operator/status/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "operator/status/uninstalled.h"
#include "tests/unit/operator/world.h"

namespace sluice::status {
namespace {

using std::chrono::seconds;
using test::Json;
using test::World;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Statuses : public ::testing::Test {
 protected:
  Statuses() {
    world_.put(test::pool("public", {"192.0.2.0/24"}));
    world_.put(test::name_space("shop"));
    world_.add_node("node1");
    world_.add_node("node2");
    world_.put(test::service("shop", "web"));
    world_.put(test::slice("shop", "web", {"10.244.1.1", "10.244.1.2"}));
  }
  const Json& web() { return world_.object("Service", "shop", "web"); }
  const Json& lb() { return world_.object("LoadBalancer", "shop", "lb"); }
  Json ingress() { return web().value("/status/loadBalancer/ingress"_json_pointer, Json()); }
  std::string on_web(const std::string& type) {
    return world_.condition("Service", "shop", "web", "sluice.io/" + type);
  }
  std::string on_lb(const std::string& type) { return world_.condition("LoadBalancer", "shop", "lb", type); }
  std::string on_node(const std::string& type) { return world_.condition("LoadBalancerNode", "", "node1", type); }
  // Rounds without acknowledgements, until nothing is written any more.
  void rounds() {
    for (int i = 0; i < 6; ++i) world_.round();
  }
  World world_;
};

TEST_F(Statuses, AServiceThatWorks) {
  world_.settle();
  EXPECT_EQ(ingress(), Json({{{"ip", "192.0.2.0"}, {"ipMode", "VIP"}}}));
  EXPECT_EQ(on_web("Accepted"), "True Accepted");
  EXPECT_EQ(on_web("AddressesAllocated"), "True Allocated");
  EXPECT_EQ(on_web("BackendsResolved"), "True Resolved");
  EXPECT_EQ(on_web("Programmed"), "True Programmed");
  EXPECT_EQ(on_web("Announced"), "True Announced");
  EXPECT_EQ(world_.message("Service", "shop", "web", "sluice.io/AddressesAllocated"),
            "192.0.2.0 from AddressPool public");
}

TEST_F(Statuses, NothingIsWrittenTwice) {
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  world_.settle();
  const size_t before = world_.writes;
  for (int i = 0; i < 3; ++i) {
    world_.pass(seconds(100));
    world_.round();
  }
  EXPECT_EQ(world_.writes, before);
  EXPECT_EQ(world_.conflicts, 0U) << "one write an object a round";
}

TEST_F(Statuses, TheFinalizerComesBeforeAnythingElse) {
  world_.put(test::service("shop", "fresh", {{"metadata", {{"finalizers", nullptr}}}}));
  world_.round();
  EXPECT_EQ(world_.object("Service", "shop", "fresh")["metadata"]["finalizers"], Json({"sluice.io/cleanup"}));
  EXPECT_FALSE(world_.object("Service", "shop", "fresh").contains("status"));
  EXPECT_THAT(world_.take_events(), testing::Contains("EnsuringLoadBalancer: Ensuring load balancer"));
  for (const auto& [name, claim] : world_.cluster.claims) EXPECT_NE(claim->owners[0].owner.key.name, "fresh");
}

TEST_F(Statuses, UpstreamsFinalizerOnlyWhereWeAreTheDefault) {
  world_.put(test::service(
      "shop", "plain",
      {{"metadata", {{"finalizers", {"example.org/other"}}}}, {"spec", {{"loadBalancerClass", nullptr}}}}));
  world_.options.default_class = true;
  world_.settle();
  EXPECT_EQ(world_.object("Service", "shop", "plain")["metadata"]["finalizers"],
            Json({"example.org/other", "sluice.io/cleanup", "service.kubernetes.io/load-balancer-cleanup"}));
  EXPECT_EQ(web()["metadata"]["finalizers"], Json({"sluice.io/cleanup"}));
}

TEST_F(Statuses, TheIngressAppearsWhenTheAnnouncingNodeHasTheServiceInItsMaps) {
  rounds();
  const std::string announcer = world_.announcer("192.0.2.0");
  const std::string other = announcer == "node1" ? "node2" : "node1";
  EXPECT_EQ(ingress(), Json());
  EXPECT_EQ(on_web("Programmed"), "False Programming");
  EXPECT_EQ(on_web("Announced"), "False Pending");
  world_.ack(other);
  rounds();
  EXPECT_EQ(ingress(), Json());
  world_.ack(announcer);
  rounds();
  EXPECT_EQ(ingress()[0]["ip"], "192.0.2.0");
  EXPECT_EQ(on_web("Programmed"), "True Programmed");
}

TEST_F(Statuses, NoIngressWhileTheServiceFailedThere) {
  rounds();
  world_.ack_all();
  const std::string announcer = world_.announcer("192.0.2.0");
  world_.agents[announcer].failures = {{"Service/shop/web/http", "TableFull", "no room for 1024 slots"}};
  rounds();
  EXPECT_EQ(ingress(), Json());
  EXPECT_EQ(on_web("Programmed"), "False TableFull");
  EXPECT_EQ(world_.message("Service", "shop", "web", "sluice.io/Programmed"),
            "Service/shop/web/http on " + announcer + ": no room for 1024 slots");
}

TEST_F(Statuses, TheIngressStaysInLaterTrouble) {
  world_.settle();
  const Json before = ingress();
  for (auto& [name, agent] : world_.agents) {
    agent.failures = {{"Service/shop/web/http", "ReadBackDiffers", "slot 3"}};
    agent.conditions = {{"Ready", false, "ForeignProgram", "eth0"}};
  }
  rounds();
  EXPECT_EQ(ingress(), before);
  world_.disconnect("node1");
  world_.disconnect("node2");
  world_.pass(seconds(1000));
  rounds();
  EXPECT_EQ(ingress(), before);
  EXPECT_EQ(on_web("Programmed"), "False NoLivingAgent");
}

TEST_F(Statuses, TheIngressStaysWithAnEditThatIsNotAccepted) {
  world_.settle();
  const Json before = ingress();
  world_.take_events();
  world_.edit("Service", "shop", "web", {{"spec", {{"externalTrafficPolicy", "Local"}}}});
  world_.settle();
  EXPECT_EQ(ingress(), before);
  EXPECT_EQ(on_web("Accepted"), "False NotSupported");
  EXPECT_EQ(on_web("AddressesAllocated"), "True Allocated");
  EXPECT_EQ(on_web("Programmed"), "False NotSupported") << "this generation is not programmed";
  EXPECT_EQ(on_web("Announced"), "True Announced");
  EXPECT_THAT(world_.take_events(), ElementsAre(HasSubstr("SyncLoadBalancerFailed: NotSupported: not supported yet: "
                                                          "spec.externalTrafficPolicy Local")));
}

TEST_F(Statuses, AnAddressThatChangesIsReplacedWithoutAGap) {
  world_.settle();
  world_.take_events();
  world_.edit("Service", "shop", "web", {{"metadata", {{"annotations", {{"sluice.io/addresses", "192.0.2.9"}}}}}});
  rounds();
  EXPECT_EQ(ingress()[0]["ip"], "192.0.2.0") << "no agent has the new one yet";
  world_.settle();
  EXPECT_EQ(ingress(), Json({{{"ip", "192.0.2.9"}, {"ipMode", "VIP"}}}));
  EXPECT_THAT(world_.take_events(), ElementsAre("UpdatedLoadBalancer: Updated load balancer, now at 192.0.2.9"));
}

TEST_F(Statuses, OthersConditionsAndTheTimesOfUnchangedOnesStay) {
  const Json foreign = {{"type", "example.org/Audited"},
                        {"status", "True"},
                        {"reason", "Yes"},
                        {"message", ""},
                        {"lastTransitionTime", "2020-01-01T00:00:00Z"}};
  world_.edit("Service", "shop", "web", {{"status", {{"conditions", {foreign}}}}});
  world_.put(test::load_balancer("shop", "lb", Json::object(), {{"status", {{"conditions", {foreign}}}}}));
  world_.settle();
  const auto times = [](const Json& object) {
    std::map<std::string, std::string> out;
    for (const Json& one : object["status"]["conditions"]) out[one["type"]] = one["lastTransitionTime"];
    return out;
  };
  const auto web_before = times(web());
  const auto lb_before = times(lb());
  EXPECT_EQ(web_before.at("example.org/Audited"), "2020-01-01T00:00:00Z");
  EXPECT_EQ(lb_before.at("example.org/Audited"), "2020-01-01T00:00:00Z");
  EXPECT_EQ(web_before.at("sluice.io/Accepted"), "1970-01-01T01:00:00Z");
  world_.pass(seconds(60));
  world_.put(test::pool("public", {"192.0.2.0/25"}));
  world_.erase("EndpointSlice", "shop", "web-abcde");
  world_.settle();
  EXPECT_EQ(on_lb("BackendsResolved"), "True NoReadyEndpoints");
  EXPECT_EQ(times(web()), web_before) << "another reason is no transition";
  EXPECT_EQ(times(lb()), lb_before);
  world_.edit("LoadBalancer", "shop", "lb", {{"spec", {{"sharingKey", "x"}}}});
  world_.settle();
  EXPECT_EQ(times(lb()).at("Accepted"), "1970-01-01T01:01:00Z");
}

TEST_F(Statuses, TheStoryOfAServiceInEvents) {
  world_.put(test::service("shop", "web", {{"metadata", {{"finalizers", nullptr}}}}));
  world_.settle();
  EXPECT_THAT(world_.take_events(), ElementsAre("EnsuringLoadBalancer: Ensuring load balancer",
                                                "EnsuredLoadBalancer: Ensured load balancer at 192.0.2.0"));
  world_.edit("Service", "shop", "web", {{"metadata", {{"deletionTimestamp", test::created(9)}}}});
  world_.round();
  EXPECT_THAT(world_.take_events(), ElementsAre("DeletingLoadBalancer: Deleting load balancer"));
  world_.round();
  EXPECT_THAT(world_.take_events(), IsEmpty());
  EXPECT_TRUE(world_.has("Service", "shop", "web")) << "no agent has said that it is gone";
  world_.settle();
  EXPECT_FALSE(world_.has("Service", "shop", "web"));
  EXPECT_THAT(world_.take_events(), ElementsAre("DeletedLoadBalancer: Deleted load balancer"));
  EXPECT_TRUE(world_.cluster.claims.empty());
}

TEST_F(Statuses, ADeletionThatANewLeaderFindsWaitsForItsFirstState) {
  world_.settle();
  world_.edit("Service", "shop", "web", {{"metadata", {{"deletionTimestamp", test::created(9)}}}});
  world_.round();
  world_.memory = {};
  rounds();
  EXPECT_TRUE(world_.has("Service", "shop", "web"));
  world_.settle();
  EXPECT_FALSE(world_.has("Service", "shop", "web"));
}

TEST_F(Statuses, AServiceThatIsNoLongerALoadBalancerIsLeftAsWeFoundIt) {
  world_.edit("Service", "shop", "web", {{"metadata", {{"finalizers", {"example.org/other", "sluice.io/cleanup"}}}}});
  world_.settle();
  world_.edit("Service", "shop", "web", {{"spec", {{"type", "ClusterIP"}, {"loadBalancerClass", nullptr}}}});
  world_.settle();
  EXPECT_EQ(web()["metadata"]["finalizers"], Json({"example.org/other"}));
  EXPECT_THAT(web()["status"]["conditions"], IsEmpty());
  EXPECT_EQ(ingress(), Json());
  EXPECT_TRUE(world_.cluster.claims.empty());
  EXPECT_TRUE(world_.state.services.empty());
}

TEST_F(Statuses, WhatWeServedAsTheDefaultIsLetGoWhenWeAreNotAnyMore) {
  const Json classless = {{"metadata", {{"finalizers", {"example.org/other"}}}},
                          {"spec", {{"loadBalancerClass", nullptr}}}};
  world_.options.default_class = true;
  world_.put(test::service("shop", "plain", classless));
  world_.put(test::service("shop", "dying", classless));
  world_.settle();
  const auto plain = [this]() -> const Json& { return world_.object("Service", "shop", "plain"); };
  ASSERT_FALSE(plain()["status"]["loadBalancer"]["ingress"].empty());
  world_.options.default_class = false;
  rounds();
  EXPECT_FALSE(plain()["status"]["loadBalancer"].contains("ingress")) << "before the claim is given up";
  world_.edit("Service", "shop", "dying", {{"metadata", {{"deletionTimestamp", test::created(9)}}}});
  // Who serves it now may be quick.
  const Json taken = {{{"ip", "203.0.113.9"}}};
  world_.edit("Service", "shop", "plain", {{"status", {{"loadBalancer", {{"ingress", taken}}}}}});
  world_.settle();
  EXPECT_EQ(plain()["metadata"]["finalizers"], Json({"example.org/other"}));
  EXPECT_THAT(plain()["status"]["conditions"], IsEmpty());
  EXPECT_EQ(plain()["status"]["loadBalancer"]["ingress"], taken);
  EXPECT_EQ(world_.object("Service", "shop", "dying")["metadata"]["finalizers"], Json({"example.org/other"}));
  EXPECT_EQ(world_.cluster.claims.size(), 1U) << "web's";
}

TEST_F(Statuses, WhatIsGivenUpKeepsNoAddressThatSomebodyElseMayGet) {
  world_.put(test::pool("public", {"192.0.2.0"}));
  world_.settle();
  world_.options.load_balancer_class = "example.org/other";
  world_.settle();
  EXPECT_EQ(ingress(), Json());
  EXPECT_THAT(web()["status"]["conditions"], IsEmpty());
  EXPECT_FALSE(web()["metadata"].contains("finalizers") && !web()["metadata"]["finalizers"].empty());
  EXPECT_TRUE(world_.cluster.claims.empty());
}

TEST_F(Statuses, AMessageIsCutBeforeTheApiServerRefusesIt) {
  world_.settle();
  std::string name;
  for (int i = 0; i < 20000; ++i) name += "ü";
  world_.agents["node1"].conditions = {{"Ready", false, "Long", "x" + name}};
  world_.settle();
  const std::string message = world_.message("LoadBalancerNode", "", "node1", "Ready");
  EXPECT_EQ(message, "x" + name.substr(0, 4094) + "... and 17953 more characters");
  world_.edit("Service", "shop", "web",
              {{"metadata", {{"annotations", {{"sluice.io/addresses", std::string(40000, 'x')}}}}}});
  world_.settle();
  EXPECT_EQ(on_web("Accepted"), "False InvalidAddress");
  EXPECT_LT(world_.message("Service", "shop", "web", "sluice.io/Accepted").size(), 5000U);
  const size_t writes = world_.writes;
  world_.round();
  EXPECT_EQ(world_.writes, writes) << "what was cut is not a change";
}

TEST_F(Statuses, AnExhaustedPoolIsToldOnce) {
  world_.put(test::pool("public", {"192.0.2.0"}));
  world_.put(test::service("shop", "late", {{"metadata", {{"creationTimestamp", test::created(9)}}}}));
  world_.settle();
  EXPECT_EQ(world_.condition("Service", "shop", "late", "sluice.io/AddressesAllocated"), "False PoolExhausted");
  int told = 0;
  for (const std::string& event : world_.take_events())
    told += event.starts_with("SyncLoadBalancerFailed: PoolExhausted") ? 1 : 0;
  EXPECT_EQ(told, 1);
  world_.settle();
  EXPECT_THAT(world_.take_events(), IsEmpty());
}

TEST_F(Statuses, ALoadBalancersWholeStatus) {
  world_.put(test::load_balancer("shop", "lb", {{"addresses", {"192.0.2.10"}}}));
  world_.settle();
  Json status = lb()["status"];
  const Json conditions = status["conditions"];
  status.erase("conditions");
  EXPECT_EQ(
      status,
      Json({{"observedGeneration", 1},
            {"addresses", {{{"address", "192.0.2.10"}, {"pool", "public"}, {"node", world_.announcer("192.0.2.10")}}}},
            {"summary", {{"addresses", "192.0.2.10"}, {"backends", "2/2"}, {"nodes", "2/2"}}},
            {"backends", {{"total", 2}, {"ready", 2}, {"draining", 0}}},
            {"nodes", {{"total", 2}, {"programmed", 2}}}}));
  std::vector<std::string> types;
  for (const Json& one : conditions) {
    types.push_back(one["type"]);
    EXPECT_EQ(one["status"], "True");
    EXPECT_EQ(one["observedGeneration"], 1);
  }
  EXPECT_THAT(types, ElementsAre("Accepted", "AddressesAllocated", "BackendsResolved", "Programmed", "Announced"));
  EXPECT_THAT(world_.take_events(),
              testing::Contains("Programmed: in the maps of every eligible node with a living agent"));
}

TEST_F(Statuses, ALoadBalancerSaysWhoDoesNotReachItsAddress) {
  world_.put(test::load_balancer("shop", "lb", {{"addresses", {"192.0.2.10"}}}));
  rounds();
  EXPECT_EQ(on_lb("Announced"), "False Pending");
  EXPECT_THAT(world_.message("LoadBalancer", "shop", "lb", "Announced"), testing::Not(HasSubstr("clients")));
  world_.settle();
  EXPECT_EQ(on_lb("Announced"), "True Announced");
  EXPECT_EQ(world_.message("LoadBalancer", "shop", "lb", "Announced"),
            "192.0.2.10: " + world_.announcer("192.0.2.10") +
                " announces it; clients on the announcing node itself and in its pods do not reach it yet, inside the "
                "cluster use a Service");
  EXPECT_EQ(world_.message("Service", "shop", "web", "sluice.io/Announced"),
            "192.0.2.0: " + world_.announcer("192.0.2.0") + " announces it")
      << "kube-proxy serves a Service's address on every node";
}

TEST_F(Statuses, ProgrammedSpeaksOfThisGeneration) {
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  world_.settle();
  world_.edit("LoadBalancer", "shop", "lb",
              {{"spec", {{"backends", {{{"name", "v1"}, {"service", {{"name", "web"}}}, {"weight", 7}}}}}}});
  rounds();
  EXPECT_EQ(lb()["status"]["observedGeneration"], 2);
  EXPECT_EQ(on_lb("Programmed"), "False Programming");
  world_.ack("node1");
  rounds();
  EXPECT_EQ(on_lb("Programmed"), "False Programming");
  EXPECT_EQ(world_.message("LoadBalancer", "shop", "lb", "Programmed"), "not yet in the maps of node2");
  EXPECT_EQ(lb()["status"]["summary"]["nodes"], "1/2");
  world_.ack("node2");
  rounds();
  EXPECT_EQ(on_lb("Programmed"), "True Programmed");
}

TEST_F(Statuses, AnEditThatChangesNothingOnTheNodesIsProgrammedAtOnce) {
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  world_.settle();
  world_.edit("LoadBalancer", "shop", "lb", {{"spec", {{"addressPools", {"public"}}}}});
  rounds();
  EXPECT_EQ(on_lb("Programmed"), "True Programmed");
  EXPECT_EQ(lb()["status"]["observedGeneration"], 2);
}

TEST_F(Statuses, EndpointsThatComeAndGoFlipNothingUnlessANodeLags) {
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  world_.settle();
  world_.put(test::slice("shop", "web", {"10.244.1.1"}));
  rounds();
  EXPECT_EQ(on_lb("Programmed"), "True Programmed");
  EXPECT_EQ(lb()["status"]["backends"], Json({{"total", 1}, {"ready", 1}, {"draining", 1}}));
  world_.ack("node1");
  world_.pass(seconds(5));
  rounds();
  EXPECT_EQ(on_lb("Programmed"), "False Lagging");
  EXPECT_EQ(world_.message("LoadBalancer", "shop", "lb", "Programmed"),
            "the newest endpoints are not yet in the maps of node2");
  world_.ack("node2");
  rounds();
  EXPECT_EQ(on_lb("Programmed"), "True Programmed");
}

TEST_F(Statuses, TheLagIsLookedAtWhenItIsDue) {
  world_.settle();
  world_.put(test::slice("shop", "web", {"10.244.1.1"}));
  const planner::Round round = world_.round();
  const Output out = status({world_.cluster, round, world_.agents, world_.options, world_.now, {}});
  EXPECT_EQ(out.again_at, world_.now + seconds(5));
}

TEST_F(Statuses, OnlyEligibleNodesWithALivingAgentCount) {
  world_.put(test::node("agentless", "172.30.0.99"));
  world_.add_node("excluded");
  world_.edit("Node", "", "excluded", {{"metadata", {{"labels", {{planner::kExcludeLabel, ""}}}}}});
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  world_.settle();
  EXPECT_EQ(on_lb("Programmed"), "True Programmed");
  EXPECT_EQ(lb()["status"]["summary"]["nodes"], "3/3") << "the others are counted";
  world_.disconnect("node2");
  world_.edit("LoadBalancer", "shop", "lb", {{"spec", {{"sessionAffinity", {{"clientIP", Json::object()}}}}}});
  rounds();
  world_.ack("node1");
  rounds();
  EXPECT_EQ(on_lb("Programmed"), "True Programmed");
  EXPECT_EQ(lb()["status"]["summary"]["nodes"], "1/3");
}

TEST_F(Statuses, ARefusedPushIsSaid) {
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  rounds();
  world_.ack_all();
  world_.agents["node1"].acked_revision = 0;
  world_.agents["node1"].refusal = "services: two on one address";
  rounds();
  EXPECT_EQ(on_lb("Programmed"), "False Refused");
  EXPECT_EQ(on_node("Programmed"), "False Refused");
}

TEST_F(Statuses, PoolsCountAndSayWhetherTheyGiveOut) {
  world_.settle();
  EXPECT_EQ(world_.object("AddressPool", "", "public")["status"]["ipv4"], Json({{"total", "256"}, {"assigned", "1"}}));
  EXPECT_EQ(world_.condition("AddressPool", "", "public", "Ready"), "True Ready");
  world_.put(test::pool("bad", {"192.0.2.128/25"}));
  world_.settle();
  EXPECT_EQ(world_.condition("AddressPool", "", "bad", "Ready"), "True Ready") << "same age: the name decides";
  EXPECT_EQ(world_.condition("AddressPool", "", "public", "Ready"), "False Overlap");
  EXPECT_THAT(world_.take_events(),
              testing::Contains(HasSubstr("Overlap: 192.0.2.0/24 overlaps 192.0.2.128/25 of AddressPool bad")));
}

TEST_F(Statuses, APoolSaysThatItsIPv6AddressesAreNotGivenOut) {
  world_.put(test::pool("both", {"203.0.113.0/24", "2001:db8:1::/64"}));
  world_.put(test::pool("six", {"2001:db8::/64"}));
  world_.settle();
  EXPECT_EQ(world_.condition("AddressPool", "", "both", "Ready"), "True IPv4Only");
  EXPECT_EQ(world_.message("AddressPool", "", "both", "Ready"),
            "IPv4 addresses are given out from this pool; its IPv6 addresses are not: IPv6 is not supported yet");
  EXPECT_EQ(world_.condition("AddressPool", "", "six", "Ready"), "False NotSupported");
  EXPECT_THAT(world_.message("AddressPool", "", "six", "Ready"), HasSubstr("IPv6 addresses only"));
  EXPECT_THAT(world_.take_events(), testing::Contains(HasSubstr("NotSupported: spec.addresses has IPv6")));
}

TEST_F(Statuses, ANodeIsShownWhenItsAgentIsSeenAndGoesWithTheNode) {
  world_.put(test::node("agentless", "172.30.0.99"));
  world_.settle();
  EXPECT_TRUE(world_.has("LoadBalancerNode", "", "node1"));
  EXPECT_FALSE(world_.has("LoadBalancerNode", "", "agentless"));
  const Json& status = world_.object("LoadBalancerNode", "", "node1")["status"];
  EXPECT_EQ(status["agent"]["version"], "1.0.0");
  EXPECT_EQ(status["interfaces"], Json({{{"name", "eth0"}, {"mode", "Native"}, {"driver", "veth"}}}));
  EXPECT_EQ(on_node("Ready"), "True Ready");
  EXPECT_EQ(on_node("Programmed"), "True Programmed");
  world_.erase("Node", "", "node1");
  world_.settle();
  EXPECT_FALSE(world_.has("LoadBalancerNode", "", "node1"));
}

TEST_F(Statuses, ANodesConditionsFollowItsAgent) {
  world_.settle();
  world_.take_events();
  world_.agents["node1"].conditions = {
      {"Ready", true, "GenericMode", "eth0 runs in generic mode, as asked for; it is slower"},
      {"Encrypted", false, "Off", "no key"}};
  world_.settle();
  EXPECT_EQ(on_node("Ready"), "True GenericMode");
  EXPECT_EQ(on_node("Encrypted"), "False Off");
  world_.agents["node1"].conditions = {{"Ready", false, "MissingCapability", "CAP_BPF lacks"}};
  world_.settle();
  EXPECT_EQ(on_node("Ready"), "False MissingCapability");
  EXPECT_THAT(world_.take_events(), testing::Contains("MissingCapability: CAP_BPF lacks"));
  world_.disconnect("node1");
  world_.settle();
  EXPECT_EQ(on_node("Ready"), "False AgentUnreachable");
  EXPECT_EQ(on_node("Programmed"), "Unknown AgentUnreachable");
  EXPECT_EQ(world_.object("LoadBalancerNode", "", "node1")["status"]["agent"]["version"], "1.0.0")
      << "what it said last";
}

TEST_F(Statuses, ALostNodeListsNoAddressThatAnotherHas) {
  world_.settle();
  const std::string lost = world_.announcer("192.0.2.0");
  const auto listed = [this](const std::string& node) -> Json {
    return world_.object("LoadBalancerNode", "", node)["status"]["addresses"];
  };
  ASSERT_EQ(listed(lost), Json({"192.0.2.0"}));
  world_.disconnect(lost);
  world_.settle();
  EXPECT_EQ(listed(lost), Json({"192.0.2.0"})) << "it goes on answering, and nobody else does";
  world_.agents.at(lost).announcing.clear();  // as a new leader knows it
  world_.settle();
  EXPECT_EQ(listed(lost), Json({"192.0.2.0"}));
  world_.pass(seconds(45));
  world_.settle();
  const std::string other = world_.announcer("192.0.2.0");
  ASSERT_NE(other, lost);
  EXPECT_EQ(listed(other), Json({"192.0.2.0"}));
  EXPECT_EQ(listed(lost), Json::array());
}

TEST_F(Statuses, ANodeMayBeBehindForAMoment) {
  world_.settle();
  world_.put(test::slice("shop", "web", {"10.244.1.1"}));
  world_.agents["node1"].lagging_since = world_.now;
  world_.agents["node2"].lagging_since = world_.now;
  rounds();
  EXPECT_EQ(on_node("Programmed"), "True Programmed");
  world_.pass(seconds(5));
  rounds();
  EXPECT_EQ(on_node("Programmed"), "False Lagging");
  world_.ack("node1");
  rounds();
  EXPECT_EQ(on_node("Programmed"), "True Programmed");
}

TEST_F(Statuses, AfterAnUninstallNothingIsClaimed) {
  const Json foreign = {{"type", "example.org/Audited"},
                        {"status", "True"},
                        {"reason", "Yes"},
                        {"message", ""},
                        {"lastTransitionTime", "2020-01-01T00:00:00Z"}};
  world_.put(test::load_balancer("shop", "lb", Json::object(), {{"status", {{"conditions", {foreign}}}}}));
  EXPECT_EQ(uninstalled_load_balancer(lb(), {}), Json()) << "it was never judged";
  world_.settle();
  const Json patch = uninstalled_load_balancer(lb(), {});
  EXPECT_EQ(patch["metadata"]["resourceVersion"], lb()["metadata"]["resourceVersion"]);
  world_.edit("LoadBalancer", "shop", "lb", patch);
  EXPECT_EQ(on_lb("Programmed"), "False Uninstalled");
  EXPECT_EQ(on_lb("Announced"), "False Uninstalled");
  EXPECT_EQ(on_lb("Accepted"), "");
  EXPECT_EQ(on_lb("example.org/Audited"), "True Yes");
  EXPECT_EQ(lb()["status"].size(), 1U) << lb()["status"];
  EXPECT_EQ(uninstalled_load_balancer(lb(), {}), Json()) << "it says so already";
  world_.edit("AddressPool", "", "public", uninstalled_pool(world_.object("AddressPool", "", "public"), {}));
  EXPECT_EQ(world_.condition("AddressPool", "", "public", "Ready"), "False Uninstalled");
  EXPECT_EQ(world_.object("AddressPool", "", "public")["status"].size(), 1U);
}

}  // namespace
}  // namespace sluice::status
