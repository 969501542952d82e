// Which way packets to a backend leave, from what the kernel says; and what people are told where there is none.
#include "node-agent/nexthop/ways.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::agent::nexthop {
namespace {

using testing::HasSubstr;

net::IpAddress ip(const char* text) {
  return net::IpAddress::parse(text).value();
}
constexpr dataplane::Mac kMac = {2, 0, 0, 0, 0, 9};

class WaysTest : public testing::Test {
 protected:
  WaysTest() {
    view_.links[2] = {2, "eth0", "", {2, 0, 0, 0, 0, 2}, true, true};
    view_.links[3] = {3, "docker0", "bridge", {2, 0, 0, 0, 0, 3}, true, true};
    view_.links[4] = {4, "flannel.1", "vxlan", {2, 0, 0, 0, 0, 4}, true, true};
    view_.links[5] = {5, "wg0", "wireguard", {}, true, false};
    view_.links[6] = {6, "cilium_host", "veth", {2, 0, 0, 0, 0, 6}, true, true};
    view_.links[7] = {7, "tap0", "tun", {2, 0, 0, 0, 0, 7}, true, true};
  }
  static Route via(uint32_t ifindex, std::optional<net::IpAddress> gateway = {}) {
    return {Route::Kind::unicast, ifindex, gateway, ip("10.0.0.1"), ""};
  }
  Ways find() { return find_ways(targets_, routes_, neighbours_, view_, usable_); }
  std::string why(const char* address) { return find().unresolved[ip(address)]; }

