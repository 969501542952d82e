// The operator's view of the cluster: a reflector for each kind it decides from, merged into one ClusterState.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "operator/controller/options.h"
#include "operator/kube/api.h"
#include "operator/kube/reflector.h"
#include "operator/resources/cluster_state.h"

namespace sluice::controller {

class Watches final : kube::ReflectorHandler {
 public:
  // Starts at once; `changed` is called from other threads.
  Watches(const std::shared_ptr<kube::Transport>& transport, EndpointsSource endpoints, std::function<void()> changed);
  ~Watches() override;
  Watches(const Watches&) = delete;
  Watches& operator=(const Watches&) = delete;
  Watches(Watches&&) = delete;
  Watches& operator=(Watches&&) = delete;

  // Every kind has been listed once.
  [[nodiscard]] bool synced() const;
  [[nodiscard]] std::string not_synced() const;  // which are not, for people; empty: all are
  // Takes what has changed since the last call into `cluster`. False: nothing had.
  bool take_changes(resources::ClusterState& cluster);
  // True where the store of this kind has seen at least everything that `list` has.
  [[nodiscard]] bool caught_up(const kube::Resource& resource, const kube::ObjectList& list) const;

  [[nodiscard]] std::map<std::string, kube::Reflector::Stats> stats() const;  // by plural

 private:
  void replaced(const std::vector<kube::Object>& all, const std::vector<kube::Object>& vanished) override;
  void upserted(const kube::Object& object) override;
  void deleted(const kube::ObjectKey& key, const kube::Object& last_known) override;

  const std::function<void()> changed_;
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, kube::ObjectKey>, kube::Object> changes_;  // by kind; null: gone
  std::vector<std::pair<kube::Resource, std::unique_ptr<kube::Reflector>>> reflectors_;
};

}  // namespace sluice::controller
