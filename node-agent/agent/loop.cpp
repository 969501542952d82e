#include "node-agent/agent/loop.h"

#include <algorithm>

namespace sluice::agent {

Loop::Loop() : thread_([this] { run(); }) {}

Loop::~Loop() {
  stop();
}

void Loop::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  woken_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Loop::post(Work work) {
  {
    const std::scoped_lock lock(mutex_);
    queue_.push_back(std::move(work));
  }
  woken_.notify_one();
}

void Loop::every(std::chrono::milliseconds interval, Work work) {
  {
    const std::scoped_lock lock(mutex_);
    timers_.push_back({interval, Clock::now() + interval, std::move(work)});
  }
  woken_.notify_one();
}

std::chrono::milliseconds Loop::busy_for() const {
  const Clock::rep since = busy_since_.load();
  if (since == 0) return std::chrono::milliseconds(0);
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch() -
                                                               Clock::duration(since));
}

void Loop::run_one(const Work& work) {
  busy_since_ = Clock::now().time_since_epoch().count();
  work();
  busy_since_ = 0;
}

void Loop::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    // Timers first: a flood of posted work must not starve them.
    const auto due = std::ranges::find_if(timers_, [](const Timer& timer) { return timer.next <= Clock::now(); });
    if (due != timers_.end() && !stop_) {
      due->next = Clock::now() + due->interval;
      const Work work = due->work;
      lock.unlock();
      run_one(work);
      lock.lock();
      continue;
    }
    if (!queue_.empty()) {
      const Work work = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      run_one(work);
      lock.lock();
      continue;
    }
    if (stop_) return;
    const auto next = std::ranges::min_element(timers_, {}, &Timer::next);
    if (next == timers_.end()) {
      woken_.wait(lock);
    } else {
      const Clock::time_point until = next->next;
      woken_.wait_until(lock, until);
    }
  }
}

}  // namespace sluice::agent
