// Which node announces an address, when it moves, and what is said about it.
#include <gtest/gtest.h>

#include "tests/unit/operator/world.h"

namespace sluice::planner {
namespace {

using std::chrono::seconds;
using test::Json;
using test::World;

class Announcing : public ::testing::Test {
 protected:
  Announcing() {
    world_.put(test::pool("public", {"192.0.2.0/24"}));
    for (const char* name : {"node1", "node2", "node3"}) world_.add_node(name);
    world_.put(test::service("shop", "web"));
    world_.put(test::slice("shop", "web", {"10.244.1.1"}));
    world_.settle();
    chosen_ = world_.announcer("192.0.2.0");
  }
  void label(const std::string& node, const std::string& key, const std::string& value) {
    world_.edit("Node", "", node, {{"metadata", {{"labels", {{key, value}}}}}});
  }
  void not_ready(const std::string& node) {
    world_.edit("Node", "", node, {{"status", {{"conditions", {{{"type", "Ready"}, {"status", "Unknown"}}}}}}});
  }
  std::string announced() { return world_.condition("Service", "shop", "web", "sluice.io/Announced"); }
  std::string announced_message() { return world_.message("Service", "shop", "web", "sluice.io/Announced"); }
  World world_;
  std::string chosen_;
};

TEST_F(Announcing, OneNodeDoesAndItsFollowersAreNamed) {
  const state::Announcement& announcement = world_.state.announcements.at(test::ip("192.0.2.0"));
  EXPECT_EQ(announcement.nodes.size(), 3U);
  EXPECT_TRUE(announcement.interfaces.empty());
  EXPECT_EQ(announced(), "True Announced");
  EXPECT_EQ(announced_message(), "192.0.2.0: " + chosen_ + " announces it");
}

TEST_F(Announcing, AddressesSpreadOverTheNodes) {
  for (int i = 0; i < 120; ++i) world_.put(test::service("shop", "s" + std::to_string(i)));
  world_.settle();
  std::map<std::string, int> count;
  for (const auto& [address, announcement] : world_.state.announcements) ++count[announcement.nodes.front()];
  ASSERT_EQ(count.size(), 3U);
  for (const auto& [node, addresses] : count) EXPECT_NEAR(addresses, 40, 20) << node;
}

TEST_F(Announcing, ANodeThatComesMovesNothing) {
  for (int i = 4; i < 20; ++i) world_.add_node("node" + std::to_string(i));
  world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), chosen_);
}

TEST_F(Announcing, AnUnreachableAgentIsLostAfterTheGrace) {
  world_.disconnect(chosen_);
  world_.pass(seconds(44));
  const Round waiting = world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), chosen_);
  EXPECT_EQ(announced(), "Unknown AgentUnreachable");
  EXPECT_EQ(waiting.plan.again_at, world_.now + seconds(1));
  world_.pass(seconds(1));
  const Round round = world_.settle();
  EXPECT_NE(world_.announcer("192.0.2.0"), chosen_);
  EXPECT_EQ(announced(), "True Announced");
}

TEST_F(Announcing, TheReasonForAMoveIsTold) {
  world_.disconnect(chosen_);
  world_.pass(seconds(45));
  const Round round = world_.round();
  EXPECT_EQ(round.plan.addresses.at(test::ip("192.0.2.0")).why,
            "first of 2 living eligible nodes; " + chosen_ + " was lost");
  EXPECT_EQ(world_.round().plan.addresses.at(test::ip("192.0.2.0")).why, "as before");
}

TEST_F(Announcing, ANodeThatIsNotReadyAndUnreachableIsLostSoon) {
  world_.disconnect(chosen_);
  not_ready(chosen_);
  world_.pass(seconds(4));
  world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), chosen_);
  world_.pass(seconds(1));
  world_.settle();
  EXPECT_NE(world_.announcer("192.0.2.0"), chosen_);
}

TEST_F(Announcing, ANodeThatIsNotReadyButReachableKeepsIt) {
  not_ready(chosen_);
  world_.pass(seconds(1000));
  world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), chosen_);
}

TEST_F(Announcing, ItDoesNotComeBackWithTheNode) {
  world_.disconnect(chosen_);
  world_.pass(seconds(45));
  world_.settle();
  const std::string second = world_.announcer("192.0.2.0");
  world_.connect(chosen_);
  world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), second);
}

