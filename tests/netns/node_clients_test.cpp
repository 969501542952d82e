// Clients on the nodes themselves: their processes, pods behind a bridge and behind a veth of their own, a pod that
// asks for the service that it serves itself. Through real agents, in each way of forwarding, in both families.
#include <gmock/gmock.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/netns/nodes_fixture.h"

namespace sluice::lab {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

constexpr uint16_t kDnsPort = 53, kDnsBackendPort = 5353;
// What backends see clients on their own node come from.
const std::string kLinkSource = "169.254.82.2", kLinkSource6 = "fd00:5182::2";

// The same endpoints for datagrams.
void add_dns(state::DesiredState& state) {
  const auto services = state.services;
  for (const auto& [id, http] : services) {
    state::Service dns = http;
    dns.id = id + "/dns";
    dns.protocol = state::Protocol::udp;
    dns.port = kDnsPort;
    for (state::Backend& backend : dns.backends) backend.port = kDnsBackendPort;
    state.services[dns.id] = dns;
  }
}

class NodeClients : public Nodes {
 protected:
  NodeClients() {
    lab_.add_routed_pod("n1");
    for (const int n : {1, 2}) {
      const std::string name = "pod" + std::to_string(n);
      datagrams_.push_back(std::make_unique<UdpServer>(lab_.ns(name), kDnsBackendPort, name));
      // As kube-proxy does, and many a firewall.
      EXPECT_EQ(lab_.in("n" + std::to_string(n),
                        "nft 'add table inet t; "
                        "add chain inet t f { type filter hook forward priority 0; }; "
                        "add rule inet t f ct state invalid counter drop; "
                        "add chain inet t i { type filter hook input priority 0; }; "
                        "add rule inet t i ct state invalid counter drop'")
                    .exit_code,
                0);
    }
  }
  void push_all(state::DesiredState state) {
    add_dns(state);
    push(state);
    for (const int n : {1, 2})
      ASSERT_TRUE(led(n)) << lab_.in("n" + std::to_string(n), "ip route show table 6082").output;
  }
  // Whether the addresses of both families lead to the node's own programs.
  [[nodiscard]] bool led(int node) const {
    const std::string name = "n" + std::to_string(node);
    return eventually([&] {
      return lab_.in(name, std::string("ip route get ") + kAddress).output.find("sluice0") != std::string::npos &&
             lab_.in(name, std::string("ip route get ") + kAddress6).output.find("sluice0") != std::string::npos;
    });
  }
  // Connections and datagrams in both families: each is answered by `server`.
  void expect_served(const std::string& client, const std::string& server) const {
    for (const char* address : {kAddress, kAddress6}) {
      const std::map<std::string, int> all = {{server, 20}};
      EXPECT_EQ(ask_http(lab_.ns(client), address, kPort, 20), all) << client << " to " << address;
      EXPECT_EQ(ask_udp(lab_.ns(client), address, kDnsPort, 20), all) << client << " to " << address << ", UDP";
    }
  }
  [[nodiscard]] std::set<std::string> seen(int pod) const { return servers_.at(static_cast<size_t>(pod) - 1)->peers(); }
  std::vector<std::unique_ptr<UdpServer>> datagrams_;
};

TEST_F(NodeClients, ReachABackendOnTheirOwnNodeWhichMayBeThemselves) {
  push_all(desired(Underlay::ipv4, {1}));
  for (const char* client : {"n1", "routed", "pod1"}) expect_served(client, "pod1");
  EXPECT_THAT(seen(1), testing::UnorderedElementsAre(kLinkSource, kLinkSource6));
  expect_served("client", "pod1");
  EXPECT_THAT(seen(1), testing::UnorderedElementsAre(kLinkSource, kLinkSource6, kClient, kClient6))
      << "clients from elsewhere are seen as before";
}

TEST_F(NodeClients, ReachABackendBehindATunnelWhichSeesThem) {
  push_all(desired(Underlay::ipv4, {2}));
  ASSERT_TRUE(agent(1).wait_log("tunnel to node n2: proved"));
  for (const char* client : {"n1", "routed", "pod1"}) expect_served(client, "pod2");
  EXPECT_THAT(seen(2), testing::UnorderedElementsAre(node_address(1), node_address(1, true), kRoutedPod, kRoutedPod6,
                                                     pod_address(1), pod_address(1, true)));
}

TEST_F(NodeClients, ReachABackendByNat) {
  auto state = desired(Underlay::ipv4, {2});
  for (auto& [id, service] : state.services) service.forwarding = state::Forwarding::nat;
  push_all(state);
  for (const char* client : {"n1", "routed", "pod1"}) expect_served(client, "pod2");
  EXPECT_THAT(seen(2), testing::UnorderedElementsAre(node_address(1), node_address(1, true)));
}

TEST_F(NodeClients, OfANodeThatDoesNotAnnounceTheAddressAreServedThere) {
  push_all(desired(Underlay::ipv4, {1, 2}));
  ASSERT_TRUE(agent(1).wait_log("tunnel to node n2: proved"));
  ASSERT_TRUE(agent(2).wait_log("tunnel to node n1: proved"));
  for (const char* client : {"n1", "n2", "pod1", "pod2", "routed"}) {
    for (const char* address : {kAddress, kAddress6}) {
      const auto answers = ask_http(lab_.ns(client), address, kPort, 40);
      EXPECT_EQ(answers.count(""), 0U) << client << " to " << address;
      EXPECT_EQ(answers.size(), 2U) << client << " to " << address;
    }
  }
}

TEST_F(NodeClients, ConnectionsOutliveTheAgentAndItsRestart) {
  push_all(desired(Underlay::ipv4, {1, 2}));
  ASSERT_TRUE(agent(1).wait_log("tunnel to node n2: proved"));
  HttpLoad host(lab_.ns("n1"), kAddress, kPort, {.connections = 10});
  HttpLoad pod(lab_.ns("pod1"), kAddress6, kPort, {.connections = 10});
  ASSERT_TRUE(host.run(200) && pod.run(200));
  agent(1).kill();
  host.run_for(milliseconds(1500));
  EXPECT_EQ(ask_http(lab_.ns("routed"), kAddress, kPort, 10).count(""), 0U) << "new ones, without an agent";
  nodes_[0]->start();
  ASSERT_TRUE(agent(1).wait_log("programmed revision"));
  ASSERT_TRUE(host.run(500) && pod.run(500));
  for (HttpLoad* load : {&host, &pod}) {
    const auto outcome = load->stop();
    EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
    EXPECT_EQ(outcome.moved, 0U);
    EXPECT_EQ(outcome.connections.size(), 2U);
  }
}

TEST_F(NodeClients, WhatSomebodyTakesAwayIsPutBackAndConnectionsGoOn) {
  push_all(desired(Underlay::ipv4, {1, 2}));
  ASSERT_TRUE(agent(1).wait_log("tunnel to node n2: proved"));
  HttpLoad host(lab_.ns("n1"), kAddress, kPort, {.connections = 10, .timeout = std::chrono::seconds(20)});
  ASSERT_TRUE(host.run(200));
  for (const char* line : {"ip rule del pref 6082", "ip -6 rule del pref 6082", "ip route flush table 6082",
                           "ip -6 route flush table 6082", "ip link del sluice0", "ip link set sluice0 down"}) {
    ASSERT_EQ(lab_.in("n1", line).exit_code, 0) << line;
    ASSERT_TRUE(led(1)) << line << agent(1).log();
    ASSERT_TRUE(host.run(200)) << line << agent(1).log();
  }
  const auto outcome = host.stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
  EXPECT_EQ(outcome.moved, 0U);
}

TEST_F(NodeClients, AddressesFollowTheState) {
  auto state = desired(Underlay::ipv4, {1});
  push_all(state);
  auto& http = state.services.at("s/http");
  http.addresses = {ip("10.77.0.51")};
  state.announcements.clear();
  state.revision = 2;
  push(state);
  EXPECT_THAT(lab_.in("n1", "ip route show table 6082").output,
              testing::AllOf(HasSubstr("10.77.0.51 "), Not(HasSubstr("10.77.0.50 "))));
  EXPECT_EQ(ask_http(lab_.ns("n1"), "10.77.0.51", kPort, 10).at("pod1"), 10);
  state.services.clear();
  state.revision = 3;
  push(state);
  for (const char* line : {"ip rule", "ip -6 rule"}) EXPECT_THAT(lab_.in("n1", line).output, Not(HasSubstr("6082")));
}

TEST_F(NodeClients, PolicyLocalLeavesClientsToNodesThatHaveABackend) {
  auto state = desired(Underlay::ipv4, {1});
  for (auto& [id, service] : state.services) service.traffic_policy = state::TrafficPolicy::local;
  add_dns(state);
  push(state);
  ASSERT_TRUE(led(1));
  ASSERT_TRUE(agent(2).wait_log("attached to the node link"));
  EXPECT_THAT(lab_.in("n2", std::string("ip route get ") + kAddress).output, Not(HasSubstr("sluice0")));
  for (const char* client : {"n1", "n2"}) {
    EXPECT_EQ(ask_http(lab_.ns(client), kAddress, kPort, 10).at("pod1"), 10) << client;
  }
}

TEST_F(NodeClients, OfAnAddressWithoutBackendsAreRefusedAtOnce) {
  push_all(desired(Underlay::ipv4, {}));
  for (const char* client : {"n1", "pod1"}) {
    const auto before = Clock::now();
    EXPECT_EQ(ask_http(lab_.ns(client), kAddress, kPort, 3).at(""), 3);
    EXPECT_LT(Clock::now() - before, std::chrono::seconds(1)) << client;
  }
}

TEST_F(NodeClients, NothingIsLeftByPurge) {
  push_all(desired(Underlay::ipv4, {1}));
  agent(1).kill();
  const auto purged = lab_.in("n1", std::string(SLUICE_AGENT_BINARY) + " --purge --node-name n1 --state " +
                                        lab_.file("state-n1.json") + " --bpffs " + lab_.bpffs("n1"));
  EXPECT_EQ(purged.exit_code, 0) << purged.output;
  EXPECT_FALSE(std::filesystem::exists(lab_.bpffs("n1")));
  for (const char* line :
       {"ip link", "ip rule", "ip -6 rule", "ip route show table all", "ip -6 route show table all"}) {
    const std::string output = lab_.in("n1", line).output;
    EXPECT_THAT(output, testing::AllOf(Not(HasSubstr("sluice")), Not(HasSubstr("6082")), Not(HasSubstr("6081"))))
        << line;
  }
}

TEST_F(NodeClients, DeviceOfSomebodyElseIsLeftAloneAndTold) {
  ASSERT_EQ(lab_.in("n1", "ip link add sluice0 type bridge").exit_code, 0);
  push(desired(Underlay::ipv4, {1}));
  EXPECT_TRUE(agent(1).wait_log("a device of that name is there and is not Sluice's"));
  EXPECT_THAT(lab_.in("n1", "ip -d link show sluice0").output, HasSubstr("bridge"));
  EXPECT_EQ(ask_http(lab_.ns("client"), kAddress, kPort, 5).at("pod1"), 5) << "everybody else is served";
  ASSERT_EQ(lab_.in("n1", "ip link del sluice0").exit_code, 0);
  EXPECT_TRUE(led(1));
  EXPECT_EQ(ask_http(lab_.ns("n1"), kAddress, kPort, 5).at("pod1"), 5);
}

}  // namespace
}  // namespace sluice::lab
