// Cluster mode: what the operator's sessions mean. Epochs, digests and order are decided here; the core does the work.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "node-agent/agent/core.h"
#include "node-agent/agent/drain_report.h"
#include "node-agent/agent/loop.h"
#include "node-agent/api/node_server.h"
#include "node-agent/health/metrics.h"

namespace sluice::agent {

class Cluster final : public api::Handler {
 public:
  // All of them outlive the cluster.
  Cluster(Loop& loop, Core& core, health::Metrics& metrics, std::string node, uint64_t start_time);

  // Told of every change from then on; nullptr: of none. On any thread.
  void set_server(api::NodeServer* server);
  // The core's listener. On the owner's thread.
  void on_facts(const health::Facts& facts);

  std::variant<api::Welcome, api::Refusal> hello(api::SessionId session, const api::Hello& hello) override;
  api::PushReply snapshot(api::SessionId session, state::DesiredState state, const std::string& claimed) override;
  api::PushReply delta(api::SessionId session, const state::Delta& delta) override;
  std::pair<api::Welcome, std::shared_ptr<const state::DesiredState>> get_state(bool with_state) override;
  Status purge(const std::string& cluster_id, state::Epoch epoch) override;
  api::NodeStatus status() override;

 private:
  struct Current {
    api::SessionId session = 0;
    std::string cluster_id;
    state::Epoch epoch = 0;
  };
  [[nodiscard]] api::Welcome welcome(const std::string& cluster_id) const;
  [[nodiscard]] std::optional<api::Refusal> refuse_push(api::SessionId session) const;
  api::PushReply take(state::DesiredState next);
  api::PushReply counted(std::chrono::steady_clock::time_point begun, api::PushReply reply);

  Loop& loop_;
  Core& core_;
  health::Metrics& metrics_;
  std::string node_;
  uint64_t start_time_;

  // The owner's thread's own.
  Current current_;
  std::map<std::string, state::Epoch> purged_;  // by cluster id: nothing of this epoch or below comes back
  api::NodeStatus told_;
  DrainReport drains_;
  std::vector<dataplane::ServiceFailure> acked_;
  bool pushing_ = false;

  std::mutex mutex_;
  api::NodeServer* server_ = nullptr;
};

}  // namespace sluice::agent
