// Kubernetes' forms of a time: metav1.Time and metav1.MicroTime, UTC.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace sluice::kube {

std::string rfc3339(std::chrono::system_clock::time_point time);        // "2006-01-02T15:04:05Z"
std::string rfc3339_micro(std::chrono::system_clock::time_point time);  // "2006-01-02T15:04:05.000000Z"
// With any number of decimals, in UTC ("Z") or with an offset. Nothing: not a time.
std::optional<std::chrono::system_clock::time_point> parse_rfc3339(const std::string& text);

}  // namespace sluice::kube
