// What the probes and the scraper get, from the agent's facts. Pure.
#pragma once

#include <chrono>

#include "common/telemetry/http_server.h"
#include "node-agent/health/facts.h"

namespace sluice::agent::health {

// Longer at one piece of work than this, and the agent is stuck: the largest states take seconds.
constexpr std::chrono::seconds kStuck{60};

telemetry::HttpReply healthz(std::chrono::milliseconds busy_for);
// One line a condition; a file that cannot be used is told of, but what stands goes on and the agent stays ready.
telemetry::HttpReply readyz(const Facts& facts);

}  // namespace sluice::agent::health
