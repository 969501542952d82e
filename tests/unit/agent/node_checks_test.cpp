// What a node lacks, as a table: each row takes one thing away from a node that lacks nothing.
#include "node-agent/health/node_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace sluice::agent::health {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kAllOfXdp = 0x7f;
constexpr uint64_t kWithoutScatterGather = kAllOfXdp & ~(1U << 5);

struct Node {
  NodeFacts facts;
  NodeUse use;
};

Node prepared() {
  Node node;
  DeviceFacts device;
  device.name = "eth0";
  device.driver = "ena";
  device.mtu = 1500;
  device.forwarding_ipv4 = 1;
  device.rp_filter = 0;
  device.accept_ra = 0;
  device.vlan_stripping = Feature{false, false};
  device.lro = Feature{false, false};
  device.gro_hw = Feature{false, false};
  device.gro = Feature{true, false};
  device.channels = Channels{4, 8};
  device.xdp_features = kAllOfXdp;
  node.facts.devices = {device};
  node.facts.ip_forward = 1;
  node.facts.ipv6_forwarding = 1;
  node.facts.rp_filter_all = 0;
  node.facts.local_ports = PortRange{32'768, 60'999};
  node.facts.forward_chains = {{true, "ip", "filter", "FORWARD"}, {false, "inet", "f", "fwd"}};
  node.use.interfaces = {{"eth0", true, true, true, false, true}};
  node.use.delivers_ipv4 = true;
  node.use.delivers_ipv6 = true;
  node.use.nat_ports = {10'000, 29'999};
  node.use.node_ports = true;
  return node;
}

struct Row {
  const char* name;
  std::function<void(Node&)> change;
  Severity severity;
  const char* reason;
  const char* says;
  const char* command;
};

DeviceFacts& device(Node& node) {
  return node.facts.devices.front();
}
NodeUse::Interface& interface(Node& node) {
  return node.use.interfaces.front();
}
void make_generic(Node& node) {
  interface(node).attached_native = false;
}

