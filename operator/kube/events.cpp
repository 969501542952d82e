#include "operator/kube/events.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "common/log/spdlog.h"
#include "operator/kube/event_rules.h"
#include "operator/kube/time_text.h"

namespace sluice::kube {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kWaiting = 1000;
constexpr std::size_t kMaxMessage = 1024;
constexpr std::size_t kMaxReason = 128;
constexpr int kAttempts = 3;
constexpr std::chrono::seconds kPause{5};     // after a server that could not take one
constexpr std::chrono::seconds kLastWord{1};  // at the end

struct Waiting {
  ObjectRef about;
  EventType type = EventType::normal;
  std::string reason;
  std::string message;
  std::chrono::system_clock::time_point first;
  std::chrono::system_clock::time_point last;
  int64_t times = 1;

  std::string identity;  // all that makes it the same one
};

std::string identity_of(const Waiting& event) {
  return event.about.uid + "|" + event.about.kind + "|" + event.about.key.text() + "|" +
         (event.type == EventType::normal ? "N" : "W") + "|" + event.reason + "|" + event.message;
}

// At most `limit` bytes, and no torn character at the end.
std::string cut(std::string text, std::size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xc0) == 0x80) --limit;
  text.resize(limit);
  return text;
}

class RecorderImpl final : public EventRecorder {
 public:
  RecorderImpl(std::shared_ptr<Transport> transport, std::string component, std::string instance)
      : api_(std::move(transport), stop_.get_token()),
        component_(std::move(component)),
        instance_(std::move(instance)),
        random_(std::random_device{}()),
        thread_([this] { run(); }) {}

  ~RecorderImpl() override {
    {
      std::unique_lock lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
      changed_.wait_for(lock, kLastWord, [this] { return ended_; });
      too_late_ = true;
    }
    stop_.request_stop();
    thread_.join();
  }
  RecorderImpl(const RecorderImpl&) = delete;
  RecorderImpl& operator=(const RecorderImpl&) = delete;

  void record(const ObjectRef& about, EventType type, const std::string& reason, const std::string& message) override {
    const auto now = std::chrono::system_clock::now();
    Waiting event{about, type, cut(reason, kMaxReason), cut(message, kMaxMessage), now, now, 1, {}};
    event.identity = identity_of(event);
    const std::lock_guard lock(mutex_);
    for (auto& waiting : queue_) {
      if (waiting.identity != event.identity) continue;
      waiting.last = now;
      ++waiting.times;
      ++stats_.aggregated;
      return;
    }
    if (queue_.size() >= kWaiting) {
      ++stats_.dropped;
      return;
    }
    queue_.push_back(std::move(event));
    changed_.notify_all();
  }

  Stats stats() const override {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty() || too_late_) break;
      const Waiting event = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      const bool sent = deliver(event);
      lock.lock();
      ++(sent ? stats_.sent : stats_.dropped);
    }
    stats_.dropped += queue_.size();
    ended_ = true;
    changed_.notify_all();
  }

  bool deliver(const Waiting& event) {
    const std::string& identity = event.identity;
    auto decision = rules_.admit(identity, event.about.uid + event.about.key.text(), event.times, Clock::now());
    if (!decision.send) return false;
    for (int attempt = 1; attempt <= kAttempts; ++attempt) {
      auto done = decision.name.empty() ? create(event, decision.count) : raise(event, decision);
      if (done) {
        rules_.named(identity, *done);
        return true;
      }
      if (done.error().kind == ErrorKind::not_found && !decision.name.empty()) {
        decision.name.clear();  // the server keeps events for an hour only
        continue;
      }
      if (done.error().kind != ErrorKind::unavailable) {
        spdlog::debug("{}", done.error().message());  // a namespace that is being deleted, no permission
        return false;
      }
      if (!pause(std::max<std::chrono::milliseconds>(kPause, done.error().retry_after))) return false;
    }
    return false;
  }

  // False: no time for that.
  bool pause(std::chrono::milliseconds wait) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, wait, [this] { return stopping_; });
    return !stopping_;
  }

  static std::string event_namespace(const ObjectRef& about) { return about.key.ns.empty() ? "default" : about.key.ns; }

  Result<std::string> create(const Waiting& event, int64_t count) {
    const std::string ns = event_namespace(event.about);
    static constexpr std::size_t kMaxStem = 230;
    const std::string name = cut(event.about.key.name, kMaxStem) + "." + fmt::format("{:016x}", random_());
    nlohmann::json involved{{"apiVersion", event.about.api_version},
                            {"kind", event.about.kind},
                            {"name", event.about.key.name},
                            {"uid", event.about.uid}};
    if (!event.about.key.ns.empty()) involved["namespace"] = event.about.key.ns;
    if (!event.about.resource_version.empty()) involved["resourceVersion"] = event.about.resource_version;
    const nlohmann::json body{{"apiVersion", "v1"},
                              {"kind", "Event"},
                              {"metadata", {{"name", name}, {"namespace", ns}}},
                              {"involvedObject", involved},
                              {"type", event.type == EventType::normal ? "Normal" : "Warning"},
                              {"reason", event.reason},
                              {"message", event.message},
                              {"firstTimestamp", rfc3339(event.first)},
                              {"lastTimestamp", rfc3339(event.last)},
                              {"count", count},
                              {"source", {{"component", component_}, {"host", instance_}}},
                              {"reportingComponent", component_},
                              {"reportingInstance", instance_}};
    auto made = api_.create(kEvents, ns, body);
    if (!made) return tl::unexpected(made.error());
    return name;
  }

  Result<std::string> raise(const Waiting& event, const EventRules::Decision& decision) {
    const nlohmann::json patch{{"count", decision.count}, {"lastTimestamp", rfc3339(event.last)}};
    auto done = api_.patch(kEvents, {event_namespace(event.about), decision.name}, PatchType::merge, patch);
    if (!done) return tl::unexpected(done.error());
    return decision.name;
  }

  std::stop_source stop_;
  Api api_;
  const std::string component_;
  const std::string instance_;
  std::mt19937_64 random_;
  EventRules rules_;  // of the thread alone, as random_

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> queue_;
  Stats stats_;
  bool stopping_ = false;
  bool too_late_ = false;  // to send what is left
  bool ended_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

ObjectRef ref_of(const nlohmann::json& object) {
  const auto text = [&object](const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  return {text("apiVersion"), text("kind"), key_of(object), uid_of(object), resource_version_of(object)};
}

std::unique_ptr<EventRecorder> EventRecorder::start(std::shared_ptr<Transport> transport, std::string component,
                                                    std::string instance) {
  return std::make_unique<RecorderImpl>(std::move(transport), std::move(component), std::move(instance));
}

}  // namespace sluice::kube
