#include "node-agent/tunnel/prover.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/tunnel/underlay.h"

namespace sluice::agent::tunnel {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint32_t kMtu = 1500;

class ProverTest : public testing::Test {
 protected:
  ProverTest() { world_.prover.follow({{"n2", {kMtu, false}}}, world_.now); }
  World world_;
};

TEST_F(ProverTest, OneProbeOfFullSizeThatComesBackIsProof) {
  world_.largest["n2"] = kMtu;
  EXPECT_FALSE(world_.prover.proved("n2").usable);
  ASSERT_EQ(world_.step().size(), 1U);
  EXPECT_EQ(world_.sent[0].bytes, kMtu);
  EXPECT_FALSE(world_.prover.proved("n2").usable);
  world_.step();
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, kMtu}));
}

TEST_F(ProverTest, NoAnswerIsNoProof) {
  world_.run(seconds(30));
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{false, 0}));
  EXPECT_FALSE(world_.prover.heard("n2"));
}

TEST_F(ProverTest, AnswersOfAnotherNonceOrSizeAreNoProof) {
  world_.step();
  world_.proofs["n2"] = {world_.sent[0].nonce + 1, kMtu};
  world_.step();
  EXPECT_FALSE(world_.prover.proved("n2").usable);
  world_.proofs["n2"] = {world_.sent[0].nonce, kMtu - 1};
  world_.step();
  EXPECT_FALSE(world_.prover.proved("n2").usable);
}

TEST_F(ProverTest, LateAnswerToAnEarlierProbeOfTheSameSizeCounts) {
  world_.run(milliseconds(500));
  ASSERT_GT(world_.sent.size(), 1U);
  world_.proofs["n2"] = {world_.sent[0].nonce, kMtu};
  world_.step();
  EXPECT_TRUE(world_.prover.proved("n2").usable);
}

TEST_F(ProverTest, WhatWasLostBeforeTheOtherEndWasThereSaysNothingOfItsSize) {
  for (int64_t tenths = 1; tenths < 60; ++tenths) {
    World world;
    world.prover.follow({{"n2", {kMtu, false}}}, world.now);
    world.run(milliseconds(100 * tenths));
    world.largest["n2"] = kMtu;
    ASSERT_GE(world.until("n2", true, seconds(5)), 0) << tenths;
    ASSERT_EQ(world.prover.proved("n2").bytes, kMtu) << tenths;
  }
}

