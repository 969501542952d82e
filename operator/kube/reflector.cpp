#include "operator/kube/reflector.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <unordered_map>

#include "common/log/spdlog.h"
#include "operator/kube/api.h"
#include "operator/kube/json_text.h"
#include "operator/kube/watch_rules.h"

namespace sluice::kube {
namespace {

using Clock = std::chrono::steady_clock;
using Store = std::unordered_map<std::string, Object>;  // by key text

constexpr std::chrono::seconds kListTimeout{60};
constexpr std::chrono::seconds kWatchGrace{30};  // the server ends a watch on time; so much later it counts as dead

struct Event {
  enum class Type { added, modified, deleted, bookmark, error, unknown } type = Type::unknown;
  nlohmann::json object;
};

// Unknown types and fields are passed over; what is not an event at all is not.
std::optional<Event> parse_event(const std::string& line) {
  auto root = parse_json(line);
  if (!root.is_object() || !root.contains("type") || !root.contains("object") || !root["type"].is_string()) {
    return std::nullopt;
  }
  static const std::map<std::string, Event::Type, std::less<>> types{{"ADDED", Event::Type::added},
                                                                     {"MODIFIED", Event::Type::modified},
                                                                     {"DELETED", Event::Type::deleted},
                                                                     {"BOOKMARK", Event::Type::bookmark},
                                                                     {"ERROR", Event::Type::error}};
  Event event;
  const auto found = types.find(root["type"].get_ref<const std::string&>());
  if (found != types.end()) event.type = found->second;
  event.object = std::move(root["object"]);
  if (!event.object.is_object()) return std::nullopt;
  if (const auto metadata = event.object.find("metadata"); metadata != event.object.end() && metadata->is_object()) {
    metadata->erase("managedFields");
  }
  return event;
}

class ReflectorImpl final : public Reflector {
 public:
  ReflectorImpl(std::shared_ptr<Transport> transport, const Resource& resource, ReflectorOptions options,
                ReflectorHandler* handler)
      : transport_(std::move(transport)),
        api_(transport_, stop_.get_token()),
        resource_(resource),
        options_(std::move(options)),
        handler_(handler),
        rules_(options_.tuning, options_.streaming_lists, std::random_device{}()),
        thread_([this] { run(); }) {}

  ~ReflectorImpl() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      if (stream_) stream_->cancel();
      changed_.notify_all();
    }
    stop_.request_stop();
    thread_.join();
  }
  ReflectorImpl(const ReflectorImpl&) = delete;
  ReflectorImpl& operator=(const ReflectorImpl&) = delete;

