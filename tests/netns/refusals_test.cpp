// A machine or a process that lacks something, and files that are no good: what the real agent says, and that it leaves
// everything as it was.
#include <gmock/gmock.h>

#include "tests/netns/standalone_fixture.h"

namespace sluice::lab {
namespace {

using testing::HasSubstr;
using testing::Not;

class Refusals : public Standalone {
 protected:
  Refusals() : Standalone(1) {}
  // Standalone mode ends with what it lacks: the exit code and the log.
  CommandOutcome refused(const std::vector<std::string>& under, std::vector<std::string> flags = {}) {
    write(file_text(backend(1)));
    flags.insert(flags.begin(), {"--config", file_});
    AgentProcess agent(lab_, flags, under);
    CommandOutcome outcome;
    outcome.exit_code = agent.wait_exit();
    outcome.output = agent.log();
    return outcome;
  }
  void expect_untouched() const {
    EXPECT_FALSE(std::filesystem::exists(lab_.bpffs()));
    EXPECT_FALSE(std::filesystem::exists(lab_.file("state.json")));
    EXPECT_THAT(lab_.in("lb", "ip link show dev eth0").output, Not(HasSubstr("xdp")));
    EXPECT_EQ(lab_.in("lb", "tc qdisc show dev eth0 clsact").output, "");
  }
};

struct Capability {
  const char* dropped;  // as setpriv has it
  const char* message;
};
class MissingCapability : public Refusals, public testing::WithParamInterface<Capability> {};
INSTANTIATE_TEST_SUITE_P(
    Each, MissingCapability,
    testing::Values(Capability{"-net_admin",
                               "CAP_NET_ADMIN is missing, to attach programs to interfaces: add it to the agent's "
                               "capabilities"},
                    Capability{
                        "-sys_admin,-bpf",
                        "CAP_BPF is missing, to make maps and load programs: add it to the agent's capabilities"},
                    Capability{"-sys_admin,-perfmon",
                               "CAP_PERFMON is missing, for the pointer arithmetic of the XDP program: add it to the "
                               "agent's capabilities"}));

TEST_P(MissingCapability, IsNamedAndNothingIsChanged) {
  const auto outcome = refused({"setpriv", "--bounding-set", GetParam().dropped});
  EXPECT_EQ(outcome.exit_code, 1) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr(std::string("open the dataplane: ") + GetParam().message));
  expect_untouched();
}

// The command that follows sees a machine without bpffs, and may not mount one.
const std::vector<std::string> kWithoutBpffs = {
    "unshare", "--mount", "sh", "-c", "umount -l /sys/fs/bpf && exec setpriv --bounding-set -sys_admin \"$@\"", "sh"};

std::string no_bpffs(const Lab& lab) {
  return "open the dataplane: " + lab.bpffs() +
         " is not on a bpffs, and mounting one takes CAP_SYS_ADMIN: mount it on the host (mount -t bpf bpf "
         "/sys/fs/bpf) "
         "and let the agent see it";
}

TEST_F(Refusals, MissingBpffsIsNamedAndNothingIsChanged) {
  const auto outcome = refused(kWithoutBpffs);
  EXPECT_EQ(outcome.exit_code, 1) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr(no_bpffs(lab_)));
  expect_untouched();
}

TEST_F(Refusals, MapsThatCannotBeMadeLeaveNothingBehind) {
  // Enough to begin with, and too few for a descriptor of each map.
  const auto outcome = refused({"prlimit", "--nofile=26"});
  EXPECT_EQ(outcome.exit_code, 1) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("make map"));
  expect_untouched();
}

TEST_F(Refusals, InAClusterWhatLacksIsTheReasonOfTheConditionReady) {
  const std::vector<std::string> cluster = {"--listen", "127.0.0.1:9470", "--tls-dir", lab_.file("tls")};
  {
    const AgentProcess agent(lab_, cluster, kWithoutBpffs);
    EXPECT_TRUE(agent.wait_ready(503, "Ready=False NoBpffs: " + no_bpffs(lab_)));
  }
  {
    const AgentProcess agent(lab_, cluster, {"setpriv", "--bounding-set", "-net_admin"});
    EXPECT_TRUE(agent.wait_ready(503, "Ready=False MissingCapability: open the dataplane: CAP_NET_ADMIN is missing"));
  }
  expect_untouched();
}

}  // namespace
}  // namespace sluice::lab
