// What the node lacks, from what is read of it to the condition.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/core_fixture.h"

namespace sluice::agent {
namespace {

using testing::HasSubstr;

class CoreNodeTest : public CoreTest {
 protected:
  CoreNodeTest() {
    kernel_.node.emplace();
    kernel_.node->ip_forward = 1;
    kernel_.node->ipv6_forwarding = 1;
  }
  // Of small_state: the first backend runs here.
  static state::DesiredState with_a_pod_here() {
    auto state = small_state(1, 1);
    state.services["s/http"].backends[0].node = "node1";
    return state;
  }
  static dataplane::SweepOutcome swept(uint64_t established) {
    dataplane::SweepOutcome outcome;
    outcome.ipv4 = {established, 0, 1000, 1000};
    return outcome;
  }
  static bool has(const Core& core, const std::string& type) {
    return std::ranges::any_of(core.facts().conditions, [&](const auto& one) { return one.type == type; });
  }
};

TEST_F(CoreNodeTest, ConditionIsThereOnceSomebodyHasLooked) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(with_a_pod_here());
  EXPECT_FALSE(has(core, "NodePrepared"));
  core.check_node();
  EXPECT_TRUE(condition(core, "NodePrepared").status);
}

TEST_F(CoreNodeTest, CapacityIsJudgedWithEachSweep) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(with_a_pod_here());
  EXPECT_FALSE(has(core, "CapacityLeft")) << "nobody has looked yet";
  core.sweep();
  EXPECT_TRUE(condition(core, "CapacityLeft").status);
  kernel_.swept = swept(900);
  kernel_.tables = {{"services", 1, 10}, {"slots", 9, 10}};
  core.sweep();
  EXPECT_EQ(condition(core, "CapacityLeft").reason, "FlowTableNearlyFull");
  EXPECT_THAT(condition(core, "CapacityLeft").message, HasSubstr("the table of slots: 90 % of 10"));
  EXPECT_TRUE(condition(core, "Ready").status) << "a warning, no more";
  kernel_.swept = swept(760);
  core.sweep();
  EXPECT_FALSE(condition(core, "CapacityLeft").status) << "until there is room again";
  kernel_.swept = swept(700);
  kernel_.tables.clear();
  core.sweep();
  EXPECT_TRUE(condition(core, "CapacityLeft").status);
  ASSERT_TRUE(core.purge());
  EXPECT_FALSE(has(core, "CapacityLeft"));
}

TEST_F(CoreNodeTest, TunnelsAreSpokenOfWhereThereAreKeysForThem) {
  Core core = make();
  core.set_watcher(&watcher_);
  auto state = with_a_pod_here();
  core.apply(state);
  EXPECT_FALSE(has(core, "TunnelsProved"));
  state.tunnel.keys = {{1, {3, 4}}};
  ++state.revision;
  core.apply(state);
  EXPECT_EQ(condition(core, "TunnelsProved").reason, "NoneNeeded");
}

TEST_F(CoreNodeTest, WhatLacksIsToldAndGoneWhenItIsMended) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(with_a_pod_here());
  kernel_.node->ip_forward = 0;
  core.check_node();
  EXPECT_FALSE(condition(core, "NodePrepared").status);
  EXPECT_EQ(condition(core, "NodePrepared").reason, "IpForwardingOff");
  EXPECT_THAT(condition(core, "NodePrepared").message, HasSubstr("sysctl -w net.ipv4.ip_forward=1"));
  EXPECT_TRUE(condition(core, "Ready").status) << "it forwards elsewhere";
  kernel_.node->ip_forward = 1;
  core.check_node();
  EXPECT_TRUE(condition(core, "NodePrepared").status);
}

TEST_F(CoreNodeTest, ListenersHearOfChangesOnly) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(with_a_pod_here());
  core.check_node();
  int heard = 0;
  core.set_listener([&heard](const health::Facts&) { ++heard; });
  core.check_node();
  EXPECT_EQ(heard, 0);
  kernel_.node->ip_forward = 0;
  core.check_node();
  EXPECT_EQ(heard, 1);
}

TEST_F(CoreNodeTest, BackendsElsewhereAndOfTheMachineItselfNeedNoForwarding) {
  kernel_.node->ip_forward = 0;
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  core.check_node();
  EXPECT_TRUE(condition(core, "NodePrepared").status);
  watcher_.view.addresses = {ip("10.0.0.2")};
  core.apply(with_a_pod_here());
  core.check_node();
  EXPECT_TRUE(condition(core, "NodePrepared").status);
}

TEST_F(CoreNodeTest, VlansAndDefaultRoutesAreTheNetworks) {
  health::DeviceFacts device;
  device.name = "eth0";
  device.rp_filter = 1;
  device.vlan_stripping = health::Feature{true, false};
  kernel_.node->devices = {device};
  nexthop::Link vlan{9, "eth0.5", "vlan", {2, 0, 0, 0, 0, 2}, true, true};
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(with_a_pod_here());
  core.check_node();
  EXPECT_TRUE(condition(core, "NodePrepared").status) << "strict, with one device for all";
  vlan.parent = 2;
  vlan.vlan = nexthop::VlanTag{0x8100, 5};
  watcher_.view.links[9] = vlan;
  core.on_network();
  core.check_node();
  EXPECT_EQ(condition(core, "NodePrepared").reason, "VlanOffload");
}

}  // namespace
}  // namespace sluice::agent
