#include "operator/kube/lease_rules.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "operator/kube/lease.h"
#include "operator/kube/object.h"

namespace sluice::kube {

LeaseRecord read_lease(const nlohmann::json& lease) {
  LeaseRecord record;
  const std::string epoch = annotation_of(lease, kEpochAnnotation);
  std::from_chars(epoch.data(), epoch.data() + epoch.size(), record.epoch);
  const auto spec = lease.find("spec");
  if (spec == lease.end() || !spec->is_object()) return record;
  const auto text = [&spec](const char* name) {
    const auto found = spec->find(name);
    return found != spec->end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const auto number = [&spec](const char* name) {
    const auto found = spec->find(name);
    return found != spec->end() && found->is_number_integer() ? found->get<int64_t>() : 0;
  };
  record.holder = text("holderIdentity");
  record.acquire_time = text("acquireTime");
  record.renew_time = text("renewTime");
  record.duration = std::chrono::seconds(number("leaseDurationSeconds"));
  record.transitions = number("leaseTransitions");
  return record;
}

nlohmann::json write_lease(nlohmann::json lease, const LeaseRecord& record) {
  auto& spec = lease["spec"];
  if (!spec.is_object()) spec = nlohmann::json::object();
  spec["holderIdentity"] = record.holder;
  spec["leaseDurationSeconds"] = record.duration.count();
  spec["acquireTime"] = record.acquire_time;
  spec["renewTime"] = record.renew_time;
  spec["leaseTransitions"] = record.transitions;
  auto& annotations = lease["metadata"]["annotations"];
  if (!annotations.is_object()) annotations = nlohmann::json::object();
  if (record.epoch != 0) annotations[kEpochAnnotation] = std::to_string(record.epoch);
  return lease;
}

void LeaseRules::observe(const LeaseRecord& record, Clock::time_point now) {
  if (changed_ && record == record_) return;
  record_ = record;
  changed_ = now;
}

bool LeaseRules::may_take(Clock::time_point now) const {
  if (record_.holder.empty() || ours()) return true;
  return changed_ && now - *changed_ > record_.duration;
}

LeaseRecord LeaseRules::taken(std::chrono::seconds duration, const std::string& stamp) const {
  LeaseRecord next = record_;
  next.duration = duration;
  next.renew_time = stamp;
  if (ours()) return next;
  next.holder = identity_;
  next.acquire_time = stamp;
  ++next.transitions;
  return next;
}

LeaseRecord LeaseRules::released(const std::string& stamp) const {
  LeaseRecord next = record_;
  next.holder.clear();
  next.duration = std::chrono::seconds(1);  // the schema wants at least one
  next.renew_time = stamp;
  return next;
}

}  // namespace sluice::kube
