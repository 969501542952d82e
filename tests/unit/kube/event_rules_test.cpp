#include "operator/kube/event_rules.h"

#include <gtest/gtest.h>

namespace sluice::kube {
namespace {

using namespace std::chrono_literals;
constexpr EventRules::Clock::time_point kNow{std::chrono::hours(1)};

TEST(EventRules, ARepetitionRaisesTheCountOfTheSameEvent) {
  EventRules rules;
  const auto first = rules.admit("e", "o", 1, kNow);
  EXPECT_TRUE(first.send);
  EXPECT_EQ(first.count, 1);
  EXPECT_EQ(first.name, "");
  rules.named("e", "e-1");
  const auto second = rules.admit("e", "o", 3, kNow + 9min);
  EXPECT_EQ(second.count, 4);
  EXPECT_EQ(second.name, "e-1");
}

TEST(EventRules, AfterAPauseItIsANewEvent) {
  EventRules rules;
  rules.admit("e", "o", 1, kNow);
  rules.named("e", "e-1");
  const auto later = rules.admit("e", "o", 1, kNow + 11min);
  EXPECT_EQ(later.count, 1);
  EXPECT_EQ(later.name, "");
}

TEST(EventRules, AnObjectHasABurstAndThenARate) {
  EventRules rules;
  int sent = 0;
  for (int i = 0; i < 100; ++i) sent += rules.admit("e" + std::to_string(i), "o", 1, kNow).send ? 1 : 0;
  EXPECT_EQ(sent, 25);
  EXPECT_TRUE(rules.admit("e", "other", 1, kNow).send) << "each object its own";
  EXPECT_FALSE(rules.admit("x", "o", 1, kNow + 4min).send);
  EXPECT_TRUE(rules.admit("y", "o", 1, kNow + 6min).send);
  EXPECT_FALSE(rules.admit("z", "o", 1, kNow + 6min).send);
}

TEST(EventRules, WhatWasHeldBackIsInTheNextCount) {
  EventRules rules({600'000ms, 1, 60'000ms, 100});
  EXPECT_TRUE(rules.admit("e", "o", 1, kNow).send);
  rules.named("e", "e-1");
  EXPECT_FALSE(rules.admit("e", "o", 1, kNow + 1s).send);
  const auto next = rules.admit("e", "o", 1, kNow + 2min);
  EXPECT_TRUE(next.send);
  EXPECT_EQ(next.count, 3);
}

TEST(EventRules, MemoryIsBounded) {
  EventRules rules({600'000ms, 25, 300'000ms, 10});
  for (int i = 0; i < 1000; ++i) rules.admit("e" + std::to_string(i), "o" + std::to_string(i), 1, kNow);
  EXPECT_TRUE(rules.admit("e", "o", 1, kNow).send);
  EXPECT_LE(rules.remembered(), 10U);
}

}  // namespace
}  // namespace sluice::kube
