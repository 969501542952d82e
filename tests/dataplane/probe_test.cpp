// What is said when this machine or this process will not do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "node-agent/dataplane/bpffs.h"
#include "node-agent/dataplane/probe.h"
#include "tests/dataplane/sandbox.h"

namespace sluice::agent::dataplane::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

uint64_t bit(int number) {
  return uint64_t{1} << number;
}
const uint64_t kEnough = bit(CAP_BPF) | bit(CAP_NET_ADMIN) | bit(CAP_PERFMON);

MachineFacts good() {
  MachineFacts facts;
  facts.kernel_release = "6.1.0-18-amd64";
  facts.capabilities = kEnough;
  facts.bpffs = true;
  facts.directory = "/sys/fs/bpf/sluice";
  return facts;
}

TEST(Probe, ThreeCapabilitiesABpffsAndAKernelFromSixOneOnWillDo) {
  for (const char* release : {"6.1.0-18-amd64", "6.1", "6.12.3", "7.0.0-rc1"}) {
    auto facts = good();
    facts.kernel_release = release;
    EXPECT_THAT(judge(facts), IsEmpty()) << release;
  }
}

TEST(Probe, AnOldKernelIsNamed) {
  for (const char* release : {"6.0.19", "5.15.0-91-generic", "5.10.0-28-amd64", "4.19.0"}) {
    auto facts = good();
    facts.kernel_release = release;
    const auto findings = judge(facts);
    ASSERT_EQ(findings.size(), 1U) << release;
    EXPECT_EQ(reason(findings[0].lack), "KernelTooOld");
    EXPECT_EQ(findings[0].message, std::string("Linux ") + release +
                                       " is too old: Sluice needs 6.1 or newer; boot this machine with a newer kernel");
  }
}

TEST(Probe, AKernelWithoutBpfIsNamedByItsOption) {
  auto facts = good();
  facts.map_error = ENOSYS;
  const auto findings = judge(facts);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(reason(findings[0].lack), "MissingKernelFeature");
  EXPECT_EQ(findings[0].what, "CONFIG_BPF_SYSCALL");
}

