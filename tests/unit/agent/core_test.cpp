// The agent's heart against a kernel made of values: order of steps, what is remembered, what is told.
#include "node-agent/agent/core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/fakes.h"
#include "tests/unit/agent/fixtures.h"

namespace sluice::agent {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class CoreTest : public testing::Test {
 protected:
  Core make(std::vector<config::Interface> interfaces = {},
            config::InterfaceMode mode = config::InterfaceMode::native) {
    CoreOptions options;
    options.node = "node1";
    options.interfaces = std::move(interfaces);
    options.mode = mode;
    return {options, StateFile(directory_.file("state.json")), to_kernel(kernel_)};
  }
  // What it leaves is a state file, and what the kernel has.
  void run_before() {
    Core core = make();
    core.set_watcher(&watcher_);
    core.apply(small_state(1, 1));
  }
  static const health::Condition& condition(const Core& core, const std::string& type) {
    return *std::ranges::find(core.facts().conditions, type, &health::Condition::type);
  }
  TemporaryDirectory directory_;
  FakeKernel kernel_;
  FakeWatcher watcher_;
};

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
  EXPECT_TRUE(kernel_.next_hops.at(ip("10.0.0.2")).local);
}

TEST_F(CoreTest, SourceAddressOfTheNodeBeforeTheRoutes) {
  Core core = make();
  core.set_watcher(&watcher_);
  auto state = small_state(1, 1);
  state.nodes["node1"].source_addresses = {ip("10.0.0.200")};
  core.apply(state);
  EXPECT_EQ(kernel_.next_hops.at(ip("10.0.0.2")).source, ip("10.0.0.200"));
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
  EXPECT_EQ(kernel_.calls.back(), "update_next_hops");
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

TEST_F(CoreTest, InterfaceThatRefusesIsAConditionAndTriedAgain) {
  kernel_.refuse_attach = [](const auto&) {
    return because("ForeignProgram", fail(ErrorKind::exists, "attach XDP program to", "eth0", "another is there"))
        .value();
  };
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  EXPECT_EQ(condition(core, "Ready").reason, "ForeignProgram");
  EXPECT_EQ(core.facts().failures.size(), 1U) << "nothing is forwarded without an interface";
  kernel_.refuse_attach = nullptr;
  core.retry();
  EXPECT_TRUE(core.facts().ready);
}

TEST_F(CoreTest, AutomaticModeFallsBackWithACondition) {
  kernel_.refuse_attach = [](const std::vector<dataplane::InterfaceRequest>& requests) -> std::optional<Error> {
    if (requests.at(0).mode == dataplane::AttachMode::generic) return std::nullopt;
    return because("NativeModeNotSupported", fail(ErrorKind::not_supported, "attach to", "eth0", "no native XDP"))
        .value();
  };
  Core native = make();
  native.set_watcher(&watcher_);
  native.apply(small_state(1, 1));
  EXPECT_EQ(condition(native, "Ready").reason, "NativeModeNotSupported");
  EXPECT_THAT(condition(native, "Ready").message, HasSubstr("generic mode, which is slower, must be asked for"));
  Core automatic = make({}, config::InterfaceMode::automatic);
  automatic.set_watcher(&watcher_);
  automatic.apply(small_state(1, 1));
  EXPECT_EQ(condition(automatic, "Ready").reason, "GenericMode");
  EXPECT_TRUE(automatic.facts().ready);
}

// Drivers without native mode: refuses it on these, and counts what was asked of the kernel.
struct WithoutNativeMode {
  std::set<std::string> interfaces;
  int refused = 0;
  std::optional<Error> operator()(const std::vector<dataplane::InterfaceRequest>& requests) {
    for (const auto& request : requests) {
      if (request.mode == dataplane::AttachMode::generic || !interfaces.contains(request.name)) continue;
      ++refused;
      return because("NativeModeNotSupported",
                     fail(ErrorKind::not_supported, "attach to", request.name, "driver fake has no native mode"))
          .value();
    }
    return std::nullopt;
  }
};

TEST_F(CoreTest, InterfaceInGenericModeIsNotDetachedToAskForNativeModeAgain) {
  WithoutNativeMode drivers{{"eth0"}};
  kernel_.refuse_attach = std::ref(drivers);
  {
    Core core = make({}, config::InterfaceMode::automatic);
    core.set_watcher(&watcher_);
    core.apply(small_state(1, 1));
    ASSERT_EQ(drivers.refused, 1);
    watcher_.view.links[2].mac = {2, 0, 0, 0, 0, 77};
    core.on_network();
    kernel_.without_egress = {"eth0"};
    core.retry();
    kernel_.verify_failures = {{"s/http", "ReadBackDiffers", "slot 3"}};
    core.verify();
    EXPECT_EQ(drivers.refused, 1) << "of another MAC, of a classifier put back, of maps taken over anew";
    EXPECT_THAT(condition(core, "Ready").message, HasSubstr("eth0: driver fake has no native mode"));
  }
  Core core = make({}, config::InterfaceMode::automatic);
  core.set_watcher(&watcher_);
  ASSERT_TRUE(core.load());
  core.restore();
  EXPECT_EQ(drivers.refused, 1) << "of a restart";
  EXPECT_EQ(kernel_.attached.at(0).mode, dataplane::AttachMode::generic);
  EXPECT_THAT(condition(core, "Ready").message, HasSubstr("eth0 was in generic mode before"));
  drivers.interfaces.clear();
  kernel_.attached.clear();
  core.retry();
  EXPECT_EQ(kernel_.attached.at(0).mode, dataplane::AttachMode::native) << "detached, it is asked anew";
  EXPECT_EQ(condition(core, "Ready").reason, "Ready");
}

TEST_F(CoreTest, AutomaticModeIsTheSameForAllItIsLeftTo) {
  WithoutNativeMode drivers{{"eth1"}};
  kernel_.refuse_attach = std::ref(drivers);
  Core core = make({{"eth0"}, {"eth1"}}, config::InterfaceMode::automatic);
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  ASSERT_EQ(kernel_.attached.size(), 2U);
  EXPECT_EQ(kernel_.attached[0].mode, dataplane::AttachMode::generic) << "what it redirects to eth1 would be lost";
  EXPECT_EQ(kernel_.attached[1].mode, dataplane::AttachMode::generic);
  EXPECT_EQ(condition(core, "Ready").reason, "GenericMode");
  EXPECT_THAT(condition(core, "Ready").message, HasSubstr("on eth0, eth1"));
  EXPECT_THAT(condition(core, "Ready").message, HasSubstr("eth1: driver fake has no native mode"));
}

TEST_F(CoreTest, InterfaceThatJoinsOnesInGenericModeTakesIt) {
  WithoutNativeMode drivers{{"eth0"}};
  kernel_.refuse_attach = std::ref(drivers);
  Core core = make({{"eth*"}}, config::InterfaceMode::automatic);
  core.set_watcher(&watcher_);
  watcher_.view.links.erase(3);
  core.apply(small_state(1, 1));
  watcher_.view.links[3] = {3, "eth1", "", {2, 0, 0, 0, 0, 3}, true, true};
  core.on_network();
  ASSERT_EQ(kernel_.attached.size(), 2U);
  EXPECT_EQ(kernel_.attached[1].mode, dataplane::AttachMode::generic);
  EXPECT_EQ(drivers.refused, 1);
}

TEST_F(CoreTest, ModeGivenByNameStaysAndItsMixtureIsTold) {
  WithoutNativeMode drivers{{"eth1"}};
  kernel_.refuse_attach = std::ref(drivers);
  Core core = make({{"eth0", config::InterfaceMode::native}, {"eth1"}}, config::InterfaceMode::automatic);
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  ASSERT_EQ(kernel_.attached.size(), 2U);
  EXPECT_EQ(kernel_.attached[0].mode, dataplane::AttachMode::native);
  EXPECT_EQ(kernel_.attached[1].mode, dataplane::AttachMode::generic);
  EXPECT_THAT(condition(core, "Ready").message,
              HasSubstr("what comes in on eth0, in native mode, and leaves by eth1 may be lost"));
}

TEST_F(CoreTest, MissingInterfaceIsToldAndTheOthersAreUsed) {
  Core core = make({{"eth0"}, {"eth9"}});
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  EXPECT_EQ(kernel_.attached.size(), 1U);
  EXPECT_EQ(condition(core, "Ready").reason, "InterfaceNotFound");
  EXPECT_THAT(condition(core, "Ready").message, HasSubstr("eth9: no such interface"));
  watcher_.view.links[9] = {9, "eth9", "", {}, true, true};
  core.on_network();
  EXPECT_EQ(kernel_.attached.size(), 2U);
  EXPECT_TRUE(core.facts().ready);
}

TEST_F(CoreTest, ChangingToAMissingInterfaceChangesNothing) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  const auto calls = kernel_.calls;
  const auto refused = core.change_interfaces({{"eth9"}});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("eth9"));
  EXPECT_EQ(kernel_.calls, calls);
  core.on_network();
  EXPECT_EQ(kernel_.attached.at(0).name, "eth0");
  ASSERT_TRUE(core.change_interfaces({{"eth1"}}));
  EXPECT_EQ(kernel_.attached.at(0).name, "eth1");
}

