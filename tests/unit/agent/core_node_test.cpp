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
