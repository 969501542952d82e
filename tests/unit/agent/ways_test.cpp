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
  EXPECT_EQ(needed_neighbours(targets_, routes_, usable_), (std::set<NeighbourKey>{{2, ip("10.0.0.254")}}));
}

TEST_F(WaysTest, AddressOfThisMachineIsLocal) {
  routes_[ip("10.0.0.2")] = {Route::Kind::local, 1, {}, {}, ""};
  EXPECT_TRUE(find().next_hops.at(ip("10.0.0.2")).local);
}

TEST_F(WaysTest, BackendOfThisNodeIsLocalWhateverDeviceLeadsToIt) {
  targets_[ip("10.0.0.2")] = true;
  routes_[ip("10.0.0.2")] = via(3);
  EXPECT_TRUE(find().next_hops.at(ip("10.0.0.2")).local);
  EXPECT_TRUE(needed_neighbours(targets_, routes_, usable_).empty());
}

TEST_F(WaysTest, InterfaceThatSluiceIsNotAttachedToIsNamed) {
  routes_[ip("10.0.0.2")] = via(3);
  EXPECT_EQ(why("10.0.0.2"), "reached through docker0, where Sluice is not attached: add it to interfaces");
}

TEST_F(WaysTest, TunnelsAreNoInterfacesToAdd) {
  routes_[ip("10.0.0.2")] = via(4);
  EXPECT_THAT(why("10.0.0.2"), HasSubstr("reached through flannel.1 (vxlan): Sluice cannot send through tunnels yet"));
  routes_[ip("10.0.0.2")] = via(5);
  EXPECT_THAT(why("10.0.0.2"), HasSubstr("wg0 (wireguard)"));
}

TEST_F(WaysTest, TunnelToWhichSomebodyAttachesUsIsNoWayEither) {
  usable_.insert(4);
  routes_[ip("10.0.0.2")] = via(4);
  neighbours_[{4, ip("10.0.0.2")}] = {kMac, false};
  EXPECT_THAT(why("10.0.0.2"), HasSubstr("cannot send through tunnels"));
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

}  // namespace
}  // namespace sluice::agent::nexthop
