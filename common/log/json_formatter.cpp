#include "common/log/json_formatter.h"

#include <spdlog/fmt/chrono.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "common/log/level.h"
#include "common/log/spdlog.h"

namespace sluice::log {

void JsonFormatter::format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) {
  using std::chrono::floor;
  const auto seconds = floor<std::chrono::seconds>(message.time);
  const auto milliseconds = floor<std::chrono::milliseconds>(message.time - seconds).count();
  const nlohmann::json text(std::string(message.payload.data(), message.payload.size()));
  // What is not UTF-8 is replaced: a reader drops the whole line otherwise.
  fmt::format_to(std::back_inserter(out),
                 R"({{"time":"{:%Y-%m-%dT%H:%M:%S}.{:03}Z","level":"{}","msg":{}}})"
                 "\n",
                 fmt::gmtime(std::chrono::system_clock::to_time_t(seconds)), milliseconds, name(message.level),
                 text.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::unique_ptr<spdlog::formatter> JsonFormatter::clone() const {
  return std::make_unique<JsonFormatter>();
}

}  // namespace sluice::log
