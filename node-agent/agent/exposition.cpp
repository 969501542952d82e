#include "node-agent/agent/exposition.h"

#include <chrono>
#include <future>
#include <utility>

#include "node-agent/health/probes.h"

namespace sluice::agent {
namespace {

// A scraper waits ten seconds by default; the probes share its thread and have one.
constexpr std::chrono::milliseconds kPatience{500};

}  // namespace

void Exposition::on_facts(const health::Facts& facts) {
  auto copy = std::make_shared<const health::Facts>(facts);
  const std::scoped_lock lock(mutex_);
  facts_.swap(copy);
}

std::shared_ptr<const health::Facts> Exposition::facts() const {
  const std::scoped_lock lock(mutex_);
  return facts_;
}

telemetry::HttpReply Exposition::metrics_page() {
  // Shared with the work: it may still run when nobody waits for it any more.
  auto answer = std::make_shared<std::promise<dataplane::Counters>>();
  auto future = answer->get_future();
  loop_.post([this, answer] { answer->set_value(core_.counters().value_or(dataplane::Counters{})); });
  const bool in_time = future.wait_for(kPatience) == std::future_status::ready;
  auto fresh = in_time ? std::make_shared<const dataplane::Counters>(future.get()) : nullptr;
  std::shared_ptr<const health::Facts> facts;
  std::shared_ptr<const dataplane::Counters> counters;
  {
    const std::scoped_lock lock(mutex_);
    if (fresh) counters_ = std::move(fresh);
    facts = facts_;
    counters = counters_;
  }
  telemetry::HttpReply reply;
  reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
  reply.body = metrics_.render(*facts, *counters);
  return reply;
}

Result<std::unique_ptr<telemetry::HttpServer>> Exposition::serve(const std::string& host, uint16_t port) {
  return telemetry::HttpServer::start(host, port,
                                      {{"/metrics", [this] { return metrics_page(); }},
                                       {"/healthz", [this] { return health::healthz(loop_.busy_for()); }},
                                       {"/readyz", [this] { return health::readyz(*facts()); }}});
}

}  // namespace sluice::agent
