// What the core tells the maps of the network: ways of both families, the devices they leave by, source addresses.
#include <gmock/gmock.h>

#include "tests/unit/agent/core_fixture.h"

namespace sluice::agent {
namespace {

using testing::ElementsAre;
using testing::Key;

// One more service in IPv6, with backends fd00::2 and fd00::3; node1 translates to fd00::200.
state::DesiredState both_families() {
  state::DesiredState state = small_state(1, 1);
  state::Service six = state.services.at("s/http");
  six.id = "s/http/IPv6";
  six.addresses = {ip("2001:db8::10")};
  six.backends[0].address = ip("fd00::2");
  six.backends[1].address = ip("fd00::3");
  state.services[six.id] = six;
  return state;
}

class CoreWays : public CoreTest {
 protected:
  static nexthop::Link vlan(uint32_t index, uint32_t parent, uint16_t id) {
    nexthop::Link link{index, "eth0." + std::to_string(id), "vlan", {2, 0, 0, 0, 0, 2}, true, true};
    link.parent = parent;
    link.mtu = 1500;
    link.vlan = nexthop::VlanTag{nexthop::kCustomerTag, id};
    return link;
  }
  Core core_that_can(nexthop::Abilities can) {
    CoreOptions options;
    options.node = "node1";
    options.can = can;
    return {options, StateFile(directory_.file("state.json")), to_kernel(kernel_)};
  }
};

TEST_F(CoreWays, AreOfBothFamilies) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(both_families());
  EXPECT_THAT(kernel_.network.next_hops,
              ElementsAre(Key(ip("10.0.0.2")), Key(ip("10.0.0.3")), Key(ip("fd00::2")), Key(ip("fd00::3"))));
  EXPECT_EQ(kernel_.network.next_hops.at(ip("fd00::2")).source, ip("fd00::1"));
  EXPECT_TRUE(condition(core, "Programmed").status);
}

TEST_F(CoreWays, WithoutOneInOneFamilyFailOnlyItsService) {
  watcher_.unresolved[ip("fd00::3")] = "its gateway fe80::1 does not answer neighbour discovery on eth0";
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(both_families());
  ASSERT_EQ(core.facts().failures.size(), 1U);
  EXPECT_EQ(core.facts().failures[0].service, "s/http/IPv6");
  EXPECT_EQ(core.facts().failures[0].message,
            "backend fd00::3: its gateway fe80::1 does not answer neighbour discovery on eth0");
}

TEST_F(CoreWays, TranslateToTheNodesSourceAddressOfTheFamilyElseToTheWaysOwn) {
  Core core = make();
  core.set_watcher(&watcher_);
  auto state = both_families();
  state.nodes["node1"].source_addresses = {ip("fd00::200"), ip("fd00::201")};
  core.apply(state);
  EXPECT_EQ(kernel_.network.next_hops.at(ip("10.0.0.2")).source, ip("10.0.0.1"));
  EXPECT_EQ(kernel_.network.next_hops.at(ip("fd00::2")).source, ip("fd00::200"));
  state.revision = 2;
  state.nodes["node1"].source_addresses.push_back(ip("10.0.0.200"));
  core.apply(state);
  EXPECT_EQ(kernel_.network.next_hops.at(ip("10.0.0.2")).source, ip("10.0.0.200"));
}

TEST_F(CoreWays, NameBackendsOnThisNodeInBothFamilies) {
  Core core = make();
  core.set_watcher(&watcher_);
  auto state = both_families();
  state.services.at("s/http/IPv6").backends[0].node = "node1";
  core.apply(state);
  EXPECT_TRUE(kernel_.network.next_hops.at(ip("fd00::2")).local);
  EXPECT_FALSE(kernel_.network.next_hops.at(ip("fd00::3")).local);
}

TEST_F(CoreWays, HaveVlanDevicesWhereTheProgramCanTag) {
  watcher_.view.links[5] = vlan(5, 2, 100);
  watcher_.view.links[6] = vlan(6, 3, 200);
  Core plain = core_that_can({});
  plain.set_watcher(&watcher_);
  plain.apply(small_state(1, 1));
  EXPECT_THAT(kernel_.network.interfaces, ElementsAre(Key(2U), Key(71U))) << "and the node link";
  Core tagging = core_that_can({.tags = true});
  tagging.set_watcher(&watcher_);
  tagging.apply(small_state(1, 2));
  EXPECT_THAT(kernel_.network.interfaces, ElementsAre(Key(2U), Key(5U), Key(71U)))
      << "not that above a device not attached to";
  EXPECT_EQ(kernel_.network.interfaces.at(5).vlan, 100);
  EXPECT_EQ(kernel_.network.interfaces.at(5).parent, 2U);
}

TEST_F(CoreWays, ThisMachinesAddressesOfBothFamiliesReachTheMaps) {
  watcher_.view.addresses = {ip("10.0.0.1"), ip("fd00::1")};
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(both_families());
  EXPECT_THAT(kernel_.network.node_addresses, ElementsAre(ip("10.0.0.1"), ip("fd00::1")));
  kernel_.calls.clear();
  watcher_.view.addresses.insert(ip("fd00::99"));
  core.on_network();
  EXPECT_THAT(kernel_.calls, ElementsAre("update_ways"));
  EXPECT_TRUE(kernel_.network.node_addresses.contains(ip("fd00::99")));
}

TEST_F(CoreWays, EveryDeviceOfTheStackIsKnownAndPodsThatComeAndGoAreFollowed) {
  Core core = make();
  core.set_watcher(&watcher_);
  core.apply(small_state(1, 1));
  EXPECT_THAT(kernel_.network.devices, ElementsAre(Key(2U), Key(3U)));
  kernel_.calls.clear();
  watcher_.view.links[9] = {9, "lxc42", "veth", {2, 0, 0, 0, 0, 9}, true, true};
  core.on_network();
  EXPECT_THAT(kernel_.calls, ElementsAre("update_ways"));
  EXPECT_EQ(kernel_.network.devices.at(9).name, "lxc42");
  watcher_.view.links.erase(9);
  core.on_network();
  EXPECT_FALSE(kernel_.network.devices.contains(9));
}

}  // namespace
}  // namespace sluice::agent
