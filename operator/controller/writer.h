// Carries out writes to the API server, beside the loop that decides them. Each pass of the loop says everything it
// wants written; what it no longer wants is not sent.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "operator/kube/api.h"
#include "operator/kube/work_queue.h"

namespace sluice::controller {

struct Write {
  std::string key;                      // what is written, "status Service default/web": one at a time, the newest wins
  std::string kind;                     // for metrics: "claim", "status", "finalizer", ...
  std::string base_version;             // resourceVersion of the object it was decided from; empty for a creation
  std::string fingerprint;              // equal for equal writes
  std::chrono::milliseconds settle{0};  // how long it waits for a newer one before it is sent
  std::chrono::milliseconds min_interval{0};  // between two writes of this key
  std::function<Status(kube::Api&)> perform;
};

class Writer {
 public:
  // `lease_left`: for how long this process may still act as the leader; nothing is written with less than kLeaseMargin
  // of it. `finished`: called from other threads after a write that took effect or was overtaken.
  Writer(std::shared_ptr<kube::Transport> transport, std::function<std::chrono::milliseconds()> lease_left,
         std::function<void()> finished);
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  Writer(Writer&&) = delete;
  Writer& operator=(Writer&&) = delete;

  static constexpr std::chrono::seconds kLeaseMargin{3};

  // Returns when to decide anew where a write was held back because an equal one has just been carried out and does not
  // show yet.
  std::optional<std::chrono::steady_clock::time_point> want(std::vector<Write> writes);
  // Everything wanted has been carried out.
  [[nodiscard]] bool idle() const;

  struct Outcomes {
    uint64_t written = 0;
    uint64_t overtaken = 0;  // conflict: the object had changed, and the write is decided anew
    uint64_t failed = 0;     // to be tried again
  };
  [[nodiscard]] std::map<std::string, Outcomes> outcomes() const;  // by kind

 private:
  using Clock = std::chrono::steady_clock;
  struct Last {
    std::string base_version;
    std::string fingerprint;
    Clock::time_point at;
  };
  Result<kube::WorkQueue::Done> sync(const std::string& key);
  // Until when a write from this version of the object is held back.
  std::optional<Clock::time_point> held_back(const Write& write, Clock::time_point now) const;

  kube::Api api_;
  const std::function<std::chrono::milliseconds()> lease_left_;
  const std::function<void()> finished_;
  mutable std::mutex mutex_;
  std::map<std::string, Write> wanted_;
  std::map<std::string, Last> last_;
  std::map<std::string, Outcomes> outcomes_;
  kube::WorkQueue queue_;  // last: its workers end first
};

}  // namespace sluice::controller
