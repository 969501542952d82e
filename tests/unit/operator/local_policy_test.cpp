// externalTrafficPolicy Local: which endpoints each node has, and which nodes announce.
#include <gtest/gtest.h>

#include "tests/unit/operator/planning.h"

namespace sluice::planner {
namespace {

using test::Json;

const Json kReady = {{"ready", true}};
const Json kUnready = {{"ready", false}};
const Json kEnding = {{"ready", false}, {"serving", true}, {"terminating", true}};

struct At {
  std::string address;
  std::string node;
  Json conditions = kReady;
};

class LocalPolicy : public Planning {
 protected:
  LocalPolicy() { world_.add_node("node3"); }
  void put_web(const std::vector<At>& endpoints) {
    world_.put(test::service("shop", "web", {{"spec", {{"externalTrafficPolicy", "Local"}}}}));
    Json slice = test::slice("shop", "web", {});
    for (const At& at : endpoints) {
      slice["endpoints"].push_back({{"addresses", {at.address}}, {"nodeName", at.node}, {"conditions", at.conditions}});
    }
    world_.put(slice);
    world_.settle();
  }
  std::string announcer() { return world_.announcer("192.0.2.0"); }
  std::string announced() { return world_.condition("Service", "shop", "web", "sluice.io/Announced"); }
};

TEST_F(LocalPolicy, TravelsWithTheEndpointsOfEveryNode) {
  put_web({{"10.244.1.1", "node1"}, {"10.244.2.1", "node2"}, {"10.244.2.2", "node2", kEnding}});
  EXPECT_EQ(world_.service(web_).traffic_policy, state::TrafficPolicy::local);
  EXPECT_EQ(world_.backends(web_), "10.244.1.1:8080 10.244.2.1:8080");
}

TEST_F(LocalPolicy, ANodeWithoutAReadyEndpointUsesThoseThatStillServe) {
  put_web({{"10.244.1.1", "node1"}, {"10.244.2.1", "node2", kEnding}});
  EXPECT_EQ(world_.backends(web_), "10.244.1.1:8080 10.244.2.1:8080");
}

TEST_F(LocalPolicy, OnlyANodeWithAReadyEndpointAnnounces) {
  for (const std::string node : {"node1", "node2", "node3"}) {
    put_web({{"10.244.1.1", node}});
    EXPECT_EQ(announcer(), node);
    EXPECT_EQ(announced(), "True Announced");
  }
}

TEST_F(LocalPolicy, TheReasonForTheMoveIsTold) {
  put_web({{"10.244.1.1", "node1"}});
  world_.put(test::slice("shop", "web", {"10.244.2.1"}, "node2"));
  const Round round = world_.round();
  EXPECT_EQ(
      round.plan.addresses.at(test::ip("192.0.2.0")).why,
      "first of 1 living eligible nodes; node1 has no endpoint that is ready, and externalTrafficPolicy is Local");
}

TEST_F(LocalPolicy, ANodeThatStaysReadyKeepsTheAddress) {
  put_web({{"10.244.1.1", "node1"}});
  put_web({{"10.244.1.1", "node1"}, {"10.244.2.1", "node2"}, {"10.244.3.1", "node3"}});
  EXPECT_EQ(announcer(), "node1");
}

TEST_F(LocalPolicy, ANodeWhereAllTerminateHandsOverToOneThatIsReady) {
  put_web({{"10.244.1.1", "node1"}});
  put_web({{"10.244.1.1", "node1", kEnding}, {"10.244.2.1", "node2"}});
  EXPECT_EQ(announcer(), "node2");
  EXPECT_EQ(world_.backends(web_), "10.244.1.1:8080 10.244.2.1:8080") << "what still arrives on node1 is served";
}

TEST_F(LocalPolicy, WhereNoneIsReadyANodeThatStillServesAnnounces) {
  put_web({{"10.244.3.1", "node3", kEnding}, {"10.244.1.1", "node1", kUnready}});
  EXPECT_EQ(announcer(), "node3");
}

TEST_F(LocalPolicy, WithoutAnyEndpointTheAnnouncerStaysToRefuse) {
  put_web({{"10.244.2.1", "node2"}});
  put_web({});
  EXPECT_EQ(announcer(), "node2");
}

TEST_F(LocalPolicy, EndpointsOnNodesThatMayNotAnnounceAreSaid) {
  world_.edit("Node", "", "node1",
              {{"metadata", {{"labels", {{"node.kubernetes.io/exclude-from-external-load-balancers", ""}}}}}});
  put_web({{"10.244.1.1", "node1"}});
  EXPECT_EQ(announcer(), "");
  EXPECT_EQ(announced(), "False NoLocalEndpoint");
  EXPECT_EQ(world_.message("Service", "shop", "web", "sluice.io/Announced"),
            "192.0.2.0: externalTrafficPolicy Local: endpoints are on node1 only, which may not announce the address");
}

TEST_F(LocalPolicy, OfSeveralPortsThoseNodesThatCanServeAll) {
  const Json both = {{{"name", "http"}, {"port", 80}}, {{"name", "admin"}, {"port", 81}}};
  world_.put(test::service("shop", "web", {{"spec", {{"externalTrafficPolicy", "Local"}, {"ports", both}}}}));
  world_.put(test::slice("shop", "web", {"10.244.1.1"}, "node1"));
  world_.put(test::slice("shop", "web", {"10.244.2.1"}, "node2",
                         {{"metadata", {{"name", "web-both"}}},
                          {"ports", {{{"name", "http"}, {"port", 8080}}, {{"name", "admin"}, {"port", 8081}}}}}));
  world_.settle();
  EXPECT_EQ(announcer(), "node2");
}

TEST_F(LocalPolicy, OnlyNodesThatCanServeCountForProgrammed) {
  put_web({{"10.244.1.1", "node1"}});
  world_.put(test::slice("shop", "web", {"10.244.1.2"}, "node1"));
  world_.round();
  world_.ack("node1");
  world_.pass(std::chrono::seconds(10));
  world_.round();
  EXPECT_EQ(world_.condition("Service", "shop", "web", "sluice.io/Programmed"), "True Programmed");
}

TEST_F(LocalPolicy, OfALoadBalancerToo) {
  world_.put(test::service("shop", "web", {{"spec", {{"type", "ClusterIP"}, {"loadBalancerClass", nullptr}}}}));
  world_.put(test::slice("shop", "web", {"10.244.2.1"}, "node2"));
  world_.put(test::load_balancer("shop", "lb", {{"externalTrafficPolicy", "Local"}}));
  world_.settle();
  EXPECT_EQ(world_.service("LoadBalancer/shop/lb/http").traffic_policy, state::TrafficPolicy::local);
  EXPECT_EQ(announcer(), "node2");
}

}  // namespace
}  // namespace sluice::planner
