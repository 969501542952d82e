// The agent's heart against a kernel made of values: order of steps, what is remembered, what is told.
#include <gmock/gmock.h>

#include <filesystem>

#include "tests/unit/agent/core_fixture.h"

namespace sluice::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST_F(CoreTest, WithoutAnyStateNothingIsOpenedOrAttached) {
  Core core = make();
  core.set_watcher(&watcher_);
  ASSERT_TRUE(core.load());
  core.restore();
  core.announce();
  core.retry();
  EXPECT_THAT(kernel_.calls, IsEmpty());
  EXPECT_TRUE(core.facts().ready);
  EXPECT_EQ(condition(core, "Programmed").reason, "NoState");
}

TEST_F(CoreTest, MachineThatCannotForwardIsToldBeforeThereIsAnyState) {
  kernel_.refuse_open = because("KernelTooOld", fail(ErrorKind::not_supported, "use", "this kernel", "5.4")).value();
  Core core = make();
  core.set_watcher(&watcher_);
  ASSERT_TRUE(core.load());
  core.restore();
  EXPECT_FALSE(core.facts().ready);
  EXPECT_EQ(condition(core, "Ready").reason, "KernelTooOld");
  EXPECT_THAT(kernel_.calls, IsEmpty());
}

TEST_F(CoreTest, ProgramsBeforeItAttaches) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  EXPECT_THAT(kernel_.calls, ElementsAre("open", "program", "attach"));
  EXPECT_EQ(kernel_.attached.at(0).name, "eth0");
  EXPECT_TRUE(condition(core, "Programmed").status);
  EXPECT_TRUE(core.facts().ready);
  EXPECT_EQ(core.facts().backends, 2U);
}

TEST_F(CoreTest, RemembersTheStateForTheNextStart) {
  {
    Core core = make();
    core.set_watcher(&watcher_);
    core.apply(small_state(3, 9));
    core.remember_epoch("cluster-1", 3);
  }
  kernel_.calls.clear();
  Core core = make();
  core.set_watcher(&watcher_);
  ASSERT_TRUE(core.load());
  core.restore();
  EXPECT_EQ(kernel_.programmed, small_state(3, 9));
  EXPECT_EQ(core.epoch_of("cluster-1"), 3U);
  EXPECT_EQ(core.facts().digest, state::digest(small_state(3, 9)));
}

TEST_F(CoreTest, OwnsWhatItIsFirstForAndRenewsForTheGrace) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  EXPECT_THAT(kernel_.owned, ElementsAre(dataplane::OwnedAddress{ip("192.0.2.10"), 2}));
  EXPECT_EQ(kernel_.owned_for, std::chrono::seconds(30));
  EXPECT_THAT(core.facts().announcing, ElementsAre(ip("192.0.2.10")));
  auto other = small_state(1, 2);
  other.announcements.begin()->second.nodes = {"node2", "node1"};
  core.apply(other);
  EXPECT_THAT(kernel_.owned, IsEmpty());
  EXPECT_THAT(core.facts().announcing, IsEmpty());
}

TEST_F(CoreTest, AddressThatIsNotAnsweredForIsToldAndNotCalledAnnounced) {
  Core core = make();
  core.set_watcher(&watcher_);
  auto state = small_state(1, 1);
  state.announcements[ip("192.0.2.11")] = {ip("192.0.2.11"), {"node1"}, {}};
  kernel_.owned_room = 1;
  core.apply(state);
  EXPECT_THAT(core.facts().announcing, ElementsAre(ip("192.0.2.10")));
  EXPECT_EQ(condition(core, "Ready").reason, "AnnounceFailed");
  EXPECT_THAT(condition(core, "Ready").message, HasSubstr("192.0.2.11"));
  EXPECT_TRUE(core.facts().ready) << "it forwards what comes";
  kernel_.owned_room = 2;
  core.announce();
  EXPECT_THAT(core.facts().announcing, ElementsAre(ip("192.0.2.10"), ip("192.0.2.11")));
  EXPECT_EQ(condition(core, "Ready").reason, "Ready");
}

TEST_F(CoreTest, RestartWithinTheGraceGoesOnAnnouncing) {
  run_before();
  Core core = make();
  core.set_watcher(&watcher_);
  ASSERT_TRUE(core.load());
  core.restore();
  EXPECT_TRUE(core.confirmed());
  EXPECT_THAT(kernel_.owned, ElementsAre(dataplane::OwnedAddress{ip("192.0.2.10"), 2}));
  EXPECT_THAT(core.facts().announcing, ElementsAre(ip("192.0.2.10")));
}

