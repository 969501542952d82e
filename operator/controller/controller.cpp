#include "operator/controller/controller.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "common/log/spdlog.h"
#include "operator/controller/exposition.h"
#include "operator/controller/leader.h"

namespace sluice::controller {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Events that come together are decided on together.
constexpr milliseconds kDebounce{5};
constexpr seconds kHeartbeat{5};
// A take-over may wait this long for silent agents and a slow API server.
constexpr seconds kStuck{120};
constexpr milliseconds kFirstRetry{100};
constexpr milliseconds kLastRetry{5000};

// Wakes the loop.
class Bell {
 public:
  void ring() {
    {
      const std::lock_guard lock(mutex_);
      rung_ = true;
    }
    rang_.notify_all();
  }
  // True where it was rung before `until`; resets it.
  bool wait_until(Clock::time_point until) {
    std::unique_lock lock(mutex_);
    rang_.wait_until(lock, until, [this] { return rung_; });
    return std::exchange(rung_, false);
  }

 private:
  std::mutex mutex_;
  std::condition_variable rang_;
  bool rung_ = false;
};

class Wiring final : public Controller {
 public:
  Wiring(Options options, std::shared_ptr<kube::Transport> transport)
      : options_(std::move(options)),
        transport_(std::move(transport)),
        api_(transport_),
        events_(kube::EventRecorder::start(transport_, "sluice-operator", options_.identity)),
        publisher_(publish::Publisher::create({}, [this] { bell_.ring(); })),
        watches_(transport_, options_.endpoints_source, [this] { bell_.ring(); }),
        keeper_(certificates::Keeper::start(transport_,
                                            {.ns = options_.ns,
                                             .ca = options_.ca_secret,
                                             .operator_leaf = options_.operator_secret,
                                             .agent_leaf = options_.agent_secret},
                                            [this] { bell_.ring(); })),
        writer_(
            transport_, [this] { return lease_left(); }, [this] { bell_.ring(); }) {
    beat();
    loop_ = std::thread([this] { run(); });
  }

  ~Wiring() override {
    stopping_ = true;
    bell_.ring();
    loop_.join();
    elector_.reset();  // steps down, which ends the sessions, and releases the lease
  }
  Wiring(const Wiring&) = delete;
  Wiring& operator=(const Wiring&) = delete;
  Wiring(Wiring&&) = delete;
  Wiring& operator=(Wiring&&) = delete;

  [[nodiscard]] std::string unhealthy() const override {
    const auto silent = Clock::now() - last_beat_.load();
    return silent < kStuck ? "" : "the loop has not turned for " + std::to_string(silent / seconds(1)) + " s";
  }
  [[nodiscard]] std::string unready() const override {
    if (!watches_.synced()) {
      return "still reading " + watches_.not_synced();
    }
    return keeper_->synced() ? "" : "still reading the Secrets of the certificates";
  }
  [[nodiscard]] std::string metrics() const override {
    Figures figures;
    {
      const std::lock_guard lock(figures_mutex_);
      figures = figures_;
    }
    figures.leading = elector_started_ && elector_->leading();
    figures.agents = publisher_->progress();
    figures.watches = watches_.stats();
    figures.writes = writer_.outcomes();
    figures.events = events_->stats();
    return expose(figures);
  }

 private:
  void run() {
    while (!stopping_ && !(watches_.synced() && keeper_->synced())) {
      bell_.wait_until(Clock::now() + milliseconds(200));
      beat();
    }
    if (stopping_) {
      return;
    }
    watches_.take_changes(cluster_);
    start_election();
    auto due = Clock::now();
    while (!stopping_) {
      bool rung = bell_.wait_until(std::min(due, Clock::now() + kHeartbeat));
      beat();
      if (rung) {
        std::this_thread::sleep_for(kDebounce);
        bell_.wait_until(Clock::now());
      }
      if (stopping_) {
        return;
      }
      const bool changed = watches_.take_changes(cluster_);
      if (rung || changed || Clock::now() >= due) {
        due = turn();
      }
    }
  }

