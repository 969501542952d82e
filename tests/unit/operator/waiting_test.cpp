// Backends that their own node has to know before others send to them.
#include <gtest/gtest.h>

#include "common/maglev/service_table.h"
#include "common/state/delta.h"
#include "tests/unit/operator/planning.h"

namespace sluice::planner {
namespace {

using std::chrono::seconds;
using test::Json;

class WaitingBackends : public Planning {
 protected:
  WaitingBackends() {
    add_web();
    world_.settle();
  }
  void put_slice(const std::string& name, const std::vector<std::string>& addresses, const std::string& node) {
    world_.put(test::slice("shop", "web", addresses, node, {{"metadata", {{"name", name}}}}));
  }
  // One more endpoint on node2, and the state that lists it.
  void add_third() {
    put_slice("web-more", {"10.244.2.1"}, "node2");
    ASSERT_TRUE(world_.round().plan.changed);
  }
  [[nodiscard]] const state::Backend& third() const { return world_.service(web_).backends.at(2); }
  const std::string two_ = "10.244.1.1:8080 10.244.1.2:8080";
  const std::string three_ = two_ + " 10.244.2.1:8080";
};

TEST_F(WaitingBackends, JoinAtTheRevisionAfterTheirNodeHasAcknowledgedThem) {
  const state::DesiredState before = world_.state;
  add_third();
  EXPECT_EQ(third().joined, state::kNotYet);
  EXPECT_EQ(world_.state.revision, before.revision + 1);
  EXPECT_TRUE(maglev::boundaries(world_.service(web_)).empty());
  world_.ack("node1");
  EXPECT_FALSE(world_.round().plan.changed) << "another node's acknowledgement says nothing";
  world_.ack("node2");
  EXPECT_TRUE(world_.round().plan.changed);
  EXPECT_EQ(third().joined, before.revision + 2);
  EXPECT_EQ(world_.backends(web_), three_);
}

TEST_F(WaitingBackends, TheStepsAreDeltasOfTheServiceAlone) {
  const state::DesiredState before = world_.state;
  add_third();
  const state::DesiredState listed = world_.state;
  world_.ack_all();
  world_.round();
  for (const auto& delta : {state::make_delta(before, listed), state::make_delta(listed, world_.state)}) {
    ASSERT_TRUE(delta);
    EXPECT_EQ(delta->upsert_services.size(), 1U);
    EXPECT_TRUE(delta->upsert_nodes.empty());
    EXPECT_TRUE(delta->upsert_announcements.empty());
    EXPECT_FALSE(delta->tunnel);
  }
}

TEST_F(WaitingBackends, JoinAnywayWhereTheirNodeDoesNotAcknowledgeInTime) {
  add_third();
  world_.ack("node1");
  const Round waiting = world_.round();
  EXPECT_EQ(waiting.plan.again_at, world_.now + seconds(2));
  world_.pass(seconds(2));
  world_.round();
  EXPECT_EQ(world_.backends(web_), three_);
}

TEST_F(WaitingBackends, JoinAtOnceOnANodeThatNeverHadAnAgent) {
  world_.disconnect("node2");
  world_.agents.at("node2").seen = false;
  add_third();
  EXPECT_EQ(world_.backends(web_), three_);
}

TEST_F(WaitingBackends, OfANodeWhoseAgentIsAwayJoinWhenItIsBackAndHasAcknowledgedThem) {
  world_.disconnect("node2");
  add_third();
  EXPECT_EQ(third().joined, state::kNotYet);
  world_.pass(seconds(10));
  world_.round();
  EXPECT_EQ(world_.backends(web_), two_);
  world_.agents.at("node2").connected = true;
  world_.agents.at("node2").since = world_.now;
  world_.round();
  EXPECT_EQ(world_.backends(web_), two_) << "it has not heard of them";
  world_.ack("node2");
  world_.round();
  EXPECT_EQ(world_.backends(web_), three_);
}

TEST_F(WaitingBackends, OfANodeWhoseAgentStaysAwayJoinInTheEnd) {
  world_.disconnect("node2");
  add_third();
  world_.pass(seconds(14));
  const Round round = world_.round();
  EXPECT_EQ(world_.backends(web_), two_);
  ASSERT_TRUE(round.plan.again_at);
  EXPECT_LE(*round.plan.again_at, world_.now + seconds(1));
  world_.pass(seconds(1));
  world_.round();
  EXPECT_EQ(world_.backends(web_), three_);
}

TEST_F(WaitingBackends, WaitOnWhereTheirNodesAgentIsLostMeanwhile) {
  add_third();
  world_.pass(seconds(1));
  world_.disconnect("node2");
  world_.round();
  EXPECT_EQ(world_.backends(web_), two_);
  world_.pass(seconds(14));
  world_.round();
  EXPECT_EQ(world_.backends(web_), three_);
}

TEST_F(WaitingBackends, OfAServiceThatIsNewOrWasEmptyJoinAtOnce) {
  EXPECT_EQ(world_.service(web_).backends[0].joined, 0U);
  put_slice("web-abcde", {}, "node1");
  world_.settle();
  ASSERT_EQ(world_.backends(web_), "");
  add_third();
  EXPECT_EQ(world_.backends(web_), "10.244.2.1:8080");
}

TEST_F(WaitingBackends, JoinAtOnceWhereAllOthersLeave) {
  put_slice("web-abcde", {"10.244.1.9"}, "node1");
  world_.round();
  EXPECT_EQ(world_.backends(web_), "10.244.1.9:8080");
}

TEST_F(WaitingBackends, LeaveWithoutATraceWhereTheyGoBeforeTheyJoined) {
  const state::Service before = world_.service(web_);
  add_third();
  put_slice("web-more", {}, "node2");
  world_.round();
  EXPECT_EQ(world_.service(web_), before);
}

TEST_F(WaitingBackends, OneThatItsNodeKnowsStillJoinsAtOnceAgain) {
  put_slice("web-abcde", {"10.244.1.1"}, "node1");
  world_.settle();
  put_slice("web-abcde", {"10.244.1.1", "10.244.1.2"}, "node1");
  world_.round();
  EXPECT_EQ(world_.backends(web_), two_) << "it is listed as one that left";
}

TEST_F(WaitingBackends, AnAddressThatComesBackOnAnotherNodeWaits) {
  put_slice("web-abcde", {"10.244.1.1"}, "node1");
  world_.settle();
  put_slice("web-more", {"10.244.1.2"}, "node2");
  world_.round();
  EXPECT_EQ(world_.backends(web_), "10.244.1.1:8080");
  world_.settle();
  EXPECT_EQ(world_.backends(web_), two_);
}

TEST_F(WaitingBackends, NatDirectAndLocalWaitForNobody) {
  const std::vector<Json> cases = {
      {{"metadata", {{"annotations", {{"sluice.io/forwarding", "NAT"}}}}}},
      {{"metadata", {{"annotations", {{"sluice.io/forwarding", "Direct"}}}}}},
      {{"spec", {{"externalTrafficPolicy", "Local"}}}},
  };
  for (const Json& more : cases) {
    put_slice("web-more", {}, "node2");
    world_.put(test::service("shop", "web", more));
    world_.settle();
    add_third();
    EXPECT_EQ(world_.backends(web_), three_) << more;
  }
}

TEST_F(WaitingBackends, AChangedWeightDoesNotMakeAnybodyWait) {
  const auto split = [&](int weight) {
    world_.put(test::load_balancer(
        "shop", "lb", {{"backends", {{{"name", "v1"}, {"service", {{"name", "web"}}}, {"weight", weight}}}}}));
  };
  split(10);
  world_.settle();
  split(20);
  world_.round();
  EXPECT_EQ(world_.backends("LoadBalancer/shop/lb/http"), two_);
}

TEST_F(WaitingBackends, ANewLeaderWaitsForTheStateItFound) {
  add_third();
  world_.memory = {};
  world_.cache = {};
  ++world_.options.epoch;
  world_.round();
  EXPECT_EQ(third().joined, state::kNotYet);
  world_.ack("node2");
  world_.round();
  EXPECT_EQ(world_.backends(web_), three_);
}

}  // namespace
}  // namespace sluice::planner
