// spdlog, set up the same way in every binary. Levels: error = somebody must act; warn = something is degraded and will
// be retried; info = what changed and why, once per change; debug = each step. Nothing is logged at rest.
#pragma once

#include <string>

#include "common/result.h"

namespace sluice::log {

// Sets up spdlog's default logger. `level`: trace, debug, info, warn, error. `format`: text, json, or auto (text on a
// terminal, JSON elsewhere). Writes to stderr, a line at a time. JSON lines carry time (RFC 3339, UTC, milliseconds),
// level and msg. Fails (invalid) on another level or format, and changes nothing then.
Status setup(const std::string& level, const std::string& format);

}  // namespace sluice::log
