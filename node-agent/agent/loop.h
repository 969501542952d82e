// One thread that owns what must not be shared: others post work to it. Timers run on it too.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace sluice::agent {

class Loop {
 public:
  using Clock = std::chrono::steady_clock;
  using Work = std::function<void()>;

  Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop();
  // Runs what is posted already, no timer any more, and joins. What is posted later is dropped.
  void stop();

  void post(Work work);
  // Runs `work` on the thread and waits for its value. Must not be called on the thread itself.
  template <typename F>
  std::invoke_result_t<F> call(F work) {
    std::packaged_task<std::invoke_result_t<F>()> task(std::move(work));
    auto outcome = task.get_future();
    post([&task] { task(); });
    return outcome.get();
  }
  // First after one interval. What a long piece of work delays is run once, not caught up with.
  void every(std::chrono::milliseconds interval, Work work);
  // How long the thread has been at the same piece of work; zero when it waits for some.
  [[nodiscard]] std::chrono::milliseconds busy_for() const;

 private:
  struct Timer {
    std::chrono::milliseconds interval;
    Clock::time_point next;
    Work work;
  };
  void run();
  void run_one(const Work& work);

  mutable std::mutex mutex_;
  std::condition_variable woken_;
  std::deque<Work> queue_;
  std::vector<Timer> timers_;
  bool stop_ = false;
  std::atomic<Clock::rep> busy_since_{0};
  std::thread thread_;
};

}  // namespace sluice::agent
