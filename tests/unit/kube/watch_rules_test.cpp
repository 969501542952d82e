// The rules of LIST and WATCH as tables: what happened, and what comes next.
#include "operator/kube/watch_rules.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace sluice::kube {
namespace {

using namespace std::chrono_literals;
using Do = WatchStep::Do;
using Clock = WatchRules::Clock;

constexpr Clock::time_point kStart{std::chrono::hours(1)};
WatchFailure code(int value) {
  return {value, false, {}, "because"};
}
const WatchFailure kTooLarge{504, true, {}, "Too large resource version"};
const WatchFailure kBroken = code(0);

struct Case {
  const char* name;
  WatchFailure failure;
  Do what;
  const char* version;  // asked for next
  bool waits;
  const char* reason;
};
std::ostream& operator<<(std::ostream& out, const Case& row) {
  return out << row.name;
}

void expect(const WatchStep& step, const Case& row) {
  EXPECT_EQ(step.what, row.what);
  EXPECT_EQ(step.version, row.version);
  EXPECT_EQ(step.wait > 0ms, row.waits) << step.wait.count();
  EXPECT_EQ(step.reason, row.reason);
}

WatchRules listed_at(const char* version, bool streaming = false) {
  WatchRules rules({}, streaming, 1);
  rules.first();
  rules.listed(version);
  return rules;
}

TEST(WatchRules, BeginWithAListAtZero) {
  const auto step = WatchRules({}, false, 1).first();
  EXPECT_EQ(step.what, Do::list);
  EXPECT_EQ(step.version, "0");
  EXPECT_EQ(step.wait, 0ms);
}

TEST(WatchRules, BeginWithTheNewestWhereListsAreStreamed) {
  const auto step = WatchRules({}, true, 1).first();
  EXPECT_EQ(step.what, Do::stream_list);
  EXPECT_EQ(step.version, "");
}

class FirstListFails : public testing::TestWithParam<Case> {};
TEST_P(FirstListFails, Then) {
  WatchRules rules({}, false, 1);
  rules.first();
  expect(rules.list_failed(GetParam().failure, kStart), GetParam());
}
INSTANTIATE_TEST_SUITE_P(Rules, FirstListFails,
                         testing::Values(Case{"NoAnswer", kBroken, Do::list, "0", true, "broken"},
                                         Case{"Unauthorized", code(401), Do::list, "0", true, "unauthorized"},
                                         Case{"Forbidden", code(403), Do::list, "0", true, "forbidden"},
                                         Case{"NotFound", code(404), Do::list, "0", true, "not_found"},
                                         Case{"Gone", code(410), Do::list, "", false, "expired"},
                                         Case{"TooLarge", kTooLarge, Do::list, "", false, "version_too_large"},
                                         Case{"Throttled", code(429), Do::list, "0", true, "throttled"},
                                         Case{"GatewayTimeout", code(504), Do::list, "0", true, "server_error"},
                                         Case{"Teapot", code(418), Do::list, "0", true, "refused"}),
                         [](const auto& row) { return std::string(row.param.name); });

class StreamedListFails : public testing::TestWithParam<Case> {};
TEST_P(StreamedListFails, Then) {
  auto rules = listed_at("70", true);
  rules.watch_failed(code(410), kStart);
  expect(rules.list_failed(GetParam().failure, kStart), GetParam());
}
INSTANTIATE_TEST_SUITE_P(Rules, StreamedListFails,
                         testing::Values(Case{"NoAnswer", kBroken, Do::stream_list, "70", true, "broken"},
                                         Case{"Throttled", code(429), Do::stream_list, "70", true, "throttled"},
                                         Case{"Gone", code(410), Do::stream_list, "", false, "expired"},
                                         Case{"TooLarge", kTooLarge, Do::stream_list, "", false, "version_too_large"},
                                         Case{"Invalid", code(422), Do::list, "70", true, "refused"},
                                         Case{"Forbidden", code(403), Do::list, "70", true, "forbidden"},
                                         Case{"ServerError", code(500), Do::list, "70", true, "server_error"}),
                         [](const auto& row) { return std::string(row.param.name); });

class WatchFails : public testing::TestWithParam<Case> {};
TEST_P(WatchFails, Then) {
  auto rules = listed_at("70");
  rules.heard("75");
  expect(rules.watch_failed(GetParam().failure, kStart), GetParam());
}
INSTANTIATE_TEST_SUITE_P(Rules, WatchFails,
                         testing::Values(Case{"Broken", kBroken, Do::check_version, "", true, "broken"},
                                         Case{"Unauthorized", code(401), Do::watch, "75", true, "unauthorized"},
                                         Case{"Forbidden", code(403), Do::watch, "75", true, "forbidden"},
                                         Case{"NotFound", code(404), Do::list, "75", true, "not_found"},
                                         Case{"Gone", code(410), Do::list, "75", true, "expired"},
                                         Case{"TooLarge", kTooLarge, Do::list, "", true, "version_too_large"},
                                         Case{"Throttled", code(429), Do::watch, "75", true, "throttled"},
                                         Case{"ServerError", code(500), Do::check_version, "", true, "server_error"},
                                         Case{"BadRequest", code(400), Do::list, "75", true, "refused"}),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(WatchRules, AServerThatCannotStreamListsIsNotAskedAgain) {
  WatchRules rules({}, true, 1);
  rules.first();
  EXPECT_EQ(rules.list_failed(code(422), kStart).what, Do::list);
  rules.listed("10");
  EXPECT_EQ(rules.watch_failed(code(410), kStart).what, Do::list);
}

TEST(WatchRules, AServerThatWasIllIsAskedForAStreamedListAgain) {
  WatchRules rules({}, true, 1);
  rules.first();
  EXPECT_EQ(rules.list_failed(code(500), kStart).what, Do::list);
  rules.listed("10");
  EXPECT_EQ(rules.watch_failed(code(410), kStart).what, Do::stream_list);
}

TEST(WatchRules, AnEmptyVersionIsNotKeptAfterAListThatWorked) {
  WatchRules rules({}, false, 1);
  rules.first();
  rules.list_failed(code(410), kStart);
  rules.listed("10");
  EXPECT_EQ(rules.watch_failed(code(410), kStart).version, "10");
}

TEST(WatchRules, GoneForTheNewestIsBackedOff) {
  WatchRules rules({}, false, 1);
  rules.first();
  EXPECT_EQ(rules.list_failed(code(410), kStart).wait, 0ms);
  EXPECT_GT(rules.list_failed(code(410), kStart).wait, 0ms);
}

TEST(WatchRules, ServerErrorsInARowEndInARelistAndAnEventStartsTheCountAnew) {
  auto rules = listed_at("70");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(rules.watch_failed(code(500), kStart).what, Do::check_version) << i;
  EXPECT_EQ(rules.watch_failed(code(500), kStart).what, Do::list);
  rules.listed("80");
  for (int i = 0; i < 10; ++i) {
    rules.heard("81");
    EXPECT_EQ(rules.watch_failed(code(500), kStart).what, Do::check_version) << i;
  }
}

TEST(WatchRules, ACleanEndWatchesOnAtOnceFromTheLastVersion) {
  auto rules = listed_at("70");
  rules.heard("75");
  for (const auto& [lasted, lines, waits] :
       {std::tuple{Clock::duration(300s), uint64_t{0}, false}, std::tuple{Clock::duration(10ms), uint64_t{3}, false},
        std::tuple{Clock::duration(10ms), uint64_t{0}, true}}) {
    const auto step = rules.watch_closed(lasted, lines, kStart);
    EXPECT_EQ(step.what, Do::watch);
    EXPECT_EQ(step.version, "75");
    EXPECT_EQ(step.wait > 0ms, waits);
  }
}

TEST(WatchRules, WatchesLastFiveToTenMinutesAndNotAllTheSame) {
  auto rules = listed_at("70");
  std::set<int64_t> seen;
  for (int i = 0; i < 100; ++i) {
    const auto step = rules.watch_closed(300s, 1, kStart);
    EXPECT_GE(step.timeout, 5min);
    EXPECT_LE(step.timeout, 10min);
    seen.insert(step.timeout.count());
  }
  EXPECT_GT(seen.size(), 50U);
}

TEST(WatchRules, AServerWithAnOlderVersionLosesOurs) {
  auto rules = listed_at("1000");
  EXPECT_EQ(rules.checked("1000").what, Do::watch);
  EXPECT_EQ(rules.checked("1001").what, Do::watch);
  EXPECT_EQ(rules.checked("").what, Do::watch) << "nothing to compare with";
  EXPECT_EQ(rules.checked("abc").what, Do::watch);
  const auto step = rules.checked("999");
  EXPECT_EQ(step.what, Do::list);
  EXPECT_EQ(step.version, "");
  EXPECT_EQ(rules.list_failed(kBroken, kStart).version, "") << "until a list has worked";
}

TEST(WatchRules, AnUnknownResourceIsForgottenAtOnceWhenNothingIsKnownElseAfterAMinute) {
  WatchRules rules({}, false, 1);
  rules.first();
  EXPECT_TRUE(rules.list_failed(code(404), kStart).forget);
  rules.listed("10");
  EXPECT_FALSE(rules.list_failed(code(404), kStart).forget);
  EXPECT_FALSE(rules.list_failed(code(404), kStart + 59s).forget);
  EXPECT_TRUE(rules.list_failed(code(404), kStart + 60s).forget);
  EXPECT_TRUE(rules.list_failed(code(404), kStart + 65s).forget);
}

TEST(WatchRules, TheMinuteBeginsAnewWhenAnythingElseHappens) {
  auto rules = listed_at("10");
  EXPECT_FALSE(rules.list_failed(code(404), kStart).forget);
  EXPECT_FALSE(rules.list_failed(kBroken, kStart + 30s).forget);
  EXPECT_FALSE(rules.list_failed(code(404), kStart + 59s).forget);
  EXPECT_FALSE(rules.list_failed(code(404), kStart + 70s).forget);
}

TEST(WatchRules, PausesDoubleAreJitteredAndStartAnewAfterTwoHealthyMinutes) {
  auto rules = listed_at("10");
  auto now = kStart;
  auto base = 800ms;
  for (int i = 0; i < 8; ++i) {
    const auto wait = rules.watch_failed(kBroken, now).wait;
    EXPECT_GE(wait, base) << i;
    EXPECT_LE(wait, 2 * base) << i;
    now += wait;
    base = std::min<std::chrono::milliseconds>(base * 2, 30s);
  }
  now += 121s;
  EXPECT_LE(rules.watch_failed(kBroken, now).wait, 1600ms);
}

TEST(WatchRules, RetryAfterIsALowerBound) {
  auto rules = listed_at("10");
  EXPECT_GE(rules.watch_failed({429, false, 7s, ""}, kStart).wait, 7s);
  EXPECT_GE(rules.list_failed({503, false, 9s, ""}, kStart).wait, 9s);
}

TEST(WatchFailures, AreReadFromAStatus) {
  const auto read = [](const char* text) { return failure_of_status(nlohmann::json::parse(text)); };
  EXPECT_EQ(read(R"({"code":410,"reason":"Expired","message":"m"})").code, 410);
  EXPECT_EQ(read(R"({"code":0,"reason":"Gone"})").code, 410);
  EXPECT_EQ(read(R"({"reason":"InternalError"})").code, 500) << "without a code";
  EXPECT_EQ(read(R"("nonsense")").code, 500);
  EXPECT_TRUE(read(R"({"code":504,"reason":"Timeout","message":"Too large resource version: 9, current: 5"})")
                  .too_large_version);
  EXPECT_TRUE(read(R"({"code":504,"details":{"causes":[{"reason":"ResourceVersionTooLarge"}]}})").too_large_version);
  EXPECT_FALSE(
      read(R"({"code":504,"reason":"Timeout","details":{"causes":[7,{"reason":"Other"}]}})").too_large_version);
  EXPECT_EQ(read(R"({"code":429,"details":{"retryAfterSeconds":3}})").retry_after, 3s);
  EXPECT_EQ(read(R"({"code":429,"details":{"retryAfterSeconds":"3"}})").retry_after, 0s) << "of another type";
}

TEST(WatchFailures, AreReadFromAnAnswer) {
  EXPECT_EQ(failure_of(Response{404, "404 page not found", {}}).code, 404);
  EXPECT_EQ(failure_of(Response{503, R"({"code":500,"message":"m"})", 5s}).code, 503) << "the status line counts";
  EXPECT_EQ(failure_of(Response{503, R"({"code":503,"details":{"retryAfterSeconds":2}})", 5s}).retry_after, 5s);
}

}  // namespace
}  // namespace sluice::kube