TEST_F(ProverTest, TheLargestPacketThatGoesThroughIsFoundToTheByte) {
  const uint32_t least = least_bytes(false);
  for (const uint32_t carries : {least, least + 1, 1400U, 1420U, kMtu - 1}) {
    World world;
    world.prover.follow({{"n2", {kMtu, false}}}, world.now);
    world.largest["n2"] = carries;
    const auto took = world.until("n2", true, seconds(20));
    EXPECT_GE(took, 0) << carries;
    EXPECT_EQ(world.prover.proved("n2").bytes, carries);
    EXPECT_LT(took, 10'000) << carries;
  }
}

TEST_F(ProverTest, JumboFramesAreFoundSoonToo) {
  World world;
  world.prover.follow({{"n2", {9000, true}}}, world.now);
  world.largest["n2"] = 8900;
  EXPECT_GE(world.until("n2", true, seconds(15)), 0);
  EXPECT_EQ(world.prover.proved("n2").bytes, 8900U);
}

TEST_F(ProverTest, WayThatDoesNotCarryTheLeastIsNotUsed) {
  world_.largest["n2"] = least_bytes(false) - 1;
  world_.run(seconds(20));
  EXPECT_FALSE(world_.prover.proved("n2").usable);
  World narrow;
  narrow.prover.follow({{"n2", {least_bytes(false) - 1, false}}}, narrow.now);
  narrow.largest["n2"] = kMtu;
  narrow.run(seconds(5));
  EXPECT_FALSE(narrow.prover.proved("n2").usable);
  EXPECT_TRUE(narrow.sent.empty()) << "nothing could come of it";
}

TEST_F(ProverTest, IsKeptAliveBySmallProbesAndNowAndThenALargeOne) {
  world_.largest["n2"] = kMtu;
  world_.run(seconds(1));
  world_.sent.clear();
  world_.run(seconds(10));
  const auto large = std::ranges::count(world_.sent, kMtu, &Probe::bytes);
  EXPECT_EQ(large, 2);
  const auto small = std::ranges::count(world_.sent, small_bytes(false), &Probe::bytes);
  EXPECT_GE(small, 12);
  EXPECT_LE(small, 20);
  EXPECT_EQ(static_cast<size_t>(large + small), world_.sent.size());
}

TEST_F(ProverTest, LossIsNoticedWithinASecondOrSoAndItsEndToo) {
  world_.largest["n2"] = kMtu;
  world_.run(milliseconds(1250));
  world_.largest.clear();
  const auto noticed = world_.until("n2", false, seconds(5));
  EXPECT_GE(noticed, 0);
  EXPECT_LE(noticed, 1300);
  EXPECT_EQ(world_.prover.proved("n2").bytes, kMtu) << "what goes on trying knows no better";
  world_.run(seconds(3));
  world_.largest["n2"] = kMtu;
  const auto back = world_.until("n2", true, seconds(5));
  EXPECT_GE(back, 0);
  EXPECT_LE(back, 2000);
}

TEST_F(ProverTest, TwoLostProbesInARowAreNoLoss) {
  world_.largest["n2"] = kMtu;
  world_.run(seconds(1));
  for (int i = 0; i < 200; ++i) {
    // Each third probe comes back.
    world_.largest.clear();
    const auto before = world_.sent.size();
    while (world_.sent.size() < before + 2) world_.step();
    world_.largest["n2"] = kMtu;
    while (world_.sent.size() < before + 3) world_.step();
    ASSERT_TRUE(world_.prover.proved("n2").usable) << i;
  }
}

TEST_F(ProverTest, WayThatBecomesNarrowerIsMeasuredAnew) {
  world_.largest["n2"] = kMtu;
  world_.run(seconds(1));
  world_.largest["n2"] = 1400;
  ASSERT_GE(world_.until("n2", false, seconds(8)), 0);
  EXPECT_LE(world_.prover.proved("n2").bytes, 1400U) << "told at once, for connections under way";
  ASSERT_GE(world_.until("n2", true, seconds(10)), 0);
  EXPECT_EQ(world_.prover.proved("n2").bytes, 1400U);
}

TEST_F(ProverTest, WayThatBecomesWiderIsFoundWhileTheTunnelIsInUse) {
  world_.largest["n2"] = 1400;
  ASSERT_GE(world_.until("n2", true, seconds(10)), 0);
  world_.largest["n2"] = kMtu;
  bool always = true;
  for (int i = 0; i < 6100; ++i) {
    world_.step();
    always = always && world_.prover.proved("n2").usable;
  }
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, kMtu}));
  EXPECT_TRUE(always);
}

TEST_F(ProverTest, SearchForMoreThatFindsNothingCostsNothing) {
  world_.largest["n2"] = 1400;
  ASSERT_GE(world_.until("n2", true, seconds(10)), 0);
  for (int i = 0; i < 13'000; ++i) {
    world_.step();
    ASSERT_EQ(world_.prover.proved("n2"), (Proved{true, 1400}));
  }
  EXPECT_GT(std::ranges::count(world_.sent, kMtu, &Probe::bytes), 3);
}

TEST_F(ProverTest, RouterThatSaysWhatFitsIsBelievedAtOnceAndTheTunnelStaysInUse) {
  world_.largest["n2"] = kMtu;
  world_.run(seconds(1));
  world_.routers["n2"] = 1400;
  world_.refuse("n2", 1400);  // a packet of somebody's was too large
  world_.sent.clear();
  world_.step();
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, 1400}));
  EXPECT_EQ(world_.prover.told("n2"), 1400U);
  ASSERT_FALSE(world_.sent.empty());
  EXPECT_EQ(world_.sent[0].bytes, 1400U) << "a probe of that size confirms";
  for (int i = 0; i < 300; ++i) {
    world_.step();
    ASSERT_EQ(world_.prover.proved("n2"), (Proved{true, 1400})) << i;
  }
  EXPECT_LE(std::ranges::max(world_.sent, {}, &Probe::bytes).bytes, 1400U) << "nothing larger is tried for a while";
}

