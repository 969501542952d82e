// One JSON object a line. spdlog's own patterns put messages in as they are: a quote in an error text breaks the line.
#pragma once

#include <spdlog/formatter.h>

#include <memory>

namespace sluice::log {

class JsonFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override;
  [[nodiscard]] std::unique_ptr<spdlog::formatter> clone() const override;
};

}  // namespace sluice::log