TEST_F(CoreTest, AwayForLongerItAnnouncesNothingBeforeItIsTold) {
  run_before();
  kernel_.owned.clear();  // the deadline has passed, or the machine was rebooted
  Core core = make();
  core.set_watcher(&watcher_);
  ASSERT_TRUE(core.load());
  core.restore();
  core.announce();
  core.retry();
  EXPECT_FALSE(core.confirmed());
  EXPECT_EQ(kernel_.programmed, small_state(1, 1)) << "it forwards what still comes to it";
  EXPECT_THAT(kernel_.owned, IsEmpty());
  EXPECT_THAT(core.facts().announcing, IsEmpty());
  core.apply(small_state(1, 1));
  EXPECT_THAT(kernel_.owned, ElementsAre(dataplane::OwnedAddress{ip("192.0.2.10"), 2}));
}

TEST_F(CoreTest, BackendsOfThisNodeAreLocalTargets) {
  Core core = make();
  core.set_watcher(&watcher_);
  auto state = small_state(1, 1);
  state.services["s/http"].backends[0].node = "node1";
  state.services["s/http"].backends[1].node = "node2";
  core.apply(state);
  EXPECT_EQ(watcher_.targets(), (nexthop::Targets{{ip("10.0.0.2"), true}, {ip("10.0.0.3"), false}}));
  EXPECT_TRUE(kernel_.network.next_hops.at(ip("10.0.0.2")).local);
}

TEST_F(CoreTest, SourceAddressOfTheNodeBeforeTheRoutes) {
  Core core = make();
  core.set_watcher(&watcher_);
  auto state = small_state(1, 1);
  state.nodes["node1"].source_addresses = {ip("10.0.0.200")};
  core.apply(state);
  EXPECT_EQ(kernel_.network.next_hops.at(ip("10.0.0.2")).source, ip("10.0.0.200"));
}

TEST_F(CoreTest, BackendWithoutAWayIsAFailureOfItsServiceUntilThereIsOne) {
  Core core = make();
  core.set_watcher(&watcher_);
  watcher_.unresolved[ip("10.0.0.3")] = "reached through docker0, where Sluice is not attached: add it to interfaces";
  core.apply(small_state(1, 1));
  ASSERT_EQ(core.facts().failures.size(), 1U);
  EXPECT_EQ(core.facts().failures[0].reason, "Unreachable");
  EXPECT_THAT(condition(core, "Programmed").message, HasSubstr("backend 10.0.0.3: reached through docker0"));
  watcher_.unresolved.clear();
  core.on_network();
  EXPECT_EQ(kernel_.calls.back(), "update_ways");
  EXPECT_THAT(core.facts().failures, IsEmpty());
}

TEST_F(CoreTest, DataplaneThatCannotBeLoadedIsACondition) {
  kernel_.refuse_open = because("MissingCapability", fail(ErrorKind::denied, "load program", "", "CAP_BPF")).value();
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  EXPECT_EQ(condition(core, "Ready").reason, "MissingCapability");
  EXPECT_FALSE(core.facts().ready);
  ASSERT_EQ(core.facts().failures.size(), 1U);
  EXPECT_EQ(core.facts().failures[0].reason, "MissingCapability");
  kernel_.refuse_open.reset();
  core.retry();
  EXPECT_TRUE(core.facts().ready);
  EXPECT_THAT(core.facts().failures, IsEmpty());
}

TEST_F(CoreTest, ReasonIsTheCauseThatWasFoundWhateverTheErrno) {
  for (const char* cause : {"NoBpffs", "BpfRefused", "MissingKernelFeature", "MissingCapability"}) {
    kernel_.refuse_open = because(cause, fail(ErrorKind::denied, "open the dataplane", "", "why")).value();
    Core core = make();
    core.set_watcher(&watcher_);
    core.apply(small_state(1, 1));
    EXPECT_EQ(condition(core, "Ready").reason, cause);
  }
  kernel_.refuse_open.reset();
  for (const char* cause : {"ProgramRefused", "MissingKernelFeature", "NotEthernet"}) {
    kernel_.refuse_attach = [cause](const auto&) {
      return because(cause, fail_errno(EACCES, "attach", "eth0")).value();
    };
    Core core = make({}, config::InterfaceMode::automatic);
    core.set_watcher(&watcher_);
    core.apply(small_state(1, 1));
    EXPECT_EQ(condition(core, "Ready").reason, cause);
  }
  kernel_.refuse_open = fail_errno(ENOMEM, "make maps", "").value();
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  EXPECT_EQ(condition(core, "Ready").reason, "DataplaneFailed");
}

