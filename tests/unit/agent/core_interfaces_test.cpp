// Which interfaces the core is attached to, in which mode, and how it keeps them.
#include <gmock/gmock.h>

#include <functional>
#include <optional>
#include <set>

#include "tests/unit/agent/core_fixture.h"

namespace sluice::agent {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class CoreInterfaces : public CoreTest {};

TEST_F(CoreInterfaces, InterfaceThatRefusesIsAConditionAndTriedAgain) {
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

TEST_F(CoreInterfaces, AutomaticModeFallsBackWithACondition) {
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

TEST_F(CoreInterfaces, InterfaceInGenericModeIsNotDetachedToAskForNativeModeAgain) {
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

class NativeByNameOverGeneric : public CoreInterfaces {
 protected:
  // As after an upgrade that asks for native mode, of an agent that had taken generic mode.
  void SetUp() override {
    kernel_.refuse_attach = std::ref(drivers_);
    {
      Core before = make({}, config::InterfaceMode::automatic);
      before.set_watcher(&watcher_);
      before.apply(small_state(1, 1));
    }
    drivers_.refused = 0;
    core_.set_watcher(&watcher_);
    ASSERT_TRUE(core_.load());
    core_.restore();
    ASSERT_EQ(drivers_.refused, 1);
    ASSERT_EQ(kernel_.attached.at(0).mode, dataplane::AttachMode::generic);
  }
  // How often native mode was asked for, over some rounds of all that attaches.
  int asked() {
    const int before = drivers_.refused;
    for (int round = 0; round < 3; ++round) {
      core_.on_network();
      core_.announce();
      core_.sweep();
      core_.retry();
    }
    return drivers_.refused - before;
  }
  WithoutNativeMode drivers_{{"eth0"}};
  Core core_ = make({}, config::InterfaceMode::native);
};

TEST_F(NativeByNameOverGeneric, IsRefusedOnceAndToldFromThenOn) {
  watcher_.view.links[3].up = false;
  EXPECT_EQ(asked(), 0);
  core_.apply(small_state(1, 2));
  EXPECT_EQ(asked(), 0);
  EXPECT_EQ(drivers_.refused, 1) << "each time takes the program off, and flows with it";
  EXPECT_EQ(condition(core_, "Ready").reason, "NativeModeNotSupported");
  EXPECT_THAT(condition(core_, "Ready").message, HasSubstr("must be asked for"));
}

TEST_F(NativeByNameOverGeneric, IsTriedOnceMoreForADeviceThatIsAnother) {
  watcher_.view.links[2].mac = {2, 0, 0, 0, 0, 77};
  EXPECT_EQ(asked(), 1);
  watcher_.view.links[2].mtu = 1400;
  EXPECT_EQ(asked(), 1) << "for a large MTU drivers refuse native mode";
  auto link = watcher_.view.links.extract(2);
  link.key() = link.mapped().index = 7;
  watcher_.view.links.insert(std::move(link));
  watcher_.view.default_devices = {7};
  EXPECT_EQ(asked(), 1);
}

TEST_F(NativeByNameOverGeneric, IsTriedAgainWhereThereIsNoLinkToLose) {
  kernel_.attached.clear();
  EXPECT_GE(asked(), 3);
  drivers_.interfaces.clear();
  core_.retry();
  EXPECT_EQ(kernel_.attached.at(0).mode, dataplane::AttachMode::native);
  EXPECT_EQ(condition(core_, "Ready").reason, "Ready");
}

TEST_F(NativeByNameOverGeneric, IsTriedOnceMoreToPutAClassifierBack) {
  kernel_.without_egress = {"eth0"};
  EXPECT_EQ(asked(), 1);
}

TEST_F(NativeByNameOverGeneric, OtherModesAreTakenAtOnceAndTheRefusalIsTheAnswerToTheSameQuestion) {
  ASSERT_TRUE(core_.change_interfaces({{"eth0", config::InterfaceMode::generic}}));
  core_.on_network();
  EXPECT_EQ(condition(core_, "Ready").reason, "GenericMode");
  for (int time = 0; time < 3; ++time) {
    const auto refused = core_.change_interfaces({{"eth0", config::InterfaceMode::native}});
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), HasSubstr("driver fake has no native mode"));
  }
  EXPECT_EQ(drivers_.refused, 2) << "once in a row";
  EXPECT_EQ(asked(), 0);
  EXPECT_EQ(condition(core_, "Ready").reason, "GenericMode");
}

TEST_F(CoreInterfaces, AutomaticModeIsTheSameForAllItIsLeftTo) {
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

TEST_F(CoreInterfaces, ChangeFromAutomaticToNativeModeByNameIsAChange) {
  WithoutNativeMode drivers{{"eth0"}};
  kernel_.refuse_attach = std::ref(drivers);
  Core core = make({{"eth0", config::InterfaceMode::automatic}});
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  ASSERT_EQ(condition(core, "Ready").reason, "GenericMode");
  const std::vector<config::Interface> native = {{"eth0", config::InterfaceMode::native}};
  EXPECT_FALSE(core.change_interfaces(native)) << "the driver has none";
  drivers.interfaces.clear();
  watcher_.view.links[2].mtu = 1400;
  core.on_network();
  EXPECT_TRUE(core.change_interfaces(native));
  EXPECT_EQ(kernel_.attached.at(0).mode, dataplane::AttachMode::native);
}

TEST_F(CoreInterfaces, DriverThatRefusedIsNamedAsLongAsItsInterfaceIsOneOfThem) {
  WithoutNativeMode drivers{{"eth0"}};
  kernel_.refuse_attach = std::ref(drivers);
  Core core = make({{"eth0"}, {"eth1"}}, config::InterfaceMode::automatic);
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  ASSERT_EQ(kernel_.attached.size(), 2U);
  watcher_.view.links[3].mac = {2, 0, 0, 0, 0, 77};
  core.on_network();
  EXPECT_THAT(condition(core, "Ready").message, HasSubstr("eth0: driver fake has no native mode"));
  ASSERT_TRUE(core.change_interfaces({{"eth1"}}));
  core.on_network();
  ASSERT_EQ(kernel_.attached.size(), 1U);
  EXPECT_THAT(condition(core, "Ready").message, HasSubstr("eth1 was in generic mode before"));
  EXPECT_THAT(condition(core, "Ready").message, Not(HasSubstr("eth0")));
}

TEST_F(CoreInterfaces, InterfaceThatJoinsOnesInGenericModeTakesIt) {
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

TEST_F(CoreInterfaces, ModeGivenByNameStaysAndItsMixtureIsTold) {
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

TEST_F(CoreInterfaces, MissingInterfaceIsToldAndTheOthersAreUsed) {
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

TEST_F(CoreInterfaces, ChangingToAMissingInterfaceChangesNothing) {
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

TEST_F(CoreInterfaces, DefaultRouteThatGoesAwayDetachesNothing) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  watcher_.view.default_devices.clear();
  core.on_network();
  EXPECT_EQ(kernel_.attached.at(0).name, "eth0");
  EXPECT_TRUE(core.facts().ready);
}

TEST_F(CoreInterfaces, DeviceThatIsAnotherNowIsAttachedAgain) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  core.on_network();
  EXPECT_EQ(kernel_.calls.back(), "attach") << "once";
  watcher_.view.links[2].mac = {2, 0, 0, 0, 0, 77};
  kernel_.calls.clear();
  core.on_network();
  EXPECT_THAT(kernel_.calls, ElementsAre("attach", "update_ways"));
  core.on_network();
  EXPECT_EQ(kernel_.calls.size(), 2U);
}

TEST_F(CoreInterfaces, LinkThatSomebodyTakesOffIsToldAndPutBack) {
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

TEST_F(CoreInterfaces, LinkThatSomebodyTakesOffIsPutBackBeforeAnythingIsJudgedByIt) {
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

TEST_F(CoreInterfaces, LinkThatCannotBePutBackIsToldOnceAndTriedByRetryAlone) {
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

TEST_F(CoreInterfaces, DeviceThatHasJustGoneIsNoRefusal) {
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

TEST_F(CoreInterfaces, ClassifierThatSomebodyTakesOffIsPutBack) {
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

}  // namespace
}  // namespace sluice::agent
