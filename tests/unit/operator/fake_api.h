// An API server as the transport's callers see it, without a network: a function answers calls, and watches say what
// they are told to.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "operator/kube/transport.h"

namespace sluice::test {

class FakeApi : public kube::Transport, public std::enable_shared_from_this<FakeApi> {
 public:
  using Answer = std::function<kube::Response(const kube::Request&)>;
  // `answer` is called from several threads at once.
  static std::shared_ptr<FakeApi> make(Answer answer) {
    return std::shared_ptr<FakeApi>(new FakeApi(std::move(answer)));
  }

  static kube::Response list_of(const std::vector<nlohmann::json>& items) {
    return {200, nlohmann::json{{"metadata", {{"resourceVersion", "1"}}}, {"items", items}}.dump(), {}};
  }

  // Every watch whose path begins like this says it, also one that begins later.
  void tell(const std::string& path, const std::string& type, const nlohmann::json& object) {
    const std::lock_guard lock(mutex_);
    told_[path].push_back(nlohmann::json{{"type", type}, {"object", object}}.dump());
    changed_.notify_all();
  }

  Result<kube::Response> send(const kube::Request& request) override { return answer_(request); }
  std::unique_ptr<kube::Stream> stream(const kube::Request& request) override {
    return std::make_unique<Watch>(shared_from_this(), request.path);
  }

 private:
  class Watch : public kube::Stream {
   public:
    Watch(std::shared_ptr<FakeApi> api, std::string path) : api_(std::move(api)), path_(std::move(path)) {}
    Result<kube::Response> head() override {
      // It knows no streamed lists, as servers of some years ago.
      return kube::Response{path_.find("sendInitialEvents") == std::string::npos ? 200 : 422, {}, {}};
    }
    Result<Next> next(std::chrono::steady_clock::time_point deadline) override {
      std::unique_lock lock(api_->mutex_);
      if (!api_->changed_.wait_until(lock, deadline, [this] { return canceled_ || news() != nullptr; })) {
        return Next{Next::Kind::timeout, {}};
      }
      if (canceled_) return fail(ErrorKind::unavailable, "watch", path_, "canceled");
      Next next{Next::Kind::line, *news()};
      ++said_;
      return next;
    }
    void cancel() override {
      const std::lock_guard lock(api_->mutex_);
      canceled_ = true;
      api_->changed_.notify_all();
    }

   private:
    [[nodiscard]] const std::string* news() const {
      for (const auto& [path, lines] : api_->told_) {
        if (path_.starts_with(path) && said_ < lines.size()) return &lines[said_];
      }
      return nullptr;
    }
    const std::shared_ptr<FakeApi> api_;
    const std::string path_;
    size_t said_ = 0;
    bool canceled_ = false;
  };

  explicit FakeApi(Answer answer) : answer_(std::move(answer)) {}

  const Answer answer_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::vector<std::string>> told_;  // by the beginning of a path
};

}  // namespace sluice::test
