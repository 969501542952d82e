// What is written back, when, and what is told: on LoadBalancers, pools and nodes, and on all of them.
#include "operator/status/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "operator/status/uninstalled.h"
#include "tests/unit/operator/statuses.h"

namespace sluice::status {
namespace {

using std::chrono::seconds;
using test::Json;
using testing::ElementsAre;
using testing::HasSubstr;

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
            {"backends", {{"total", 2}, {"ready", 2}, {"draining", 0}, {"drainingFlows", 0}}},
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

TEST_F(Statuses, AnnouncedNamesTheNodeAlikeForBothKinds) {
  world_.put(test::load_balancer("shop", "lb", {{"addresses", {"192.0.2.10"}}}));
  rounds();
  EXPECT_EQ(on_lb("Announced"), "False Pending");
  world_.settle();
  EXPECT_EQ(on_lb("Announced"), "True Announced");
  EXPECT_EQ(world_.message("LoadBalancer", "shop", "lb", "Announced"),
            "192.0.2.10: " + world_.announcer("192.0.2.10") + " announces it");
  EXPECT_EQ(world_.message("Service", "shop", "web", "sluice.io/Announced"),
            "192.0.2.0: " + world_.announcer("192.0.2.0") + " announces it");
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

TEST_F(Statuses, FlowsOfBackendsThatHaveLeftAreSummedOverNodes) {
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  world_.settle();
  const std::string service = world_.state.services.begin()->first;
  ASSERT_EQ(service.rfind("LoadBalancer/shop/lb/", 0), 0U) << service;
  const planner::LeavingFlows first{*net::IpAddress::parse("10.244.1.2"), 8080, 7};
  const planner::LeavingFlows second{first.address, first.port, 5};
  world_.agents["node1"].leaving["Service/shop/web/http"] = {first};
  world_.settle();
  EXPECT_EQ(lb()["status"]["backends"]["drainingFlows"], 0) << "another object's, and none of this one's is leaving";
  world_.put(test::slice("shop", "web", {"10.244.1.1"}));
  world_.settle();
  ASSERT_EQ(lb()["status"]["backends"]["draining"], 1);
  world_.agents["node1"].leaving = {{service, {first}}};
  world_.agents["node2"].leaving = {{service, {second}}};
  world_.round();
  EXPECT_EQ(lb()["status"]["backends"]["drainingFlows"], 12);
  world_.disconnect("node2");
  world_.round();
  EXPECT_EQ(lb()["status"]["backends"]["drainingFlows"], 12) << "as it said last";
  world_.agents["node1"].leaving.clear();
  world_.round();
  EXPECT_EQ(lb()["status"]["backends"]["drainingFlows"], 5);
  const size_t writes = world_.writes;
  world_.round();
  EXPECT_EQ(world_.writes, writes) << "what has not changed is not written";
}

TEST_F(Statuses, AWriteSaysWhetherItIsOfCountsAlone) {
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  world_.settle();
  const std::string service = world_.state.services.begin()->first;
  world_.put(test::slice("shop", "web", {"10.244.1.1"}));
  world_.settle();
  const auto of_lb = [&] {
    const auto round = world_.round(false);
    const auto output = status({world_.cluster, round, world_.agents, world_.options, world_.now, world_.wall()});
    const auto found = std::ranges::find_if(
        output.writes, [](const Write& write) { return write.resource.kind == kube::kLoadBalancers.kind; });
    return found == output.writes.end() ? std::nullopt : std::optional(found->only_counts);
  };
  EXPECT_EQ(of_lb(), std::nullopt);
  world_.agents["node1"].leaving[service] = {{*net::IpAddress::parse("10.244.1.2"), 8080, 7}};
  EXPECT_EQ(of_lb(), true);
  world_.put(test::slice("shop", "web", {"10.244.1.1", "10.244.1.3"}));
  EXPECT_EQ(of_lb(), false) << "more than that has changed";
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
  EXPECT_EQ(lb()["status"]["backends"], Json({{"total", 1}, {"ready", 1}, {"draining", 1}, {"drainingFlows", 0}}));
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

TEST_F(Statuses, APoolCountsTheAddressesOfBothFamilies) {
  world_.put(test::pool("both", {"203.0.113.0/24", "2001:db8:1::/64"}, {{"autoAssign", false}}));
  world_.put(test::load_balancer("shop", "six", {{"ipFamilyPolicy", "RequireDualStack"}, {"addressPools", {"both"}}}));
  world_.settle();
  EXPECT_EQ(world_.condition("AddressPool", "", "both", "Ready"), "True Ready");
  const Json status = world_.object("AddressPool", "", "both")["status"];
  EXPECT_EQ(status["ipv4"], Json({{"total", "256"}, {"assigned", "1"}}));
  EXPECT_EQ(status["ipv6"], Json({{"total", "18446744073709551616"}, {"assigned", "1"}}));
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

TEST_F(Statuses, AnUninstallTakesOffAServiceOnlyWhatIsOurs) {
  const Json others = {{{"ip", "203.0.113.9"}, {"ports", {{{"port", 80}, {"protocol", "TCP"}}}}}};
  const Json foreign = {{"type", "example.org/Audited"}, {"status", "True"}};
  Json service = {{"metadata", {{"resourceVersion", "7"}}},
                  {"status", {{"loadBalancer", {{"ingress", others}}}, {"conditions", {foreign}}}}};
  const auto ours = [](const std::string& ip) { return ip == "192.0.2.1"; };
  EXPECT_EQ(uninstalled_service(service, ours), Json()) << "nothing there is ours";
  service["status"]["loadBalancer"]["ingress"].push_back({{"ip", "192.0.2.1"}, {"ipMode", "VIP"}});
  service["status"]["conditions"].push_back({{"type", "sluice.io/Programmed"}, {"status", "True"}});
  Json patch = uninstalled_service(service, ours);
  EXPECT_EQ(patch["metadata"]["resourceVersion"], "7");
  EXPECT_EQ(patch["status"], Json({{"loadBalancer", {{"ingress", others}}}, {"conditions", {foreign}}}));
  patch = uninstalled_service(service, [](const std::string&) { return true; });
  EXPECT_EQ(patch["status"]["loadBalancer"], Json({{"ingress", nullptr}}));
  EXPECT_EQ(uninstalled_service({{"metadata", Json::object()}}, ours), Json());
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
