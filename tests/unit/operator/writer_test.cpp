// When a write is sent, and when it is not sent again.
#include "operator/controller/writer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "operator/controller/object_writes.h"
#include "tests/unit/operator/eventually.h"

namespace sluice::controller {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::eventually;
using Clock = std::chrono::steady_clock;

class Writing : public ::testing::Test {
 protected:
  // Nothing here calls the API server.
  Writing()
      : writer_(
            nullptr,
            [this] {
              ++lease_asked_;
              return milliseconds(lease_left_.load());
            },
            [this] { ++finished_; }) {}

  Write write(const std::string& version, const std::string& fingerprint) {
    Write out;
    out.key = "status Service shop/web";
    out.kind = "status";
    out.base_version = version;
    out.fingerprint = fingerprint;
    out.perform = [this](kube::Api&) {
      ++sent_;
      return answer_;
    };
    return out;
  }
  // Returns when everything that was due before has been looked at: workers take keys in order.
  void pass() {
    for (int i = 0; i < 20; ++i) {
      const int before = passed_;
      Write other = write("1", std::to_string(before));
      other.key = "pass " + std::to_string(before);
      other.perform = [this](kube::Api&) -> Status {
        ++passed_;
        return {};
      };
      std::vector<Write> all = wanted_;
      all.push_back(other);
      writer_.want(std::move(all));
      ASSERT_TRUE(eventually([&] { return passed_ > before; }));
    }
  }

  std::atomic<int64_t> lease_left_ = 10'000;
  std::atomic<int> sent_ = 0;
  std::atomic<int> passed_ = 0;
  std::atomic<int> finished_ = 0;
  std::atomic<int> lease_asked_ = 0;
  Status answer_;
  std::vector<Write> wanted_;
  Writer writer_;
};

TEST_F(Writing, WhatWasWrittenIsHeldBackUntilTheObjectShowsIt) {
  EXPECT_FALSE(writer_.want({write("7", "a")}));
  ASSERT_TRUE(eventually([&] { return sent_ == 1 && writer_.idle() && finished_ == 1; }));
  const auto again = writer_.want({write("7", "b")});
  ASSERT_TRUE(again) << "our copy is older than what was written";
  EXPECT_GT(*again, Clock::now());
  EXPECT_TRUE(writer_.idle());
  EXPECT_FALSE(writer_.want({write("8", "b")}));
  EXPECT_TRUE(eventually([&] { return sent_ == 2; }));
}

TEST_F(Writing, AnOvertakenWriteIsDecidedAnew) {
  answer_ = tl::unexpected(Error{ErrorKind::conflict, "patch", "Service shop/web", "it has changed"});
  writer_.want({write("7", "a")});
  ASSERT_TRUE(eventually([&] { return finished_ == 1; }));
  EXPECT_TRUE(writer_.idle());
  EXPECT_TRUE(writer_.want({write("7", "a")})) << "held back until the newer version is seen";
  EXPECT_EQ(writer_.outcomes().at("status").overtaken, 1U);
}

TEST_F(Writing, ARefusedWriteKeepsItsBackOffHoweverOftenItIsWanted) {
  answer_ = tl::unexpected(Error{ErrorKind::unavailable, "patch", "Service shop/web", "busy", seconds(1000)});
  wanted_ = {write("7", "a")};
  writer_.want(wanted_);
  ASSERT_TRUE(eventually([&] { return sent_ == 1 && !writer_.outcomes().empty(); }));
  pass();
  EXPECT_EQ(sent_, 1) << "asked for again with every round, but the server has named a time";
  wanted_ = {write("7", "b")};
  writer_.want(wanted_);
  EXPECT_TRUE(eventually([&] { return sent_ == 2; })) << "another write is tried at once";
}

TEST_F(Writing, WhatIsNotWantedAnyMoreIsNotSent) {
  Write late = write("7", "a");
  late.settle = seconds(1000);
  writer_.want({late});
  EXPECT_FALSE(writer_.idle());
  writer_.want({});
  EXPECT_TRUE(writer_.idle());
  pass();
  EXPECT_EQ(sent_, 0);
}

TEST_F(Writing, NothingIsSentWhenTheLeaseMayBeOverBeforeItIs) {
  lease_left_ = milliseconds(Writer::kLeaseMargin).count() - 1;
  writer_.want({write("7", "a")});
  ASSERT_TRUE(eventually([&] { return lease_asked_ >= 2; }));
  EXPECT_EQ(sent_, 0);
  lease_left_ = milliseconds(Writer::kLeaseMargin).count();
  EXPECT_TRUE(eventually([&] { return sent_ == 1; })) << "it waits and is not lost";
}

// What a status write looks like at some time of day.
Write status_write(const std::string& time, const std::string& status, bool only_counts = false) {
  const nlohmann::json body = {
      {"metadata", {{"resourceVersion", "7"}}},
      {"status", {{"conditions", {{{"type", "Ready"}, {"status", status}, {"lastTransitionTime", time}}}}}}};
  status::Output output;
  output.writes.push_back({kube::kAddressPools,
                           {"", "public"},
                           status::Verb::merge_patch,
                           "status",
                           std::make_shared<const nlohmann::json>(body),
                           {},
                           only_counts});
  const auto events = kube::EventRecorder::start(nullptr, "test", "test");
  std::vector<Write> writes;
  add_status_writes(output, *events, writes);
  return writes.at(0);
}

TEST(StatusWrites, ALaterTimeDoesNotMakeAnotherWrite) {
  const auto first = status_write("2026-01-01T00:00:00Z", "True");
  EXPECT_EQ(first.fingerprint, status_write("2026-01-01T00:00:01Z", "True").fingerprint);
  EXPECT_NE(first.fingerprint, status_write("2026-01-01T00:00:00Z", "False").fingerprint);
}

TEST(StatusWrites, CountsAloneWaitForTenSeconds) {
  EXPECT_EQ(status_write("2026-01-01T00:00:00Z", "True").min_interval, seconds(2));
  EXPECT_EQ(status_write("2026-01-01T00:00:00Z", "True", true).min_interval, seconds(10));
}

}  // namespace
}  // namespace sluice::controller