TEST_F(Announcing, ANodeThatIsGoneOrMayNotAnyMoreIsReplacedAtOnce) {
  struct Case {
    const char* what;
    Json patch;
  };
  const std::vector<Case> cases = {
      {"label", {{"metadata", {{"labels", {{kExcludeLabel, ""}}}}}}},
      {"taint", {{"spec", {{"taints", {{{"key", "ToBeDeletedByClusterAutoscaler"}, {"effect", "NoSchedule"}}}}}}}},
      {"network",
       {{"status",
         {{"conditions",
           {{{"type", "Ready"}, {"status", "True"}}, {{"type", "NetworkUnavailable"}, {"status", "True"}}}}}}}},
      {"deleting", {{"metadata", {{"deletionTimestamp", test::created(3)}}}}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const std::string before = world_.announcer("192.0.2.0");
    const Json node = world_.object("Node", "", before);
    world_.edit("Node", "", before, c.patch);
    world_.settle();
    EXPECT_NE(world_.announcer("192.0.2.0"), before);
    EXPECT_NE(world_.announcer("192.0.2.0"), "");
    world_.put(node);
  }
  const std::string before = world_.announcer("192.0.2.0");
  world_.erase("Node", "", before);
  world_.agents.erase(before);
  world_.settle();
  EXPECT_NE(world_.announcer("192.0.2.0"), before);
}

TEST_F(Announcing, AnAgentThatCannotMovePacketsIsReplaced) {
  world_.agents[chosen_].conditions = {{"Ready", false, "ForeignProgram", "another XDP program is attached to eth0"}};
  world_.settle();
  EXPECT_NE(world_.announcer("192.0.2.0"), chosen_);
}

TEST_F(Announcing, TheExcludeLabelWithValueFalseExcludesNothing) {
  label(chosen_, kExcludeLabel, "false");
  world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), chosen_);
}

TEST_F(Announcing, TheExcludeLabelCanBeIgnored) {
  world_.options.ignore_exclude_label = true;
  label(chosen_, kExcludeLabel, "");
  world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), chosen_);
}

TEST_F(Announcing, AOneNodeClusterOfKubeadmSaysWhatToDo) {
  World one;
  one.put(test::pool("public", {"192.0.2.0/24"}));
  one.add_node("cp");
  one.edit("Node", "", "cp", {{"metadata", {{"labels", {{kExcludeLabel, ""}}}}}});
  one.put(test::service("shop", "web"));
  one.settle();
  EXPECT_EQ(one.condition("Service", "shop", "web", "sluice.io/Announced"), "False ExcludedByLabel");
  const std::string message = one.message("Service", "shop", "web", "sluice.io/Announced");
  EXPECT_NE(message.find("kubectl label node cp node.kubernetes.io/exclude-from-external-load-balancers-"),
            std::string::npos)
      << message;
  EXPECT_NE(message.find("--ignore-exclude-label"), std::string::npos) << message;
  EXPECT_EQ(one.object("Service", "shop", "web").value("/status/loadBalancer/ingress"_json_pointer, Json()), Json());
  EXPECT_EQ(one.condition("LoadBalancerNode", "", "cp", "Ready"), "True ExcludedByLabel");
  one.options.ignore_exclude_label = true;
  one.settle();
  EXPECT_EQ(one.condition("Service", "shop", "web", "sluice.io/Announced"), "True Announced");
}

TEST_F(Announcing, ThePoolSaysWhichNodesAndInterfaces) {
  label("node2", "edge", "yes");
  world_.put(test::pool("public", {"192.0.2.0/24"},
                        {{"announcements",
                          {{{"name", "edge"},
                            {"type", "Layer2"},
                            {"nodeSelector", {{"matchLabels", {{"edge", "yes"}}}}},
                            {"layer2", {{"interfaces", {"eth1", "en*"}}}}}}}}));
  world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), "node2");
  EXPECT_EQ(world_.state.announcements.at(test::ip("192.0.2.0")).interfaces, (std::vector<std::string>{"en*", "eth1"}));
  label("node2", "edge", "no");
  world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), "");
  EXPECT_EQ(announced(), "False NoEligibleNode");
}

TEST_F(Announcing, APoolMayBeSilent) {
  world_.put(test::pool("public", {"192.0.2.0/24"}, {{"announcements", Json::array()}}));
  world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), "");
  EXPECT_EQ(announced(), "False NotAnnounced");
}

TEST_F(Announcing, APoolThatIsRemovedSilencesNothing) {
  world_.erase("AddressPool", "", "public");
  world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), chosen_);
}

TEST_F(Announcing, WithoutALivingAgentTheChosenOneStays) {
  for (const char* name : {"node1", "node2", "node3"}) world_.disconnect(name);
  world_.pass(seconds(100));
  world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), chosen_);
  EXPECT_EQ(announced(), "False NoLivingAgent");
  EXPECT_EQ(world_.object("Service", "shop", "web")["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.0");
}

TEST_F(Announcing, NobodyIsChosenBeforeAnAgentLives) {
  World fresh;
  fresh.put(test::pool("public", {"192.0.2.0/24"}));
  fresh.put(test::node("node1", "172.30.0.1"));
  fresh.put(test::service("shop", "web"));
  fresh.settle();
  EXPECT_EQ(fresh.announcer("192.0.2.0"), "");
  EXPECT_EQ(fresh.condition("Service", "shop", "web", "sluice.io/Announced"), "False NoLivingAgent");
}

TEST_F(Announcing, ANewLeaderWaitsForAgentsItHasNotReachedYet) {
  world_.memory = {};
  for (auto& [name, agent] : world_.agents) {
    agent = {};
    agent.since = world_.now;
  }
  world_.pass(seconds(4));
  world_.settle();
  EXPECT_EQ(world_.announcer("192.0.2.0"), chosen_);
}

}  // namespace
}  // namespace sluice::planner
