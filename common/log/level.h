// The five levels by the names that people type and read.
#pragma once

#include <spdlog/common.h>

#include <array>
#include <optional>
#include <string_view>
#include <utility>

namespace sluice::log {

inline constexpr std::array<std::pair<std::string_view, spdlog::level::level_enum>, 5> kLevels = {{
    {"trace", spdlog::level::trace},
    {"debug", spdlog::level::debug},
    {"info", spdlog::level::info},
    {"warn", spdlog::level::warn},
    {"error", spdlog::level::err},
}};

constexpr std::optional<spdlog::level::level_enum> parse_level(std::string_view text) {
  for (const auto& [known, level] : kLevels) {
    if (known == text) return level;
  }
  return std::nullopt;
}

// spdlog's `critical` is not used; it reads as error.
constexpr std::string_view name(spdlog::level::level_enum wanted) {
  for (const auto& [known, level] : kLevels) {
    if (level == wanted) return known;
  }
  return "error";
}

}  // namespace sluice::log
