// The three Secrets as they are at the API server: followed by every replica, filled in by the leader.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "operator/certificates/plan.h"
#include "operator/kube/object.h"
#include "operator/kube/transport.h"

namespace sluice::certificates {

struct SecretNames {
  std::string ns;
  std::string ca;
  std::string operator_leaf;
  std::string agent_leaf;
};

// The contents of a Secret object; empty where it is null, or where a key is missing or not base64.
CaSecret read_ca(const nlohmann::json* secret);
LeafSecret read_leaf(const nlohmann::json* secret);
// The Secret with these contents in place of its own, everything else as it was.
nlohmann::json with_contents(nlohmann::json secret, const CaSecret& contents);
nlohmann::json with_contents(nlohmann::json secret, const LeafSecret& contents);

class Keeper {
 public:
  // Follows the Secrets; `changed` is called from other threads when one of them has changed. The operator's role need
  // not allow more than get, list, watch and update of these three by name.
  static std::unique_ptr<Keeper> start(const std::shared_ptr<kube::Transport>& transport, const SecretNames& names,
                                       std::function<void()> changed);
  virtual ~Keeper() = default;

  [[nodiscard]] virtual bool synced() const = 0;
  // The operator's pair with the bundle, where it can be used at `now`.
  [[nodiscard]] virtual std::optional<LeafSecret> operator_leaf(Clock::time_point now) const = 0;

  // The key of the flow hash; nullopt before the leader's work has made one.
  [[nodiscard]] virtual std::optional<std::array<uint64_t, 2>> flow_hash_key() const = 0;

  struct Tended {
    bool wrote = false;
    Clock::time_point next;  // look again then, if nothing changes before
  };
  // The leader's work: brings the Secrets into the shape they should have. Cheap where nothing has changed. Errors:
  // conflict (another wrote; look again when the change arrives), not_found (a Secret is not there: the chart makes
  // them, `helm upgrade` makes them again), denied, unavailable.
  virtual Result<Tended> tend(Clock::time_point now) = 0;
};

}  // namespace sluice::certificates
