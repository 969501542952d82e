// A network namespace and a bpffs of this process's own: everything that a test makes is gone with the process, however
// it ends.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "node-agent/dataplane/kernel_dataplane.h"

namespace sluice::agent::dataplane::testing {

struct CommandOutcome {
  int status = 0;
  std::string output;  // both of stdout and stderr
};
// Runs a shell command in the sandbox.
CommandOutcome run(const std::string& command);
// The same; the test fails where the command does.
std::string must(const std::string& command);

// Each test has a directory for pins of its own and the veth pair "near" and "far".
class SandboxTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  [[nodiscard]] Options options() const;
  // Opens, or fails the test.
  [[nodiscard]] std::unique_ptr<Dataplane> open() const { return open(options()); }
  [[nodiscard]] static std::unique_ptr<Dataplane> open(const Options& options);
  // Descriptor of a pinned map, owned by the test.
  [[nodiscard]] int pinned_map(const std::string& name);
  // Id of the pinned link on an interface; 0 where there is none.
  [[nodiscard]] uint32_t link_id(const std::string& interface) const;
  // Id of the XDP program on an interface; 0 where there is none.
  [[nodiscard]] static uint32_t program_on(const std::string& interface);
  // Descriptor of the same, owned by the test.
  [[nodiscard]] int program_fd(const std::string& interface);

  std::string directory_;

 private:
  std::vector<int> fds_;
};

// Services web0..web(count-1) at 192.0.2.1.., port 80, UDP, each with backends 10.1.S.1.., all on other nodes.
state::DesiredState some_state(uint32_t services, uint32_t backends = 3);
// Ways to all of its backends by one interface.
NextHops ways_by(const state::DesiredState& state, const std::string& interface);
net::IpAddress ip(const std::string& text);

}  // namespace sluice::agent::dataplane::testing
