// The network as the kernel tells it, on the real kernel: every change is followed within a second, in both families.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>

#include <mutex>

#include "node-agent/nexthop/network_watcher.h"
#include "tests/network/sandbox.h"

namespace sluice::agent::nexthop {
namespace {

using agent::testing::ip;
using agent::testing::must;
using agent::testing::must_far;
using agent::testing::run;
using agent::testing::within;
using std::chrono::milliseconds;
using ::testing::HasSubstr;

constexpr milliseconds kSecond{1'000};
constexpr milliseconds kFirst{3'000};  // a neighbour that is asked for the first time, on a busy machine
constexpr dataplane::Mac kFar = {2, 0, 0, 0, 0, 2};
constexpr dataplane::Mac kOther = {2, 0, 0, 0, 0, 3};

class WatcherTest : public agent::testing::SandboxTest {
 protected:
  void SetUp() override {
    SandboxTest::SetUp();
    auto watcher = NetworkWatcher::start([this](const NetworkWatcher::Update& update) {
      const std::scoped_lock lock(mutex_);
      told_ = update;
    });
    ASSERT_TRUE(watcher) << watcher.error().message();
    watcher_ = std::move(*watcher);
    const auto first = watcher_->wait(milliseconds(0));
    const std::scoped_lock lock(mutex_);
    if (told_.view.links.empty()) told_ = first;
  }
  void TearDown() override {
    watcher_.reset();
    SandboxTest::TearDown();
  }
  void want(const std::vector<std::string>& addresses) {
    Targets targets;
    for (const auto& address : addresses) targets[ip(address)] = false;
    watcher_->set_targets(targets, {near_});
  }
  // What the watcher has said by itself last.
  NetworkWatcher::Update told() {
    const std::scoped_lock lock(mutex_);
    return told_;
  }
  std::optional<Way> way(const std::string& address) {
    const auto now = told();
    const auto found = now.ways.every.find(ip(address));
    if (found == now.ways.every.end()) return std::nullopt;
    return found->second;
  }
  std::optional<dataplane::Mac> mac(const std::string& address) {
    const auto found = way(address);
    return found ? found->mac : std::nullopt;
  }
  std::string why(const std::string& address) {
    const auto now = told();
    const auto found = now.ways.unresolved.find(ip(address));
    return found == now.ways.unresolved.end() ? "" : found->second;
  }

  std::mutex mutex_;
  NetworkWatcher::Update told_;
  std::unique_ptr<NetworkWatcher> watcher_;
};

struct Family {
  const char* name;
  const char* ip;      // the command
  const char* target;  // on link, the far side's
  const char* routed;  // a prefix, and an address in it
  const char* inside;
  const char* gateway;  // the far side's
  const char* other;    // another gateway, of the far side too
  const char* other_with_length;
  const char* source;
};
class FamilyTest : public WatcherTest, public ::testing::WithParamInterface<Family> {
 protected:
  [[nodiscard]] std::string ip_command() const { return GetParam().ip; }
  void route(const std::string& verb, const std::string& way) const {
    must(ip_command() + " route " + verb + " " + GetParam().routed + " " + way);
  }
};

TEST_P(FamilyTest, OnLinkNeighbourIsResolvedAndVanishesWithItsMachine) {
  want({GetParam().target});
  const auto update = watcher_->wait(kFirst);
  const auto& hop = update.ways.next_hops.at(ip(GetParam().target));
  EXPECT_EQ(hop.mac, kFar);
  EXPECT_EQ(hop.ifindex, near_);
  EXPECT_EQ(hop.source, ip(GetParam().source));
  EXPECT_EQ(update.ways.every.at(ip(GetParam().target)).mtu, 1500U);

  must(ip_command() + " neigh replace " + GetParam().target + " dev near nud failed");
  EXPECT_TRUE(within(kFirst, [&] { return mac(GetParam().target) == kFar; })) << "it is asked again";

  const std::string length = ip(GetParam().target).is_ipv4() ? "/24" : "/64";
  must_far("ip address del " + (GetParam().target + length) + " dev far");
  must(ip_command() + " neigh del " + GetParam().target + " dev near");
  EXPECT_TRUE(within(milliseconds(8'000), [&] {
    return !mac(GetParam().target) && why(GetParam().target).find("does not answer") != std::string::npos;
  }));
}

TEST_P(FamilyTest, AnotherMacOfANeighbourIsFollowed) {
  want({GetParam().target});
  watcher_->wait(kFirst);
  must(ip_command() + " neigh replace " + GetParam().target + " dev near lladdr 02:00:00:00:00:03 nud permanent");
  EXPECT_TRUE(within(kSecond, [&] { return mac(GetParam().target) == kOther; }));
}

TEST_P(FamilyTest, NeighbourThatSomebodyHasSetStays) {
  const std::string absent = ip(GetParam().target).is_ipv4() ? "10.1.0.77" : "fd00:1::77";
  const std::string entry = ip_command() + " neigh show " + absent + " dev near";
  must(ip_command() + " neigh add " + absent + " dev near lladdr 02:00:00:00:00:03 nud permanent");
  want({absent, GetParam().target});
  EXPECT_TRUE(within(kFirst, [&] { return mac(absent) == kOther && mac(GetParam().target) == kFar; }));
  EXPECT_THAT(must(entry), HasSubstr("PERMANENT"));
  want({GetParam().target});
  EXPECT_TRUE(within(kSecond, [&] { return !way(absent); }));
  EXPECT_THAT(must(entry), HasSubstr("PERMANENT")) << "and is not ours to let go";

  want({absent, GetParam().target});
  EXPECT_TRUE(within(kFirst, [&] { return mac(absent) == kOther; }));
  must_far("ip address add " + absent + "/" + (ip(absent).is_ipv4() ? "24" : "64 nodad") + " dev far");
  must(ip_command() + " neigh del " + absent + " dev near");
  EXPECT_TRUE(within(kFirst, [&] { return mac(absent) == kFar; })) << "without it the neighbour is asked";
}

TEST_P(FamilyTest, NeighbourThatWasAwayIsFoundWhenItComes) {
  const std::string absent = ip(GetParam().target).is_ipv4() ? "10.1.0.77" : "fd00:1::77";
  want({absent});
  ASSERT_TRUE(within(milliseconds(6'000), [&] { return why(absent).find("does not answer") != std::string::npos; }))
      << why(absent);
  must_far("ip address add " + absent + "/" + (ip(absent).is_ipv4() ? "24" : "64 nodad") + " dev far");
  EXPECT_TRUE(within(milliseconds(2'500), [&] { return mac(absent) == kFar; }));
}

TEST_P(FamilyTest, RoutesThatComeChangeAndGoAreFollowed) {
  must_far("ip address add " + std::string(GetParam().other_with_length) + " dev far");
  want({GetParam().inside});
  ASSERT_TRUE(within(kSecond, [&] { return !why(GetParam().inside).empty(); }));
  EXPECT_EQ(why(GetParam().inside), "no route: Network is unreachable");

  route("add", std::string("via ") + GetParam().gateway + " dev near");
  EXPECT_TRUE(within(kSecond, [&] { return mac(GetParam().inside) == kFar; }));
  EXPECT_EQ(way(GetParam().inside)->gateway, ip(GetParam().gateway));

  route("replace", std::string("via ") + GetParam().other + " dev near mtu 1400");
  EXPECT_TRUE(within(kSecond, [&] {
    const auto now = way(GetParam().inside);
    return now && now->gateway == ip(GetParam().other) && now->mac == kFar;
  }));
  EXPECT_EQ(way(GetParam().inside)->mtu, 1400U);

  route("del", "");
  EXPECT_TRUE(within(kSecond, [&] { return !way(GetParam().inside); }));
}

TEST_P(FamilyTest, NextHopObjectThatIsReplacedIsFollowed) {
  must_far("ip address add " + std::string(GetParam().other_with_length) + " dev far");
  want({GetParam().inside});
  must(ip_command() + " nexthop add id 7 via " + GetParam().gateway + " dev near");
  route("add", "nhid 7");
  EXPECT_TRUE(within(kSecond, [&] { return mac(GetParam().inside) == kFar; }));
  must(ip_command() + " nexthop replace id 7 via " + GetParam().other + " dev near");
  EXPECT_TRUE(within(kSecond, [&] {
    const auto now = way(GetParam().inside);
    return now && now->gateway == ip(GetParam().other);
  })) << "the kernel says nothing of the route itself";
}

TEST_P(FamilyTest, RulesAreFollowed) {
  want({GetParam().inside});
  must(ip_command() + " route add " + GetParam().routed + " via " + GetParam().gateway + " dev near table 77");
  must(ip_command() + " rule add to " + GetParam().routed + " lookup 77");
  EXPECT_TRUE(within(kSecond, [&] { return mac(GetParam().inside) == kFar; }));
  must(ip_command() + " rule del to " + GetParam().routed + " lookup 77");
  EXPECT_TRUE(within(kSecond, [&] { return !way(GetParam().inside); }));
}

TEST_P(FamilyTest, LinkThatLosesItsCarrierAndGetsItAgain) {
  want({GetParam().target});
  watcher_->wait(kFirst);
  const auto before = told().view.links.at(near_);
  must_far("ip link set far down");
  EXPECT_TRUE(within(kSecond, [&] { return !told().view.links.at(near_).up; }));
  must_far("ip link set far up");
  EXPECT_TRUE(within(kSecond, [&] {
    return told().view.links.at(near_).up && mac(GetParam().target) == kFar && why(GetParam().target).empty();
  })) << why(GetParam().target);
  EXPECT_GT(told().view.links.at(near_).carrier_changes, before.carrier_changes);
}

TEST_P(FamilyTest, LinkThatIsTakenDownAndUpAgain) {
  want({GetParam().target});
  watcher_->wait(kFirst);
  must("ip link set near down");
  EXPECT_TRUE(within(kSecond, [&] { return !way(GetParam().target); }));
  must("ip link set near up");
  // The kernel takes up to a second to say that a link runs again.
  ASSERT_TRUE(within(kFirst, [&] { return run("ip -br link show near").output.find(" UP ") != std::string::npos; }));
  EXPECT_TRUE(within(kSecond, [&] { return mac(GetParam().target) == kFar; }));
}

TEST_P(FamilyTest, MtuOfTheLinkIsFollowed) {
  want({GetParam().target});
  watcher_->wait(kFirst);
  must("ip link set near mtu 1450");
  EXPECT_TRUE(within(kSecond, [&] {
    const auto now = way(GetParam().target);
    return now && now->mtu == 1450;
  }));
}

TEST_P(FamilyTest, WhatTheKernelHasLearntOfAPathIsNotTheWaysMtu) {
  const bool v4 = ip(GetParam().target).is_ipv4();
  must_far(v4 ? "sysctl -qw net.ipv4.ip_forward=1" : "sysctl -qw net.ipv6.conf.all.forwarding=1");
  must_far("ip link add narrow mtu 1400 type veth peer name end");
  must_far("ip link set narrow up");
  must_far("ip link set end up");
  must_far(std::string("ip address add ") + (v4 ? "10.9.0.1/24" : "fd00:9::1/64 nodad") + " dev narrow");
  route("add", std::string("via ") + GetParam().gateway + " dev near");
  want({GetParam().inside});
  ASSERT_TRUE(within(kFirst, [&] { return mac(GetParam().inside) == kFar; }));
  const std::string get = ip_command() + " route get " + GetParam().inside;
  EXPECT_TRUE(within(kFirst,
                     [&] {
                       run(std::string("ping -c1 -W1 -M do -s 1440 ") + GetParam().inside);
                       return run(get).output.find("mtu 1400") != std::string::npos;
                     }))
      << "the kernel has learnt it: " << run(get).output;
  must(ip_command() + " route add " + (v4 ? "10.10.0.0/24" : "fd00:10::/64") + " dev near");  // look again
  must("ip link set near alias looked");
  EXPECT_FALSE(within(milliseconds(300), [&] { return way(GetParam().inside)->mtu != 1500; }));
  run(ip_command() + " route flush cache");
  must_far("ip link del narrow");
}

INSTANTIATE_TEST_SUITE_P(Families, FamilyTest,
                         ::testing::Values(Family{"Ipv4", "ip -4", "10.1.0.2", "10.9.0.0/24", "10.9.0.9", "10.1.0.2",
                                                  "10.1.0.3", "10.1.0.3/24", "10.1.0.1"},
                                           Family{"Ipv6", "ip -6", "fd00:1::2", "fd00:9::/64", "fd00:9::9", "fe80::2",
                                                  "fe80::3", "fe80::3/64 nodad", "fd00:1::1"}),
                         [](const auto& row) { return row.param.name; });

TEST_F(WatcherTest, Ipv4RouteThroughAnIpv6Gateway) {
  must("ip route add 10.9.0.0/24 via inet6 fe80::2 dev near");
  want({"10.9.0.9"});
  EXPECT_TRUE(within(kFirst, [&] { return mac("10.9.0.9") == kFar; }));
  EXPECT_EQ(way("10.9.0.9")->gateway, ip("fe80::2"));
  EXPECT_EQ(told().ways.next_hops.at(ip("10.9.0.9")).source, ip("10.1.0.1"));
}

TEST_F(WatcherTest, NeighboursOfBothFamiliesAreKeptByTheKernelAndLetGo) {
  want({"10.1.0.2", "fd00:1::2"});
  watcher_->wait(kFirst);
  EXPECT_THAT(must("ip -4 neigh show 10.1.0.2 dev near"), HasSubstr("managed"));
  EXPECT_THAT(must("ip -6 neigh show fd00:1::2 dev near"), HasSubstr("managed"));
  want({});
  watcher_->wait(kFirst);
  EXPECT_THAT(must("ip neigh show dev near"), ::testing::Not(HasSubstr("managed")));
}

TEST_F(WatcherTest, OverlayDevicesAreTheKernels) {
  must("ip link add overlay type vxlan id 5 dstport 4789 local 10.1.0.1 remote 10.1.0.2");
  must("ip link set overlay up");
  must("ip -6 address add fd00:5::1/64 dev overlay nodad");
  want({"fd00:5::2"});
  ASSERT_TRUE(within(kSecond, [&] { return way("fd00:5::2").has_value(); }));
  EXPECT_TRUE(way("fd00:5::2")->by_kernel);
  EXPECT_EQ(way("fd00:5::2")->mtu, told().view.links.at(way("fd00:5::2")->ifindex).mtu);
  EXPECT_THAT(why("fd00:5::2"), HasSubstr("overlay (vxlan)"));
  must("ip link del overlay");
}

TEST_F(WatcherTest, PortsAndWhatLiesBelow) {
  must("ip link add bridge0 type bridge");
  must("ip link add upper link near type macvlan mode bridge");
  must("ip link add port type veth peer name other");
  must("ip link set port master bridge0");
  const auto link = [&](const char* name) {
    const auto view = told().view;
    const auto found = view.links.find(if_nametoindex(name));
    return found == view.links.end() ? Link{} : found->second;
  };
  EXPECT_TRUE(within(kSecond, [&] { return link("port").master == if_nametoindex("bridge0"); }));
  EXPECT_TRUE(within(kSecond, [&] { return link("upper").parent == near_; }));
  EXPECT_EQ(link("upper").kind, "macvlan");
  EXPECT_EQ(link("port").parent, 0U);
  must("ip link del bridge0 && ip link del port");
}

TEST_F(WatcherTest, AddressesAndDefaultRoutesOfBothFamilies) {
  EXPECT_TRUE(told().view.addresses.contains(ip("10.1.0.1")));
  EXPECT_TRUE(told().view.addresses.contains(ip("fd00:1::1")));
  must("ip -6 address add fd00:1::99/128 dev near nodad");
  EXPECT_TRUE(within(kSecond, [&] { return told().view.addresses.contains(ip("fd00:1::99")); }));
  EXPECT_TRUE(told().view.default_devices.empty());
  must("ip -6 route add default via fe80::2 dev near");
  EXPECT_TRUE(within(kSecond, [&] { return told().view.default_devices == std::set<uint32_t>{near_}; }));
  must("ip -6 route del default");
  EXPECT_TRUE(within(kSecond, [&] { return told().view.default_devices.empty(); }));
  must("ip -6 address del fd00:1::99/128 dev near");
  EXPECT_TRUE(within(kSecond, [&] { return !told().view.addresses.contains(ip("fd00:1::99")); }));
}

TEST_F(WatcherTest, AddressOfThisMachineIsLocalAndALinkLocalOneIsRefused) {
  want({"fd00:1::1", "fe80::2"});
  ASSERT_TRUE(within(kSecond, [&] { return way("fd00:1::1").has_value(); }));
  EXPECT_TRUE(way("fd00:1::1")->local);
  EXPECT_EQ(why("fe80::2"), "no route: a link-local address says nothing of the link");
}

}  // namespace
}  // namespace sluice::agent::nexthop
