// What an operator may and may not do to an agent, over real TLS; the kernel is made of values.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/agent/cluster.h"
#include "tests/unit/agent/fakes.h"
#include "tests/unit/agent/fixtures.h"
#include "tests/unit/agent/push_client.h"

namespace sluice::agent {
namespace {

using testing::HasSubstr;

class PushTest : public testing::Test {
 protected:
  PushTest() {
    certificates_.write_agent(directory_.path() / "tls");
    start();
  }
  ~PushTest() override { stop(); }
  void start() {
    CoreOptions options;
    options.node = "node1";
    loop_ = std::make_unique<Loop>();
    core_ = std::make_unique<Core>(options, StateFile(directory_.file("state.json")), to_kernel(kernel_));
    cluster_ = std::make_unique<Cluster>(*loop_, *core_, metrics_, "node1", 1234);
    loop_->call([this] {
      core_->set_listener([this](const health::Facts& facts) { cluster_->on_facts(facts); });
      core_->set_watcher(&watcher_);
      ASSERT_TRUE(core_->load());
      core_->restore();
    });
    auto server = api::NodeServer::start({"127.0.0.1:0", directory_.file("tls")}, *cluster_);
    ASSERT_TRUE(server.has_value()) << server.error().message();
    server_ = std::move(*server);
    cluster_->set_server(server_.get());
  }
  void stop() {
    if (cluster_) cluster_->set_server(nullptr);
    server_.reset();
    if (loop_) loop_->stop();
    cluster_.reset();
    core_.reset();
    loop_.reset();
  }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(server_->port()); }
  std::unique_ptr<PushClient> client(const std::string& name = sluice::tls::kOperatorName) {
    return std::make_unique<PushClient>(address(), certificates_.ca.certificate, certificates_.issue(name));
  }
  // A session that has said Hello.
  std::unique_ptr<PushClient> session(state::Epoch epoch) {
    auto made = client();
    const auto reply = made->hello(epoch);
    EXPECT_TRUE(reply && reply->has_hello());
    return made;
  }

