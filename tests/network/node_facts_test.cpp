// What is read of a node, and that the command which a finding names mends it: each is run as it stands there.
#include "node-agent/health/node_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/network/sandbox.h"

namespace sluice::agent::health {
namespace {

using agent::testing::must;
using agent::testing::run;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class NodeFactsTest : public agent::testing::SandboxTest {
 protected:
  void SetUp() override {
    SandboxTest::SetUp();
    use_.interfaces = {{"near", true, true, true, false, true}};
    use_.delivers_ipv4 = true;
    use_.delivers_ipv6 = true;
    use_.nat_ports = {10'000, 29'999};
    must("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0");
  }
  void TearDown() override {
    for (const auto* tool : {"iptables-legacy", "ip6tables-legacy"}) {
      run(std::string(tool) + " -P FORWARD ACCEPT; " + tool + " -F FORWARD");
    }
    run("nft flush ruleset");
    SandboxTest::TearDown();
  }
  [[nodiscard]] std::vector<Finding> findings() const { return check_node(facts(), use_); }
  static NodeFacts facts() {
    auto facts = read_node_facts({"near"});
    EXPECT_THAT(facts.unreadable, IsEmpty());
    return facts;
  }
  // One finding of this reason; its command, run, leaves none.
  void expect_mended(const std::string& reason, const std::string& command) {
    const auto found = findings();
    ASSERT_EQ(found.size(), 1U) << (found.empty() ? "" : found.back().message);
    EXPECT_EQ(found.front().reason, reason);
    EXPECT_EQ(found.front().command, command);
    must(found.front().command);
    EXPECT_THAT(findings(), IsEmpty());
  }
  NodeUse use_;
};

TEST_F(NodeFactsTest, PreparedNodeLacksNothing) {
  EXPECT_THAT(findings(), IsEmpty());
}

TEST_F(NodeFactsTest, ForwardingOfBothFamilies) {
  must("sysctl -qw net.ipv4.ip_forward=0");
  expect_mended("IpForwardingOff", "sysctl -w net.ipv4.ip_forward=1");
  must("sysctl -qw net.ipv4.conf.near.forwarding=0");
  expect_mended("IpForwardingOff", "sysctl -w net.ipv4.conf.near.forwarding=1");
  must("sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.near.accept_ra=0");
  expect_mended("Ipv6ForwardingOff", "sysctl -w net.ipv6.conf.all.forwarding=1");
  must("sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.near.accept_ra=1");
  expect_mended("Ipv6ForwardingOff", "sysctl -w net.ipv6.conf.near.accept_ra=2 net.ipv6.conf.all.forwarding=1");
}

TEST_F(NodeFactsTest, StrictReversePathFilterOfADeviceOrOfAll) {
  use_.interfaces.front().default_route = false;
  must("sysctl -qw net.ipv4.conf.near.rp_filter=1");
  expect_mended("ReversePathFilter", "sysctl -w net.ipv4.conf.near.rp_filter=2");
  must("sysctl -qw net.ipv4.conf.near.rp_filter=0 net.ipv4.conf.all.rp_filter=1");
  expect_mended("ReversePathFilter", "sysctl -w net.ipv4.conf.near.rp_filter=2");
  must("sysctl -qw net.ipv4.conf.near.rp_filter=0 net.ipv4.conf.all.rp_filter=0");
}

TEST_F(NodeFactsTest, DeviceWithADotInItsName) {
  must("ip link add near.7 link near type macvlan");
  must("sysctl -qw net/ipv4/conf/near.7/forwarding=0");
  use_.interfaces = {{"near.7", true, true, true, false, true}};
  const auto found = check_node(read_node_facts({"near.7"}), use_);
  ASSERT_EQ(found.size(), 1U);
  must(found.front().command);
  EXPECT_THAT(check_node(read_node_facts({"near.7"}), use_), IsEmpty());
}

TEST_F(NodeFactsTest, PortsThatTheKernelTakesForItsOwnConnections) {
  must("sysctl -qw net.ipv4.ip_local_port_range='15000 40000' net.ipv4.ip_local_reserved_ports=16000,20000-20010");
  expect_mended("NatPortsOverlap", "sysctl -w net.ipv4.ip_local_reserved_ports=16000,20000-20010,10000-29999");
  must("sysctl -qw net.ipv4.ip_local_port_range='32768 60999' net.ipv4.ip_local_reserved_ports=''");
}

TEST_F(NodeFactsTest, OffloadsAreRead) {
  const auto device = facts().devices.front();
  EXPECT_EQ(device.driver, "veth");
  EXPECT_EQ(device.mtu, 1500U);
  EXPECT_TRUE(device.vlan_stripping && device.vlan_stripping->on && !device.vlan_stripping->fixed);
  EXPECT_TRUE(device.lro && !device.lro->on && device.lro->fixed);
  use_.interfaces.front().has_vlans = true;
  expect_mended("VlanOffload", "ethtool -K near rxvlan off");
  use_.interfaces.front().attached_native = false;
  must("ethtool -K near gro on");
  expect_mended("GenericReceiveOffload", "ethtool -K near gro off");
}

TEST_F(NodeFactsTest, WhatXdpTheDriverHasIsRead) {
  must("ip link add plain type bridge");
  constexpr uint64_t kBasic = 1;
  const auto device = read_node_facts({"near", "plain"}).devices;
  ASSERT_EQ(device.size(), 2U);
  EXPECT_TRUE(device[0].xdp_features.value_or(0) & kBasic) << "veth has native XDP";
  EXPECT_EQ(device[1].xdp_features, uint64_t{0});
  must("ip link del plain");
}

TEST_F(NodeFactsTest, InterfaceThatIsNotThereIsToldAndNothingElseIsLost) {
  const auto facts = read_node_facts({"near", "absent"});
  EXPECT_THAT(facts.unreadable, ::testing::ElementsAre(HasSubstr("absent")));
  EXPECT_EQ(facts.devices.size(), 1U);
  EXPECT_EQ(facts.ip_forward, 1);
}

// The filter's ways to drop: how it is made, what is reported, and what mends it. H: the rule's handle.
struct Filter {
  const char* name;
  const char* make;
  Severity severity;
  const char* command;  // begins so
  bool ipv4 = true;     // else: concerns IPv6 only
};
class ForwardFilterTest : public NodeFactsTest, public ::testing::WithParamInterface<Filter> {};

TEST_P(ForwardFilterTest, IsFoundAndMended) {
  const Filter& row = GetParam();
  must(row.make);
  const auto found = findings();
  ASSERT_EQ(found.size(), 1U) << (found.empty() ? "none" : found.back().message);
  EXPECT_EQ(found.front().reason, "ForwardPolicyDrop");
  EXPECT_EQ(found.front().severity, row.severity) << found.front().message;
  EXPECT_THAT(found.front().command, ::testing::StartsWith(row.command));
  (row.ipv4 ? use_.delivers_ipv4 : use_.delivers_ipv6) = false;
  EXPECT_THAT(findings(), ::testing::SizeIs(std::string(row.make).find("inet") != std::string::npos ? 1 : 0))
      << "of no concern to the other family";
  (row.ipv4 ? use_.delivers_ipv4 : use_.delivers_ipv6) = true;
  must(found.front().command);
  EXPECT_THAT(findings(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Filters, ForwardFilterTest,
    ::testing::Values(
        Filter{"IptablesLegacyPolicy", "iptables-legacy -P FORWARD DROP", Severity::blocks,
               "iptables-legacy -P FORWARD ACCEPT"},
        Filter{"Ip6tablesLegacyPolicy", "ip6tables-legacy -P FORWARD DROP", Severity::blocks,
               "ip6tables-legacy -P FORWARD ACCEPT", false},
        Filter{
            "IptablesLegacyRules",
            "iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -i near -j ACCEPT; iptables-legacy -A FORWARD "
            "-m conntrack --ctstate ESTABLISHED -j ACCEPT",
            Severity::degrades, "iptables-legacy -P FORWARD ACCEPT"},
        Filter{"IptablesLegacyReject",
               "iptables-legacy -A FORWARD -s 10.0.0.0/8 -j ACCEPT; iptables-legacy -A FORWARD -m comment --comment "
               "all -j "
               "REJECT",
               Severity::degrades, "iptables-legacy -D FORWARD 2"},
        Filter{"Ip6tablesLegacyDrop", "ip6tables-legacy -A FORWARD -j DROP", Severity::blocks,
               "ip6tables-legacy -D FORWARD 1", false},
        Filter{"IptablesNftPolicy", "iptables-nft -P FORWARD DROP", Severity::blocks, "iptables-nft -P FORWARD ACCEPT"},
        Filter{"Ip6tablesNftPolicy", "ip6tables-nft -P FORWARD DROP", Severity::blocks,
               "ip6tables-nft -P FORWARD ACCEPT", false},
        Filter{"IptablesNftReject",
               "iptables-nft -A FORWARD -p tcp -j ACCEPT; iptables-nft -A FORWARD -m comment --comment all -j REJECT",
               Severity::degrades, "iptables-nft -D FORWARD 2"},
        Filter{"NftPolicyOfBothFamilies",
               "nft 'add table inet f; add chain inet f passing { type filter hook forward priority 0; policy drop; }'",
               Severity::blocks, "nft 'chain inet f passing { policy accept; }'"},
        Filter{
            "NftRuleOfBothFamilies",
            "nft 'add table inet f; add chain inet f passing { type filter hook forward priority 0; }; add rule inet f "
            "passing ip "
            "daddr 10.0.0.0/8 accept; add rule inet f passing counter reject with icmpx type admin-prohibited'",
            Severity::degrades, "nft delete rule inet f passing handle "}),
    [](const auto& row) { return row.param.name; });

TEST_F(NodeFactsTest, ChainsThatDropNothingAreNoFinding) {
  must("iptables-legacy -P FORWARD DROP && iptables-legacy -A FORWARD -j ACCEPT");
  must("iptables-nft -A FORWARD -s 10.9.9.9 -j DROP");
  must("nft 'add table inet f; add chain inet f in { type filter hook input priority 0; policy drop; }'");
  must("nft 'add chain inet f side { policy accept; }' || nft 'add chain inet f side'");
  must("nft 'add rule inet f side drop'");
  EXPECT_THAT(findings(), IsEmpty());
  EXPECT_FALSE(facts().forward_chains.empty());
}

TEST_F(NodeFactsTest, TablesNotInUseAreNotLoaded) {
  // In a namespace that nobody has asked for a filter yet.
  EXPECT_EQ(agent::testing::far_side([] { return read_node_facts({}).forward_chains.size(); }), 0U);
  EXPECT_THAT(agent::testing::must_far("cat /proc/self/net/ip_tables_names"), ::testing::Not(HasSubstr("filter")));
}

}  // namespace
}  // namespace sluice::agent::health
