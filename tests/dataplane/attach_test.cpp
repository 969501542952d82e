// Attaching to interfaces, beside what others have there, and taking it all off again.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

#include "node-agent/dataplane/attachments.h"
#include "node-agent/dataplane/bpffs.h"
#include "node-agent/dataplane/causes.h"
#include "node-agent/dataplane/device.h"
#include "node-agent/dataplane/program_object.h"
#include "node-agent/dataplane/tc.h"
#include "tests/dataplane/packet.h"
#include "tests/dataplane/sandbox.h"

namespace sluice::agent::dataplane::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

int index_of(const std::string& interface) {
  return static_cast<int>(if_nametoindex(interface.c_str()));
}

// A program that is none of ours: returns `verdict`.
int load_foreign(bpf_prog_type type, int verdict) {
  const bpf_insn code[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = verdict},
                           {.code = BPF_JMP | BPF_EXIT}};
  const int fd = bpf_prog_load(type, "somebodys", "GPL", code, 2, nullptr);
  EXPECT_GE(fd, 0);
  return fd;
}

class Attach : public SandboxTest {
 protected:
  void SetUp() override {
    SandboxTest::SetUp();
    dataplane_ = open();
    ASSERT_NE(dataplane_, nullptr);
    state_ = some_state(2);
    dataplane_->program(state_, "node0", ways_by(state_, "near"));
  }
  void TearDown() override {
    dataplane_.reset();
    SandboxTest::TearDown();
  }
  [[nodiscard]] static bool on_egress(const std::string& interface) {
    return has_egress(if_nametoindex(interface.c_str()), interface).value();
  }
  void expect_nothing_on(const std::string& interface) const {
    EXPECT_EQ(program_on(interface), 0U);
    EXPECT_EQ(link_id(interface), 0U);
    EXPECT_THAT(must("tc qdisc show dev " + interface), Not(HasSubstr("clsact")));
  }

  std::unique_ptr<Dataplane> dataplane_;
  state::DesiredState state_;
};

TEST_F(Attach, PutsAPinnedNativeLinkAndAClassifierOnEachInterface) {
  const auto attached = dataplane_->attach({{"near", AttachMode::native}, {"far", AttachMode::native}});
  ASSERT_TRUE(attached) << attached.error().message();
  ASSERT_EQ(attached->size(), 2U);
  EXPECT_EQ((*attached)[1].name, "near");
  EXPECT_EQ((*attached)[1].ifindex, if_nametoindex("near"));
  EXPECT_EQ((*attached)[1].mode, AttachMode::native);
  EXPECT_EQ((*attached)[1].driver, "veth");
  EXPECT_THAT(must("ip link show near"), HasSubstr(" xdp "));
  for (const auto* interface : {"near", "far"}) {
    EXPECT_NE(link_id(interface), 0U);
    EXPECT_TRUE(on_egress(interface));
  }
  EXPECT_NE(program_on("near"), program_on("far")) << "one copy of the program for each";
}

TEST_F(Attach, AgainWithTheSameInterfacesChangesNothing) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  const auto program = program_on("near");
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  EXPECT_EQ(program_on("near"), program);
}

TEST_F(Attach, TakesOffWhatIsNotAskedForAnyMore) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}, {"far", AttachMode::native}}));
  const auto attached = dataplane_->attach({{"far", AttachMode::native}});
  ASSERT_TRUE(attached);
  EXPECT_EQ(attached->size(), 1U);
  expect_nothing_on("near");
  EXPECT_NE(program_on("far"), 0U);
}

TEST_F(Attach, AlsoWhatAnEarlierProcessHadAttached) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}, {"far", AttachMode::native}}));
  dataplane_.reset();
  dataplane_ = open();
  EXPECT_EQ(dataplane_->attached().size(), 2U);
  ASSERT_TRUE(dataplane_->attach({{"far", AttachMode::native}}));
  expect_nothing_on("near");
}

