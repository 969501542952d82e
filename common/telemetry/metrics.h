// The process's Prometheus registry and its text form. prometheus-cpp (core) does the work.
#pragma once

#include <memory>
#include <string>

namespace prometheus {
class Registry;
}

namespace sluice::telemetry {

inline constexpr const char* kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

std::shared_ptr<prometheus::Registry> make_registry();
std::string render(const prometheus::Registry& registry);  // text format 0.0.4

}  // namespace sluice::telemetry
