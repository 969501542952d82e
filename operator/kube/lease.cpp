#include "operator/kube/lease.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>

#include "common/log/spdlog.h"
#include "operator/kube/json_text.h"
#include "operator/kube/lease_rules.h"
#include "operator/kube/time_text.h"

namespace sluice::kube {
namespace {

using Clock = std::chrono::steady_clock;

class ElectorImpl final : public LeaderElector {
 public:
  ElectorImpl(std::shared_ptr<Transport> transport, LeaseOptions options, Callbacks callbacks)
      : transport_(std::move(transport)),
        options_(std::move(options)),
        callbacks_(std::move(callbacks)),
        rules_(options_.identity),
        random_(std::random_device{}()),
        thread_([this] { run(); }) {}

  ~ElectorImpl() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    stop_.request_stop();
    thread_.join();
  }
  ElectorImpl(const ElectorImpl&) = delete;
  ElectorImpl& operator=(const ElectorImpl&) = delete;

  bool leading() const override { return remaining().count() > 0; }

  std::chrono::milliseconds remaining() const override {
    const std::lock_guard lock(mutex_);
    if (!leading_) return std::chrono::milliseconds(0);
    const auto left = renewed_ + options_.lease_duration - Clock::now();
    return std::max(std::chrono::duration_cast<std::chrono::milliseconds>(left), std::chrono::milliseconds(0));
  }
  std::string holder() const override {
    const std::lock_guard lock(mutex_);
    return holder_;
  }
  uint64_t epoch() const override {
    const std::lock_guard lock(mutex_);
    return epoch_;
  }

  Status set_epoch(uint64_t epoch) override {
    std::unique_lock lock(mutex_);
    const auto refuse = [this](ErrorKind kind, std::string reason) {
      return fail(kind, "write the epoch into Lease", options_.ns + "/" + options_.name, std::move(reason));
    };
    if (epoch <= epoch_) {
      return refuse(ErrorKind::invalid, std::to_string(epoch) + " is not above " + std::to_string(epoch_));
    }
    changed_.wait(lock, [this] { return !wanted_epoch_ || stopping_ || !leading_; });  // one at a time
    if (!leading_ || stopping_) return refuse(ErrorKind::conflict, "this process does not lead");
    wanted_epoch_ = epoch;
    epoch_outcome_.reset();
    changed_.notify_all();
    changed_.wait(lock, [this] { return epoch_outcome_.has_value(); });
    Status outcome = *epoch_outcome_;
    epoch_outcome_.reset();
    wanted_epoch_.reset();
    changed_.notify_all();
    return outcome;
  }

 private:
  void run() {
    for (;;) {
      const auto tried = attempt();
      settle_epoch(tried);
      follow(tried);
      if (!wait()) break;
    }
    settle_epoch(fail(ErrorKind::conflict, "hold Lease", options_.name, "stopping"));
    if (!leading()) return;
    step_down("stopping");  // what acts on the lease ends before others may have it
    release();
  }

  // Until the next attempt. False: stop.
  bool wait() {
    std::unique_lock lock(mutex_);
    auto pause = options_.retry_period;
    if (!leading_) {
      const auto more = std::uniform_int_distribution<int64_t>(0, pause.count() * 12 / 10)(random_);
      pause += std::chrono::milliseconds(more);
    } else {
      pause = std::min(pause, to_deadline());
    }
    changed_.wait_for(lock, pause, [this] { return stopping_ || (wanted_epoch_ && !epoch_outcome_); });
    return !stopping_;
  }

  // Of a leader: how long until it steps down unless it renews. With the lock.
  std::chrono::milliseconds to_deadline() const {
    const auto left = renewed_ + options_.renew_deadline - Clock::now();
    return std::max(std::chrono::duration_cast<std::chrono::milliseconds>(left), std::chrono::milliseconds(0));
  }
  // No call outlasts that, or stepping down would come late.
  std::chrono::milliseconds call_timeout() const {
    const std::lock_guard lock(mutex_);
    const auto most = options_.renew_deadline / 2;
    return leading_ ? std::clamp(to_deadline(), std::min(most, std::chrono::milliseconds(100)), most) : most;
  }

  // --- one attempt: read if need be, and write ourselves in if that is allowed. Success: the lease is ours.
  Status attempt() {
    if (!lease_) {
      if (auto read = refresh(); !read) return read;
    }
    auto written = write();
    if (!written && written.error().kind == ErrorKind::conflict) {
      // Somebody was quicker, or an answer of ours was lost: look, and try once more.
      if (auto read = refresh(); !read) return read;
      written = write();
    }
    // Without an answer, what the server holds is unknown.
    if (!written) lease_.reset();
    return written;
  }

  Request request(std::string method, std::string path) const {
    Request out;
    out.method = std::move(method);
    out.path = std::move(path);
    out.timeout = call_timeout();
    return out;
  }

  Result<nlohmann::json> call(const Request& what, const std::string& operation) {
    const std::string object = "Lease " + options_.ns + "/" + options_.name;
    const auto response = transport_->send(what);
    if (!response) return fail(response.error().kind, operation, object, response.error().reason);
    if (!response->ok()) return tl::unexpected(error_of(*response, operation, object));
    auto body = parse_json(response->body);
    if (!body.is_object()) return fail(ErrorKind::unavailable, operation, object, "the answer is not JSON");
    return body;
  }

