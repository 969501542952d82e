#include "operator/publish/loop.h"

#include <future>
#include <utility>

namespace sluice::publish {

void Loop::post_at(Clock::time_point when, std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.emplace(when, std::move(task));  // equal keys keep their order
  }
  changed_.notify_one();
}

void Loop::call(const std::function<void()>& task) {
  std::promise<void> done;
  post([&] {
    task();
    done.set_value();
  });
  done.get_future().wait();
}

void Loop::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    tasks_.clear();
  }
  changed_.notify_one();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void Loop::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (tasks_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const auto first = tasks_.begin();
    const auto due = first->first;
    if (due > Clock::now()) {
      changed_.wait_until(lock, due);
      continue;
    }
    auto task = std::move(first->second);
    tasks_.erase(first);
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

}  // namespace sluice::publish