TEST_F(Attach, AnUnknownInterfaceFailsAndLeavesAllAsItWas) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  const auto program = program_on("near");
  const auto failed = dataplane_->attach({{"far", AttachMode::native}, {"nowhere", AttachMode::native}});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::not_found);
  EXPECT_EQ(failed.error().object, "nowhere");
  EXPECT_EQ(program_on("near"), program);
  expect_nothing_on("far");
  EXPECT_EQ(dataplane_->attached().size(), 1U);
}

TEST_F(Attach, AForeignProgramIsRefusedByNameAndLeftAlone) {
  const int foreign = load_foreign(BPF_PROG_TYPE_XDP, 2);
  ASSERT_EQ(bpf_xdp_attach(index_of("near"), foreign, XDP_FLAGS_DRV_MODE, nullptr), 0);
  const auto before = program_on("near");
  const auto failed = dataplane_->attach({{"far", AttachMode::native}, {"near", AttachMode::native}});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::conflict);
  EXPECT_EQ(failed.error().object, "near");
  EXPECT_THAT(failed.error().reason, HasSubstr("somebodys"));
  EXPECT_EQ(program_on("near"), before);
  expect_nothing_on("far");
  bpf_xdp_detach(index_of("near"), XDP_FLAGS_DRV_MODE, nullptr);
  close(foreign);
  EXPECT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
}

TEST_F(Attach, ADriverWithoutNativeModeIsRefusedAndGenericModeWorksWhenAskedFor) {
  must("ip link add bare type ifb && ip link set bare up");
  const auto failed = dataplane_->attach({{"near", AttachMode::native}, {"bare", AttachMode::native}});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().cause, cause::kNativeModeNotSupported);
  EXPECT_EQ(failed.error().object, "bare");
  EXPECT_THAT(failed.error().reason, HasSubstr("ifb"));
  expect_nothing_on("near");
  const auto attached = dataplane_->attach({{"bare", AttachMode::generic}});
  ASSERT_TRUE(attached) << attached.error().message();
  EXPECT_EQ((*attached)[0].mode, AttachMode::generic);
  EXPECT_THAT(must("ip link show bare"), HasSubstr("xdpgeneric"));
  must("ip link del bare");
}

TEST_F(Attach, TheClassifierComesBeforeTheXdpProgramAndGoesWhereThatIsRefused) {
  must("ip link add bare type ifb && ip link set bare up");
  const int events = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  sockaddr_nl groups{};
  groups.nl_family = AF_NETLINK;
  groups.nl_groups = RTMGRP_TC;
  ASSERT_EQ(bind(events, reinterpret_cast<const sockaddr*>(&groups), sizeof groups), 0);
  ASSERT_FALSE(dataplane_->attach({{"bare", AttachMode::native}}));
  int filters = 0;
  alignas(nlmsghdr) std::array<char, 8192> message{};
  while (recv(events, message.data(), message.size(), 0) > 0) {
    filters += reinterpret_cast<const nlmsghdr*>(message.data())->nlmsg_type == RTM_NEWTFILTER ? 1 : 0;
  }
  close(events);
  EXPECT_EQ(filters, 1) << "it was there before XDP was refused";
  expect_nothing_on("bare");
  must("ip link del bare");
}

TEST_F(Attach, AnInterfaceWithoutEthernetIsRefused) {
  must("ip tuntap add bare mode tun");
  const auto failed = dataplane_->attach({{"bare", AttachMode::generic}});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().cause, cause::kNotEthernet);
  EXPECT_THAT(failed.error().reason, HasSubstr("Ethernet"));
  must("ip tuntap del bare mode tun");
}

TEST_F(Attach, TheModeChangesAndComesBackWhereTheOtherIsRefused) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::generic}}));
  EXPECT_THAT(must("ip link show near"), HasSubstr("xdpgeneric"));
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  EXPECT_THAT(must("ip link show near"), Not(HasSubstr("xdpgeneric")));
  must("ip link add bare type ifb && ip link set bare up");
  ASSERT_TRUE(dataplane_->attach({{"bare", AttachMode::generic}}));
  ASSERT_FALSE(dataplane_->attach({{"bare", AttachMode::native}}));
  EXPECT_THAT(must("ip link show bare"), HasSubstr("xdpgeneric"));
  ASSERT_EQ(dataplane_->attached().size(), 1U);
  EXPECT_EQ(dataplane_->attached()[0].mode, AttachMode::generic);
  EXPECT_TRUE(on_egress("bare"));
  must("ip link del bare");
}

