// What tests of several nodes share: two nodes of a cluster, each with a pod, a real agent and an operator that pushes
// to it; a client that knows the nodes' network alone; and the state that is pushed.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/netns/agent_process.h"
#include "tests/netns/traffic.h"
#include "tests/unit/agent/fixtures.h"
#include "tests/unit/agent/push_client.h"

namespace sluice::lab {

using agent::ip;
using agent::PushClient;
using agent::TestCertificates;

inline constexpr uint16_t kPort = 80;
inline constexpr uint16_t kBackendPort = 8080;
inline const std::string kFirst = "n1", kSecond = "n2";

inline state::Backend pod(int number, bool ipv6, state::Revision joined = 0) {
  state::Backend backend;
  backend.address = ip(pod_address(number, ipv6));
  backend.port = kBackendPort;
  backend.node = "n" + std::to_string(number);
  backend.joined = joined;
  return backend;
}

inline state::Service service(bool ipv6, const std::vector<state::Backend>& backends) {
  state::Service service;
  service.id = ipv6 ? "s/http/IPv6" : "s/http";
  service.addresses = {ip(ipv6 ? kAddress6 : kAddress)};
  service.port = kPort;
  service.groups = {{"g", 1}};
  service.sizes = {{0, 8}};
  service.backends = backends;
  return service;
}

// Which addresses nodes have underneath.
enum class Underlay : uint8_t { ipv4, ipv6, both };

inline state::DesiredState desired(Underlay underlay, const std::vector<int>& pods, state::Revision revision = 1) {
  state::DesiredState state;
  state.cluster_id = "cluster-1";
  state.epoch = 1;
  state.revision = revision;
  state.flow_hash_key = {1, 2};
  state.tunnel.keys = {{1, {3, 4}}};
  for (int n = 1; n <= 2; ++n) {
    state::Node& node = state.nodes["n" + std::to_string(n)];
    node.name = "n" + std::to_string(n);
    if (underlay != Underlay::ipv6) node.addresses.push_back(ip(node_address(n)));
    if (underlay != Underlay::ipv4) node.addresses.push_back(ip(node_address(n, true)));
  }
  for (const bool ipv6 : {false, true}) {
    std::vector<state::Backend> backends;
    for (const int n : pods) backends.push_back(pod(n, ipv6));
    const auto made = service(ipv6, backends);
    state.services[made.id] = made;
    state.announcements[made.addresses[0]] = {made.addresses[0], {kFirst, kSecond}, {}};
  }
  return state;
}

// A node's agent, and its operator.
class Node {
 public:
  Node(const Lab& lab, const TestCertificates& certificates, int number)
      : lab_(lab),
        certificates_(certificates),
        name_("n" + std::to_string(number)),
        address_("198.18.78." + std::to_string(4 * number + 1)) {
    // gRPC's client lives in the test's own namespace: a veth leads from there to the node.
    static int count = 0;
    const std::string device = "mgmt" + std::to_string(++count);
    const std::string here = "198.18.78." + std::to_string(4 * number + 2);
    for (const std::string& line : {"ip link add " + device + " type veth peer name mgmt netns " + lab.ns(name_),
                                    "ip addr add " + here + "/30 dev " + device, "ip link set " + device + " up"}) {
      EXPECT_EQ(command(line).exit_code, 0) << line;
    }
    EXPECT_EQ(lab.in(name_, "ip addr add " + address_ + "/30 dev mgmt").exit_code, 0);
    EXPECT_EQ(lab.in(name_, "ip link set mgmt up").exit_code, 0);
    start();
  }
  void start() {
    agent_ = std::make_unique<AgentProcess>(
        lab_,
        std::vector<std::string>{"--listen", address_ + ":9470", "--tls-dir", lab_.file("tls"), "--interfaces", "eth0"},
        std::vector<std::string>{}, name_);
    ASSERT_TRUE(agent_->wait_log("listening for the operator"));
    operator_ = std::make_unique<PushClient>(address_ + ":9470", certificates_.ca.certificate,
                                             certificates_.issue(tls::kOperatorName));
    const auto reply = operator_->hello(1, name_);
    ASSERT_TRUE(reply && reply->has_hello()) << agent_->log();
  }
  void push(const state::DesiredState& state) {
    const auto reply = operator_->push(state);
    ASSERT_TRUE(reply && reply->has_ack()) << agent_->log();
    for (const auto& failure : reply->ack().failures()) EXPECT_EQ(failure.reason(), "Unreachable") << failure.message();
  }
  [[nodiscard]] AgentProcess& agent() { return *agent_; }
  // Packets counted by a reason.
  [[nodiscard]] double packets(const std::string& kind, const std::string& reason) const {
    return agent_->metric("sluice_agent_packets_total{reason=\"" + reason + "\",kind=\"" + kind + "\"}");
  }

 private:
  const Lab& lab_;
  const TestCertificates& certificates_;
  std::string name_;
  std::string address_;
  std::unique_ptr<AgentProcess> agent_;
  std::unique_ptr<PushClient> operator_;
};

class Nodes : public testing::Test {
 protected:
  // Before any thread is started: those of gRPC live here as well.
  static void SetUpTestSuite() {
    static const int unshared = unshare(CLONE_NEWNET);
    ASSERT_EQ(unshared, 0) << "root is needed";
  }
  explicit Nodes(const Lab::Nodes& nodes = {2}) : lab_(nodes) {
    certificates_.write_agent(lab_.file("tls"));
    for (const int n : {1, 2}) {
      servers_.push_back(
          std::make_unique<HttpServer>(lab_.ns("pod" + std::to_string(n)), kBackendPort, "pod" + std::to_string(n)));
      nodes_.push_back(std::make_unique<Node>(lab_, certificates_, n));
    }
  }
  void push(const state::DesiredState& state) {
    for (auto& node : nodes_) node->push(state);
  }
  [[nodiscard]] AgentProcess& agent(int number) { return nodes_.at(static_cast<size_t>(number) - 1)->agent(); }
  [[nodiscard]] int asked(const std::string& address, const std::string& server, int count) const {
    const auto answers = ask_http(lab_.ns("client"), address, kPort, count);
    const auto found = answers.find(server);
    return found == answers.end() ? 0 : found->second;
  }
  // Loses, or lets through again, what goes between the nodes to the tunnel's port.
  void lose_tunnels(bool lose) const {
    if (lose) {
      ASSERT_EQ(lab_.in("net",
                        "nft 'add table bridge t; add chain bridge t c { type filter hook forward priority 0; }; add "
                        "rule bridge t c udp dport 6082 drop'")
                    .exit_code,
                0);
    } else {
      ASSERT_EQ(lab_.in("net", "nft delete table bridge t").exit_code, 0);
    }
  }
  Lab lab_;
  TestCertificates certificates_;
  std::vector<std::unique_ptr<HttpServer>> servers_;
  std::vector<std::unique_ptr<Node>> nodes_;
};

}  // namespace sluice::lab