  Status refresh() {
    Request get = request("GET", kLeases.path(options_.ns, options_.name));
    get.stop = stop_.get_token();
    auto lease = call(get, "read");
    if (!lease && lease.error().kind == ErrorKind::not_found) {
      const nlohmann::json fresh{{"apiVersion", kLeases.api_version()},
                                 {"kind", kLeases.kind},
                                 {"metadata", {{"name", options_.name}, {"namespace", options_.ns}}}};
      Request create = request("POST", kLeases.path(options_.ns));
      create.body = to_text(fresh);
      lease = call(create, "create");
      if (!lease && lease.error().kind == ErrorKind::denied) {
        lease.error().reason +=
            "; the Lease is not there, and this process may not make it: the chart creates it, and `helm upgrade` "
            "creates it again";
      }
    }
    if (!lease) return tl::unexpected(lease.error());
    note(std::move(*lease));
    return {};
  }

  void note(nlohmann::json lease) {
    const LeaseRecord record = read_lease(lease);
    rules_.observe(record, Clock::now());
    lease_ = std::move(lease);
    std::function<void()> tell;
    {
      const std::lock_guard lock(mutex_);
      epoch_ = std::max(epoch_, record.epoch);
      if (record.holder != holder_ && !record.holder.empty() && callbacks_.new_leader) {
        tell = [this, holder = record.holder] { callbacks_.new_leader(holder); };
      }
      holder_ = record.holder;
    }
    if (tell) tell();
  }

  Status write() {
    const auto sent = Clock::now();
    if (!rules_.may_take(sent)) {
      const std::string& holder = rules_.observed().holder;
      lease_.reset();  // look again next time
      return fail(ErrorKind::denied, "hold Lease", options_.name, "it is held by " + holder);
    }
    auto record = rules_.taken(std::chrono::ceil<std::chrono::seconds>(options_.lease_duration),
                               rfc3339_micro(std::chrono::system_clock::now()));
    {
      const std::lock_guard lock(mutex_);
      if (wanted_epoch_) record.epoch = std::max(record.epoch, *wanted_epoch_);
    }
    Request put = request("PUT", kLeases.path(options_.ns, options_.name));
    put.body = to_text(write_lease(*lease_, record));
    auto lease = call(put, "renew");
    if (!lease) return tl::unexpected(lease.error());
    note(std::move(*lease));
    const std::lock_guard lock(mutex_);
    renewed_ = sent;
    return {};
  }

  void settle_epoch(const Status& tried) {
    const std::lock_guard lock(mutex_);
    if (!wanted_epoch_ || epoch_outcome_) return;
    if (tried && epoch_ < *wanted_epoch_) return;  // asked for while the attempt was under way: the next one writes it
    epoch_outcome_ = tried;
    if (!tried && tried.error().kind == ErrorKind::denied) epoch_outcome_->error().kind = ErrorKind::conflict;
    changed_.notify_all();
  }

  // --- what an attempt means for leading
  void follow(const Status& tried) {
    bool was = false;
    Clock::time_point renewed;
    {
      const std::lock_guard lock(mutex_);
      was = leading_;
      renewed = renewed_;
    }
    if (tried) {
      if (!was) step_up();
      last_error_.clear();
      return;
    }
    complain(tried.error());
    if (!was) return;
    if (!rules_.ours()) return step_down("the lease was taken by " + rules_.observed().holder);
    if (Clock::now() - renewed >= options_.renew_deadline) step_down("could not renew: " + tried.error().reason);
  }

  void complain(const Error& error) {
    if (error.message() == last_error_) return;
    last_error_ = error.message();
    if (error.operation == "hold Lease") {
      spdlog::info("waiting for the lease: {}", error.reason);
    } else {
      spdlog::warn("{}; trying on", error.message());
    }
  }

  void step_up() {
    {
      const std::lock_guard lock(mutex_);
      leading_ = true;
      changed_.notify_all();
    }
    spdlog::info("leading as {}", options_.identity);
    if (callbacks_.started_leading) callbacks_.started_leading();
  }

  void step_down(const std::string& reason) {
    {
      const std::lock_guard lock(mutex_);
      leading_ = false;
      changed_.notify_all();
    }
    spdlog::warn("no longer leading: {}", reason);
    if (callbacks_.stopped_leading) callbacks_.stopped_leading();
  }

  // Lets the next one in at once. Best effort: else the lease expires.
  void release() {
    if (!lease_) return;
    Request put = request("PUT", kLeases.path(options_.ns, options_.name));
    put.timeout = std::chrono::seconds(2);
    put.body = to_text(write_lease(*lease_, rules_.released(rfc3339_micro(std::chrono::system_clock::now()))));
    if (auto done = call(put, "release"); !done) spdlog::warn("{}", done.error().message());
  }

  const std::shared_ptr<Transport> transport_;
  const LeaseOptions options_;
  const Callbacks callbacks_;
  // Of the thread alone:
  LeaseRules rules_;
  std::optional<nlohmann::json> lease_;  // as last read or written; none: to be read
  std::mt19937_64 random_;
  std::string last_error_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::stop_source stop_;
  bool leading_ = false;
  Clock::time_point renewed_;  // when the last renewal that succeeded was sent
  std::string holder_;
  uint64_t epoch_ = 0;
  std::optional<uint64_t> wanted_epoch_;
  std::optional<Status> epoch_outcome_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

std::unique_ptr<LeaderElector> LeaderElector::start(std::shared_ptr<Transport> transport, LeaseOptions options,
                                                    Callbacks callbacks) {
  return std::make_unique<ElectorImpl>(std::move(transport), std::move(options), std::move(callbacks));
}

}  // namespace sluice::kube
