#include "tests/network/sandbox.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace sluice::agent::testing {
namespace {

pid_t far_process = 0;

[[noreturn]] void be_the_far_side(int ready) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const char failed = unshare(CLONE_NEWNET) == 0 ? 0 : 1;
  std::ignore = write(ready, &failed, 1);
  for (;;) pause();
}

// Before the first test. Without the rights for it the tests fail and say so: they are never left out.
class Sandbox : public ::testing::Environment {
 public:
  void SetUp() override {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0) << "these tests need root: " << std::strerror(errno);
    std::array<int, 2> ready{};
    ASSERT_EQ(pipe2(ready.data(), O_CLOEXEC), 0);
    far_process = fork();
    ASSERT_GE(far_process, 0) << std::strerror(errno);
    if (far_process == 0) be_the_far_side(ready[1]);
    char failed = 1;
    ASSERT_EQ(read(ready[0], &failed, 1), 1);
    ASSERT_EQ(failed, 0) << "no second network namespace";
    close(ready[0]);
    close(ready[1]);
    for (const auto& command : {"ip link set lo up", "sysctl -qw net.ipv6.conf.default.accept_dad=0",
                                "sysctl -qw net.ipv6.conf.all.keep_addr_on_down=1"}) {
      must(command);
      must_far(command);
    }
  }
  void TearDown() override {
    if (far_process <= 0) return;
    kill(far_process, SIGKILL);
    waitpid(far_process, nullptr, 0);
  }
};

const auto* const kSandbox = ::testing::AddGlobalTestEnvironment(new Sandbox);

}  // namespace

CommandOutcome run(const std::string& command) {
  CommandOutcome outcome;
  FILE* pipe = popen(("exec 2>&1; " + command).c_str(), "r");
  if (pipe == nullptr) {
    outcome.status = -1;
    return outcome;
  }
  std::array<char, 4096> buffer{};
  while (const size_t length = fread(buffer.data(), 1, buffer.size(), pipe)) {
    outcome.output.append(buffer.data(), length);
  }
  outcome.status = pclose(pipe);
  return outcome;
}

std::string must(const std::string& command) {
  const auto outcome = run(command);
  EXPECT_EQ(outcome.status, 0) << command << "\n" << outcome.output;
  return outcome.output;
}

std::string must_far(const std::string& command) {
  return must("nsenter -t " + std::to_string(far_process) + " -n " + command);
}

bool within(std::chrono::milliseconds patience, const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    if (condition()) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void enter_far() {
  const std::string path = "/proc/" + std::to_string(far_process) + "/ns/net";
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_GE(fd, 0) << path;
  EXPECT_EQ(setns(fd, CLONE_NEWNET), 0) << std::strerror(errno);
  close(fd);
}

net::IpAddress ip(const std::string& text) {
  return net::IpAddress::parse(text).value();
}

void SandboxTest::SetUp() {
  ASSERT_GT(far_process, 0);
  must("ip link add near address 02:00:00:00:00:01 type veth peer name far address 02:00:00:00:00:02 netns " +
       std::to_string(far_process));
  must("ip link set near up");
  must_far("ip link set far up");
  must("ip address add 10.1.0.1/24 dev near");
  must_far("ip address add 10.1.0.2/24 dev far");
  must("ip address add fd00:1::1/64 dev near nodad");
  for (const auto* address : {"fd00:1::2/64", "fe80::2/64"}) {
    must_far(std::string("ip address add ") + address + " dev far nodad");
  }
  near_ = if_nametoindex("near");
}

void SandboxTest::TearDown() {
  run("ip link del near");
}

}  // namespace sluice::agent::testing
