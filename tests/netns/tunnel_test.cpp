// Tunnels between two real agents: proved, used, lost, and taken up again. The client knows the nodes' network alone:
// what pods answer must come from the service's address.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <unistd.h>

#include "bpf/sluice.h"
#include "node-agent/tunnel/plan.h"
#include "node-agent/tunnel/probe_frame.h"
#include "node-agent/tunnel/probe_sender.h"
#include "tests/netns/nodes_fixture.h"

namespace sluice::lab {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

// How often the log has this text.
int count_in(const std::string& log, const std::string& text) {
  int count = 0;
  for (auto at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) ++count;
  return count;
}

const std::string kProved = "tunnel to node n2: proved";
const std::string kNotUsable = "tunnel to node n2: not usable";

using Tunnel = Nodes;

class TunnelOver : public Tunnel, public testing::WithParamInterface<Underlay> {};

TEST_P(TunnelOver, BothFamiliesReachABackendOnAnotherNode) {
  push(desired(GetParam(), {2}));
  ASSERT_TRUE(agent(1).wait_log(kProved));
  EXPECT_EQ(asked(kAddress, "pod2", 20), 20);
  EXPECT_EQ(asked(kAddress6, "pod2", 20), 20);
  EXPECT_THAT(servers_[1]->peers(), testing::ElementsAre(kClient, kClient6)) << "pods see their clients' addresses";
}

std::string name_of(const testing::TestParamInfo<Underlay>& one) {
  if (one.param == Underlay::both) return "Both";
  return one.param == Underlay::ipv4 ? "IPv4" : "IPv6";
}
INSTANTIATE_TEST_SUITE_P(Underlays, TunnelOver, testing::Values(Underlay::ipv4, Underlay::ipv6, Underlay::both),
                         name_of);

TEST_F(Tunnel, LossLeavesNewFlowsToNatAndNoFlowMovesWhenItIsBack) {
  push(desired(Underlay::ipv4, {2}));
  ASSERT_TRUE(agent(1).wait_log(kProved));
  ASSERT_EQ(asked(kAddress, "pod2", 5), 5);
  lose_tunnels(true);
  ASSERT_TRUE(agent(1).wait_log(kNotUsable));
  EXPECT_EQ(asked(kAddress, "pod2", 20), 20);
  EXPECT_EQ(asked(kAddress6, "pod2", 20), 20) << "by nat, in the service's own family";
  EXPECT_THAT(servers_[1]->peers(), testing::UnorderedElementsAre(kClient, node_address(1), node_address(1, true)));
  HttpLoad by_nat(lab_.ns("client"), kAddress, kPort, {.connections = 20});
  ASSERT_TRUE(by_nat.run(200));
  lose_tunnels(false);
  ASSERT_TRUE(eventually([&] { return count_in(agent(1).log(), kProved) == 2; }));
  EXPECT_EQ(asked(kAddress, "pod2", 20), 20);
  ASSERT_TRUE(by_nat.run(200));
  const auto outcome = by_nat.stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
}

TEST_F(Tunnel, LossForASecondsPartBreaksNoConnection) {
  push(desired(Underlay::ipv4, {2}));
  ASSERT_TRUE(agent(1).wait_log(kProved));
  HttpLoad busy(lab_.ns("client"), kAddress, kPort, {.connections = 20, .timeout = seconds(10)});
  ASSERT_TRUE(busy.run(200));
  lose_tunnels(true);
  ASSERT_TRUE(agent(1).wait_log(kNotUsable));
  lose_tunnels(false);
  ASSERT_TRUE(eventually([&] { return count_in(agent(1).log(), kProved) == 2; }));
  ASSERT_TRUE(busy.run(200));
  const auto outcome = busy.stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
  EXPECT_THAT(servers_[1]->peers(), testing::ElementsAre(kClient)) << "none has gone over to nat";
}

TEST_F(Tunnel, KeysRotateUnderTraffic) {
  const state::TunnelKey before{1, {3, 4}}, after{2, {5, 6}};
  auto state = desired(Underlay::both, {2});
  push(state);
  ASSERT_TRUE(agent(1).wait_log(kProved));
  HttpLoad busy(lab_.ns("client"), kAddress, kPort, {.connections = 20});
  ASSERT_TRUE(busy.run(200));
  for (const auto& keys :
       {std::vector{before, after}, std::vector{after, before}, std::vector{after}, std::vector{after, before}}) {
    state.tunnel.keys = keys;
    ++state.revision;
    for (size_t n = 0; n < nodes_.size(); ++n) {  // now the one first, now the other
      nodes_[(n + state.revision) % nodes_.size()]->push(state);
      ASSERT_TRUE(busy.run(200));
    }
  }
  EXPECT_EQ(asked(kAddress, "pod2", 10), 10);
  const auto outcome = busy.stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
  EXPECT_EQ(count_in(agent(1).log(), kNotUsable), 0);
  EXPECT_EQ(nodes_[1]->packets("drop", "tunnel_denied"), 0);
  EXPECT_THAT(servers_[1]->peers(), testing::ElementsAre(kClient));
}

TEST_F(Tunnel, StrangerIsRefused) {
  const auto state = desired(Underlay::ipv4, {2});
  push(state);
  ASSERT_TRUE(agent(1).wait_log(kProved));
  // As if from node n1, by somebody on the same network.
  const auto planned = agent::tunnel::plan_tunnels(state, kFirst).at(kSecond);
  agent::dataplane::Peer peer;
  peer.source = planned.source;
  peer.address = planned.address;
  peer.port = planned.port;
  const auto send = [&](const net::IpAddress& source, uint64_t token) {
    peer.source = source;
    peer.token = token;
    return inside(lab_.ns("client"), [&] {
      peer.way.ifindex = if_nametoindex("eth0");
      const std::string shown = lab_.in("n2", "ip -o link show eth0").output;
      const std::string mac = shown.substr(shown.find("link/ether ") + std::string("link/ether ").size());
      for (size_t i = 0; i < peer.way.mac.size(); ++i) {
        peer.way.mac.at(i) = static_cast<uint8_t>(std::stoi(mac.substr(3 * i, 2), nullptr, 16));
      }
      agent::tunnel::ProbeSender sender;
      return sender.send(agent::tunnel::probe_frame(peer, {2, 0, 0, 0, 9, 9}, {kSecond, 4711, 1000})).has_value();
    });
  };
  const Node& receiver = *nodes_[1];
  ASSERT_EQ(receiver.packets("drop", "tunnel_denied"), 0);
  ASSERT_TRUE(send(ip(node_address(1)), planned.token ^ 1));
  EXPECT_TRUE(eventually([&] { return receiver.packets("drop", "tunnel_denied") == 1; })) << "with a wrong token";
  ASSERT_TRUE(send(ip(kClient), planned.token));
  EXPECT_TRUE(eventually([&] { return receiver.packets("drop", "tunnel_denied") == 2; })) << "from no node";
  EXPECT_EQ(count_in(agent(1).log(), kNotUsable), 0);
}

TEST_F(Tunnel, StandsWhileAgentsAreAwayAndWhenTheyComeBack) {
  push(desired(Underlay::ipv4, {2}));
  ASSERT_TRUE(agent(1).wait_log(kProved));
  HttpLoad busy(lab_.ns("client"), kAddress, kPort, {.connections = 20});
  ASSERT_TRUE(busy.run(200));
  agent(2).kill();
  ASSERT_TRUE(busy.run(200));
  ASSERT_EQ(asked(kAddress, "pod2", 10), 10);
  agent(1).kill();
  ASSERT_TRUE(busy.run(200));
  nodes_[0]->start();
  ASSERT_TRUE(agent(1).wait_log("programmed revision"));
  const double before = nodes_[0]->packets("answer", "probe_returned");
  ASSERT_TRUE(eventually([&] { return nodes_[0]->packets("answer", "probe_returned") > before + 3; }))
      << "the XDP program alone answers for node n2";
  EXPECT_EQ(count_in(agent(1).log(), kNotUsable), 0);
  EXPECT_EQ(asked(kAddress, "pod2", 10), 10);
  const auto outcome = busy.stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
  EXPECT_THAT(servers_[1]->peers(), testing::ElementsAre(kClient)) << "nothing has gone by nat meanwhile";
}

TEST_F(Tunnel, WayThatIsNarrowerThanItsDevicesIsMeasured) {
  EXPECT_EQ(lab_.in("net", "ip link set p-n2 mtu 1400").exit_code, 0);
  push(desired(Underlay::ipv4, {2}));
  // A bridge lets frames through that are longer by one VLAN tag.
  ASSERT_TRUE(agent(1).wait_log("proved, for packets of up to 1344 bytes (IPv4) and 1332 (IPv6)")) << agent(1).log();
  EXPECT_EQ(asked(kAddress, "pod2", 10), 10);
}

// Between the nodes there is a router. `GetParam()`: by IPv6.
class RoutedTunnel : public Tunnel, public testing::WithParamInterface<bool> {
 protected:
  RoutedTunnel() : Tunnel({2, true}) {}
  static state::DesiredState routed() {
    auto state = desired(Underlay::ipv4, {2});
    for (int n = 1; n <= 2; ++n) state.nodes["n" + std::to_string(n)].addresses = {ip(routed_address(n, GetParam()))};
    return state;
  }
  // What the router sends on to the second node.
  void narrow(uint32_t mtu) const {
    const std::string route = GetParam() ? "ip -6 route replace fd78:2::/64 dev eth0 metric 256 proto kernel mtu "
                                         : "ip route replace 10.78.2.0/24 dev eth0 proto kernel scope link src "
                                           "10.78.2.254 mtu ";
    const auto replaced = lab_.in("router", route + std::to_string(mtu));
    ASSERT_EQ(replaced.exit_code, 0) << replaced.output;
  }
  // Of inner IPv4 packets, where outer ones of so many bytes fit.
  static std::string fitting(uint32_t mtu) {
    return std::to_string(mtu - SLUICE_TUNNEL_OVERHEAD(GetParam(), false)) + " bytes (IPv4)";
  }
};

TEST_P(RoutedTunnel, RouterThatBecomesNarrowerIsBelievedAndTheTunnelIsNeverLeft) {
  push(routed());
  ASSERT_TRUE(agent(1).wait_log(kProved + ", for packets of up to " + fitting(1500))) << agent(1).log();
  HttpLoad busy(lab_.ns("client"), kAddress, kPort, {.connections = 20});
  ASSERT_TRUE(busy.run(200));
  narrow(1420);
  ASSERT_TRUE(agent(1).wait_log("tunnel to node n2: carries packets of up to " + fitting(1420))) << agent(1).log();
  EXPECT_GE(nodes_[0]->packets("note", "path_mtu"), 1);
  const double confirmed = nodes_[0]->packets("answer", "probe_returned");
  narrow(1390);
  ASSERT_TRUE(agent(1).wait_log("tunnel to node n2: carries packets of up to " + fitting(1390))) << agent(1).log();
  EXPECT_TRUE(eventually([&] { return nodes_[0]->packets("answer", "probe_returned") > confirmed + 2; }));
  ASSERT_TRUE(busy.run(200));
  const auto outcome = busy.stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
  EXPECT_EQ(count_in(agent(1).log(), kNotUsable), 0) << agent(1).log();
  EXPECT_THAT(servers_[1]->peers(), testing::ElementsAre(kClient)) << "nothing has gone by nat meanwhile";
}

TEST_P(RoutedTunnel, NarrowRouterIsFoundByTheFirstProbe) {
  narrow(1417);
  push(routed());
  ASSERT_TRUE(agent(1).wait_log(kProved + ", for packets of up to " + fitting(1417))) << agent(1).log();
  EXPECT_EQ(asked(kAddress, "pod2", 10), 10);
  EXPECT_EQ(nodes_[0]->packets("note", "path_mtu"), 1) << "no search was needed";
}

TEST_P(RoutedTunnel, RouterThatIsTooNarrowForTunnelsIsNamed) {
  push(routed());
  ASSERT_TRUE(agent(1).wait_log(kProved));
  narrow(1300);
  ASSERT_TRUE(agent(1).wait_log("a router on the way to " + routed_address(2, GetParam()) +
                                " lets no more than 1300 bytes through"))
      << agent(1).log();
  EXPECT_EQ(asked(kAddress, "pod2", 10), 10) << "by nat";
}

INSTANTIATE_TEST_SUITE_P(Underlays, RoutedTunnel, testing::Bool(),
                         [](const auto& one) { return one.param ? "IPv6" : "IPv4"; });

TEST_F(Tunnel, BackendsOnBothNodesShareAService) {
  push(desired(Underlay::ipv4, {1, 2}));
  ASSERT_TRUE(agent(1).wait_log(kProved));
  HttpLoad busy(lab_.ns("client"), kAddress, kPort, {.connections = 50});
  ASSERT_TRUE(busy.run(1000));
  const auto outcome = busy.stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
  EXPECT_GT(outcome.connections.at("pod1"), 10U);
  EXPECT_GT(outcome.connections.at("pod2"), 10U);
}

TEST_F(Tunnel, BackendThatHasLeftKeepsItsConnectionsUntilTheyEnd) {
  auto state = desired(Underlay::ipv4, {1, 2});
  push(state);
  ASSERT_TRUE(agent(1).wait_log(kProved));
  HttpLoad busy(lab_.ns("client"), kAddress, kPort, {.connections = 50});
  ASSERT_TRUE(busy.run(500));
  state.revision = 2;
  for (auto& [id, one] : state.services) one.backends[1].left = 2;
  push(state);
  ASSERT_TRUE(busy.run(1000));
  EXPECT_EQ(asked(kAddress, "pod1", 20), 20) << "new ones go to who is left";
  const auto outcome = busy.stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
  EXPECT_EQ(outcome.moved, 0U);
  EXPECT_GT(outcome.connections.at("pod2"), 10U);
}

}  // namespace
}  // namespace sluice::lab
