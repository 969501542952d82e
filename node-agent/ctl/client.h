// The way to the agent: HTTP over its unix socket.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "common/result.h"

namespace sluice::agent::ctl {

// GET `path`, a few seconds at most. Errors: not_found (no socket, nobody listens: the reason says what to look at),
// denied, unavailable (the agent is busy, or the answer breaks off), not_supported (the agent does not know the path),
// internal (no JSON).
Result<nlohmann::json> ask(const std::string& socket, const std::string& path);

}  // namespace sluice::agent::ctl