TEST_F(Attach, AChangedMacIsAReplacedProgramOnTheSameLink) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  const auto link = link_id("near");
  const auto before = *device_by_name("near");
  must("ip link set near address 02:00:00:00:00:42");
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  EXPECT_EQ(link_id("near"), link);
  const auto to_old = udp_packet(before, "203.0.113.9", 1, "192.0.2.1", 80);
  const auto to_new = udp_packet(*device_by_name("near"), "203.0.113.9", 1, "192.0.2.1", 80);
  EXPECT_EQ(run_packet(program_fd("near"), to_old).verdict, 2) << "another host's frame: XDP_PASS";
  EXPECT_EQ(run_packet(program_fd("near"), to_new).verdict, 3);
}

TEST_F(Attach, FollowsAnInterfaceThatIsMadeAnew) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  must("ip link del near && ip link add near type veth peer name far && ip link set near up && ip link set far up");
  EXPECT_THAT(dataplane_->attached(), IsEmpty()) << "its link is dead";
  const auto attached = dataplane_->attach({{"near", AttachMode::native}});
  ASSERT_TRUE(attached) << attached.error().message();
  EXPECT_EQ((*attached)[0].ifindex, if_nametoindex("near"));
  EXPECT_NE(program_on("near"), 0U);
  EXPECT_TRUE(on_egress("near"));
}

TEST_F(Attach, FollowsAnInterfaceThatWasMadeAnewWhileNobodyLooked) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  dataplane_.reset();
  must("ip link del near && ip link add near type veth peer name far && ip link set near up && ip link set far up");
  dataplane_ = open();
  EXPECT_THAT(dataplane_->attached(), IsEmpty());
  EXPECT_EQ(link_id("near"), 0U) << "the dead link's pin is gone";
  EXPECT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
}

TEST_F(Attach, ALinkThatCannotBeLookedAtStays) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  const auto program = program_on("near");
  dataplane_.reset();
  // With one descriptor left the link can be opened, but not its device asked for; with none, nothing can be opened.
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int lowest_free = dup(0);
  ASSERT_GE(lowest_free, 0);
  close(lowest_free);
  rlimit few = before;
  few.rlim_cur = static_cast<rlim_t>(lowest_free) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  Attachments attachments(directory_);
  const auto found = attachments.find();
  setrlimit(RLIMIT_NOFILE, &before);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().kind, ErrorKind::exhausted) << found.error().message();
  EXPECT_NE(link_id("near"), 0U);
  EXPECT_EQ(program_on("near"), program);
}

TEST_F(Attach, FollowsARenamedInterface) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  const auto link = link_id("near");
  dataplane_.reset();
  must("ip link set near down && ip link set near name moved && ip link set moved up");
  dataplane_ = open();
  ASSERT_TRUE(dataplane_->attach({{"moved", AttachMode::native}}));
  EXPECT_EQ(link_id("moved"), link);
  EXPECT_EQ(link_id("near"), 0U);
  must("ip link set moved down && ip link set moved name near");
}

TEST_F(Attach, InterfacesWithDotsInTheirNamesArePinnedToo) {
  must("ip link set far name v.100 && ip link set v.100 up");
  ASSERT_TRUE(dataplane_->attach({{"v.100", AttachMode::native}}));
  EXPECT_NE(link_id("v.100"), 0U);
  dataplane_.reset();
  dataplane_ = open();
  ASSERT_EQ(dataplane_->attached().size(), 1U);
  EXPECT_EQ(dataplane_->attached()[0].name, "v.100");
}