  NetworkView view_;
  Targets targets_ = {{ip("10.0.0.2"), false}};
  std::map<net::IpAddress, Route> routes_;
  std::map<NeighbourKey, Neighbour> neighbours_;
  std::set<uint32_t> usable_ = {2};
};

TEST_F(WaysTest, OnLinkBackendByItsOwnNeighbour) {
  routes_[ip("10.0.0.2")] = via(2);
  neighbours_[{2, ip("10.0.0.2")}] = {kMac, false};
  const auto hop = find().next_hops.at(ip("10.0.0.2"));
  EXPECT_FALSE(hop.local);
  EXPECT_EQ(hop.ifindex, 2U);
  EXPECT_EQ(hop.mac, kMac);
  EXPECT_EQ(hop.source, ip("10.0.0.1"));
}

TEST_F(WaysTest, RoutedBackendByItsGateway) {
  routes_[ip("10.0.0.2")] = via(2, ip("10.0.0.254"));
  neighbours_[{2, ip("10.0.0.254")}] = {kMac, false};
  EXPECT_EQ(find().next_hops.at(ip("10.0.0.2")).mac, kMac);
  EXPECT_EQ(needed_neighbours(targets_, routes_, view_, usable_), (std::set<NeighbourKey>{{2, ip("10.0.0.254")}}));
}

TEST_F(WaysTest, AddressOfThisMachineIsLocal) {
  routes_[ip("10.0.0.2")] = {Route::Kind::local, 1, {}, {}, ""};
  EXPECT_TRUE(find().next_hops.at(ip("10.0.0.2")).local);
}

TEST_F(WaysTest, BackendOfThisNodeIsLocalWhateverDeviceLeadsToIt) {
  targets_[ip("10.0.0.2")] = true;
  routes_[ip("10.0.0.2")] = via(3);
  EXPECT_TRUE(find().next_hops.at(ip("10.0.0.2")).local);
  EXPECT_TRUE(needed_neighbours(targets_, routes_, view_, usable_).empty());
}

TEST_F(WaysTest, InterfaceThatSluiceIsNotAttachedToIsNamed) {
  routes_[ip("10.0.0.2")] = via(3);
  EXPECT_EQ(why("10.0.0.2"), "reached through docker0, where Sluice is not attached: add it to interfaces");
}

TEST_F(WaysTest, TunnelsAreNoInterfacesToAdd) {
  routes_[ip("10.0.0.2")] = via(4);
  EXPECT_THAT(
      why("10.0.0.2"),
      HasSubstr("reached through flannel.1 (vxlan), where XDP cannot transmit: it needs a tunnel of Sluice's own"));
  routes_[ip("10.0.0.2")] = via(5);
  EXPECT_THAT(why("10.0.0.2"), HasSubstr("wg0 (wireguard)"));
}

TEST_F(WaysTest, TunnelToWhichSomebodyAttachesUsIsNoWayEither) {
  usable_.insert(4);
  routes_[ip("10.0.0.2")] = via(4);
  neighbours_[{4, ip("10.0.0.2")}] = {kMac, false};
  EXPECT_THAT(why("10.0.0.2"), HasSubstr("where XDP cannot transmit"));
}

TEST_F(WaysTest, TapDevicesAreNoTunnels) {
  usable_.insert(7);
  routes_[ip("10.0.0.2")] = via(7);
  neighbours_[{7, ip("10.0.0.2")}] = {kMac, false};
  EXPECT_EQ(find().next_hops.at(ip("10.0.0.2")).ifindex, 7U);
}

TEST_F(WaysTest, DeviceOfAPodNetworkIsNotRecommended) {
  routes_[ip("10.0.0.2")] = via(6);
  EXPECT_THAT(why("10.0.0.2"),
              HasSubstr("cilium_host (veth), where Sluice is not attached: add it to interfaces, unless"));
}

TEST_F(WaysTest, WithoutARouteTheKernelsReasonIsTold) {
  routes_[ip("10.0.0.2")] = {Route::Kind::unreachable, 0, {}, {}, "Network is unreachable"};
  EXPECT_EQ(why("10.0.0.2"), "no route: Network is unreachable");
}

TEST_F(WaysTest, WhoHasNotAnsweredYetIsPendingAndWhoDoesNotIsNot) {
  routes_[ip("10.0.0.2")] = via(2);
  EXPECT_EQ(find().pending, std::set<net::IpAddress>{ip("10.0.0.2")});
  EXPECT_EQ(why("10.0.0.2"), "it has not answered ARP yet on eth0");
  neighbours_[{2, ip("10.0.0.2")}] = {std::nullopt, true};
  EXPECT_TRUE(find().pending.empty());
  EXPECT_EQ(why("10.0.0.2"), "it does not answer ARP on eth0");
  routes_[ip("10.0.0.2")] = via(2, ip("10.0.0.254"));
  neighbours_[{2, ip("10.0.0.254")}] = {std::nullopt, true};
  EXPECT_EQ(why("10.0.0.2"), "its gateway 10.0.0.254 does not answer ARP on eth0");
}

TEST_F(WaysTest, DeviceThatIsGoneIsNoWay) {
  routes_[ip("10.0.0.2")] = via(77);
  usable_.insert(77);
  EXPECT_EQ(why("10.0.0.2"), "reached through device 77, which is gone");
}

// Both families, the same rules: what differs is written out in the rows.
struct FamilyCase {
  const char* name;
  const char* target;
  std::optional<const char*> gateway;
  const char* neighbour;
  const char* no_answer;
};
class WaysFamilyTest : public WaysTest, public testing::WithParamInterface<FamilyCase> {};

TEST_P(WaysFamilyTest, TheNeighbourIsTheGatewayOrTheTarget) {
  const FamilyCase& row = GetParam();
  const auto target = ip(row.target);
  targets_ = {{target, false}};
  routes_[target] = via(2);
  if (row.gateway) routes_[target].gateway = ip(*row.gateway);
  const NeighbourKey key{2, ip(row.neighbour)};
  EXPECT_EQ(needed_neighbours(targets_, routes_, view_, usable_), std::set<NeighbourKey>{key});
  EXPECT_EQ(find().pending, std::set<net::IpAddress>{target});
  neighbours_[key] = {std::nullopt, true};
  EXPECT_EQ(why(row.target), row.no_answer);
  EXPECT_TRUE(find().pending.empty());
  neighbours_[key] = {kMac, false};
  const Ways ways = find();
  EXPECT_EQ(ways.next_hops.at(target).mac, kMac);
  EXPECT_EQ(ways.every.at(target).mac, kMac);
  EXPECT_EQ(ways.every.at(target).transmit_by, 2U);
  EXPECT_FALSE(ways.every.at(target).by_kernel);
  EXPECT_TRUE(ways.unresolved.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Families, WaysFamilyTest,
    testing::Values(
        FamilyCase{"Ipv4OnLink", "10.0.0.2", {}, "10.0.0.2", "it does not answer ARP on eth0"},
        FamilyCase{"Ipv6OnLink", "2001:db8::2", {}, "2001:db8::2", "it does not answer neighbour discovery on eth0"},
        FamilyCase{"Ipv6ByLinkLocalGateway", "2001:db8::2", "fe80::1", "fe80::1",
                   "its gateway fe80::1 does not answer neighbour discovery on eth0"},
        FamilyCase{"Ipv4ByIpv6Gateway", "10.0.0.2", "fe80::1", "fe80::1",
                   "its gateway fe80::1 does not answer neighbour discovery on eth0"}),
    [](const auto& row) { return row.param.name; });

TEST_F(WaysTest, OneLinkLocalAddressOnTwoLinksIsTwoNeighbours) {
  usable_.insert(3);
  targets_ = {{ip("2001:db8:1::2"), false}, {ip("2001:db8:2::2"), false}};
  routes_[ip("2001:db8:1::2")] = via(2, ip("fe80::1"));
  routes_[ip("2001:db8:2::2")] = via(3, ip("fe80::1"));
  neighbours_[{2, ip("fe80::1")}] = {kMac, false};
  neighbours_[{3, ip("fe80::1")}] = {dataplane::Mac{2, 0, 0, 0, 0, 10}, false};
  const Ways ways = find();
  EXPECT_EQ(ways.next_hops.at(ip("2001:db8:1::2")).mac[5], 9);
  EXPECT_EQ(ways.next_hops.at(ip("2001:db8:2::2")).mac[5], 10);
}

TEST_F(WaysTest, MtuIsTheRoutesElseTheDevicesOfThatFamily) {
  view_.links[2].mtu = 1500;
  view_.links[2].mtu_ipv6 = 1400;
  targets_ = {{ip("10.0.0.2"), false}, {ip("2001:db8::2"), false}};
  const auto mtu = [&](const char* address) { return find().every.at(ip(address)).mtu; };
  routes_[ip("10.0.0.2")] = via(2);
  routes_[ip("2001:db8::2")] = via(2);
  EXPECT_EQ(mtu("10.0.0.2"), 1500U);
  EXPECT_EQ(mtu("2001:db8::2"), 1400U);
  routes_[ip("10.0.0.2")].mtu = 1300;
  routes_[ip("2001:db8::2")].mtu = 9000;
  EXPECT_EQ(mtu("10.0.0.2"), 1300U);
  EXPECT_EQ(mtu("2001:db8::2"), 1400U) << "no more than the device takes";
}

TEST_F(WaysTest, WhatXdpCannotTransmitIsTheKernels) {
  struct Row {
    const char* what;
    uint32_t ifindex;
    bool encapsulates;
    bool by_kernel;
  };
  for (const Row& row :
       {Row{"attached", 2, false, false}, Row{"not attached", 3, false, true}, Row{"overlay", 4, false, true},
        Row{"no Ethernet", 5, false, true}, Row{"a route that encapsulates", 2, true, true}}) {
    SCOPED_TRACE(row.what);
    routes_[ip("10.0.0.2")] = via(row.ifindex);
    routes_[ip("10.0.0.2")].encapsulates = row.encapsulates;
    neighbours_[{row.ifindex, ip("10.0.0.2")}] = {kMac, false};
    const Ways ways = find();
    const Way& way = ways.every.at(ip("10.0.0.2"));
    EXPECT_EQ(way.by_kernel, row.by_kernel);
    EXPECT_EQ(way.transmit_by, row.by_kernel ? 0U : row.ifindex);
    EXPECT_EQ(way.mac.has_value(), !row.by_kernel);
    EXPECT_EQ(way.ifindex, row.ifindex);
    EXPECT_EQ(ways.unresolved.contains(ip("10.0.0.2")), row.by_kernel);
    EXPECT_TRUE(ways.pending.empty());
    EXPECT_EQ(needed_neighbours(targets_, routes_, view_, usable_).empty(), row.by_kernel)
        << "the kernel resolves what it sends itself";
  }
}

class VlanWaysTest : public WaysTest {
 protected:
  VlanWaysTest() {
    add(10, "eth0.10", 2, {0x88a8, 10});
    add(11, "eth0.10.20", 10, {0x8100, 20});
    add(12, "eth0.10.20.30", 11, {0x8100, 30});
    add(13, "docker0.5", 3, {0x8100, 5});
  }
  void add(uint32_t index, const char* name, uint32_t parent, VlanTag tag) {
    Link link{index, name, "vlan", {2, 0, 0, 0, 0, 2}, true, true};
    link.parent = parent;
    link.vlan = tag;
    view_.links[index] = link;
  }
  Way way_by_device(uint32_t ifindex) {
    routes_[ip("10.0.0.2")] = via(ifindex);
    neighbours_[{ifindex, ip("10.0.0.2")}] = {kMac, false};
    return find().every.at(ip("10.0.0.2"));
  }
};

TEST_F(VlanWaysTest, TagsOfTheDevicesAboveTheAttachedOneOutermostFirst) {
  const Way one = way_by_device(10);
  EXPECT_EQ(one.transmit_by, 2U);
  EXPECT_EQ(one.tags, (std::vector<VlanTag>{{0x88a8, 10}}));
  EXPECT_EQ(one.mac, kMac);
  EXPECT_EQ(needed_neighbours(targets_, routes_, view_, usable_), (std::set<NeighbourKey>{{10, ip("10.0.0.2")}}));
  const Way two = way_by_device(11);
  EXPECT_EQ(two.transmit_by, 2U);
  EXPECT_EQ(two.tags, (std::vector<VlanTag>{{0x88a8, 10}, {0x8100, 20}}));
}

TEST_F(VlanWaysTest, AttachedToTheVlanItselfNothingIsTagged) {
  usable_.insert(10);
  const Way way = way_by_device(10);
  EXPECT_EQ(way.transmit_by, 10U);
  EXPECT_TRUE(way.tags.empty());
  EXPECT_TRUE(find().next_hops.contains(ip("10.0.0.2")));
}

TEST_F(VlanWaysTest, ThreeTagsAndVlansOnOtherDevicesAreTheKernels) {
  EXPECT_TRUE(way_by_device(12).by_kernel);
  EXPECT_TRUE(way_by_device(13).by_kernel);
}

TEST_F(VlanWaysTest, WhoSendsUntaggedOnlyIsToldToAttach) {
  way_by_device(10);
  EXPECT_EQ(why("10.0.0.2"), "reached through eth0.10, where Sluice is not attached: add it to interfaces");
}

// With what the program can do more, more has a next hop; the rest stays told.
TEST_F(VlanWaysTest, AbilitiesMakeNextHops) {
  struct Row {
    const char* what;
    uint32_t ifindex;
    Abilities can;
    bool has_hop;
    dataplane::Mac mac;
  };
  const Abilities tags{true, false};
  const Abilities kernel{false, true};
  const Abilities both{true, true};
  for (const Row& row : {Row{"one tag", 10, tags, false, {}}, Row{"one customer tag", 14, tags, true, kMac},
                         Row{"one customer tag, unable", 14, kernel, false, {}}, Row{"two tags", 11, tags, false, {}},
                         Row{"two tags by the kernel", 11, both, true, {}}, Row{"bridge", 3, tags, false, {}},
                         Row{"bridge by the kernel", 3, kernel, true, {}}, Row{"overlay", 4, kernel, true, {}},
                         Row{"no Ethernet", 5, both, true, {}}}) {
    SCOPED_TRACE(row.what);
    add(14, "eth0.14", 2, {kCustomerTag, 14});
    routes_[ip("10.0.0.2")] = via(row.ifindex);
    if (row.mac == kMac || row.ifindex == 11) neighbours_[{row.ifindex, ip("10.0.0.2")}] = {kMac, false};
    const Ways ways = find_ways(targets_, routes_, neighbours_, view_, usable_, row.can);
    EXPECT_EQ(ways.next_hops.contains(ip("10.0.0.2")), row.has_hop);
    EXPECT_NE(ways.unresolved.contains(ip("10.0.0.2")), row.has_hop);
    if (row.has_hop && row.ifindex != 11) {
      EXPECT_EQ(ways.next_hops.at(ip("10.0.0.2")).mac, row.mac);
    }
    const auto devices = way_devices(ways, view_, usable_);
    EXPECT_EQ(devices.contains(row.ifindex), row.has_hop || row.ifindex == 10 || row.ifindex == 14);
    if (row.has_hop) {
      EXPECT_EQ(devices.at(row.ifindex).by_kernel, row.ifindex != 14);
    }
  }
}

TEST_F(VlanWaysTest, RouteThatEncapsulatesHasNoHopOfItsOwn) {
  routes_[ip("10.0.0.2")] = via(2);
  routes_[ip("10.0.0.2")].encapsulates = true;
  const Ways ways = find_ways(targets_, routes_, neighbours_, view_, usable_, {true, true});
  EXPECT_TRUE(ways.next_hops.empty());
  EXPECT_THAT(ways.unresolved.at(ip("10.0.0.2")), HasSubstr("a route on eth0 that encapsulates"));
}

TEST_F(VlanWaysTest, DevicesAreTheAttachedOnesWithTheirVlansAndThoseOfNextHops) {
  view_.links[2].mtu = 70'000;
  add(14, "eth0.14", 2, {kCustomerTag, 14});
  const auto devices = way_devices({}, view_, usable_);
  std::vector<uint32_t> indices;
  for (const auto& [index, device] : devices) indices.push_back(index);
  EXPECT_THAT(indices, testing::ElementsAre(2, 10, 14));
  EXPECT_EQ(devices.at(2), (dataplane::Interface{{2, 0, 0, 0, 0, 2}, 65'535, 0, 0, false}));
  EXPECT_EQ(devices.at(14).vlan, 14);
  EXPECT_EQ(devices.at(14).parent, 2U);
  EXPECT_FALSE(devices.at(14).by_kernel);
  EXPECT_TRUE(devices.at(10).by_kernel) << "a service tag has no place in it";
}

}  // namespace
}  // namespace sluice::agent::nexthop