  TemporaryDirectory directory_;
  TestCertificates certificates_;
  FakeKernel kernel_;
  FakeWatcher watcher_;
  health::Metrics metrics_{"0", "test", health::Metrics::Mode::cluster};
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Core> core_;
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<api::NodeServer> server_;
};

TEST_F(PushTest, WithoutAClientCertificateThereIsNoConnection) {
  PushClient stranger(address(), certificates_.ca.certificate, std::nullopt);
  EXPECT_FALSE(stranger.hello(1));
  EXPECT_EQ(stranger.close().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(PushTest, CertificateOfAnotherCaIsRefused) {
  const TestCertificates other("other CA");
  PushClient stranger(address(), certificates_.ca.certificate, other.issue(sluice::tls::kOperatorName));
  EXPECT_FALSE(stranger.hello(1));
  EXPECT_EQ(stranger.close().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(PushTest, AgentsCertificateMayNotPushNorAskNorPurge) {
  auto agent = client(sluice::tls::kAgentName);
  EXPECT_FALSE(agent->hello(1));
  const auto ended = agent->close();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(ended.error_message(), HasSubstr("sluice-operator"));
  v1::GetStateReply state;
  EXPECT_EQ(agent->get_state(false, state).error_code(), grpc::StatusCode::PERMISSION_DENIED);
  v1::PurgeReply purge;
  EXPECT_EQ(agent->purge("cluster-1", 1, purge).error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(PushTest, HelloIsAnsweredWithWhatIsHeld) {
  auto first = client();
  const auto fresh = first->hello(4);
  ASSERT_TRUE(fresh && fresh->has_hello());
  EXPECT_EQ(fresh->hello().node(), "node1");
  EXPECT_EQ(fresh->hello().epoch(), 4U);
  EXPECT_EQ(fresh->hello().digest(), "");
  EXPECT_EQ(fresh->hello().start_time_unix(), 1234U);
  ASSERT_TRUE(first->push(small_state(4, 1))->has_ack());
  const auto again = client()->hello(5);
  EXPECT_EQ(again->hello().digest(), bytes_of(state::digest(small_state(4, 1))));
  EXPECT_EQ(again->hello().revision(), 1U);
  EXPECT_EQ(again->hello().cluster_id(), "cluster-1");
}

TEST_F(PushTest, SnapshotIsAcknowledgedAfterItStandsInTheMaps) {
  auto one = session(1);
  const auto reply = one->push(small_state(1, 7));
  ASSERT_TRUE(reply && reply->has_ack());
  EXPECT_EQ(kernel_.programmed, small_state(1, 7));
  EXPECT_EQ(reply->ack().revision(), 7U);
  EXPECT_EQ(reply->ack().epoch(), 1U);
  EXPECT_EQ(reply->ack().digest(), bytes_of(state::digest(small_state(1, 7))));
  EXPECT_EQ(reply->ack().failures_size(), 0);
}

TEST_F(PushTest, FailuresOfTheReadBackAreInTheAck) {
  kernel_.program_failures = {{"s/http", "ReadBackDiffers", "slot 5"}};
  const auto reply = session(1)->push(small_state(1, 1));
  ASSERT_EQ(reply->ack().failures_size(), 1);
  EXPECT_EQ(reply->ack().failures(0).reason(), "ReadBackDiffers");
}

TEST_F(PushTest, FailureThatComesOrGoesLaterIsAnUnaskedAck) {
  auto one = session(1);
  ASSERT_EQ(one->push(small_state(1, 1))->ack().failures_size(), 0);
  watcher_.unresolved[ip("10.0.0.2")] = "it does not answer ARP on eth0";
  loop_->call([this] { core_->on_network(); });
  auto unasked = one->read_reply();
  ASSERT_TRUE(unasked && unasked->has_ack());
  EXPECT_EQ(unasked->ack().failures(0).reason(), "Unreachable");
  EXPECT_EQ(unasked->ack().revision(), 1U);
  watcher_.unresolved.clear();
  loop_->call([this] { core_->on_network(); });
  EXPECT_EQ(one->read_reply()->ack().failures_size(), 0);
}

TEST_F(PushTest, LowerEpochIsRefusedAlsoAfterARestart) {
  ASSERT_TRUE(session(5)->push(small_state(5, 1))->has_ack());
  for (int restarts = 0; restarts < 2; ++restarts) {
    const auto reply = client()->hello(4);
    ASSERT_TRUE(reply && reply->has_refused());
    EXPECT_EQ(reply->refused().reason(), v1::Refused::EPOCH_TOO_LOW);
    EXPECT_EQ(reply->refused().highest_epoch(), 5U);
    stop();
    start();
  }
  EXPECT_EQ(kernel_.programmed, small_state(5, 1));
}

TEST_F(PushTest, LowerEpochIsRefusedAlsoWhereTheHigherCouldNotBeSaved) {
  ASSERT_TRUE(session(5)->push(small_state(5, 1))->has_ack());
  std::filesystem::create_directory(directory_.file("state.json.new"));
  auto young = session(6);
  const auto reply = client()->hello(5);
  ASSERT_TRUE(reply && reply->has_refused());
  EXPECT_EQ(reply->refused().reason(), v1::Refused::EPOCH_TOO_LOW);
  EXPECT_EQ(reply->refused().highest_epoch(), 6U);
  EXPECT_TRUE(young->wait_for_status([](const v1::Status& status) {
    return std::ranges::any_of(status.conditions(), [](const auto& one) { return one.reason() == "StateNotSaved"; });
  }));
  std::filesystem::remove(directory_.file("state.json.new"));
  loop_->call([this] { core_->retry(); });
  stop();
  start();
  EXPECT_TRUE(client()->hello(5)->has_refused()) << "saved as soon as the disk takes it";
}

TEST_F(PushTest, EpochsOfAnotherClusterAreItsOwn) {
  ASSERT_TRUE(session(5)->push(small_state(5, 1))->has_ack());
  const auto reply = client()->hello(1, "node1", "cluster-2");
  EXPECT_TRUE(reply && reply->has_hello());
}

TEST_F(PushTest, StateOfAnotherEpochOrClusterThanTheSessionsIsRefused) {
  auto one = session(5);
  EXPECT_EQ(one->push(small_state(4, 1))->refused().reason(), v1::Refused::INVALID_STATE);
  auto foreign = small_state(5, 1);
  foreign.cluster_id = "cluster-2";
  EXPECT_EQ(one->push(foreign)->refused().reason(), v1::Refused::INVALID_STATE);
  EXPECT_FALSE(kernel_.programmed);
}

TEST_F(PushTest, OtherNodesNameIsRefused) {
  const auto reply = client()->hello(1, "node2");
  EXPECT_EQ(reply->refused().reason(), v1::Refused::WRONG_NODE);
  EXPECT_THAT(reply->refused().message(), HasSubstr("node1"));
}

TEST_F(PushTest, InvalidStateIsRefusedAndChangesNothing) {
  auto one = session(1);
  ASSERT_TRUE(one->push(small_state(1, 1))->has_ack());
  auto wrong = small_state(1, 2);
  wrong.services["s/http"].backends[0].group = 9;
  EXPECT_EQ(one->push(wrong)->refused().reason(), v1::Refused::INVALID_STATE);
  EXPECT_EQ(one->push(small_state(1, 3), std::string(32, 'x'))->refused().reason(), v1::Refused::INVALID_STATE)
      << "a digest of something else";
  EXPECT_EQ(kernel_.programmed, small_state(1, 1));
  EXPECT_TRUE(one->push(small_state(1, 4))->has_ack()) << "the session goes on";
}

TEST_F(PushTest, DeltaIsAppliedToWhatItStartsFrom) {
  auto one = session(1);
  const auto before = small_state(1, 1);
  const auto after = small_state(1, 2, 3);
  ASSERT_TRUE(one->push(before)->has_ack());
  const auto reply = one->push(*state::make_delta(before, after));
  ASSERT_TRUE(reply->has_ack());
  EXPECT_EQ(reply->ack().revision(), 2U);
  EXPECT_EQ(kernel_.programmed, after);
}

TEST_F(PushTest, DeltaFromAnotherDigestNeedsASnapshot) {
  auto one = session(1);
  const auto delta = *state::make_delta(small_state(1, 2, 3), small_state(1, 3, 4));
  auto reply = one->push(delta);
  ASSERT_TRUE(reply->has_need_snapshot());
  EXPECT_EQ(reply->need_snapshot().have(), "") << "nothing is held yet";
  ASSERT_TRUE(one->push(small_state(1, 1))->has_ack());
  reply = one->push(delta);
  ASSERT_TRUE(reply->has_need_snapshot());
  EXPECT_EQ(reply->need_snapshot().have(), bytes_of(state::digest(small_state(1, 1))));
  EXPECT_EQ(kernel_.programmed, small_state(1, 1));
}

TEST_F(PushTest, NewerSessionReplacesTheOlder) {
  auto old = session(1);
  auto young = session(1);
  EXPECT_FALSE(old->read_reply()) << "the older stream ends";
  EXPECT_TRUE(young->push(small_state(1, 1))->has_ack());
}

TEST_F(PushTest, PushBeforeHelloEndsTheStream) {
  auto rude = client();
  rude->open();
  EXPECT_FALSE(rude->push(small_state(1, 1)));
  EXPECT_FALSE(kernel_.programmed);
}

TEST_F(PushTest, StatusComesAfterTheHelloAndWhenSomethingChanges) {
  auto one = session(1);
  EXPECT_TRUE(one->wait_for_status([](const v1::Status& status) { return status.interfaces_size() == 0; }));
  ASSERT_TRUE(one->push(small_state(1, 1))->has_ack());
  EXPECT_TRUE(one->wait_for_status([](const v1::Status& status) {
    return status.interfaces_size() == 1 && status.interfaces(0).mode() == "Native" && status.announcing_size() == 1;
  }));
  kernel_.old_flows = {"s/http"};
  loop_->call([this] { core_->sweep(); });
  EXPECT_TRUE(
      one->wait_for_status([](const v1::Status& status) { return status.services_with_old_flows_size() == 1; }));
}

TEST_F(PushTest, FlowsOfLeavingBackendsAreToldUntilTheyAreGone) {
  auto one = session(1);
  ASSERT_TRUE(one->push(small_state(1, 1))->has_ack());
  kernel_.swept.leaving = {{"s/http", ip("10.0.0.2"), 8080, 12}};
  loop_->call([this] { core_->sweep(); });
  EXPECT_TRUE(one->wait_for_status([](const v1::Status& status) {
    return status.leaving_size() == 1 && status.leaving(0).service() == "s/http" &&
           status.leaving(0).address() == std::string("\x0a\0\0\x02", 4) && status.leaving(0).port() == 8080 &&
           status.leaving(0).flows() == 12;
  }));
  kernel_.swept.leaving.clear();
  loop_->call([this] { core_->sweep(); });
  EXPECT_TRUE(one->wait_for_status([](const v1::Status& status) { return status.leaving_size() == 0; }));
}

TEST_F(PushTest, GetStateGivesWhatIsHeldAndDisturbsNoSession) {
  auto one = session(3);
  ASSERT_TRUE(one->push(small_state(3, 9))->has_ack());
  v1::GetStateReply reply;
  ASSERT_TRUE(client()->get_state(false, reply).ok());
  EXPECT_EQ(sluice::api::parse(reply.state()).value(), small_state(3, 9));
  EXPECT_EQ(reply.agent().epoch(), 3U);
  ASSERT_TRUE(client()->get_state(true, reply).ok());
  EXPECT_EQ(reply.state(), "");
  EXPECT_EQ(reply.agent().digest(), bytes_of(state::digest(small_state(3, 9))));
  EXPECT_TRUE(one->push(small_state(3, 10))->has_ack());
}

TEST_F(PushTest, PurgeRemovesEverythingAndKeepsTheOldLeaderOut) {
  auto one = session(3);
  ASSERT_TRUE(one->push(small_state(3, 1))->has_ack());
  v1::PurgeReply reply;
  ASSERT_TRUE(client()->purge("cluster-1", 2, reply).ok());
  EXPECT_THAT(reply.error(), HasSubstr("epoch 2 is lower than 3"));
  ASSERT_TRUE(client()->purge("cluster-1", 4, reply).ok());
  EXPECT_EQ(reply.error(), "");
  EXPECT_FALSE(kernel_.programmed);
  EXPECT_FALSE(std::filesystem::exists(directory_.file("state.json")));
  EXPECT_EQ(one->push(small_state(3, 2))->refused().reason(), v1::Refused::PURGED);
  EXPECT_EQ(client()->hello(4)->refused().reason(), v1::Refused::PURGED);
  EXPECT_FALSE(std::filesystem::exists(directory_.file("state.json")));
  EXPECT_TRUE(session(5)->push(small_state(5, 1))->has_ack()) << "a later leader may begin again";
}

TEST_F(PushTest, CertificatesAreReadAgainWithoutARestart) {
  ASSERT_TRUE(session(1)->push(small_state(1, 1))->has_ack());
  const TestCertificates next("next CA");
  next.write_agent(directory_.path() / "tls");
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  bool welcomed = false;
  while (!welcomed && std::chrono::steady_clock::now() < until) {
    PushClient renewed(address(), next.ca.certificate, next.issue(sluice::tls::kOperatorName));
    const auto reply = renewed.hello(1);
    welcomed = reply && reply->has_hello();
  }
  EXPECT_TRUE(welcomed);
  PushClient old(address(), certificates_.ca.certificate, certificates_.issue(sluice::tls::kOperatorName));
  EXPECT_FALSE(old.hello(1));
}

TEST(NodeServer, NeedsItsCertificates) {
  struct Nobody final : api::Handler {
    std::variant<api::Welcome, api::Refusal> hello(api::SessionId, const api::Hello&) override {
      return api::Refusal{};
    }
    api::PushReply snapshot(api::SessionId, state::DesiredState, const std::string&) override { return api::Refusal{}; }
    api::PushReply delta(api::SessionId, const state::Delta&) override { return api::Refusal{}; }
    std::pair<api::Welcome, std::shared_ptr<const state::DesiredState>> get_state(bool) override { return {}; }
    Status purge(const std::string&, state::Epoch) override { return {}; }
    api::NodeStatus status() override { return {}; }
  } nobody;
  const TemporaryDirectory directory;
  const auto server = api::NodeServer::start({"127.0.0.1:0", directory.file("tls")}, nobody);
  ASSERT_FALSE(server.has_value());
  EXPECT_THAT(server.error().message(), HasSubstr("tls.crt"));
}

}  // namespace
}  // namespace sluice::agent
