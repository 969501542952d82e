// When content gets a higher revision, how long history is kept, and what a new leader makes of both.
#include <gtest/gtest.h>

#include "common/maglev/service_table.h"
#include "tests/unit/operator/planning.h"

namespace sluice::planner {
namespace {

using test::Json;

class Revisions : public Planning {};

TEST_F(Revisions, TheRevisionRisesOnlyWithTheContent) {
  add_web();
  world_.settle();
  const state::DesiredState before = world_.state;
  for (int i = 0; i < 3; ++i) {
    world_.pass(std::chrono::seconds(1));
    EXPECT_FALSE(world_.round().plan.changed);
  }
  world_.edit("Service", "shop", "web", {{"metadata", {{"labels", {{"a", "b"}}}}}});
  world_.edit("Node", "", "node1", {{"metadata", {{"labels", {{"a", "b"}}}}}});
  EXPECT_FALSE(world_.round().plan.changed);
  EXPECT_EQ(world_.state, before);
  world_.put(test::slice("shop", "web", {"10.244.1.1"}));
  EXPECT_TRUE(world_.round().plan.changed);
  EXPECT_EQ(world_.state.revision, before.revision + 1);
}

TEST_F(Revisions, EndpointsJoinAndLeaveAtARevision) {
  add_web();
  world_.settle();
  const state::Revision before = world_.state.revision;
  world_.put(test::slice("shop", "web", {"10.244.1.2", "10.244.1.3"}));
  world_.settle();
  const state::Service& web = world_.service(web_);
  ASSERT_EQ(web.backends.size(), 3U);
  EXPECT_EQ(web.backends[0].left, before + 1);
  EXPECT_EQ(web.backends[1].joined, 0U);
  EXPECT_EQ(web.backends[1].left, 0U);
  EXPECT_EQ(web.backends[2].joined, before + 2) << "its node knows it first";
}

TEST_F(Revisions, HistoryGoesWhenTheDrainTimeHasPassedAndNoAgentNeedsIt) {
  add_web();
  world_.settle();
  world_.put(test::slice("shop", "web", {"10.244.1.2"}));
  world_.settle();
  world_.agents["node2"].services_with_old_flows = {web_};
  world_.pass(std::chrono::seconds(299));
  Round round = world_.settle();
  EXPECT_EQ(world_.service(web_).backends.size(), 2U) << "too early";
  EXPECT_EQ(round.plan.again_at, world_.now + std::chrono::seconds(1));
  world_.pass(std::chrono::seconds(1));
  world_.settle();
  EXPECT_EQ(world_.service(web_).backends.size(), 2U) << "an agent has flows that need it";
  world_.agents["node2"].services_with_old_flows.clear();
  round = world_.settle();
  EXPECT_EQ(world_.service(web_).backends.size(), 1U);
  EXPECT_TRUE(maglev::boundaries(world_.service(web_)).empty());
  EXPECT_FALSE(round.plan.again_at);
}

TEST_F(Revisions, OnlyTheHistoryThatIsOldEnoughGoes) {
  add_web();
  world_.settle();
  world_.put(test::slice("shop", "web", {"10.244.1.2"}));
  world_.settle();
  world_.pass(std::chrono::seconds(200));
  world_.put(test::slice("shop", "web", {"10.244.1.2", "10.244.1.3"}));
  world_.settle();
  world_.pass(std::chrono::seconds(100));
  world_.settle();
  EXPECT_EQ(maglev::boundaries(world_.service(web_)).size(), 1U);
  EXPECT_EQ(world_.service(web_).backends.size(), 2U);
}

TEST_F(Revisions, HistoryIsKeptForAWhileEvenWithoutDrain) {
  add_web();
  world_.put(test::load_balancer("shop", "lb", {{"drain", {{"timeoutSeconds", 0}}}}));
  world_.settle();
  world_.put(test::slice("shop", "web", {"10.244.1.2"}));
  world_.settle();
  EXPECT_EQ(world_.service("LoadBalancer/shop/lb/http").backends.size(), 2U);
  world_.pass(std::chrono::seconds(30));
  world_.settle();
  EXPECT_EQ(world_.service("LoadBalancer/shop/lb/http").backends.size(), 1U);
}

TEST_F(Revisions, ANewLeaderContinuesFromTheStateItFinds) {
  add_web();
  world_.settle();
  world_.put(test::slice("shop", "web", {"10.244.1.2"}));
  world_.settle();
  const state::DesiredState before = world_.state;
  world_.memory = {};
  world_.cache = {};
  world_.options.epoch = 2;
  const Round round = world_.settle();
  EXPECT_FALSE(round.plan.changed);
  EXPECT_EQ(world_.state.revision, before.revision);
  EXPECT_EQ(world_.state.services, before.services);
  EXPECT_EQ(world_.state.announcements, before.announcements);
  EXPECT_EQ(world_.state.epoch, 2U);
  world_.pass(std::chrono::seconds(299));
  world_.settle();
  EXPECT_EQ(world_.service(web_).backends.size(), 2U) << "the drain time counts anew";
}

TEST_F(Revisions, AStateOfAnotherClusterIsNotContinued) {
  world_.state.cluster_id = "another";
  world_.state.revision = 77;
  world_.state.services.emplace("Service/a/b/c", state::Service{});
  const Round round = decide(world_.input(), world_.cache);
  EXPECT_TRUE(round.plan.next.services.empty());
  EXPECT_EQ(round.plan.next.cluster_id, "cluster-uid");
  EXPECT_TRUE(round.plan.changed);
}

TEST_F(Revisions, ADeletedObjectLeaves) {
  add_web();
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  world_.settle();
  ASSERT_EQ(world_.state.services.size(), 2U);
  world_.edit("Service", "shop", "web", {{"metadata", {{"deletionTimestamp", test::created(9)}}}});
  world_.erase("LoadBalancer", "shop", "lb");
  world_.round();
  EXPECT_TRUE(world_.state.services.empty());
  EXPECT_TRUE(world_.state.announcements.empty());
}

}  // namespace
}  // namespace sluice::planner
