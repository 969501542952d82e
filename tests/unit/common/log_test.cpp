#include "common/log/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "common/log/spdlog.h"

namespace sluice::log {
namespace {

using ::testing::MatchesRegex;

// What `write` leaves on stderr, by lines.
template <typename Write>
std::vector<std::string> lines_of(Write write) {
  testing::internal::CaptureStderr();
  write();
  std::istringstream text(testing::internal::GetCapturedStderr());
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

TEST(Log, AJsonLineIsValidWhateverTheMessageHolds) {
  ASSERT_TRUE(setup("info", "json"));
  for (const std::string message : {"plain", "a \"quoted\" word", "back\\slash", "two\nlines", "tab\t, bell\a, nul\x01",
                                    "umlaut \xc3\xbc", "{}", "%v %l", "</script>", ""}) {
    const auto lines = lines_of([&] { spdlog::info("{}", message); });
    ASSERT_EQ(lines.size(), 1U) << message;
    const auto json = nlohmann::json::parse(lines[0]);
    EXPECT_EQ(json.at("msg"), message);
    EXPECT_EQ(json.at("level"), "info");
    EXPECT_EQ(json.size(), 3U);
  }
}

TEST(Log, WhatIsNotUtf8IsReplacedInJson) {
  ASSERT_TRUE(setup("info", "json"));
  const auto lines = lines_of([] { spdlog::info("name \xff"); });
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(nlohmann::json::parse(lines[0]).at("msg"), "name \xef\xbf\xbd");
}

TEST(Log, JsonTimeIsUtcWithMilliseconds) {
  ASSERT_TRUE(setup("info", "json"));
  // A zone far from UTC shows a local time at once.
  setenv("TZ", "Asia/Tokyo", 1);
  tzset();
  const time_t now = time(nullptr);
  const auto lines = lines_of([] { spdlog::info("x"); });
  ASSERT_EQ(lines.size(), 1U);
  const auto text = nlohmann::json::parse(lines[0]).at("time").get<std::string>();
  EXPECT_THAT(text, MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z"));
  std::tm parts{};
  ASSERT_NE(strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts), nullptr);
  EXPECT_NEAR(static_cast<double>(timegm(&parts)), static_cast<double>(now), 5);
  unsetenv("TZ");
  tzset();
}

TEST(Log, LevelsAreNamedAsTheyAreTyped) {
  ASSERT_TRUE(setup("trace", "json"));
  const auto lines = lines_of([] {
    spdlog::trace("");
    spdlog::debug("");
    spdlog::info("");
    spdlog::warn("");
    spdlog::error("");
  });
  std::vector<std::string> levels;
  levels.reserve(lines.size());
  for (const std::string& line : lines) levels.push_back(nlohmann::json::parse(line).at("level"));
  EXPECT_EQ(levels, (std::vector<std::string>{"trace", "debug", "info", "warn", "error"}));
}

TEST(Log, WhatIsBelowTheLevelIsNotWritten) {
  ASSERT_TRUE(setup("warn", "json"));
  EXPECT_TRUE(lines_of([] { spdlog::info("x"); }).empty());
  EXPECT_EQ(lines_of([] { spdlog::warn("x"); }).size(), 1U);
}

TEST(Log, TextIsTimeLevelMessage) {
  ASSERT_TRUE(setup("info", "text"));
  const auto lines = lines_of([] { spdlog::info("hello \"you\""); });
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_THAT(lines[0], MatchesRegex("[0-9-]+T[0-9:]+[.][0-9]{3}Z info hello \"you\""));
}

TEST(Log, AutoIsJsonWhereStderrIsNoTerminal) {
  const auto lines = lines_of([] {
    ASSERT_TRUE(setup("info", "auto"));
    spdlog::info("x");
  });
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_TRUE(nlohmann::json::accept(lines[0]));
}

TEST(Log, UnknownLevelsAndFormatsAreRefusedAndChangeNothing) {
  ASSERT_TRUE(setup("error", "json"));
  for (const char* level : {"", "warning", "INFO", "off"}) EXPECT_FALSE(setup(level, "json")) << level;
  const Status status = setup("info", "yaml");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message(), "set log format \"yaml\": not auto, text or json");
  EXPECT_TRUE(lines_of([] { spdlog::info("x"); }).empty());
}

}  // namespace
}  // namespace sluice::log
