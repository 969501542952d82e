// A network namespace and a bpffs of this process's own: everything that a test makes is gone with the process, however
// it ends.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "node-agent/dataplane/kernel_dataplane.h"
#include "node-agent/dataplane/mapping.h"

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
  // The elements of a pinned table.
  template <typename T>
  [[nodiscard]] std::span<T> table(const std::string& name) {
    return mapped(name).elements<T>();
  }
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
  const Mapping& mapped(const std::string& name);

  std::vector<int> fds_;
  std::vector<std::unique_ptr<Mapping>> mappings_;
};

// Services web0..web(count-1) at 192.0.2.1.., port 80, UDP, each with backends 10.1.S.1.., all on other nodes.
state::DesiredState some_state(uint32_t services, uint32_t backends = 3);
// The same in IPv6: web0/IPv6.. at 2001:db8::1.., with backends fd00:S::1...
state::DesiredState some_state6(uint32_t services, uint32_t backends = 3);
// Ways to all of its backends by one interface.
Network ways_by(const state::DesiredState& state, const std::string& interface);
net::IpAddress ip(const std::string& text);

}  // namespace sluice::agent::dataplane::testing