std::vector<Row> rows() {
  return {
      {"Ipv4Forwarding", [](Node& n) { n.facts.ip_forward = 0; }, Severity::blocks, "IpForwardingOff",
       "net.ipv4.ip_forward is 0", "sysctl -w net.ipv4.ip_forward=1"},
      {"Ipv4ForwardingOfADevice", [](Node& n) { device(n).forwarding_ipv4 = 0; }, Severity::blocks, "IpForwardingOff",
       "net.ipv4.conf.eth0.forwarding is 0", "sysctl -w net.ipv4.conf.eth0.forwarding=1"},
      {"Ipv6Forwarding", [](Node& n) { n.facts.ipv6_forwarding = 0; }, Severity::blocks, "Ipv6ForwardingOff",
       "net.ipv6.conf.all.forwarding is 0", "sysctl -w net.ipv6.conf.all.forwarding=1"},
      {"Ipv6ForwardingWhereRoutesComeByAdvertisements",
       [](Node& n) {
         n.facts.ipv6_forwarding = 0;
         device(n).accept_ra = 1;
       },
       Severity::blocks, "Ipv6ForwardingOff", "net.ipv6.conf.all.forwarding is 0",
       "sysctl -w net.ipv6.conf.eth0.accept_ra=2 net.ipv6.conf.all.forwarding=1"},
      {"ReversePathWithTwoNics",
       [](Node& n) {
         device(n).rp_filter = 1;
         n.use.interfaces.push_back({"eth1", true, true, true, false, false});
       },
       Severity::degrades, "ReversePathFilter", "reverse path filter of eth0 is strict",
       "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
      {"ReversePathOfAnswersToTheNodeItself",
       [](Node& n) {
         device(n).rp_filter = 1;
         n.use.tunnels_answer_ipv4 = true;
       },
       Severity::degrades, "ReversePathFilter", "clients on this node do not get what backends behind tunnels answer",
       "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
      {"ReversePathOfAllDevices",
       [](Node& n) {
         n.facts.rp_filter_all = 1;
         interface(n).default_route = false;
       },
       Severity::degrades, "ReversePathFilter", "strict", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
      {"VlanTagsTakenOff",
       [](Node& n) {
         interface(n).has_vlans = true;
         device(n).vlan_stripping = Feature{true, false};
       },
       Severity::degrades, "VlanOffload", "takes VLAN tags off", "ethtool -K eth0 rxvlan off"},
      {"VlanTagsTakenOffForGood",
       [](Node& n) {
         interface(n).has_vlans = true;
         device(n).vlan_stripping = Feature{true, true};
       },
       Severity::degrades, "VlanOffload", "takes VLAN tags off", ""},
      {"LroThatRefusesNative",
       [](Node& n) {
         device(n).lro = Feature{true, false};
         make_generic(n);
         device(n).gro = Feature{};
       },
       Severity::blocks, "LargeReceiveOffload", "(LRO)", "ethtool -K eth0 lro off"},
      {"HardwareGro",
       [](Node& n) {
         device(n).gro_hw = Feature{true, false};
       },
       Severity::degrades, "LargeReceiveOffload", "(hardware GRO)", "ethtool -K eth0 rx-gro-hw off"},
      {"GroInGenericMode", make_generic, Severity::degrades, "GenericReceiveOffload", "before generic XDP sees them",
       "ethtool -K eth0 gro off"},
      {"MoreThanHalfOfTheChannels",
       [](Node& n) {
         interface(n).attached = interface(n).attached_native = false;
         device(n).channels = Channels{5, 8};
       },
       Severity::degrades, "TooManyChannels", "uses 5 of 8 channels", "ethtool -L eth0 combined 4"},
      {"MtuWithoutFrags",
       [](Node& n) {
         interface(n).attached = interface(n).attached_native = false;
         device(n).mtu = 9001;
         device(n).xdp_features = kWithoutScatterGather;
       },
       Severity::degrades, "MtuTooLarge", "MTU of 9001", "ip link set dev eth0 mtu 3498"},
      {"PortsOfTheKernel",
       [](Node& n) {
         n.use.nat_ports = {10'000, 32'768}, n.use.node_ports = false;
       },
       Severity::degrades, "NatPortsOverlap", "overlap net.ipv4.ip_local_port_range 32768-60999",
       "sysctl -w net.ipv4.ip_local_reserved_ports=10000-32768"},
      {"PortsOfTheKernelSomeReserved",
       [](Node& n) {
         n.use.nat_ports = {40'000, 40'010};
         n.facts.reserved_ports = {{40'000, 40'009}, {50'000, 50'000}};
       },
       Severity::degrades, "NatPortsOverlap", "40000-40010",
       "sysctl -w net.ipv4.ip_local_reserved_ports=40000-40009,50000,40000-40010"},
      {"NodePorts",
       [](Node& n) {
         n.use.nat_ports = {10'000, 30'000};
       },
       Severity::degrades, "NatPortsOverlap", "node ports 30000-32767", ""},
      {"PolicyOfTheOlderIptables", [](Node& n) { n.facts.forward_chains[0].drops = true; }, Severity::blocks,
       "ForwardPolicyDrop", "chain FORWARD of iptables-legacy drops forwarded packets by its policy",
       "iptables-legacy -P FORWARD ACCEPT"},
      {"RuleOfNftablesAfterOthers",
       [](Node& n) { n.facts.forward_chains[1] = {false, "inet", "f", "fwd", true, 3, 4, 17}; }, Severity::degrades,
       "ForwardPolicyDrop", "chain fwd of nftables' table inet f drops forwarded packets by its rule 4",
       "nft delete rule inet f fwd handle 17"},
  };
}

class NodeChecksTest : public testing::TestWithParam<Row> {};

TEST_P(NodeChecksTest, IsToldWithTheCommandThatMendsIt) {
  Node node = prepared();
  GetParam().change(node);
  const auto findings = check_node(node.facts, node.use);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].severity, GetParam().severity);
  EXPECT_EQ(findings[0].reason, GetParam().reason);
  EXPECT_THAT(findings[0].message, HasSubstr(GetParam().says));
  EXPECT_EQ(findings[0].command, GetParam().command);
}

INSTANTIATE_TEST_SUITE_P(Table, NodeChecksTest, testing::ValuesIn(rows()),
                         [](const auto& row) { return row.param.name; });

struct NoFinding {
  const char* name;
  std::function<void(Node&)> change;
};
class NodeWithoutFindingTest : public testing::TestWithParam<NoFinding> {};

TEST_P(NodeWithoutFindingTest, LacksNothing) {
  Node node = prepared();
  GetParam().change(node);
  EXPECT_THAT(check_node(node.facts, node.use), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Table, NodeWithoutFindingTest,
    testing::Values(NoFinding{"Prepared", [](Node&) {}}, NoFinding{"NothingCouldBeRead", [](Node& n) { n.facts = {}; }},
                    NoFinding{"ForwardsNothing",
                              [](Node& n) {
                                n.use.delivers_ipv4 = n.use.delivers_ipv6 = false;
                                n.facts.ip_forward = n.facts.ipv6_forwarding = 0;
                                device(n).rp_filter = 1;
                                interface(n).default_route = false;
                                n.facts.forward_chains[0].drops = true;
                              }},
                    NoFinding{"StrictWithOneDeviceForAll", [](Node& n) { device(n).rp_filter = 1; }},
                    NoFinding{"LooseForTheDeviceWhereStrictForAll",
                              [](Node& n) {
                                n.facts.rp_filter_all = 1;
                                device(n).rp_filter = 2;
                                interface(n).default_route = false;
                              }},
                    NoFinding{"TagsTakenOffWithoutVlans",
                              [](Node& n) {
                                device(n).vlan_stripping = Feature{true, false};
                              }},
                    NoFinding{"LroInGenericModeAskedFor",
                              [](Node& n) {
                                device(n).lro = Feature{true, false};
                                device(n).gro = Feature{false, false};
                                interface(n).native_wanted = false;
                                make_generic(n);
                              }},
                    NoFinding{"LargeMtuThatTheDriverHasTaken", [](Node& n) { device(n).mtu = 9001; }},
                    NoFinding{"LargeMtuWithFrags",
                              [](Node& n) {
                                interface(n).attached = interface(n).attached_native = false;
                                device(n).mtu = 9001;
                              }},
                    NoFinding{"LargeMtuWithoutAnyNativeMode",
                              [](Node& n) {
                                interface(n).attached = interface(n).attached_native = false;
                                device(n).mtu = 9001;
                                device(n).xdp_features = 0;
                              }},
                    NoFinding{"AllPortsReserved",
                              [](Node& n) {
                                n.use.nat_ports = {40'000, 40'010};
                                n.facts.reserved_ports = {{39'000, 40'005}, {40'006, 41'000}};
                              }},
                    NoFinding{"NodePortsWhereThereIsNoCluster",
                              [](Node& n) {
                                n.use.node_ports = false;
                                n.use.nat_ports = {30'000, 31'000};
                              }},
                    NoFinding{"FilterOfTheOtherFamily",
                              [](Node& n) {
                                n.facts.forward_chains[0].drops = true;
                                n.use.delivers_ipv4 = false;
                              }}),
    [](const auto& row) { return row.param.name; });

TEST(NodePrepared, WhatBlocksComesFirstAndEverythingIsSaid) {
  Node node = prepared();
  node.use.nat_ports = {10'000, 30'000};
  node.facts.ipv6_forwarding = 0;
  interface(node).default_route = false;
  device(node).rp_filter = 1;
  const auto findings = check_node(node.facts, node.use);
  std::vector<std::string> reasons;
  for (const auto& finding : findings) reasons.push_back(finding.reason);
  EXPECT_THAT(reasons, ElementsAre("Ipv6ForwardingOff", "ReversePathFilter", "NatPortsOverlap"));
  const Condition condition = node_prepared_condition(findings);
  EXPECT_EQ(condition.type, "NodePrepared");
  EXPECT_FALSE(condition.status);
  EXPECT_EQ(condition.reason, "Ipv6ForwardingOff");
  EXPECT_THAT(condition.message,
              HasSubstr("; mend it with: sysctl -w net.ipv6.conf.all.forwarding=1. the reverse path"));
  EXPECT_THAT(condition.message, HasSubstr("node ports"));
}

TEST(NodePrepared, IsTrueWithoutFindings) {
  EXPECT_EQ(node_prepared_condition({}),
            (Condition{"NodePrepared", true, "Prepared", "this node has what Sluice needs"}));
}

}  // namespace
}  // namespace sluice::agent::health
