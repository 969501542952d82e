// What is written back and told on Services, and how one is let go.
#include "operator/status/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/operator/statuses.h"

namespace sluice::status {
namespace {

using std::chrono::seconds;
using test::Json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ServiceStatus : public Statuses {};

TEST_F(ServiceStatus, AServiceThatWorks) {
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

TEST_F(ServiceStatus, TheFinalizerComesBeforeAnythingElse) {
  world_.put(test::service("shop", "fresh", {{"metadata", {{"finalizers", nullptr}}}}));
  world_.round();
  EXPECT_EQ(world_.object("Service", "shop", "fresh")["metadata"]["finalizers"], Json({"sluice.io/cleanup"}));
  EXPECT_FALSE(world_.object("Service", "shop", "fresh").contains("status"));
  EXPECT_THAT(world_.take_events(), testing::Contains("EnsuringLoadBalancer: Ensuring load balancer"));
  for (const auto& [name, claim] : world_.cluster.claims) EXPECT_NE(claim->owners[0].owner.key.name, "fresh");
}

TEST_F(ServiceStatus, UpstreamsFinalizerOnlyWhereWeAreTheDefault) {
  world_.put(test::service(
      "shop", "plain",
      {{"metadata", {{"finalizers", {"example.org/other"}}}}, {"spec", {{"loadBalancerClass", nullptr}}}}));
  world_.options.default_class = true;
  world_.settle();
  EXPECT_EQ(world_.object("Service", "shop", "plain")["metadata"]["finalizers"],
            Json({"example.org/other", "sluice.io/cleanup", "service.kubernetes.io/load-balancer-cleanup"}));
  EXPECT_EQ(web()["metadata"]["finalizers"], Json({"sluice.io/cleanup"}));
}

TEST_F(ServiceStatus, TheIngressAppearsWhenTheAnnouncingNodeHasTheServiceInItsMaps) {
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

TEST_F(ServiceStatus, NoIngressWhileTheServiceFailedThere) {
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

TEST_F(ServiceStatus, TheIngressStaysInLaterTrouble) {
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

TEST_F(ServiceStatus, TheIngressStaysWithAnEditThatIsNotAccepted) {
  world_.settle();
  const Json before = ingress();
  world_.take_events();
  world_.edit("Service", "shop", "web", {{"metadata", {{"annotations", {{"sluice.io/sharing-key", "web"}}}}}});
  world_.settle();
  EXPECT_EQ(ingress(), before);
  EXPECT_EQ(on_web("Accepted"), "False NotSupported");
  EXPECT_EQ(on_web("AddressesAllocated"), "True Allocated");
  EXPECT_EQ(on_web("Programmed"), "False NotSupported") << "this generation is not programmed";
  EXPECT_EQ(on_web("Announced"), "True Announced");
  EXPECT_THAT(world_.take_events(), ElementsAre(HasSubstr("SyncLoadBalancerFailed: NotSupported: not supported yet: "
                                                          "annotation sluice.io/sharing-key")));
}

TEST_F(ServiceStatus, AnAddressThatChangesIsReplacedWithoutAGap) {
  world_.settle();
  world_.take_events();
  world_.edit("Service", "shop", "web", {{"metadata", {{"annotations", {{"sluice.io/addresses", "192.0.2.9"}}}}}});
  rounds();
  EXPECT_EQ(ingress()[0]["ip"], "192.0.2.0") << "no agent has the new one yet";
  world_.settle();
  EXPECT_EQ(ingress(), Json({{{"ip", "192.0.2.9"}, {"ipMode", "VIP"}}}));
  EXPECT_THAT(world_.take_events(), ElementsAre("UpdatedLoadBalancer: Updated load balancer, now at 192.0.2.9"));
}

TEST_F(ServiceStatus, TheStoryOfAServiceInEvents) {
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

TEST_F(ServiceStatus, ADeletionThatANewLeaderFindsWaitsForItsFirstState) {
  world_.settle();
  world_.edit("Service", "shop", "web", {{"metadata", {{"deletionTimestamp", test::created(9)}}}});
  world_.round();
  world_.memory = {};
  rounds();
  EXPECT_TRUE(world_.has("Service", "shop", "web"));
  world_.settle();
  EXPECT_FALSE(world_.has("Service", "shop", "web"));
}

TEST_F(ServiceStatus, AServiceThatIsNoLongerALoadBalancerIsLeftAsWeFoundIt) {
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

TEST_F(ServiceStatus, WhatWeServedAsTheDefaultIsLetGoWhenWeAreNotAnyMore) {
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

TEST_F(ServiceStatus, WhatOthersHaveWrittenAlreadyStaysWhenAServiceIsLetGo) {
  world_.options.default_class = true;
  for (const char* name : {"claimed", "unclaimed"}) {
    world_.put(test::service("shop", name, {{"spec", {{"loadBalancerClass", nullptr}}}}));
  }
  world_.settle();
  const Json others = {{{"hostname", "lb.example.org"}},
                       {{"ip", "203.0.113.9"}, {"ports", {{{"port", 80}, {"protocol", "TCP"}}}}}};
  for (const char* name : {"claimed", "unclaimed"}) {
    const Json ours = world_.object("Service", "shop", name)["status"]["loadBalancer"]["ingress"];
    Json both = others;
    both.push_back(ours[0]);
    world_.edit("Service", "shop", name, {{"status", {{"loadBalancer", {{"ingress", both}}}}}});
    if (std::string(name) == "unclaimed") world_.erase("AddressClaim", "", ours[0]["ip"].get<std::string>());
  }
  world_.options.default_class = false;
  world_.settle();
  for (const char* name : {"claimed", "unclaimed"}) {
    const Json& service = world_.object("Service", "shop", name);
    EXPECT_EQ(service["status"]["loadBalancer"]["ingress"], others) << name;
    EXPECT_THAT(service["status"]["conditions"], IsEmpty()) << name;
  }
}

TEST_F(ServiceStatus, WhatIsGivenUpKeepsNoAddressThatSomebodyElseMayGet) {
  world_.put(test::pool("public", {"192.0.2.0"}));
  world_.settle();
  world_.options.load_balancer_class = "example.org/other";
  world_.settle();
  EXPECT_EQ(ingress(), Json());
  EXPECT_THAT(web()["status"]["conditions"], IsEmpty());
  EXPECT_FALSE(web()["metadata"].contains("finalizers") && !web()["metadata"]["finalizers"].empty());
  EXPECT_TRUE(world_.cluster.claims.empty());
}

TEST_F(ServiceStatus, AnExhaustedPoolIsToldOnce) {
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

}  // namespace
}  // namespace sluice::status