TEST_F(ProverTest, RouterThatWasWrongIsNotBelievedForLong) {
  world_.largest["n2"] = kMtu;
  world_.run(seconds(1));
  world_.largest["n2"] = 1390;
  world_.refuse("n2", 1400);
  ASSERT_GE(world_.until("n2", false, seconds(3)), 0) << "the probe of that size is lost";
  ASSERT_GE(world_.until("n2", true, seconds(10)), 0);
  EXPECT_EQ(world_.prover.proved("n2").bytes, 1390U);
}

TEST_F(ProverTest, WhatARouterHasLoweredIsRaisedByALargerProbeAfterTenMinutes) {
  world_.largest["n2"] = kMtu;
  world_.run(seconds(1));
  world_.refuse("n2", 1400);
  world_.run(std::chrono::minutes(10) - seconds(1));
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, 1400}));
  world_.run(seconds(2));
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, kMtu}));
}

TEST_F(ProverTest, SearchForMoreEndsWithTheFirstAnswerOfTheRouterAndTakesWhatItOffers) {
  world_.largest["n2"] = kMtu;
  world_.run(seconds(1));
  world_.routers["n2"] = 1400;
  world_.refuse("n2", 1400);
  world_.run(std::chrono::minutes(10) - seconds(1));
  world_.sent.clear();
  world_.run(seconds(5));
  EXPECT_EQ(std::ranges::count_if(world_.sent, [](const Probe& probe) { return probe.bytes > 1400; }), 1);
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, 1400}));
  world_.routers["n2"] = 1450;
  world_.run(std::chrono::minutes(10));
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, 1450}));
}

TEST_F(ProverTest, RouterShortensTheFirstSearch) {
  world_.largest["n2"] = kMtu;
  world_.routers["n2"] = 1417;
  const auto took = world_.until("n2", true, seconds(5));
  EXPECT_GE(took, 0);
  EXPECT_LE(took, 500);
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, 1417}));
  EXPECT_LE(world_.sent.size(), 3U);
}

TEST_F(ProverTest, WayThatARouterSaysIsTooNarrowIsNotUsedAndAskedNoMoreOftenThanOneThatIsLost) {
  world_.largest["n2"] = kMtu;
  world_.run(seconds(1));
  world_.routers["n2"] = least_bytes(false) - 1;
  world_.refuse("n2", least_bytes(false) - 1);
  world_.step();
  EXPECT_FALSE(world_.prover.proved("n2").usable);
  EXPECT_EQ(world_.prover.proved("n2").bytes, least_bytes(false) - 1) << "for connections under way";
  world_.sent.clear();
  world_.run(seconds(10));
  EXPECT_FALSE(world_.prover.proved("n2").usable);
  EXPECT_LE(world_.sent.size(), 25U);
  world_.routers.clear();
  EXPECT_GE(world_.until("n2", true, seconds(5)), 0);
}

TEST_F(ProverTest, LessThanAnyWayMayHaveIsTakenForTheLeast) {
  world_.largest["n2"] = kMtu;
  world_.run(seconds(1));
  world_.refuse("n2", 68);
  world_.step();
  EXPECT_EQ(world_.prover.told("n2"), 576U);
  World ipv6;
  ipv6.prover.follow({{"n2", {kMtu, true}}}, ipv6.now);
  ipv6.largest["n2"] = kMtu;
  ipv6.run(seconds(1));
  ipv6.refuse("n2", 68);
  ipv6.step();
  EXPECT_EQ(ipv6.prover.told("n2"), 1280U);
}

TEST_F(ProverTest, WhatWasSaidBeforeTheTunnelWasThereSaysNothingOfIt) {
  World world;
  world.refuse("n2", 1380);
  world.largest["n2"] = kMtu;
  world.prover.follow({{"n2", {kMtu, false}}}, world.now);
  world.run(seconds(1));
  EXPECT_EQ(world.prover.proved("n2"), (Proved{true, kMtu}));
  EXPECT_EQ(world.prover.told("n2"), 0U);
}

