#include "operator/kube/lease_rules.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "operator/kube/lease.h"

namespace sluice::kube {
namespace {

using namespace std::chrono_literals;
using Clock = LeaseRules::Clock;
constexpr Clock::time_point kNow{std::chrono::hours(1)};

LeaseRecord held_by(const char* holder, const char* renewed = "t0") {
  LeaseRecord record;
  record.holder = holder;
  record.duration = 15s;
  record.renew_time = renewed;
  return record;
}

TEST(LeaseRules, AnEmptyLeaseMayBeTaken) {
  LeaseRules rules("me");
  rules.observe({}, kNow);
  EXPECT_TRUE(rules.may_take(kNow));
}

TEST(LeaseRules, AnothersLeaseMayBeTakenOnlyWhenItWasSilentForItsDurationAsWeSawIt) {
  LeaseRules rules("me");
  rules.observe(held_by("other"), kNow);
  EXPECT_FALSE(rules.may_take(kNow + 15s));
  rules.observe(held_by("other"), kNow + 10s);  // seen again, unchanged
  EXPECT_TRUE(rules.may_take(kNow + 15001ms));
  rules.observe(held_by("other", "t1"), kNow + 14s);
  EXPECT_FALSE(rules.may_take(kNow + 29s));
  EXPECT_TRUE(rules.may_take(kNow + 30s));
}

TEST(LeaseRules, ALeaseThatLooksExpiredByItsOwnTimesIsStillWatchedForItsDuration) {
  LeaseRules rules("me");
  rules.observe(held_by("other", "1970-01-01T00:00:00.000000Z"), kNow);  // or its clock is wrong
  EXPECT_FALSE(rules.may_take(kNow));
}

TEST(LeaseRules, OurOwnIsRenewedWithoutATransition) {
  LeaseRules rules("me");
  auto record = held_by("me");
  record.transitions = 3;
  record.acquire_time = "then";
  rules.observe(record, kNow);
  EXPECT_TRUE(rules.may_take(kNow));
  const auto next = rules.taken(15s, "now");
  EXPECT_EQ(next.acquire_time, "then");
  EXPECT_EQ(next.renew_time, "now");
  EXPECT_EQ(next.transitions, 3);
}

TEST(LeaseRules, TakingCountsATransitionAndKeepsTheEpoch) {
  LeaseRules rules("me");
  auto record = held_by("other");
  record.transitions = 3;
  record.epoch = 9;
  rules.observe(record, kNow);
  const auto next = rules.taken(20s, "now");
  EXPECT_EQ(next.holder, "me");
  EXPECT_EQ(next.acquire_time, "now");
  EXPECT_EQ(next.transitions, 4);
  EXPECT_EQ(next.duration, 20s);
  EXPECT_EQ(next.epoch, 9U);
}

TEST(LeaseRules, AReleasedLeaseHasNoHolderAndKeepsTheEpoch) {
  LeaseRules rules("me");
  auto record = held_by("me");
  record.epoch = 9;
  rules.observe(record, kNow);
  const auto next = rules.released("now");
  EXPECT_EQ(next.holder, "");
  EXPECT_EQ(next.epoch, 9U);
  EXPECT_GE(next.duration, 1s);
}

TEST(LeaseRecords, SurviveWritingAndReading) {
  LeaseRecord record = held_by("me");
  record.acquire_time = "a";
  record.transitions = 2;
  record.epoch = 18446744073709551615U;
  const auto lease = write_lease({{"metadata", {{"resourceVersion", "7"}, {"labels", {{"l", "v"}}}}}}, record);
  EXPECT_EQ(read_lease(lease), record);
  EXPECT_EQ(lease["metadata"]["resourceVersion"], "7") << "the condition of the write";
  EXPECT_EQ(lease["metadata"]["labels"]["l"], "v");
}

TEST(LeaseRecords, OddOnesAreReadAsFarAsTheyGo) {
  using nlohmann::json;
  EXPECT_EQ(read_lease(json::object()), LeaseRecord());
  EXPECT_EQ(read_lease(json::parse(R"({"spec":null})")), LeaseRecord());
  EXPECT_EQ(read_lease(json::parse(R"({"spec":{"holderIdentity":7,"leaseDurationSeconds":"x"}})")), LeaseRecord());
  EXPECT_EQ(read_lease(json::parse(R"({"metadata":{"annotations":{"sluice.io/epoch":"many"}}})")).epoch, 0U);
}

}  // namespace
}  // namespace sluice::kube