TEST_F(Attach, ALinkOfAnEarlierLayoutIsTakenOverAndItsDirectoryGoes) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  const auto link = link_id("near");
  dataplane_.reset();
  const std::string older = directory_ + "/v0";
  ASSERT_TRUE(std::filesystem::create_directories(older + "/links"));
  ASSERT_TRUE(std::filesystem::create_directories(older + "/maps"));
  std::filesystem::rename(layout_directory(directory_) + "/links/xdp-near", older + "/links/xdp-near");
  std::filesystem::rename(layout_directory(directory_) + "/maps/flows4", older + "/maps/flows4");
  dataplane_ = open();
  dataplane_->program(state_, "node0", ways_by(state_, "near"));
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  EXPECT_EQ(link_id("near"), link);
  EXPECT_FALSE(std::filesystem::exists(older));
}

TEST_F(Attach, OthersClassifiersOnEgressStayAndStillSeePackets) {
  must("tc qdisc add dev near clsact");
  const int foreign = load_foreign(BPF_PROG_TYPE_SCHED_CLS, 0);
  bpf_tc_hook hook{.sz = sizeof hook, .ifindex = index_of("near"), .attach_point = BPF_TC_EGRESS};
  bpf_tc_opts options{.sz = sizeof options, .prog_fd = foreign, .handle = 1, .priority = 1};
  ASSERT_EQ(bpf_tc_attach(&hook, &options), 0);
  close(foreign);
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  EXPECT_TRUE(on_egress("near"));
  EXPECT_THAT(must("tc filter show dev near egress"), HasSubstr("somebodys"));
  ASSERT_TRUE(dataplane_->attach({}));
  EXPECT_FALSE(on_egress("near"));
  EXPECT_THAT(must("tc filter show dev near egress"), HasSubstr("somebodys"));
  EXPECT_THAT(must("tc qdisc show dev near"), HasSubstr("clsact"));
}

TEST_F(Attach, AForeignClassifierInOurPlaceIsRefusedAndNothingStays) {
  must("tc qdisc add dev near clsact");
  const int foreign = load_foreign(BPF_PROG_TYPE_SCHED_CLS, 0);
  bpf_tc_hook hook{.sz = sizeof hook, .ifindex = index_of("near"), .attach_point = BPF_TC_EGRESS};
  bpf_tc_opts options{.sz = sizeof options, .prog_fd = foreign, .handle = 0x51c, .priority = 1};
  ASSERT_EQ(bpf_tc_attach(&hook, &options), 0);
  close(foreign);
  const auto failed = dataplane_->attach({{"far", AttachMode::native}, {"near", AttachMode::native}});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::conflict);
  EXPECT_THAT(must("tc filter show dev near egress"), HasSubstr("somebodys"));
  EXPECT_EQ(program_on("near"), 0U);
  expect_nothing_on("far");
}

TEST_F(Attach, AClassifierThatSomebodyHasRemovedComesBack) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  EXPECT_THAT(dataplane_->without_egress(), IsEmpty());
  must("tc qdisc del dev near clsact");
  EXPECT_THAT(dataplane_->without_egress(), ::testing::ElementsAre("near"));
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  EXPECT_TRUE(on_egress("near"));
  EXPECT_THAT(dataplane_->without_egress(), IsEmpty());
}

class Purge : public Attach {};

// What cannot be brought about on a machine that has it all: the kernel's word for it, and what it is called.
TEST(Refusals, FollowTheCauseAndNotTheErrnoAlone) {
  const auto clsact = egress_refused(ENOENT, "add clsact to", "eth0", "CONFIG_NET_SCH_INGRESS").value();
  EXPECT_EQ(clsact.cause, cause::kMissingKernelFeature);
  EXPECT_EQ(clsact.message(),
            "add clsact to eth0: this kernel lacks CONFIG_NET_SCH_INGRESS (No such file or directory)");
  EXPECT_EQ(egress_refused(ENODEV, "add clsact to", "eth0", "").value().cause, cause::kInterfaceNotFound);
  EXPECT_EQ(egress_refused(EPERM, "add clsact to", "eth0", "").value().cause, cause::kBpfRefused);
  EXPECT_EQ(egress_refused(ENOMEM, "add clsact to", "eth0", "").value().cause, kNoCause);
  for (const int error : {EACCES, EINVAL, E2BIG}) {
    EXPECT_EQ(load_refused(error, "eth0").value().cause, cause::kProgramRefused) << error;
  }
  EXPECT_EQ(load_refused(EPERM, "eth0").value().cause, cause::kBpfRefused);
  EXPECT_EQ(load_refused(ENOMEM, "eth0").value().cause, kNoCause);
}

