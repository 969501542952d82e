// Two network namespaces of this process's own, joined by a veth pair: "near" lies where the tests run, "far" on the
// other side. They have no names and are gone with the process, however it ends.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "common/net/address.h"

namespace sluice::agent::testing {

struct CommandOutcome {
  int status = 0;
  std::string output;  // both of stdout and stderr
};
// Runs a shell command near.
CommandOutcome run(const std::string& command);
// The same; the test fails where the command does.
std::string must(const std::string& command);
// A command without pipes and redirections, on the far side.
std::string must_far(const std::string& command);

// Repeats `condition` until it holds; false when the time is over.
bool within(std::chrono::milliseconds patience, const std::function<bool()>& condition);

// Makes the calling thread one of the far side, for good.
void enter_far();
// Runs `work` on a thread of the far side and waits for it.
template <typename Work>
auto far_side(Work work) {
  std::optional<decltype(work())> outcome;
  std::thread([&] {
    enter_far();
    outcome.emplace(work());
  }).join();
  return std::move(*outcome);
}

net::IpAddress ip(const std::string& text);

// For each test a new pair, up, without duplicate address detection, which takes a second or two. Addresses: near
// 10.1.0.1/24 and fd00:1::1/64; far .2, ::2 and fe80::2; and link-local ones made of the MACs 02:00:00:00:00:01 and
// :02.
class SandboxTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
  uint32_t near_ = 0;  // its index
};

}  // namespace sluice::agent::testing
