// The agent as an operator drives it: real certificates, real pushes, the real kernel behind the acknowledgement.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>

#include "tests/netns/agent_process.h"
#include "tests/netns/traffic.h"
#include "tests/unit/agent/fixtures.h"
#include "tests/unit/agent/push_client.h"

namespace sluice::lab {
namespace {

using agent::bytes_of;
using agent::ip;
using agent::PushClient;
using agent::TestCertificates;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;
namespace v1 = node::v1;

// "s/http" on kAddress:80 with these backends, announced by node "lb".
state::DesiredState desired(state::Epoch epoch, state::Revision revision, const std::vector<state::Backend>& backends) {
  auto state = agent::small_state(epoch, revision, 0);
  state::Service& service = state.services.at("s/http");
  service.addresses = {ip(kAddress)};
  service.backends = backends;
  state.nodes = {{"lb", {"lb", {ip(kBalancer)}, {}}}};
  state.announcements.clear();
  state.announcements[ip(kAddress)] = {ip(kAddress), {"lb"}, {}};
  return state;
}

state::Backend on(const std::string& address, const std::string& node) {
  state::Backend backend;
  backend.address = ip(address);
  backend.port = 8080;
  backend.node = node;
  return backend;
}

class Cluster : public testing::Test {
 protected:
  // Before any thread is started: those of gRPC live here as well.
  static void SetUpTestSuite() {
    static const int unshared = unshare(CLONE_NEWNET);
    ASSERT_EQ(unshared, 0) << "root is needed";
  }
  explicit Cluster(bool with_pod = false) : lab_(2, with_pod) {
    certificates_.write_agent(lab_.file("tls"));
    for (const char* name : {"b1", "b2"})
      servers_.push_back(std::make_unique<HttpServer>(lab_.ns(name), uint16_t{8080}, name));
    // gRPC's client lives in the test's own namespace: a veth leads from there to the load balancer.
    static int count = 0;
    const std::string device = "mgmt" + std::to_string(++count);
    EXPECT_EQ(command("ip link add " + device + " type veth peer name mgmt netns " + lab_.ns("lb")).exit_code, 0);
    EXPECT_EQ(command("ip addr add 198.18.77.2/30 dev " + device).exit_code, 0);
    EXPECT_EQ(command("ip link set " + device + " up").exit_code, 0);
    EXPECT_EQ(lab_.in("lb", "ip addr add 198.18.77.1/30 dev mgmt").exit_code, 0);
    EXPECT_EQ(lab_.in("lb", "ip link set mgmt up").exit_code, 0);
  }
  std::unique_ptr<AgentProcess> start() {
    return std::make_unique<AgentProcess>(lab_, std::vector<std::string>{"--listen", "198.18.77.1:9470", "--tls-dir",
                                                                         lab_.file("tls"), "--interfaces", "eth0"});
  }
  std::unique_ptr<PushClient> client() {
    return std::make_unique<PushClient>("198.18.77.1:9470", certificates_.ca.certificate,
                                        certificates_.issue(tls::kOperatorName));
  }
  std::unique_ptr<PushClient> session(state::Epoch epoch) {
    auto made = client();
    const auto reply = made->hello(epoch, "lb");
    EXPECT_TRUE(reply && reply->has_hello());
    return made;
  }
  [[nodiscard]] std::map<std::string, int> ask(int count) const {
    return ask_http(lab_.ns("client"), kAddress, 80, count);
  }
  Lab lab_;
  TestCertificates certificates_;
  std::vector<std::unique_ptr<HttpServer>> servers_;
};

TEST_F(Cluster, WithoutAnyStateTheNodeStaysClean) {
  auto agent = start();
  ASSERT_TRUE(agent->wait_ready(200, "waiting for a first desired state"));
  EXPECT_THAT(lab_.in("lb", "ip link show dev eth0").output, Not(HasSubstr("xdp")));
  EXPECT_FALSE(std::filesystem::exists(lab_.bpffs()));
  EXPECT_THAT(agent->metrics(), Not(HasSubstr("sluice_agent_config_"))) << "there is no file to speak of";
  EXPECT_EQ(agent->terminate(), 0);
  EXPECT_FALSE(std::filesystem::exists(lab_.file("state.json")));
}

TEST_F(Cluster, AcknowledgedPushIsServedAtOnce) {
  const auto agent = start();
  ASSERT_TRUE(agent->wait_log("listening for the operator"));
  auto one = session(1);
  const auto reply = one->push(desired(1, 1, {on(backend_address(1), "n1"), on(backend_address(2), "n2")}));
  ASSERT_TRUE(reply && reply->has_ack()) << agent->log();
  EXPECT_EQ(reply->ack().failures_size(), 0) << reply->ack().ShortDebugString();
  EXPECT_EQ(ask(40).count(""), 0U);
  EXPECT_TRUE(one->wait_for_status([](const v1::Status& status) {
    return status.announcing_size() == 1 && status.interfaces_size() == 1 && status.interfaces(0).mode() == "Native";
  }));
}

TEST_F(Cluster, StrangersAreRefused) {
  const auto agent = start();
  ASSERT_TRUE(agent->wait_log("listening for the operator"));
  PushClient nobody("198.18.77.1:9470", certificates_.ca.certificate, std::nullopt);
  EXPECT_FALSE(nobody.hello(1, "lb"));
  EXPECT_EQ(nobody.close().error_code(), grpc::StatusCode::UNAVAILABLE);
  PushClient neighbour("198.18.77.1:9470", certificates_.ca.certificate, certificates_.issue(tls::kAgentName));
  EXPECT_FALSE(neighbour.hello(1, "lb"));
  EXPECT_EQ(neighbour.close().error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(lab_.in("lb", "ip link show dev eth0").output, Not(HasSubstr("xdp")));
}

TEST_F(Cluster, LowerEpochAndForeignDeltaChangeNothing) {
  const auto agent = start();
  ASSERT_TRUE(agent->wait_log("listening for the operator"));
  const auto held = desired(5, 1, {on(backend_address(1), "n1")});
  auto one = session(5);
  ASSERT_TRUE(one->push(held)->has_ack());
  EXPECT_EQ(client()->hello(4, "lb")->refused().reason(), v1::Refused::EPOCH_TOO_LOW);
  const auto other = desired(5, 2, {on(backend_address(2), "n2")});
  const auto reply = one->push(*state::make_delta(other, desired(5, 3, {})));
  ASSERT_TRUE(reply->has_need_snapshot());
  EXPECT_EQ(reply->need_snapshot().have(), bytes_of(state::digest(held)));
  EXPECT_EQ(ask(10).at("b1"), 10);
}

TEST_F(Cluster, OperatorsAbsenceAndTheAgentsRestartChangeNothing) {
  auto agent = start();
  ASSERT_TRUE(agent->wait_log("listening for the operator"));
  const auto first = desired(1, 1, {on(backend_address(1), "n1"), on(backend_address(2), "n2")});
  ASSERT_TRUE(session(1)->push(first)->has_ack());
  HttpLoad busy(lab_.ns("client"), kAddress, 80, {});
  ASSERT_TRUE(busy.run(500));
  agent->kill();
  ASSERT_TRUE(busy.run(500));
  agent = start();
  ASSERT_TRUE(agent->wait_ready(200, "forwarding"));
  ASSERT_TRUE(agent->wait_log("listening for the operator"));
  ASSERT_TRUE(busy.run(500));

  // A change made meanwhile takes effect when the operator is back: b1 leaves.
  auto next = desired(2, 2, {on(backend_address(1), "n1"), on(backend_address(2), "n2")});
  next.services.at("s/http").backends[0].left = 2;
  auto two = client();
  const auto hello = two->hello(2, "lb");
  ASSERT_TRUE(hello && hello->has_hello());
  EXPECT_EQ(hello->hello().digest(), bytes_of(state::digest(first)));
  ASSERT_TRUE(two->push(*state::make_delta(first, next))->has_ack());
  EXPECT_EQ(ask(20).at("b2"), 20);
  ASSERT_TRUE(busy.run(500));
  const auto outcome = busy.stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
  EXPECT_GT(outcome.connections.at("b1"), 0U);
  EXPECT_EQ(outcome.moved, 0U);
}

TEST_F(Cluster, PurgeOverTheWireLeavesNothing) {
  const auto agent = start();
  ASSERT_TRUE(agent->wait_log("listening for the operator"));
  ASSERT_TRUE(session(1)->push(desired(1, 1, {on(backend_address(1), "n1")}))->has_ack());
  v1::PurgeReply reply;
  ASSERT_TRUE(client()->purge("cluster-1", 2, reply).ok());
  EXPECT_EQ(reply.error(), "");
  EXPECT_FALSE(std::filesystem::exists(lab_.bpffs()));
  EXPECT_FALSE(std::filesystem::exists(lab_.file("state.json")));
  EXPECT_THAT(lab_.in("lb", "ip link show dev eth0").output, Not(HasSubstr("xdp")));
  EXPECT_EQ(client()->hello(1, "lb")->refused().reason(), v1::Refused::PURGED);
  EXPECT_TRUE(session(3)->push(desired(3, 2, {on(backend_address(1), "n1")}))->has_ack());
  EXPECT_EQ(ask(5).at("b1"), 5);
}

TEST_F(Cluster, InterfaceThatIsMissingIsAConditionAndNoEnd) {
  AgentProcess agent(lab_, {"--listen", "198.18.77.1:9470", "--tls-dir", lab_.file("tls"), "--interfaces", "eth9"});
  ASSERT_TRUE(agent.wait_log("listening for the operator"));
  auto one = session(1);
  const auto reply = one->push(desired(1, 1, {on(backend_address(1), "n1")}));
  ASSERT_TRUE(reply && reply->has_ack());
  ASSERT_EQ(reply->ack().failures_size(), 1);
  EXPECT_EQ(reply->ack().failures(0).reason(), "InterfaceNotFound");
  EXPECT_TRUE(agent.wait_ready(503, "eth9: no such interface"));
}

class LocalDelivery : public Cluster {
 protected:
  LocalDelivery() : Cluster(true), pod_(lab_.ns("pod"), 8080, "pod") {}
  HttpServer pod_;
};

TEST_F(LocalDelivery, BackendOnThisNodeSeesTheClientsAddress) {
  const auto agent = start();
  ASSERT_TRUE(agent->wait_log("listening for the operator"));
  const auto reply = session(1)->push(desired(1, 1, {on(kPod, "lb")}));
  ASSERT_TRUE(reply && reply->has_ack());
  EXPECT_EQ(reply->ack().failures_size(), 0) << reply->ack().ShortDebugString();
  HttpLoad busy(lab_.ns("client"), kAddress, 80, {});
  busy.run_for(seconds(2));
  const auto outcome = busy.stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
  EXPECT_GT(outcome.requests, 1000U);
  EXPECT_EQ(pod_.peers(), std::set<std::string>{kClient});
  EXPECT_EQ(ask_http(lab_.ns("client"), kPod, 8080, 5).at("pod"), 5) << "the pod's own address is nobody's business";
}

TEST_F(LocalDelivery, LocalAndDistantBackendsShareAService) {
  const auto agent = start();
  ASSERT_TRUE(agent->wait_log("listening for the operator"));
  ASSERT_TRUE(session(1)->push(desired(1, 1, {on(kPod, "lb"), on(backend_address(1), "n1")}))->has_ack());
  HttpLoad busy(lab_.ns("client"), kAddress, 80, {.connections = 50});
  ASSERT_TRUE(busy.run(1000));
  const auto outcome = busy.stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
  EXPECT_GT(outcome.connections.at("pod"), 10U);
  EXPECT_GT(outcome.connections.at("b1"), 10U);
  EXPECT_EQ(servers_[0]->peers(), std::set<std::string>{kBalancer});
}

}  // namespace
}  // namespace sluice::lab
