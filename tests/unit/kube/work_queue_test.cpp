#include "operator/kube/work_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>

namespace sluice::kube {
namespace {

using namespace std::chrono_literals;
using Clock = QueueRules::Clock;
constexpr Clock::time_point kNow{std::chrono::hours(1)};

TEST(QueueRules, AKeyIsQueuedOnceAndInOrder) {
  QueueRules queue;
  for (const char* key : {"a", "b", "a", "c", "b"}) queue.add(key);
  EXPECT_EQ(queue.depth(), 3U);
  for (const char* key : {"a", "b", "c"}) EXPECT_EQ(queue.take(kNow), key);
  EXPECT_EQ(queue.take(kNow), std::nullopt);
}

TEST(QueueRules, AKeyInFlightIsNotTakenTwiceAndNotLost) {
  QueueRules queue;
  queue.add("a");
  ASSERT_EQ(queue.take(kNow), "a");
  queue.add("a");
  queue.add("a");
  EXPECT_EQ(queue.take(kNow), std::nullopt);
  queue.done("a");
  EXPECT_EQ(queue.take(kNow), "a");
  queue.done("a");
  EXPECT_TRUE(queue.idle());
}

TEST(QueueRules, OfTwoDelaysTheEarlierCounts) {
  QueueRules queue;
  queue.add_after("a", 10s, kNow);
  queue.add_after("a", 5s, kNow);
  queue.add_after("a", 20s, kNow);
  EXPECT_EQ(queue.next_due(), kNow + 5s);
  EXPECT_EQ(queue.take(kNow + 4s), std::nullopt);
  EXPECT_EQ(queue.take(kNow + 5s), "a");
  queue.done("a");
  EXPECT_EQ(queue.take(kNow + 30s), std::nullopt) << "it was due once";
}

TEST(QueueRules, AnAddOvertakesADelay) {
  QueueRules queue;
  queue.add_after("a", 10s, kNow);
  queue.add("a");
  EXPECT_EQ(queue.take(kNow), "a");
  EXPECT_EQ(queue.next_due(), std::nullopt);
  queue.done("a");
  EXPECT_EQ(queue.take(kNow + 11s), std::nullopt);
}

TEST(QueueRules, ADelayOfAKeyInFlightIsKept) {
  QueueRules queue;
  queue.add("a");
  ASSERT_EQ(queue.take(kNow), "a");
  queue.add_after("a", 1s, kNow);
  EXPECT_EQ(queue.take(kNow + 2s), std::nullopt) << "still in flight";
  queue.done("a");
  EXPECT_EQ(queue.take(kNow + 2s), "a");
}

TEST(QueueRules, FailuresOfAKeyBackOffFromFiveMillisecondsToTheMaximum) {
  QueueRules queue({5ms, 1000ms, 1e9, 1e9});
  auto expected = 5ms;
  for (int i = 0; i < 12; ++i) {
    queue.retry("a", kNow);
    EXPECT_EQ(queue.next_due(), kNow + expected) << i;
    ASSERT_EQ(queue.take(kNow + expected), "a");
    queue.done("a");
    expected = std::min(expected * 2, 1000ms);
  }
  queue.forget("a");
  EXPECT_EQ(queue.failures("a"), 0U);
  queue.retry("a", kNow);
  EXPECT_EQ(queue.next_due(), kNow + 5ms);
}

TEST(QueueRules, OneKeysFailuresAreNotAnothers) {
  QueueRules queue({5ms, 1000ms, 1e9, 1e9});
  for (int i = 0; i < 5; ++i) queue.retry("a", kNow);
  queue.retry("b", kNow);
  EXPECT_EQ(queue.failures("a"), 5U);
  EXPECT_EQ(queue.take(kNow + 5ms), "a") << "its first failure's delay was the earliest";
  EXPECT_EQ(queue.take(kNow + 5ms), "b");
}

TEST(QueueRules, RetriesOfAllKeysTogetherAreLimitedInRate) {
  QueueRules queue({0ms, 0ms, 10, 100});
  for (int i = 0; i < 150; ++i) queue.retry(std::to_string(i), kNow);
  int at_once = 0;
  while (queue.take(kNow)) ++at_once;
  EXPECT_EQ(at_once, 100);
  int within_a_second = 0;
  while (queue.take(kNow + 1s)) ++within_a_second;
  EXPECT_EQ(within_a_second, 10);
}

TEST(WorkQueue, FailedKeysAreRetriedUntilTheySucceed) {
  WorkQueue queue({1ms, 10ms, 1e6, 1e6});
  std::atomic<int> left = 5;
  std::latch succeeded(1);
  queue.start(2, [&](const std::string&) -> Result<WorkQueue::Done> {
    if (--left > 0) return fail(ErrorKind::unavailable, "sync", "a", "not yet");
    succeeded.count_down();
    return WorkQueue::Done{};
  });
  queue.add("a");
  succeeded.wait();
  queue.stop();
  EXPECT_EQ(left, 0);
  EXPECT_EQ(queue.stats().failures, 4U);
}

TEST(WorkQueue, AnErrorsRetryAfterIsHonoured) {
  WorkQueue queue({1ms, 1ms, 1e6, 1e6});
  std::vector<Clock::time_point> at;
  std::latch twice(2);
  queue.start(1, [&](const std::string&) -> Result<WorkQueue::Done> {
    at.push_back(Clock::now());
    twice.count_down();
    if (at.size() > 1) return WorkQueue::Done{};
    Error error{ErrorKind::unavailable, "sync", "a", "later", 100ms};
    return tl::unexpected(error);
  });
  queue.add("a");
  twice.wait();
  queue.stop();
  EXPECT_GE(at[1] - at[0], 100ms);
}

TEST(WorkQueue, ASyncMayAskToBeCalledAgain) {
  WorkQueue queue;
  std::latch thrice(3);
  std::atomic<int> calls = 0;
  queue.start(1, [&](const std::string&) -> Result<WorkQueue::Done> {
    thrice.count_down();
    return ++calls < 3 ? WorkQueue::Done{1ms} : WorkQueue::Done{};
  });
  queue.add("a");
  thrice.wait();
  queue.stop();
  EXPECT_EQ(calls, 3);
}

TEST(WorkQueue, ManyWorkersNeverSyncOneKeyTwiceAtATimeAndMissNothing) {
  WorkQueue queue;
  constexpr int kKeys = 8;
  std::array<std::atomic<int>, kKeys> in_flight{};
  std::array<std::atomic<int>, kKeys> wanted{};
  std::array<std::atomic<int>, kKeys> seen{};
  std::atomic<bool> overlap = false;
  queue.start(4, [&](const std::string& key) -> Result<WorkQueue::Done> {
    const auto i = static_cast<std::size_t>(std::stoi(key));
    if (++in_flight[i] > 1) overlap = true;
    seen[i] = wanted[i].load();  // level-based: what is there now
    --in_flight[i];
    return WorkQueue::Done{};
  });
  std::vector<std::thread> producers;
  producers.reserve(3);
  for (int t = 0; t < 3; ++t) {
    producers.emplace_back([&] {
      for (int i = 0; i < 3000; ++i) {
        const int key = i % kKeys;
        ++wanted[static_cast<std::size_t>(key)];
        queue.add(std::to_string(key));
      }
    });
  }
  for (auto& producer : producers) producer.join();
  const auto deadline = Clock::now() + 10s;
  while (!queue.idle() && Clock::now() < deadline) std::this_thread::yield();
  queue.stop();
  EXPECT_FALSE(overlap);
  for (std::size_t i = 0; i < kKeys; ++i) EXPECT_EQ(seen[i], wanted[i]) << i;
}

}  // namespace
}  // namespace sluice::kube
