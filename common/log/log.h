// spdlog, set up the same way in every binary. Levels: error = somebody must act; warn = something is degraded and will
// be retried; info = what changed and why, once per change; debug = each step. Nothing is logged at rest.
#pragma once

#include <string>

#include "common/result.h"

namespace sluice::log {

enum class Format { automatic, text, json };  // automatic: text on a terminal, JSON elsewhere

// `level`: trace, debug, info, warn, error. Writes to stderr. JSON lines carry time (RFC 3339 UTC), level, msg.
Status setup(const std::string& level, const std::string& format);

}  // namespace sluice::log