  bool synced() const override {
    const std::lock_guard lock(mutex_);
    return synced_;
  }
  bool wait_synced(std::chrono::milliseconds timeout) const override {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, timeout, [this] { return synced_; });
  }
  std::vector<Object> objects() const override {
    const std::lock_guard lock(mutex_);
    std::vector<Object> out;
    out.reserve(store_.size());
    for (const auto& [key, object] : store_) out.push_back(object);
    return out;
  }
  Object find(const ObjectKey& key) const override {
    const std::lock_guard lock(mutex_);
    const auto found = store_.find(key.text());
    return found == store_.end() ? nullptr : found->second;
  }
  Stats stats() const override {
    const std::lock_guard lock(mutex_);
    Stats out = stats_;
    out.objects = store_.size();
    return out;
  }

 private:
  // --- the loop
  void run() {
    WatchStep step = rules_.first();
    for (;;) {
      if (step.forget && !(synced() && stats().objects == 0)) replace({}, {});
      if (!pause(step.wait)) return;
      switch (step.what) {
        case WatchStep::Do::list:
          step = list(step);
          break;
        case WatchStep::Do::stream_list:
          step = watch(step, true);
          break;
        case WatchStep::Do::watch:
          step = watch(step, false);
          break;
        case WatchStep::Do::check_version:
          step = check();
          break;
      }
    }
  }

  // False when it is time to stop.
  bool pause(std::chrono::milliseconds wait) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, wait, [this] { return stopping_; });
    return !stopping_;
  }

  std::string query() const {
    std::string out;
    if (!options_.label_selector.empty()) out += "&labelSelector=" + percent_encode(options_.label_selector);
    if (!options_.field_selector.empty()) out += "&fieldSelector=" + percent_encode(options_.field_selector);
    return out;
  }

  // --- LIST
  WatchStep list(const WatchStep& step) {
    if (step.version.empty()) return list_consistent();
    Request request;
    request.timeout = kListTimeout;
    request.stop = stop_.get_token();
    request.path = resource_.path(options_.ns) + "?resourceVersion=" + percent_encode(step.version) + query();
    const auto response = transport_->send(request);
    if (!response) return list_failed(failure_of(response.error()));
    if (!response->ok()) return list_failed(failure_of(*response));
    auto body = parse_json(response->body);
    if (!body.is_object() || resource_version_of(body).empty()) {
      return list_failed({0, false, {}, "the answer is not a list"});
    }
    std::vector<Object> items;
    take_items(body, resource_, items);
    return complete(items, resource_version_of(body));
  }

  WatchStep list_consistent() {
    Response refusal;
    const auto list =
        api_.consistent_list(resource_, {options_.ns, options_.label_selector, options_.field_selector}, &refusal);
    if (!list) return list_failed(refusal.status != 0 ? failure_of(refusal) : failure_of(list.error()));
    return complete(list->items, list->resource_version);
  }

  WatchStep list_failed(const WatchFailure& failure) {
    WatchStep step = rules_.list_failed(failure, Clock::now());
    note(stats_.list_failures, step.reason, failure.text);
    return step;
  }

  WatchStep complete(const std::vector<Object>& items, const std::string& version) {
    WatchStep step = rules_.listed(version);
    replace(items, version);
    return step;
  }

  void replace(const std::vector<Object>& items, const std::string& version) {
    std::vector<Object> vanished;
    {
      const std::lock_guard lock(mutex_);
      Store next;
      next.reserve(items.size());
      for (const auto& item : items) next[key_of(*item).text()] = item;
      for (const auto& [key, old] : store_) {
        const auto found = next.find(key);
        if (found == next.end() || uid_of(*found->second) != uid_of(*old)) vanished.push_back(old);
      }
      store_.swap(next);
      if (!version.empty()) {
        ++stats_.lists;
        heard(version);
      }
    }
    if (handler_ != nullptr) handler_->replaced(items, vanished);
    const std::lock_guard lock(mutex_);
    synced_ = true;
    changed_.notify_all();
  }

  // --- WATCH
  struct Watch {
    Stream& stream;
    bool initial = false;  // the streamed list is not complete yet
    Store pending;         // it so far
    Clock::time_point started = Clock::now();
    uint64_t lines = 0;
  };

  WatchStep watch(const WatchStep& step, bool with_list) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(step.timeout);
    Request request;
    request.timeout = step.timeout + kWatchGrace;
    // A server answers a watch at once, whether or not there is an event. This must not wait as long as the watch may.
    request.head_timeout = rules_.tuning().head_patience;
    request.path = resource_.path(options_.ns) + "?watch=true&allowWatchBookmarks=true&timeoutSeconds=" +
                   std::to_string(std::max<int64_t>(seconds.count(), 1)) + query();
    if (with_list) request.path += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    if (!step.version.empty()) request.path += "&resourceVersion=" + percent_encode(step.version);
    const auto stream = open(request);
    if (!stream) return step;  // stopping
    WatchStep next = follow(*stream, with_list);
    const std::lock_guard lock(mutex_);
    stream_.reset();
    return next;
  }

  std::shared_ptr<Stream> open(const Request& request) {
    std::shared_ptr<Stream> stream = transport_->stream(request);
    const std::lock_guard lock(mutex_);
    if (stopping_) return nullptr;
    stream_ = stream;
    return stream;
  }

  WatchStep follow(Stream& stream, bool with_list) {
    Watch watch{stream, with_list, {}};
    const auto head = stream.head();
    if (!head) return broken(watch, failure_of(head.error()));
    if (!head->ok()) return broken(watch, failure_of(*head));
    for (;;) {
      const auto& tuning = rules_.tuning();
      const auto patience = watch.initial ? tuning.stream_patience : tuning.silence;
      auto next = stream.next(Clock::now() + patience);
      if (!next) return broken(watch, failure_of(next.error()));
      switch (next->kind) {
        case Stream::Next::Kind::line: {
          ++watch.lines;
          if (auto step = line(watch, next->line)) return *step;
          break;
        }
        case Stream::Next::Kind::end:
          return closed(watch);
        case Stream::Next::Kind::timeout:
          return silent(watch);
      }
    }
  }

  WatchStep broken(const Watch& watch, const WatchFailure& failure) {
    if (watch.initial) return list_failed(failure);
    WatchStep step = rules_.watch_failed(failure, Clock::now());
    note(stats_.watch_restarts, step.reason, failure.text);
    return step;
  }

  WatchStep closed(const Watch& watch) {
    if (watch.initial) return list_failed({0, false, {}, "the stream ended before the list was complete"});
    WatchStep step = rules_.watch_closed(Clock::now() - watch.started, watch.lines, Clock::now());
    note(stats_.watch_restarts, step.reason, step.reason == "clean" ? "" : "the watch ended at once, with no event");
    return step;
  }

  // No event nor bookmark for long: is the server still the one we know? If it is, the watch is begun anew all the
  // same: what is silent may be dead behind a proxy, where the kernel cannot tell.
  WatchStep silent(const Watch& watch) {
    if (watch.initial) return list_failed({408, false, {}, "a streamed list that does not end"});
    std::string version;
    if (auto failed = server_version(version)) return broken(watch, {0, false, {}, failed->text});
    WatchStep step = rules_.checked(version);
    note(stats_.watch_restarts, step.reason == "restored" ? step.reason : "silent",
         step.reason == "restored" ? "the server's version is older than ours" : "");
    return step;
  }

  // What to do now; nothing: read on.
  std::optional<WatchStep> line(Watch& watch, const std::string& text) {
    auto event = parse_event(text);
    if (!event) return broken(watch, {0, false, {}, "a line that is not an event: " + text.substr(0, 80)});
    if (event->type == Event::Type::error) return broken(watch, failure_of_status(event->object));
    const std::string version = resource_version_of(event->object);
    if (watch.initial) {
      collect(watch, std::move(*event), version);
    } else {
      apply(std::move(*event), version);
    }
    return std::nullopt;
  }

  void collect(Watch& watch, Event event, const std::string& version) {
    const std::string key = key_of(event.object).text();
    switch (event.type) {
      case Event::Type::added:
      case Event::Type::modified:
        watch.pending[key] = std::make_shared<const nlohmann::json>(std::move(event.object));
        return;
      case Event::Type::deleted:
        watch.pending.erase(key);
        return;
      case Event::Type::bookmark: {
        if (annotation_of(event.object, "k8s.io/initial-events-end") != "true") return;
        std::vector<Object> items;
        items.reserve(watch.pending.size());
        for (auto& [name, object] : watch.pending) items.push_back(std::move(object));
        watch.pending.clear();
        watch.initial = false;
        rules_.listed(version);
        replace(items, version);
        return;
      }
      default:
        return;
    }
  }

  void apply(Event event, const std::string& version) {
    if (event.type == Event::Type::unknown) return;
    rules_.heard(version);
    if (event.type == Event::Type::bookmark) {
      const std::lock_guard lock(mutex_);
      heard(version);
      return;
    }
    const ObjectKey key = key_of(event.object);
    const Object object = std::make_shared<const nlohmann::json>(std::move(event.object));
    const bool gone = event.type == Event::Type::deleted;
    Object old;  // to be reported as deleted
    {
      const std::lock_guard lock(mutex_);
      ++stats_.events;
      heard(version);
      auto& slot = store_[key.text()];
      if (slot && (gone || uid_of(*slot) != uid_of(*object))) old = gone ? object : slot;
      slot = object;
      if (gone) store_.erase(key.text());
    }
    if (handler_ == nullptr) return;
    if (old) handler_->deleted(key, old);
    if (!gone) handler_->upserted(object);
  }

  // --- the server's own version
  std::optional<WatchFailure> server_version(std::string& version) {
    Request request;
    request.stop = stop_.get_token();
    request.timeout = rules_.tuning().check_timeout;
    request.path = resource_.path(options_.ns) + "?limit=1";
    const auto response = transport_->send(request);
    if (!response) return failure_of(response.error());
    if (!response->ok()) return failure_of(*response);
    const auto body = parse_json(response->body);
    version = resource_version_of(body);
    return std::nullopt;
  }

  WatchStep check() {
    std::string version;
    const auto failed = server_version(version);
    WatchStep step = failed ? rules_.check_failed(*failed, Clock::now()) : rules_.checked(version);
    if (failed) note(stats_.list_failures, step.reason, failed->text);
    return step;
  }

  // --- what is told
  void heard(const std::string& version) {  // with the lock
    stats_.last_heard = Clock::now();
    stats_.last_error.clear();
    if (!version.empty()) stats_.resource_version = version;
  }
  void note(std::map<std::string, uint64_t>& counters, const std::string& reason, const std::string& text) {
    bool fresh = false;
    {
      const std::lock_guard lock(mutex_);
      ++counters[reason];
      if (stopping_) return;
      fresh = !text.empty() && stats_.last_error.empty();
      if (!text.empty()) stats_.last_error = text;
    }
    // Once per trouble, not per attempt.
    if (fresh) {
      spdlog::warn("watching {}: {}: {}; trying on", resource_.plural, reason, text);
    } else if (!text.empty()) {
      spdlog::debug("watching {}: {}: {}", resource_.plural, reason, text);
    }
  }

  const std::shared_ptr<Transport> transport_;
  std::stop_source stop_;
  Api api_;
  const Resource resource_;
  const ReflectorOptions options_;
  ReflectorHandler* const handler_;
  WatchRules rules_;  // of the thread alone

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  Store store_;
  bool synced_ = false;
  bool stopping_ = false;
  std::shared_ptr<Stream> stream_;
  Stats stats_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

std::unique_ptr<Reflector> Reflector::start(std::shared_ptr<Transport> transport, const Resource& resource,
                                            ReflectorOptions options, ReflectorHandler* handler) {
  return std::make_unique<ReflectorImpl>(std::move(transport), resource, std::move(options), handler);
}

}  // namespace sluice::kube
