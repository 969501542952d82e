#include "operator/kube/time_text.h"

#include <array>
#include <cstdint>
#include <cstdio>
#include <ctime>

namespace sluice::kube {
namespace {

std::string seconds_text(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm fields{};
  gmtime_r(&seconds, &fields);
  std::array<char, 32> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &fields)};
}

}  // namespace

std::string rfc3339(std::chrono::system_clock::time_point time) {
  return seconds_text(std::chrono::floor<std::chrono::seconds>(time)) + "Z";
}

std::string rfc3339_micro(std::chrono::system_clock::time_point time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(time - whole).count();
  const std::string digits = std::to_string(1'000'000 + micros);
  return seconds_text(whole) + "." + digits.substr(1) + "Z";
}

std::optional<std::chrono::system_clock::time_point> parse_rfc3339(const std::string& text) {
  std::tm fields{};
  const char* rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &fields);
  if (rest == nullptr) return std::nullopt;
  std::chrono::microseconds fraction{0};
  if (*rest == '.') {
    int64_t scale = 1'000'000;
    for (++rest; *rest >= '0' && *rest <= '9'; ++rest) {
      scale /= 10;
      fraction += std::chrono::microseconds((*rest - '0') * scale);
    }
  }
  std::chrono::minutes offset{0};
  if (*rest == '+' || *rest == '-') {
    int hours = 0;
    int minutes = 0;
    if (std::sscanf(rest + 1, "%2d:%2d", &hours, &minutes) != 2) return std::nullopt;
    offset = std::chrono::minutes((hours * 60 + minutes) * (*rest == '-' ? -1 : 1));
    rest += 6;
  } else if (*rest == 'Z' || *rest == 'z') {
    ++rest;
  } else {
    return std::nullopt;
  }
  if (*rest != '\0') return std::nullopt;
  return std::chrono::system_clock::from_time_t(timegm(&fields)) + fraction - offset;
}

}  // namespace sluice::kube
