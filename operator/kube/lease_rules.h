// Who may lead, from what a Lease says and when it last changed. Pure: the Lease's own times are never compared with a
// clock of ours, only the moment at which we saw it change.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace sluice::kube {

struct LeaseRecord {
  std::string holder;  // empty: nobody, also in a Lease that was created without a spec
  std::chrono::seconds duration{0};
  std::string acquire_time;  // as written
  std::string renew_time;    //
  int64_t transitions = 0;
  uint64_t epoch = 0;  // of the annotation; 0: none

  friend bool operator==(const LeaseRecord&, const LeaseRecord&) = default;
};
LeaseRecord read_lease(const nlohmann::json& lease);
// The record's fields in a copy of `lease`; all else (labels, resourceVersion) stays.
nlohmann::json write_lease(nlohmann::json lease, const LeaseRecord& record);

class LeaseRules {
 public:
  using Clock = std::chrono::steady_clock;
  explicit LeaseRules(std::string identity) : identity_(std::move(identity)) {}

  void observe(const LeaseRecord& record, Clock::time_point now);
  // May this process write itself into the Lease now? When it holds it already, when nobody does, or when the holder
  // has been silent for the duration that it announced.
  [[nodiscard]] bool may_take(Clock::time_point now) const;
  // The record to write for that. `stamp`: the time to be shown to people.
  [[nodiscard]] LeaseRecord taken(std::chrono::seconds duration, const std::string& stamp) const;
  [[nodiscard]] LeaseRecord released(const std::string& stamp) const;
  [[nodiscard]] const LeaseRecord& observed() const { return record_; }
  [[nodiscard]] bool ours() const { return record_.holder == identity_; }

 private:
  std::string identity_;
  LeaseRecord record_;
  std::optional<Clock::time_point> changed_;  // when we saw it change last
};

}  // namespace sluice::kube
