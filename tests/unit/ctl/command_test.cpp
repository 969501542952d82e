// What people may type.
#include "node-agent/ctl/command.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice::agent::ctl {
namespace {

using Kind = Command::Kind;
using Output = Command::Output;

ParsedCommand parse(std::vector<const char*> words) {
  words.insert(words.begin(), "sluicectl");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  auto parsed = parse_command(static_cast<int>(words.size()), words.data());
  testing::internal::GetCapturedStdout();
  testing::internal::GetCapturedStderr();
  return parsed;
}

TEST(Command, EachSubCommand) {
  auto backends = parse({"backends"});
  EXPECT_EQ(backends.exit_code, std::nullopt);
  EXPECT_EQ(backends.command.kind, Kind::backends);
  EXPECT_EQ(backends.command.service, "");
  EXPECT_EQ(backends.command.output, Output::table);
  EXPECT_EQ(backends.command.socket, "/run/sluice/agent.sock");
  EXPECT_EQ(parse({"backends", "shop/web"}).command.service, "shop/web");
  EXPECT_EQ(parse({"tunnels"}).command.kind, Kind::tunnels);
  const auto drain = parse({"drain", "shop/web", "--wait", "--timeout", "2m"}).command;
  EXPECT_EQ(drain.kind, Kind::drain);
  EXPECT_EQ(drain.service, "shop/web");
  EXPECT_TRUE(drain.wait);
  EXPECT_EQ(drain.timeout, std::chrono::seconds(120));
}

TEST(Command, OutputBeforeAndAfterTheSubCommand) {
  EXPECT_EQ(parse({"-o", "json", "tunnels"}).command.output, Output::json);
  EXPECT_EQ(parse({"tunnels", "-o", "json"}).command.output, Output::json);
  EXPECT_EQ(parse({"backends", "--output=wide"}).command.output, Output::wide);
}

TEST(Command, TheSocketByFlagAndEnvironment) {
  EXPECT_EQ(parse({"tunnels", "--socket", "/tmp/a"}).command.socket, "/tmp/a");
  setenv("SLUICE_SOCKET", "/tmp/b", 1);
  EXPECT_EQ(parse({"tunnels"}).command.socket, "/tmp/b");
  unsetenv("SLUICE_SOCKET");
}

TEST(Command, WhatMakesNoSenseIsUsage) {
  for (const auto& words : std::vector<std::vector<const char*>>{{},
                                                                 {"frobnicate"},
                                                                 {"drain"},
                                                                 {"tunnels", "-o", "xml"},
                                                                 {"tunnels", "n2"},
                                                                 {"backends", "a", "b"},
                                                                 {"drain", "a", "--timeout", "soon"}}) {
    EXPECT_EQ(parse(words).exit_code, 2) << (words.empty() ? "nothing" : words.front());
  }
}

TEST(Command, HelpAndVersionAreNoMistakes) {
  EXPECT_EQ(parse({"--help"}).exit_code, 0);
  EXPECT_EQ(parse({"drain", "--help"}).exit_code, 0);
  EXPECT_EQ(parse({"--version"}).exit_code, 0);
}

}  // namespace
}  // namespace sluice::agent::ctl