  // Returns when to turn again though the bell stays silent.
  Clock::time_point turn() {
    const auto reign = current_reign();
    if (reign == 0) {
      leader_.reset();
      return Clock::now() + kHeartbeat;
    }
    if (!leader_ || leader_of_ != reign) {
      leader_.emplace(tools(reign), cluster_);
      leader_of_ = reign;
      retry_ = kFirstRetry;
      next_take_over_ = Clock::now();
      taken_over_ = false;
    }
    if (!taken_over_) {
      // However often the bell is rung: each attempt lists all that holds addresses, and the server may be in trouble.
      if (Clock::now() < next_take_over_) {
        return next_take_over_;
      }
      if (auto done = leader_->take_over(); !done) {
        spdlog::warn("taking over: {}", done.error().message());
        next_take_over_ = Clock::now() + std::max(retry_, done.error().retry_after);
        retry_ = std::min(2 * retry_, kLastRetry);
        return next_take_over_;
      }
      taken_over_ = true;
    }
    const auto started = Clock::now();
    const auto again = leader_->round();
    count_round(Clock::now() - started);
    return again;
  }

  Tools tools(uint64_t reign) {
    return {.options = options_,
            .api = api_,
            .watches = watches_,
            .certificates = *keeper_,
            .publisher = *publisher_,
            .writer = writer_,
            .events = *events_,
            .elector = *elector_,
            .while_leading = [this, reign](const std::function<void()>& act) {
              const std::lock_guard lock(reign_mutex_);
              if (reign_ != reign) {
                return false;
              }
              act();
              return true;
            }};
  }

  void start_election() {
    kube::LeaderElector::Callbacks callbacks;
    callbacks.started_leading = [this] {
      const std::lock_guard lock(reign_mutex_);
      reign_ = ++reigns_;
      bell_.ring();
    };
    callbacks.stopped_leading = [this] {
      const std::lock_guard lock(reign_mutex_);
      spdlog::info("not leading any more");
      reign_ = 0;
      publisher_->rest();
      writer_.want({});
      bell_.ring();
    };
    callbacks.new_leader = [](const std::string& holder) { spdlog::info("the leader is {}", holder); };
    kube::LeaseOptions lease;
    lease.ns = options_.ns;
    lease.name = options_.lease_name;
    lease.identity = options_.identity;
    elector_ = kube::LeaderElector::start(transport_, lease, std::move(callbacks));
    elector_started_ = true;
  }

  uint64_t current_reign() {
    const std::lock_guard lock(reign_mutex_);
    return reign_;
  }
  milliseconds lease_left() const { return elector_started_ ? elector_->remaining() : milliseconds(0); }
  void beat() { last_beat_ = Clock::now(); }
  void count_round(Clock::duration took) {
    const std::lock_guard lock(figures_mutex_);
    ++figures_.rounds;
    figures_.round_seconds += std::chrono::duration<double>(took).count();
    figures_.epoch = leader_->epoch();
    figures_.revision = leader_->state()->revision;
    figures_.services = leader_->state()->services.size();
    figures_.addresses = leader_->state()->announcements.size();
  }

  const Options options_;
  const std::shared_ptr<kube::Transport> transport_;
  Bell bell_;
  kube::Api api_;
  std::unique_ptr<kube::EventRecorder> events_;
  std::unique_ptr<publish::Publisher> publisher_;
  Watches watches_;
  std::unique_ptr<certificates::Keeper> keeper_;
  std::atomic<bool> elector_started_ = false;
  std::unique_ptr<kube::LeaderElector> elector_;
  Writer writer_;

  std::mutex reign_mutex_;  // held while something happens that only a leader may do
  uint64_t reign_ = 0;      // 0: not leading; under reign_mutex_
  uint64_t reigns_ = 0;     // under reign_mutex_

  // Of the loop thread.
  resources::ClusterState cluster_;
  std::optional<Leader> leader_;
  uint64_t leader_of_ = 0;
  bool taken_over_ = false;
  milliseconds retry_ = kFirstRetry;  // after the next take-over that fails
  Clock::time_point next_take_over_;

  std::atomic<Clock::time_point> last_beat_;
  std::atomic<bool> stopping_ = false;
  mutable std::mutex figures_mutex_;
  Figures figures_;
  std::thread loop_;
};

}  // namespace

std::unique_ptr<Controller> Controller::start(const Options& options, std::shared_ptr<kube::Transport> transport) {
  return std::make_unique<Wiring>(options, std::move(transport));
}

}  // namespace sluice::controller