TEST_F(CoreTest, MtuOfADeviceThatIsAWayReachesTheMaps) {
  watcher_.view.links[4] = {4, "eth2", "", {2, 0, 0, 0, 0, 4}, true, true};
  Core core = make({{"eth0"}, {"eth1"}});
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  kernel_.calls.clear();
  watcher_.view.links[4].mtu = 1400;
  core.on_network();
  EXPECT_THAT(kernel_.calls, IsEmpty()) << "neither attached nor a way to a backend";
  watcher_.view.links[2].mtu = 1400;
  core.on_network();
  EXPECT_THAT(kernel_.calls, ElementsAre("update_ways"));
  kernel_.calls.clear();
  watcher_.view.links[3].mtu = 1400;
  core.on_network();
  EXPECT_THAT(kernel_.calls, ElementsAre("update_ways")) << "clients may be behind what is attached";
}

TEST_F(CoreTest, FailuresOfTheProgramAndOfLaterVerificationAreTold) {
  kernel_.program_failures = {{"s/http", "TableFull", "no room"}};
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  EXPECT_EQ(condition(core, "Programmed").reason, "TableFull");
  core.verify();
  EXPECT_TRUE(condition(core, "Programmed").status);
}

TEST_F(CoreTest, MapsThatDifferAreTakenOverAnew) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  kernel_.calls.clear();
  kernel_.verify_failures = {{"s/http", "ReadBackDiffers", "slot 3"}};
  core.verify();
  EXPECT_THAT(kernel_.calls, ElementsAre("open", "program", "attach"));
  EXPECT_TRUE(condition(core, "Programmed").status);
}

TEST_F(CoreTest, StateThatIsHeldAndNotYetInTheMapsIsNoFailureCalledReady) {
  run_before();
  Core core = make();
  core.set_watcher(&watcher_);
  ASSERT_TRUE(core.load());
  core.on_network();  // before restore()
  ASSERT_EQ(core.facts().failures.size(), 1U);
  EXPECT_EQ(core.facts().failures[0].reason, "Programming");
  EXPECT_EQ(condition(core, "Programmed").reason, "Programming");
  EXPECT_EQ(condition(core, "Ready").reason, "Starting");
  EXPECT_TRUE(condition(core, "Ready").status) << "nothing is in the way: no address has to move";
  EXPECT_FALSE(core.facts().ready);
  core.restore();
  EXPECT_EQ(condition(core, "Ready").message, "forwarding");
  EXPECT_THAT(core.facts().failures, IsEmpty());
}

TEST_F(CoreTest, PurgeForgetsAllButTheEpochs) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.remember_epoch("cluster-1", 5);
  core.apply(small_state(5, 1));
  ASSERT_TRUE(core.purge());
  EXPECT_EQ(kernel_.calls.back(), "purge");
  EXPECT_FALSE(std::filesystem::exists(directory_.file("state.json")));
  EXPECT_FALSE(core.facts().has_state);
  EXPECT_TRUE(core.facts().interfaces.empty());
  EXPECT_TRUE(watcher_.targets().empty());
  EXPECT_EQ(core.epoch_of("cluster-1"), 5U);
  core.retry();
  core.announce();
  EXPECT_EQ(kernel_.calls.back(), "purge") << "nothing comes back by itself";
}

TEST_F(CoreTest, StateThatCannotBeSavedIsForwardedAllTheSameAndTold) {
  Core core = make();
  core.set_watcher(&watcher_);
  std::filesystem::create_directory(directory_.file("state.json.new"));
  core.apply(small_state(1, 1));
  EXPECT_TRUE(kernel_.programmed);
  EXPECT_EQ(condition(core, "Ready").reason, "StateNotSaved");
  EXPECT_TRUE(core.facts().ready);
  std::filesystem::remove(directory_.file("state.json.new"));
  core.retry();
  EXPECT_EQ(condition(core, "Ready").reason, "Ready");
  EXPECT_TRUE(std::filesystem::exists(directory_.file("state.json"))) << "it is tried again";
}

}  // namespace
}  // namespace sluice::agent
