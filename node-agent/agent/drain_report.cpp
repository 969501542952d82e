#include "node-agent/agent/drain_report.h"

#include <algorithm>

namespace sluice::agent {
namespace {

bool same_backends(const std::vector<dataplane::LeavingFlows>& a, const std::vector<dataplane::LeavingFlows>& b) {
  return std::ranges::equal(a, b, [](const auto& left, const auto& right) {
    return left.service == right.service && left.address == right.address && left.port == right.port;
  });
}

}  // namespace

const std::vector<dataplane::LeavingFlows>& DrainReport::take(const std::vector<dataplane::LeavingFlows>& found,
                                                              Clock::time_point now) {
  if (found == told_) return told_;
  if (at_ && now - *at_ < kCountsEvery && same_backends(found, told_)) return told_;
  told_ = found;
  at_ = now;
  return told_;
}

}  // namespace sluice::agent
