// Leader election on a Lease. At most one elector believes it leads, as long as clocks run at one speed; that is no
// fence for writes already under way, which is why pushes carry an epoch and status writes a resourceVersion.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "operator/kube/api.h"

namespace sluice::kube {

inline constexpr const char* kEpochAnnotation = "sluice.io/epoch";

struct LeaseOptions {
  std::string ns;
  std::string name = "sluice-operator";
  std::string identity;                              // unique per process: the pod's name and a random part
  std::chrono::milliseconds lease_duration{15'000};  // how long others leave a silent holder alone
  std::chrono::milliseconds renew_deadline{10'000};  // a holder that could not renew for this long steps down
  std::chrono::milliseconds retry_period{2'000};     // between attempts, jittered to 1..2.2 of it
};

class LeaderElector {
 public:
  struct Callbacks {
    std::function<void()> started_leading;
    std::function<void()> stopped_leading;                      // also at stop, when leading
    std::function<void(const std::string& holder)> new_leader;  // optional; also when it is ourselves
  };
  // Callbacks run on the elector's thread, in order, and must return soon: started_leading only starts things.
  static std::unique_ptr<LeaderElector> start(std::shared_ptr<Transport> transport, LeaseOptions options,
                                              Callbacks callbacks);
  virtual ~LeaderElector() = default;  // stops, releases the lease if it is held, joins

  [[nodiscard]] virtual bool leading() const = 0;
  // For how long this process may still act as the leader, from now: zero when it does not lead. Counted from *before*
  // the last renewal was sent.
  [[nodiscard]] virtual std::chrono::milliseconds remaining() const = 0;
  [[nodiscard]] virtual std::string holder() const = 0;  // as last observed; empty: nobody

  // The epoch in the Lease's annotation as last observed; 0: none yet.
  [[nodiscard]] virtual uint64_t epoch() const = 0;
  // Writes a higher epoch into the Lease and returns when it is there. Fails with conflict when this process does not
  // lead or the Lease was taken meanwhile, with invalid when the epoch does not rise. Not from a callback.
  virtual Status set_epoch(uint64_t epoch) = 0;
};

}  // namespace sluice::kube
