// One thread that runs what is posted to it, in order, and timers.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace sluice::publish {

class Loop {
 public:
  using Clock = std::chrono::steady_clock;
  Loop() : thread_([this] { run(); }) {}
  ~Loop() { stop(); }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  Loop(Loop&&) = delete;
  Loop& operator=(Loop&&) = delete;

  void post(std::function<void()> task) { post_at(Clock::time_point::min(), std::move(task)); }
  // Timers cannot be cancelled: what they run checks whether it still matters.
  void post_at(Clock::time_point when, std::function<void()> task);
  // Runs `task` on the loop and waits for it. Not from the loop itself.
  void call(const std::function<void()>& task);
  // Drops what has not run yet and ends the thread.
  void stop();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<Clock::time_point, std::function<void()>> tasks_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sluice::publish
