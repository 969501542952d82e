// What stays in force of an object whose edit is not accepted.
#include "operator/planner/standing.h"

#include <gtest/gtest.h>

#include "tests/unit/operator/planning.h"

namespace sluice::planner {
namespace {

using test::Json;
using test::service_owner;

class Standing : public Planning {
 protected:
  Standing() {
    add_web();
    world_.settle();
  }
  void misspell() { annotate("nat"); }
  void annotate(const Json& forwarding) {
    world_.edit("Service", "shop", "web", {{"metadata", {{"annotations", {{"sluice.io/forwarding", forwarding}}}}}});
  }
};

TEST_F(Standing, EndpointsAreFollowedAndTheCorrectionTakesEffect) {
  misspell();
  world_.settle();
  world_.put(test::slice("shop", "web", {"10.244.1.2", "10.244.1.3"}));
  Round round = world_.settle();
  EXPECT_EQ(world_.backends(web_), "10.244.1.2:8080 10.244.1.3:8080");
  EXPECT_EQ(round.plan.objects.at(service_owner("shop", "web")).endpoints_ready, 2U);
  world_.put(test::slice("shop", "web", {}));
  world_.settle();
  EXPECT_EQ(world_.backends(web_), "");
  world_.pass(std::chrono::seconds(301));
  world_.settle();
  ASSERT_TRUE(world_.service(web_).backends.empty()) << "its history is forgotten";
  world_.put(test::slice("shop", "web", {"10.244.1.4"}));
  world_.settle();
  EXPECT_EQ(world_.backends(web_), "10.244.1.4:8080");
  EXPECT_EQ(world_.service(web_).forwarding, state::Forwarding::automatic);
  annotate("NAT");
  round = world_.settle();
  EXPECT_TRUE(round.plan.objects.at(service_owner("shop", "web")).accepted.good);
  EXPECT_EQ(world_.service(web_).forwarding, state::Forwarding::nat);
}

TEST_F(Standing, ItSurvivesANewLeader) {
  misspell();
  world_.settle();
  const state::DesiredState before = world_.state;
  world_.memory = {};
  world_.cache = {};
  const Round round = world_.settle();
  EXPECT_EQ(world_.state.services, before.services);
  EXPECT_EQ(world_.state.announcements, before.announcements);
  EXPECT_FALSE(round.plan.changed);
  EXPECT_FALSE(round.plan.objects.at(service_owner("shop", "web")).accepted.good);
}

TEST_F(Standing, WhatElseTheEditSaysIsNotDoneEither) {
  const state::DesiredState before = world_.state;
  world_.edit("Service", "shop", "web",
              {{"metadata", {{"annotations", {{"sluice.io/forwarding", "nat"}, {"sluice.io/addresses", "192.0.2.9"}}}}},
               {"spec",
                {{"sessionAffinity", "ClientIP"},
                 {"ports", {{{"name", "http"}, {"port", 81}}, {{"name", "more"}, {"port", 443}}}}}}});
  world_.settle();
  EXPECT_EQ(world_.state, before);
  EXPECT_FALSE(world_.has("AddressClaim", "", "192.0.2.9"));
}

TEST_F(Standing, APortThatTheEditTakesAwayKeepsItsBackends) {
  const std::string backends = world_.backends(web_);
  world_.edit("Service", "shop", "web",
              {{"spec", {{"ports", {{{"name", "sctp"}, {"protocol", "SCTP"}, {"port", 9}}}}}}});
  world_.put(test::slice("shop", "web", {"10.244.1.9"}, "node1", {{"ports", {{{"name", "sctp"}, {"port", 9}}}}}));
  world_.settle();
  EXPECT_EQ(world_.backends(web_), backends);
  EXPECT_EQ(world_.state.services.size(), 1U);
}

TEST_F(Standing, AClaimDeletedByHandIsMadeAgain) {
  misspell();
  world_.settle();
  expect_claimed_again();
}

TEST_F(Standing, DeletionAndAnotherClassOrTypeStillGiveItUp) {
  const std::vector<Json> edits = {{{"metadata", {{"deletionTimestamp", test::created(9)}}}},
                                   {{"spec", {{"loadBalancerClass", "example.org/lb"}}}},
                                   {{"spec", {{"type", "ClusterIP"}, {"loadBalancerClass", nullptr}}}}};
  for (const Json& edit : edits) {
    add_web();
    world_.settle();
    misspell();
    world_.settle();
    ASSERT_TRUE(world_.state.services.contains(web_));
    world_.edit("Service", "shop", "web", edit);
    world_.settle();
    EXPECT_TRUE(world_.state.services.empty()) << edit;
    EXPECT_TRUE(world_.cluster.claims.empty()) << edit;
  }
}

TEST_F(Standing, ALoadBalancerFollowsTheBackendsThatItsEditStillNames) {
  world_.put(test::service("shop", "v2", {{"spec", {{"type", "ClusterIP"}, {"loadBalancerClass", nullptr}}}}));
  world_.put(test::slice("shop", "v2", {"10.244.2.1"}));
  const auto backend = [](const std::string& name, const std::string& service, int weight) {
    return Json{{"name", name}, {"service", {{"name", service}}}, {"weight", weight}};
  };
  world_.put(test::load_balancer("shop", "lb", {{"backends", {backend("v1", "web", 90), backend("v2", "v2", 10)}}}));
  world_.settle();
  const std::string id = "LoadBalancer/shop/lb/http";
  const state::DesiredState before = world_.state;
  world_.edit("LoadBalancer", "shop", "lb",
              {{"spec",
                {{"sharingKey", "x"},
                 {"drain", {{"timeoutSeconds", 7}}},
                 {"backends", {backend("v1", "web", 50), backend("v2", "gone", 50), backend("v3", "web", 1)}}}}});
  world_.settle();
  EXPECT_EQ(world_.state, before) << "no weight, no backend, no drain time of the edit";
  world_.put(test::slice("shop", "web", {"10.244.1.7"}));
  world_.put(test::slice("shop", "v2", {"10.244.2.7"}));
  world_.settle();
  EXPECT_EQ(world_.backends(id), "10.244.2.1:8080 10.244.1.7:8080") << "v2 leads nowhere: it keeps what it had";
  const Json& summary = world_.object("LoadBalancer", "shop", "lb")["status"]["summary"];
  EXPECT_EQ(summary["backends"], "2/2") << "those that serve, not those of the edit";
  EXPECT_EQ(summary["nodes"], "0/2") << "none has this generation";
  EXPECT_EQ(world_.service(id).groups, (std::vector<state::Group>{{"v1", 90}, {"v2", 10}}));
}

TEST_F(Standing, AnObjectMadeAnewUnderTheNameIsNotIt) {
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  world_.settle();
  ASSERT_TRUE(world_.state.services.contains("LoadBalancer/shop/lb/http"));
  world_.put(test::load_balancer("shop", "lb", {{"sharingKey", "x"}}, {{"metadata", {{"uid", "another"}}}}));
  world_.settle();
  EXPECT_FALSE(world_.state.services.contains("LoadBalancer/shop/lb/http"));
}

}  // namespace
}  // namespace sluice::planner