TEST_F(CoreTest, DefaultRouteThatGoesAwayDetachesNothing) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  watcher_.view.default_devices.clear();
  core.on_network();
  EXPECT_EQ(kernel_.attached.at(0).name, "eth0");
  EXPECT_TRUE(core.facts().ready);
}

TEST_F(CoreTest, DeviceThatIsAnotherNowIsAttachedAgain) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  core.on_network();
  EXPECT_EQ(kernel_.calls.back(), "attach") << "once";
  watcher_.view.links[2].mac = {2, 0, 0, 0, 0, 77};
  kernel_.calls.clear();
  core.on_network();
  EXPECT_THAT(kernel_.calls, ElementsAre("attach", "update_next_hops"));
  core.on_network();
  EXPECT_EQ(kernel_.calls.size(), 2U);
}

TEST_F(CoreTest, MtuOfADeviceThatIsAWayReachesTheMaps) {
  Core core = make({{"eth0"}, {"eth1"}});
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  kernel_.calls.clear();
  watcher_.view.links[3].mtu = 1400;
  core.on_network();
  EXPECT_THAT(kernel_.calls, IsEmpty()) << "no way leaves by eth1";
  watcher_.view.links[2].mtu = 1400;
  core.on_network();
  EXPECT_THAT(kernel_.calls, ElementsAre("update_next_hops"));
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

TEST(FailureChanges, AreWhatIsNewAndWhatIsGone) {
  const auto one = [](const char* service, const char* message) {
    return dataplane::ServiceFailure{service, "Unreachable", message};
  };
  const auto before = merge({one("a", "x"), one("b", "x"), one("c", "x"), one("c", "y")}, {});
  const auto now = merge({one("b", "y"), one("d", "x")}, {});
  const FailureChanges changes = failure_changes(before, now);
  ASSERT_EQ(changes.come.size(), 2U);
  EXPECT_EQ(changes.come[0].message, "y") << "b fails for another reason";
  EXPECT_EQ(changes.come[1].service, "d");
  EXPECT_THAT(changes.gone, ElementsAre("a", "c"));
  EXPECT_THAT(failure_changes(now, now).come, IsEmpty());
  EXPECT_THAT(failure_changes(now, now).gone, IsEmpty());
}

TEST(FailureChanges, ServiceWithAnotherFailureLeftDoesNotStandAgain) {
  const auto failures = [](std::initializer_list<std::pair<const char*, const char*>> rows) {
    std::vector<dataplane::ServiceFailure> out;
    for (const auto& [service, message] : rows) out.push_back({service, "Unreachable", message});
    return out;
  };
  const auto before = failures({{"a", "x"}, {"a", "y"}, {"b", "x"}, {"b", "y"}, {"c", "x"}, {"c", "y"}});
  const auto now = failures({{"a", "x"}, {"c", "z"}});
  const FailureChanges changes = failure_changes(before, now);
  EXPECT_THAT(changes.gone, ElementsAre("b")) << "once, whatever it had";
  ASSERT_EQ(changes.come.size(), 1U);
  EXPECT_EQ(changes.come[0].service, "c");
}

TEST(FailureChanges, AreFoundAmongManyServices) {
  std::vector<dataplane::ServiceFailure> before;
  std::vector<dataplane::ServiceFailure> now;
  std::vector<std::string> come;
  std::vector<std::string> gone;
  for (int i = 10'000; i < 15'000; ++i) {
    const std::string service = "service-" + std::to_string(i);
    // By turns: it goes, it comes, it stays, it fails for another reason.
    if (i % 4 != 1) before.push_back({service, "Unreachable", "no way"});
    if (i % 4 != 0) now.push_back({service, i % 4 == 3 ? "TableFull" : "Unreachable", "no way"});
    if (i % 4 == 0) gone.push_back(service);
    if (i % 4 == 1 || i % 4 == 3) come.push_back(service);
  }
  const FailureChanges changes = failure_changes(before, now);
  EXPECT_EQ(changes.gone, gone);
  std::vector<std::string> named;
  for (const auto& failure : changes.come) named.push_back(failure.service);
  EXPECT_EQ(named, come);
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

TEST_F(CoreTest, LinkThatSomebodyTakesOffIsToldAndPutBack) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  kernel_.attached.clear();
  core.on_network();
  EXPECT_EQ(kernel_.calls.back(), "attach") << "a change in the network is a reason to look";
  EXPECT_EQ(kernel_.attached.size(), 1U);
  kernel_.attached.clear();
  kernel_.refuse_attach = [](const auto&) { return fail_errno(ENOMEM, "attach to", "eth0").value(); };
  core.retry();
  EXPECT_FALSE(condition(core, "Ready").status);
  EXPECT_EQ(condition(core, "Ready").reason, "AttachFailed");
  ASSERT_EQ(core.facts().failures.size(), 1U);
  EXPECT_EQ(core.facts().failures[0].reason, "AttachFailed");
  kernel_.refuse_attach = nullptr;
  core.retry();
  EXPECT_TRUE(core.facts().ready);
  EXPECT_EQ(kernel_.attached.size(), 1U);
}

TEST_F(CoreTest, LinkThatSomebodyTakesOffIsPutBackBeforeAnythingIsJudgedByIt) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  std::vector<std::string> told;
  core.set_listener([&told](const health::Facts& facts) {
    told.push_back(facts.conditions.at(0).reason + (facts.announcing.empty() ? " silent" : " announcing"));
  });
  const std::vector<std::function<void()>> rounds = {[&core] { core.announce(); }, [&core] { core.sweep(); },
                                                     [&core] { core.verify(); }, [&core] { core.retry(); },
                                                     [&core] { core.set_config_error("x"); }};
  for (const auto& round : rounds) {
    kernel_.attached.clear();
    round();
    EXPECT_EQ(kernel_.attached.size(), 1U) << "round " << &round - rounds.data();
  }
  EXPECT_THAT(told, Each("Ready announcing"));
  EXPECT_FALSE(told.empty());
}

