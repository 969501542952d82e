#include "operator/controller/writer.h"

#include <utility>

#include "common/log/spdlog.h"

namespace sluice::controller {

namespace {

constexpr size_t kWorkers = 4;
// A write that took effect shows in our own copy within moments. Until then the loop would decide it again.
constexpr std::chrono::seconds kEcho{5};
constexpr std::chrono::milliseconds kLeaseRetry{500};

}  // namespace

Writer::Writer(std::shared_ptr<kube::Transport> transport, std::function<std::chrono::milliseconds()> lease_left,
               std::function<void()> finished)
    : api_(std::move(transport)), lease_left_(std::move(lease_left)), finished_(std::move(finished)) {
  queue_.start(kWorkers, [this](const std::string& key) { return sync(key); });
}

Writer::~Writer() {
  queue_.stop();
}

std::optional<Writer::Clock::time_point> Writer::held_back(const Write& write, Clock::time_point now) const {
  const auto last = last_.find(write.key);
  if (last == last_.end() || last->second.base_version != write.base_version || now - last->second.at >= kEcho) {
    return std::nullopt;
  }
  return last->second.at + kEcho;
}

std::optional<Writer::Clock::time_point> Writer::want(std::vector<Write> writes) {
  std::optional<Clock::time_point> again;
  const auto now = Clock::now();
  std::vector<std::pair<std::string, std::chrono::milliseconds>> due;
  {
    const std::lock_guard lock(mutex_);
    auto before = std::exchange(wanted_, {});
    for (auto& write : writes) {
      if (const auto until = held_back(write, now)) {
        again = std::min(again.value_or(*until), *until);
        continue;
      }
      auto delay = write.settle;
      if (const auto last = last_.find(write.key); last != last_.end()) {
        const auto rest = last->second.at + write.min_interval - now;
        delay = std::max(delay, std::chrono::ceil<std::chrono::milliseconds>(rest));
      }
      // One that is waiting already keeps its turn, and its back-off after a failure.
      const auto waiting = before.find(write.key);
      if (waiting == before.end() || waiting->second.fingerprint != write.fingerprint ||
          waiting->second.base_version != write.base_version) {
        due.emplace_back(write.key, delay);
      }
      std::string key = write.key;
      wanted_.insert_or_assign(std::move(key), std::move(write));
    }
    std::erase_if(last_, [&](const auto& entry) { return now - entry.second.at > 10 * kEcho; });
  }
  for (const auto& [key, delay] : due) {
    if (delay.count() > 0) {
      queue_.add_after(key, delay);
    } else {
      queue_.add(key);
    }
  }
  return again;
}

Result<kube::WorkQueue::Done> Writer::sync(const std::string& key) {
  Write write;
  {
    const std::lock_guard lock(mutex_);
    const auto found = wanted_.find(key);
    if (found == wanted_.end()) {
      return kube::WorkQueue::Done{};
    }
    write = found->second;
    const auto last = last_.find(key);
    const auto now = Clock::now();
    if (last != last_.end() && last->second.at + write.min_interval > now) {
      const auto rest = last->second.at + write.min_interval - now;
      return kube::WorkQueue::Done{.again_after = std::chrono::ceil<std::chrono::milliseconds>(rest)};
    }
  }
  if (lease_left_() < kLeaseMargin) {
    return kube::WorkQueue::Done{.again_after = kLeaseRetry};
  }
  const auto outcome = write.perform(api_);
  const bool overtaken =
      !outcome && (outcome.error().kind == ErrorKind::conflict || outcome.error().kind == ErrorKind::exists ||
                   outcome.error().kind == ErrorKind::not_found);
  {
    const std::lock_guard lock(mutex_);
    auto& counted = outcomes_[write.kind];
    ++(outcome ? counted.written : overtaken ? counted.overtaken : counted.failed);
    if (outcome || overtaken) {
      last_[key] = {.base_version = write.base_version, .fingerprint = write.fingerprint, .at = Clock::now()};
      if (const auto found = wanted_.find(key);
          found != wanted_.end() && found->second.fingerprint == write.fingerprint) {
        wanted_.erase(found);
      }
    }
  }
  if (!outcome && !overtaken) {
    spdlog::warn("{}", outcome.error().message());
    return tl::unexpected(outcome.error());
  }
  if (!outcome) {
    spdlog::debug("{}: {}", key, outcome.error().message());
  }
  finished_();
  return kube::WorkQueue::Done{};
}

bool Writer::idle() const {
  const std::lock_guard lock(mutex_);
  return wanted_.empty();
}

std::map<std::string, Writer::Outcomes> Writer::outcomes() const {
  const std::lock_guard lock(mutex_);
  return outcomes_;
}

}  // namespace sluice::controller
