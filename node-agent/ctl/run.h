// What sluicectl does once it knows what was asked for.
#pragma once

#include <chrono>
#include <functional>
#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>

#include "common/result.h"
#include "node-agent/ctl/command.h"

namespace sluice::agent::ctl {

using Ask = std::function<Result<nlohmann::json>(const std::string& path)>;
struct Edges {
  Ask ask;
  std::function<void(std::chrono::milliseconds)> pause;
};

void wait_a_moment(std::chrono::milliseconds time);

// The exit code. What was asked for goes to `out`; errors, and what goes on while it waits, to `err`.
int run(const Command& command, const Edges& edges, std::ostream& out, std::ostream& err);

}  // namespace sluice::agent::ctl
