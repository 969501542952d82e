// The keys of the tunnel between nodes: when a new one is made, when it is used, and when the former one is dropped.
#include <gtest/gtest.h>

#include "tests/unit/operator/planning.h"

namespace sluice::planner {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

class TunnelKeys : public Planning {
 protected:
  TunnelKeys() {
    world_.options.tunnel_key_rotation = hours(24);
    add_web();
    world_.settle();
  }
  [[nodiscard]] const std::vector<state::TunnelKey>& keys() const { return world_.state.tunnel.keys; }
  // A day later: the new key is there, and accepted only.
  void begin_rotation() {
    world_.pass(hours(24));
    world_.round();
    ASSERT_EQ(keys().size(), 2U);
    ASSERT_GT(keys()[1].id, keys()[0].id);
  }
};

TEST_F(TunnelKeys, TheFirstOneIsThereAtOnceWithThePort) {
  ASSERT_EQ(keys().size(), 1U);
  EXPECT_EQ(keys()[0].id, 60U) << "the minute it was made at";
  EXPECT_NE(keys()[0].secret, (std::array<uint64_t, 2>{}));
  EXPECT_EQ(world_.state.tunnel.port, 6082);
  world_.options.tunnel_port = 6083;
  EXPECT_TRUE(world_.round().plan.changed);
  EXPECT_EQ(world_.state.tunnel.port, 6083);
}

TEST_F(TunnelKeys, NothingChangesBeforeThePeriodHasPassed) {
  const auto before = keys();
  const Round round = world_.settle();
  EXPECT_EQ(round.plan.again_at, world_.now + hours(24));
  world_.pass(hours(24) - seconds(1));
  world_.settle();
  EXPECT_EQ(keys(), before);
}

TEST_F(TunnelKeys, ANewOneIsUsedOnlyWhenEveryLivingAgentHasIt) {
  const state::TunnelKey former = keys()[0];
  begin_rotation();
  EXPECT_EQ(keys()[0], former) << "the new one is accepted, the former one used";
  EXPECT_NE(keys()[1].secret, former.secret);
  world_.ack("node1");
  world_.pass(hours(1));
  world_.round();
  EXPECT_EQ(keys()[0], former) << "node2 does not have it yet";
  world_.ack("node2");
  world_.round();
  EXPECT_EQ(keys()[1], former) << "the new one is used, the former one accepted";
}

TEST_F(TunnelKeys, TheFormerOneIsDroppedAMinuteAfterEveryLivingAgentUsesTheNewOne) {
  begin_rotation();
  const state::TunnelKey newer = keys()[1];
  world_.ack_all();
  world_.round();
  ASSERT_EQ(keys()[0], newer);
  world_.pass(hours(1));
  world_.round();
  EXPECT_EQ(keys().size(), 2U) << "nobody has acknowledged the change yet";
  world_.ack_all();
  const Round waiting = world_.round();
  EXPECT_EQ(waiting.plan.again_at, world_.now + seconds(60));
  world_.pass(seconds(59));
  world_.round();
  EXPECT_EQ(keys().size(), 2U);
  world_.pass(seconds(1));
  world_.round();
  EXPECT_EQ(keys(), std::vector{newer});
}

TEST_F(TunnelKeys, ALostAgentHoldsNothingUp) {
  world_.disconnect("node2");
  begin_rotation();
  world_.ack_all();
  world_.round();
  EXPECT_LT(keys()[1].id, keys()[0].id);
}

TEST_F(TunnelKeys, ANewLeaderGoesOnWhereTheFormerStopped) {
  begin_rotation();
  const auto both = keys();
  const auto another_leader = [&] {
    world_.memory = {};
    world_.cache = {};
    ++world_.options.epoch;
    for (auto& [name, agent] : world_.agents) agent.acked_revision = 0;
  };
  another_leader();
  world_.round();
  EXPECT_EQ(keys(), both);
  world_.settle();
  EXPECT_EQ(keys()[0], both[1]);
  another_leader();
  world_.settle();
  EXPECT_EQ(keys().size(), 2U) << "the minute counts anew";
  world_.pass(seconds(60));
  world_.settle();
  EXPECT_EQ(keys(), std::vector{both[1]});
  world_.pass(hours(23));
  another_leader();
  world_.pass(hours(1));
  world_.round();
  EXPECT_EQ(keys().size(), 2U) << "the key's age is told by its id, not by the term";
}

TEST_F(TunnelKeys, WithoutARotationTheKeyStaysAndOneThatBeganIsFinished) {
  begin_rotation();
  world_.options.tunnel_key_rotation = {};
  world_.settle();
  world_.pass(seconds(60));
  world_.settle();
  ASSERT_EQ(keys().size(), 1U);
  const auto before = keys();
  world_.pass(hours(1000));
  EXPECT_FALSE(world_.settle().plan.changed);
  EXPECT_EQ(keys(), before);
}

TEST_F(TunnelKeys, IdsRiseAlsoWithinAMinuteAndWhereTheClockWentBack) {
  world_.options.tunnel_key_rotation = seconds(1);
  world_.state.tunnel.keys[0].id = 60;
  world_.pass(seconds(1));
  world_.round();
  ASSERT_EQ(keys().size(), 2U);
  EXPECT_EQ(keys()[1].id, 61U);
}

}  // namespace
}  // namespace sluice::planner
