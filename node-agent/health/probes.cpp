#include "node-agent/health/probes.h"

#include <string>

namespace sluice::agent::health {

telemetry::HttpReply healthz(std::chrono::milliseconds busy_for) {
  telemetry::HttpReply reply;
  if (busy_for < kStuck) {
    reply.body = "ok\n";
    return reply;
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(busy_for).count();
  reply.status = 503;
  reply.body = "stuck: at the same piece of work for " + std::to_string(seconds) + " s\n";
  return reply;
}

telemetry::HttpReply readyz(const Facts& facts) {
  telemetry::HttpReply reply;
  reply.status = facts.ready ? 200 : 503;
  for (const Condition& condition : facts.conditions) {
    reply.body += condition.type + "=" + (condition.status ? "True" : "False") + " " + condition.reason + ": " +
                  condition.message + "\n";
  }
  if (!facts.config_error.empty()) reply.body += "the configuration file is not in force: " + facts.config_error + "\n";
  return reply;
}

}  // namespace sluice::agent::health