TEST(Probe, EachMissingCapabilityIsNamed) {
  for (const auto& [number, name] :
       {std::pair{CAP_BPF, "CAP_BPF"}, {CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {CAP_PERFMON, "CAP_PERFMON"}}) {
    auto facts = good();
    facts.capabilities &= ~bit(number);
    facts.map_error = EPERM;
    const auto findings = judge(facts);
    ASSERT_EQ(findings.size(), 1U) << name;
    EXPECT_EQ(reason(findings[0].lack), "MissingCapability");
    EXPECT_EQ(findings[0].what, name);
    EXPECT_THAT(findings[0].message, HasSubstr(name));
  }
}

TEST(Probe, SysAdminStandsForBpfAndPerfmonAndNotForNetAdmin) {
  auto facts = good();
  facts.capabilities = bit(CAP_SYS_ADMIN) | bit(CAP_NET_ADMIN);
  EXPECT_THAT(judge(facts), IsEmpty());
  facts.capabilities = bit(CAP_SYS_ADMIN);
  ASSERT_EQ(judge(facts).size(), 1U);
  EXPECT_EQ(judge(facts)[0].what, "CAP_NET_ADMIN");
}

TEST(Probe, ADirectoryOffBpffsIsSaidWhereNoneCanBeMounted) {
  auto facts = good();
  facts.bpffs = false;
  ASSERT_EQ(judge(facts).size(), 1U);
  EXPECT_EQ(reason(judge(facts)[0].lack), "NoBpffs");
  EXPECT_THAT(judge(facts)[0].message, HasSubstr("mount -t bpf"));
  facts.may_mount = true;
  EXPECT_THAT(judge(facts), IsEmpty());
}

TEST(Probe, ARefusedBpfCallIsSaidWhereEveryCapabilityIsThere) {
  auto facts = good();
  facts.map_error = EPERM;
  ASSERT_EQ(judge(facts).size(), 1U);
  EXPECT_EQ(reason(judge(facts)[0].lack), "BpfRefused");
}

// Runs in a child: capabilities that are dropped stay dropped.
template <typename F>
int exit_code_of(F in_child) {
  const pid_t child = fork();
  if (child == 0) {
    _exit(in_child());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void keep_capabilities(uint64_t capabilities) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  for (int half = 0; half < 2; ++half) {
    data[half].effective = data[half].permitted = static_cast<__u32>(capabilities >> (32 * half));
  }
  syscall(SYS_capset, &header, data);
}

class Rights : public SandboxTest {};

TEST_F(Rights, ThreeCapabilitiesAreEnoughForAllOfIt) {
  const auto options = this->options();
  EXPECT_EQ(exit_code_of([&options] {
              std::filesystem::create_directories(options.directory);
              keep_capabilities(kEnough);
              auto dataplane = KernelDataplane::open(options);
              if (!dataplane) {
                std::cerr << dataplane.error().message() << "\n";
                return 1;
              }
              const auto state = some_state(3);
              if (!(*dataplane)->program(state, "node0", ways_by(state, "near")).failures.empty()) {
                return 2;
              }
              for (const auto mode : {AttachMode::native, AttachMode::native, AttachMode::generic}) {
                if (auto attached = (*dataplane)->attach({{"near", mode}}); !attached) {
                  std::cerr << attached.error().message() << "\n";
                  return 3;
                }
              }
              if (!(*dataplane)->verify().failures.empty() || !(*dataplane)->sweep({}) || !(*dataplane)->counters()) {
                return 4;
              }
              return (*dataplane)->purge() ? 0 : 5;
            }),
            0);
}

TEST_F(Rights, WithoutACapabilityOpeningSaysWhich) {
  const auto options = this->options();
  EXPECT_EQ(exit_code_of([&options] {
              keep_capabilities(bit(CAP_BPF) | bit(CAP_PERFMON));
              const auto dataplane = KernelDataplane::open(options);
              return !dataplane && dataplane.error().cause == "MissingCapability" &&
                             dataplane.error().reason.find("CAP_NET_ADMIN") != std::string::npos
                         ? 0
                         : 1;
            }),
            0);
}

TEST_F(Rights, ADirectoryOffBpffsGetsABpffsOfItsOwn) {
  auto options = this->options();
  options.directory = std::filesystem::temp_directory_path() / ("sluice-dataplane-mount-" + std::to_string(getpid()));
  {
    const auto dataplane = open(options);
    ASSERT_NE(dataplane, nullptr);
    EXPECT_TRUE(dataplane->purge());
  }
  umount2(options.directory.c_str(), MNT_DETACH);
  std::filesystem::remove(options.directory);
}

TEST_F(Rights, ADirectoryOffBpffsWhereNoneCanBeMountedIsSaid) {
  auto options = this->options();
  options.directory = std::filesystem::temp_directory_path() / ("sluice-dataplane-off-" + std::to_string(getpid()));
  EXPECT_EQ(exit_code_of([&options] {
              keep_capabilities(kEnough);
              const auto dataplane = KernelDataplane::open(options);
              return !dataplane && dataplane.error().cause == "NoBpffs" ? 0 : 1;
            }),
            0);
  EXPECT_FALSE(std::filesystem::exists(options.directory));
}

// As an AppArmor profile does it that forbids writing below /sys/fs: every capability that is asked for is there.
TEST_F(Rights, ABpffsThatCannotBeWrittenToIsSaid) {
  const auto options = this->options();
  const auto refused = [&options](const char* what) {
    return exit_code_of([&options, what] {
      keep_capabilities(kEnough);
      const auto dataplane = KernelDataplane::open(options);
      if (!dataplane && dataplane.error().cause == "BpfRefused" &&
          dataplane.error().message().find(what) != std::string::npos) {
        return 0;
      }
      std::cerr << (dataplane ? "opened" : dataplane.error().message()) << "\n";
      return 1;
    });
  };
  const auto somebodys = [](const std::string& directory) {
    EXPECT_TRUE(std::filesystem::create_directories(directory));
    EXPECT_EQ(chown(directory.c_str(), 65534, 65534), 0);
    EXPECT_EQ(chmod(directory.c_str(), 0755), 0);
  };
  somebodys(directory_);
  EXPECT_EQ(refused("make directory"), 0);
  EXPECT_TRUE(std::filesystem::create_directories(layout_directory(directory_) + "/links"));
  somebodys(layout_directory(directory_) + "/maps");
  EXPECT_EQ(refused("pin"), 0);
}

TEST_F(Rights, OptionsThatCannotBeAreRefused) {
  const auto refused = [this](auto change) {
    auto options = this->options();
    change(options);
    const auto dataplane = KernelDataplane::open(options);
    return !dataplane && dataplane.error().kind == ErrorKind::invalid;
  };
  EXPECT_TRUE(refused([](Options& options) { options.directory = "relative"; }));
  EXPECT_TRUE(refused([](Options& options) { options.sizes.tables.slots = 12; }));
  EXPECT_TRUE(refused([](Options& options) { options.sizes.tables.keys = 64; }));
  EXPECT_TRUE(refused([](Options& options) { options.sizes.tables.services = 1000; }));
  EXPECT_TRUE(refused([](Options& options) { options.sizes.flows4 = 0; }));
  EXPECT_TRUE(refused([](Options& options) { options.sizes.half_open6 = 100; }));
  EXPECT_TRUE(refused([](Options& options) { options.nat_ports = {20000, 10000}; }));
}

}  // namespace
}  // namespace sluice::agent::dataplane::testing
