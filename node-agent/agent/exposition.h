// /metrics, /healthz and /readyz over what the owner's thread knows, without ever waiting long for it.
#pragma once

#include <memory>
#include <mutex>

#include "common/telemetry/http_server.h"
#include "node-agent/agent/core.h"
#include "node-agent/agent/loop.h"
#include "node-agent/health/metrics.h"

namespace sluice::agent {

class Exposition {
 public:
  Exposition(Loop& loop, Core& core, health::Metrics& metrics) : loop_(loop), core_(core), metrics_(metrics) {}
  // The core's listener.
  void on_facts(const health::Facts& facts);
  // The server ends before this does.
  Result<std::unique_ptr<telemetry::HttpServer>> serve(const std::string& host, uint16_t port);

 private:
  telemetry::HttpReply metrics_page();
  [[nodiscard]] std::shared_ptr<const health::Facts> facts() const;

  Loop& loop_;
  Core& core_;
  health::Metrics& metrics_;
  mutable std::mutex mutex_;
  // Replaced, never changed: who has read them works on without the lock, which the owner's thread waits for.
  std::shared_ptr<const health::Facts> facts_ = std::make_shared<health::Facts>();
  // Of the last scrape that the owner's thread had time for.
  std::shared_ptr<const dataplane::Counters> counters_ = std::make_shared<dataplane::Counters>();
};

}  // namespace sluice::agent