TEST_F(CoreTest, LinkThatCannotBePutBackIsToldOnceAndTriedByRetryAlone) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  kernel_.attached.clear();
  kernel_.refuse_attach = [](const auto&) { return fail_errno(ENOMEM, "attach to", "eth0").value(); };
  kernel_.calls.clear();
  for (int second = 0; second < 5; ++second) core.announce();
  core.sweep();
  EXPECT_THAT(kernel_.calls, ElementsAre("attach"));
  EXPECT_EQ(condition(core, "Ready").reason, "AttachFailed");
  EXPECT_THAT(core.facts().announcing, IsEmpty());
  core.retry();
  EXPECT_EQ(kernel_.calls.size(), 2U);
  kernel_.refuse_attach = nullptr;
  core.retry();
  EXPECT_TRUE(core.facts().ready);
  EXPECT_THAT(core.facts().announcing, ElementsAre(ip("192.0.2.10")));
}

TEST_F(CoreTest, DeviceThatHasJustGoneIsNoRefusal) {
  Core core = make({{"eth*"}});
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  ASSERT_EQ(kernel_.attached.size(), 2U);
  // The kernel has dropped it with its link; the watcher's news of that are on their way.
  kernel_.attached.pop_back();
  kernel_.refuse_attach = [](const std::vector<dataplane::InterfaceRequest>& requests) -> std::optional<Error> {
    if (requests.size() == 1) return std::nullopt;
    return because("InterfaceNotFound", fail(ErrorKind::not_found, "attach to", "eth1", "no such interface")).value();
  };
  core.announce();
  EXPECT_TRUE(condition(core, "Ready").status);
  watcher_.view.links.erase(3);
  core.on_network();
  EXPECT_TRUE(condition(core, "Ready").status);
  EXPECT_EQ(kernel_.attached.size(), 1U);
}

TEST_F(CoreTest, ClassifierThatSomebodyTakesOffIsPutBack) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  const auto calls = kernel_.calls.size();
  core.retry();
  EXPECT_EQ(kernel_.calls.size(), calls) << "nothing is missing";
  kernel_.without_egress = {"eth0"};
  kernel_.refuse_attach = [](const auto&) { return fail_errno(EPERM, "add clsact to", "eth0").value(); };
  core.retry();
  EXPECT_EQ(condition(core, "Ready").reason, "AttachFailed");
  kernel_.refuse_attach = nullptr;
  core.retry();
  EXPECT_TRUE(core.facts().ready);
  EXPECT_THAT(kernel_.without_egress, IsEmpty());
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
