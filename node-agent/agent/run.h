// What the binary does once it knows what it was asked for.
#pragma once

#include "node-agent/agent/core.h"
#include "node-agent/agent/options.h"

namespace sluice::agent {

// Each gives the process's exit code and says on stderr or in the log what went wrong. SIGTERM and SIGINT must be
// blocked in every thread.
int run_check(const Options& options);
int run_purge(const Options& options, const Kernel& kernel);
// Until SIGTERM or SIGINT. What forwards goes on forwarding.
int run_agent(const Options& options, const Kernel& kernel);

}  // namespace sluice::agent