TEST_F(ProverTest, MoreThanTheDeviceSendsIsNoNews) {
  world_.largest["n2"] = kMtu;
  world_.run(seconds(1));
  world_.refuse("n2", 9000);
  world_.run(seconds(1));
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, kMtu}));
}

TEST_F(ProverTest, SinceWhenItIsAsItIsIsRemembered) {
  EXPECT_EQ(world_.prover.since("n2"), world_.now);
  world_.largest["n2"] = kMtu;
  world_.run(seconds(1));
  const auto proved = world_.prover.since("n2");
  ASSERT_TRUE(proved);
  world_.run(seconds(20));
  EXPECT_EQ(world_.prover.since("n2"), proved);
  world_.largest.clear();
  ASSERT_GE(world_.until("n2", false, seconds(5)), 0);
  EXPECT_GT(world_.prover.since("n2"), proved);
  const auto lost = world_.prover.since("n2");
  world_.run(seconds(20));
  EXPECT_EQ(world_.prover.since("n2"), lost);
  EXPECT_EQ(world_.prover.since("n3"), std::nullopt);
}

TEST_F(ProverTest, OtherMtuOfTheDeviceIsFollowed) {
  world_.largest["n2"] = 9000;
  world_.run(seconds(1));
  world_.prover.follow({{"n2", {1450, false}}}, world_.now);
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, 1450}));
  world_.prover.follow({{"n2", {9000, false}}}, world_.now);
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, 1450})) << "until it is proved";
  world_.run(seconds(1));
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, 9000}));
  world_.prover.follow({{"n2", {0, false}}}, world_.now);
  EXPECT_FALSE(world_.prover.proved("n2").usable) << "no way at all";
}

TEST_F(ProverTest, WhatAnEarlierProcessHadProvedGoesOnUnlessItIsLost) {
  world_.prover.adopt("n2", 1450, world_.now);
  EXPECT_EQ(world_.prover.proved("n2"), (Proved{true, 1450}));
  const auto noticed = world_.until("n2", false, seconds(5));
  EXPECT_GE(noticed, 500);
  EXPECT_LE(noticed, 1000);
}

TEST_F(ProverTest, AgentThatWasBusyForLongLosesNothing) {
  world_.largest["n2"] = kMtu;
  world_.run(seconds(1));
  for (int i = 0; i < 50; ++i) {
    world_.step();
    world_.now += seconds(3);
    EXPECT_TRUE(world_.prover.proved("n2").usable) << i;
  }
}

TEST_F(ProverTest, NodeThatNeverAnswersIsAskedRarely) {
  world_.run(seconds(70));
  world_.sent.clear();
  world_.run(seconds(60));
  EXPECT_LE(world_.sent.size(), 30U);
  EXPECT_GE(world_.sent.size(), 5U);
  world_.largest["n2"] = kMtu;
  EXPECT_GE(world_.until("n2", true, seconds(12)), 0);
}

TEST_F(ProverTest, ManyTunnelsSendNoMoreThanIsAllowedAndAllAreProved) {
  Times times;
  times.probes_per_second = 1000;
  times.large_per_second = 100;
  World world(times);
  std::map<std::string, Prover::Way> ways;
  for (int i = 0; i < 2000; ++i) {
    const std::string node = "n" + std::to_string(i);
    ways[node] = {kMtu, false};
    world.largest[node] = kMtu;
  }
  world.prover.follow(ways, world.now);
  for (int i = 0; i < 100; ++i) EXPECT_LE(world.step().size(), 100U);
  for (const auto& [node, way] : ways) ASSERT_TRUE(world.prover.proved(node).usable) << node;
  world.sent.clear();
  world.run(seconds(40));
  const auto large = std::ranges::count(world.sent, kMtu, &Probe::bytes);
  EXPECT_LE(large, 40 * 100 + 200);
  EXPECT_GE(large, 2000);
  for (const auto& [node, way] : ways) ASSERT_TRUE(world.prover.proved(node).usable) << node;
}

}  // namespace
}  // namespace sluice::agent::tunnel
