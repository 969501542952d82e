#include "common/log/log.h"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include "common/log/json_formatter.h"
#include "common/log/level.h"
#include "common/log/spdlog.h"

namespace sluice::log {

Status setup(const std::string& level, const std::string& format) {
  const auto threshold = parse_level(level);
  if (!threshold) {
    return fail(ErrorKind::invalid, "set log level", "\"" + level + "\"", "not trace, debug, info, warn or error");
  }
  if (format != "auto" && format != "text" && format != "json") {
    return fail(ErrorKind::invalid, "set log format", "\"" + format + "\"", "not auto, text or json");
  }
  const bool text = format == "text" || (format == "auto" && isatty(STDERR_FILENO) == 1);

  auto logger = std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  if (text) {
    logger->set_formatter(
        std::make_unique<spdlog::pattern_formatter>("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc));
  } else {
    logger->set_formatter(std::make_unique<JsonFormatter>());
  }
  logger->set_level(*threshold);
  spdlog::set_default_logger(std::move(logger));
  return {};
}

}  // namespace sluice::log