TEST_F(Purge, LeavesNothing) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}, {"far", AttachMode::generic}}));
  const auto link = link_id("near");
  const auto program = program_on("near");
  ASSERT_TRUE(dataplane_->purge());
  expect_nothing_on("near");
  expect_nothing_on("far");
  EXPECT_FALSE(std::filesystem::exists(directory_));
  EXPECT_NE(run("bpftool link show id " + std::to_string(link)).status, 0);
  // Freed after a grace period of the kernel's own.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (run("bpftool prog show id " + std::to_string(program)).status == 0 &&
         std::chrono::steady_clock::now() < deadline) {
  }
  EXPECT_NE(run("bpftool prog show id " + std::to_string(program)).status, 0);
}

TEST_F(Purge, EndsEveryOtherCall) {
  ASSERT_TRUE(dataplane_->purge());
  EXPECT_EQ(dataplane_->program(state_, "node0", {}).failures.size(), 2U);
  EXPECT_FALSE(dataplane_->attach({}));
  EXPECT_FALSE(dataplane_->sweep({}));
  EXPECT_TRUE(dataplane_->set_owned({}, std::chrono::seconds(1)).trouble);
  EXPECT_THAT(dataplane_->attached(), IsEmpty());
  EXPECT_TRUE(dataplane_->purge());
}

TEST_F(Purge, AfterItAnotherBeginsFromNothing) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  ASSERT_TRUE(dataplane_->purge());
  dataplane_ = open();
  ASSERT_NE(dataplane_, nullptr);
  EXPECT_GT(dataplane_->program(state_, "node0", ways_by(state_, "near")).writes, 0U);
  EXPECT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
}

TEST_F(Purge, WorksWithoutOpeningAndOverOtherLayouts) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  dataplane_.reset();
  std::filesystem::rename(layout_directory(directory_), directory_ + "/v99");
  ASSERT_TRUE(KernelDataplane::purge(directory_));
  expect_nothing_on("near");
  EXPECT_FALSE(std::filesystem::exists(directory_));
  EXPECT_TRUE(KernelDataplane::purge(directory_)) << "nothing there is fine";
}

TEST_F(Purge, TakesOffAClassifierWhoseLinkIsGone) {
  ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  dataplane_.reset();
  std::filesystem::remove(layout_directory(directory_) + "/links/xdp-near");
  // With its last reference the kernel drops the link, a little later.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (program_on("near") != 0 && std::chrono::steady_clock::now() < deadline) {
  }
  EXPECT_TRUE(on_egress("near"));
  ASSERT_TRUE(KernelDataplane::purge(directory_));
  expect_nothing_on("near");
}

class FailedOpening : public SandboxTest {
 protected:
  // More than any machine has.
  [[nodiscard]] Options too_large() const {
    Options options = this->options();
    options.sizes.owned_addresses = UINT32_MAX;
    return options;
  }
};

TEST_F(FailedOpening, LeavesNothingBehindWhereNothingWas) {
  ASSERT_FALSE(KernelDataplane::open(too_large()));
  EXPECT_FALSE(std::filesystem::exists(directory_));
}

TEST_F(FailedOpening, LeavesEverythingThatWasThereBefore) {
  const auto state = some_state(1);
  {
    const auto dataplane = open();
    dataplane->program(state, "node0", ways_by(state, "near"));
    ASSERT_TRUE(dataplane->attach({{"near", AttachMode::native}}));
  }
  const auto link = link_id("near");
  ASSERT_FALSE(KernelDataplane::open(too_large()));
  EXPECT_EQ(link_id("near"), link);
  const auto dataplane = open();
  EXPECT_EQ(dataplane->program(state, "node0", ways_by(state, "near")).writes, 0U) << "the maps are the same";
}

}  // namespace
}  // namespace sluice::agent::dataplane::testing
