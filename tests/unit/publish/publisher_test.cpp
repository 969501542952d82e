#include "operator/publish/publisher.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "common/state/digest.h"
#include "common/tls/certificates.h"
#include "tests/fakes/fake_agent.h"
#include "tests/unit/publish/tcp_relay.h"

namespace sluice::publish {
namespace {

using fakes::FakeAgent;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr hours kDay{24};
constexpr seconds kDeadline{10};

struct Authority {
  tls::KeyPair ca = *tls::make_ca("test-ca", tls::Clock::now(), kDay);
  [[nodiscard]] tls::KeyPair issue(const std::string& name, tls::Clock::time_point now = tls::Clock::now()) const {
    return *tls::issue(ca, name, now, kDay);
  }
};

const Authority& authority() {
  static const Authority one;
  return one;
}

Credentials operator_credentials(const Authority& from = authority()) {
  const auto pair = from.issue(tls::kOperatorName);
  return {from.ca.certificate, pair.certificate, pair.key};
}

std::unique_ptr<FakeAgent> start_agent(const std::string& node, uint16_t port = 0,
                                       const tls::KeyPair& pair = authority().issue(tls::kAgentName),
                                       uint32_t contract = state::kContract) {
  auto agent = FakeAgent::start({.node = node,
                                 .port = port,
                                 .ca_bundle = authority().ca.certificate,
                                 .certificate = pair.certificate,
                                 .key = pair.key,
                                 .contract = contract});
  if (!agent) {
    throw std::runtime_error(agent.error().message());
  }
  return std::move(*agent);
}

state::DesiredState make_state(state::Epoch epoch, state::Revision revision, int services = 3) {
  state::DesiredState state;
  state.cluster_id = "cluster";
  state.epoch = epoch;
  state.revision = revision;
  state.flow_hash_key = {1, 2};
  for (int i = 0; i < services; ++i) {
    state::Service service;
    service.id = "Service/default/s" + std::to_string(i) + "/http";
    service.addresses = {*net::IpAddress::parse("192.0.2." + std::to_string(1 + i % 250))};
    service.port = static_cast<uint16_t>(1000 + i / 250);
    service.drain_seconds = static_cast<uint32_t>(revision);  // so that each revision differs
    service.sizes = {{0, 10}};
    state.services.emplace(service.id, service);
  }
  return state;
}

std::shared_ptr<const state::DesiredState> share(state::DesiredState state) {
  return std::make_shared<const state::DesiredState>(std::move(state));
}

// A publisher whose progress can be waited for.
class Fixture : public testing::Test {
 protected:
  void SetUp() override { start({}); }
  void start(Settings settings, milliseconds backoff_min = milliseconds(20),
             milliseconds backoff_max = milliseconds(200)) {
    settings.backoff_min = backoff_min;
    settings.backoff_max = backoff_max;
    publisher_ = Publisher::create(settings, [this] {
      const std::lock_guard lock(mutex_);
      ++changes_;
      changed_.notify_all();
    });
    publisher_->set_credentials(operator_credentials());
  }
  void TearDown() override { publisher_.reset(); }

  static Endpoint endpoint(uint16_t port) { return {*net::IpAddress::parse("127.0.0.1"), port}; }
  void lead(state::Epoch epoch, std::shared_ptr<const state::DesiredState> known = nullptr) {
    publisher_->lead({.cluster_id = "cluster", .epoch = epoch, .identity = "operator-0", .version = "test"},
                     std::move(known));
  }
  bool wait(const std::function<bool(const Progress&)>& condition, milliseconds timeout = kDeadline) {
    const auto deadline = Clock::now() + timeout;
    std::unique_lock lock(mutex_);
    while (true) {
      const auto seen = changes_;
      lock.unlock();
      if (condition(publisher_->progress())) {
        return true;
      }
      lock.lock();
      if (!changed_.wait_until(lock, deadline, [&] { return changes_ != seen; })) {
        return false;
      }
    }
  }
  bool wait_up_to_date(const std::string& node) {
    return wait([&](const Progress& progress) { return progress.contains(node) && progress.at(node).up_to_date; });
  }
  bool wait_error(const std::string& node, const std::string& part) {
    return wait([&](const Progress& progress) {
      return progress.contains(node) && progress.at(node).error.find(part) != std::string::npos;
    });
  }
  bool wait_connected(const std::string& node, bool connected = true) {
    return wait(
        [&](const Progress& progress) { return progress.contains(node) && progress.at(node).connected == connected; });
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t changes_ = 0;
  std::unique_ptr<Publisher> publisher_;
};

using PublisherTest = Fixture;

// Nothing is known of a node before the publisher has got round to it.
AgentProgress of(const Progress& progress, const std::string& node) {
  const auto found = progress.find(node);
  return found == progress.end() ? AgentProgress{} : found->second;
}

// It was dialled, and that ended.
bool dial_failed(const AgentProgress& progress) {
  return !progress.error.empty() && progress.error != "not reached yet" && progress.error != "a new term of leadership";
}

TEST_F(PublisherTest, ANewAgentGetsASnapshotAndThenDeltas) {
  auto agent = start_agent("node1");
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(1);
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(wait_up_to_date("node1"));
  EXPECT_EQ(agent->held(), make_state(1, 1));
  publisher_->publish(share(make_state(1, 2)));
  ASSERT_TRUE(wait([](const Progress& p) { return of(p, "node1").up_to_date && of(p, "node1").acked_revision == 2; }));
  EXPECT_EQ(agent->held(), make_state(1, 2));
  EXPECT_EQ(agent->seen().snapshots, 1);
  EXPECT_EQ(agent->seen().deltas, 1);
  EXPECT_EQ(agent->seen().operator_identity, "operator-0");
  const auto progress = publisher_->progress().at("node1");
  EXPECT_EQ(progress.info.version, "fake");
  EXPECT_EQ(progress.info.epoch, 1U);
  EXPECT_EQ(progress.error, "");
}

TEST_F(PublisherTest, AnEqualDigestInTheHelloMeansThatNothingIsSent) {
  auto agent = start_agent("node1");
  agent->hold(make_state(1, 7));
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(2);
  auto same = make_state(1, 7);
  same.epoch = 2;
  same.revision = 9;
  publisher_->publish(share(same));
  ASSERT_TRUE(wait_up_to_date("node1"));
  EXPECT_EQ(publisher_->progress().at("node1").acked_revision, 9U);
  // The next change is sent as a delta: had anything been sent before, it would have been counted by now.
  publisher_->publish(share(make_state(2, 10)));
  ASSERT_TRUE(wait([](const Progress& p) { return of(p, "node1").acked_revision == 10; }));
  EXPECT_EQ(agent->seen().snapshots, 0);
  EXPECT_EQ(agent->seen().deltas, 1);
}

TEST_F(PublisherTest, AnAgentThatHoldsTheKnownStateGetsADelta) {
  auto agent = start_agent("node1");
  agent->hold(make_state(1, 7));
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(2, share(make_state(1, 7)));
  publisher_->publish(share(make_state(2, 8)));
  ASSERT_TRUE(wait_up_to_date("node1"));
  EXPECT_EQ(agent->seen().snapshots, 0);
  EXPECT_EQ(agent->seen().deltas, 1);
}

TEST_F(PublisherTest, AnAgentWithUnknownContentGetsASnapshot) {
  auto agent = start_agent("node1");
  agent->hold(make_state(1, 3));
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(2, share(make_state(1, 7)));
  publisher_->publish(share(make_state(2, 8)));
  ASSERT_TRUE(wait_up_to_date("node1"));
  EXPECT_EQ(agent->seen().snapshots, 1);
  EXPECT_EQ(agent->seen().deltas, 0);
}

TEST_F(PublisherTest, AnAgentThatAsksForASnapshotGetsOne) {
  auto agent = start_agent("node1");
  agent->hold(make_state(1, 7));
  agent->ask_for_snapshots(true);
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(2, share(make_state(1, 7)));
  publisher_->publish(share(make_state(2, 8)));
  ASSERT_TRUE(wait_up_to_date("node1"));
  EXPECT_EQ(agent->seen().snapshots, 1);
  EXPECT_EQ(agent->seen().deltas, 1);
}

TEST_F(PublisherTest, AnAgentOfAnEarlierVersionIsToldWhatItKnowsAndLagsBehindNobody) {
  auto older = start_agent("older", 0, authority().issue(tls::kAgentName), 0);
  auto newer = start_agent("newer");
  publisher_->set_nodes({{"older", endpoint(older->port())}, {"newer", endpoint(newer->port())}});
  lead(1);
  const auto with_new_fields = [](state::Revision revision, uint64_t secret) {
    state::DesiredState state = make_state(1, 1);
    state.revision = revision;
    state.tunnel.keys = {{1, {secret, secret}}};
    state::Service& service = state.services.begin()->second;
    service.affinity_seconds = 60;
    service.groups = {{"g", 1}};
    service.backends = {{.address = *net::IpAddress::parse("10.0.0.1"), .port = 80, .joined = state::kNotYet}};
    return state;
  };
  publisher_->publish(share(with_new_fields(1, 7)));
  ASSERT_TRUE(wait_up_to_date("older"));
  ASSERT_TRUE(wait_up_to_date("newer"));
  EXPECT_EQ(newer->held(), with_new_fields(1, 7));
  EXPECT_EQ(older->held(), state::as_of(with_new_fields(1, 7), 0));
  EXPECT_EQ(older->held()->tunnel, state::Tunnel{});

  publisher_->publish(share(with_new_fields(2, 8)));
  ASSERT_TRUE(
      wait([](const Progress& p) { return of(p, "older").acked_revision == 2 && of(p, "newer").acked_revision == 2; }));
  EXPECT_EQ(older->seen().snapshots + older->seen().deltas, 1) << "nothing that it knows has changed";
  EXPECT_EQ(newer->seen().deltas, 1);

  state::DesiredState changed = with_new_fields(3, 8);
  changed.services.begin()->second.port = 81;
  publisher_->publish(share(changed));
  ASSERT_TRUE(wait([](const Progress& p) { return of(p, "older").acked_revision == 3; }));
  EXPECT_EQ(older->held(), state::as_of(changed, 0));
  EXPECT_EQ(older->seen().deltas, 1);
  EXPECT_EQ(older->seen().refused, 0);
}

TEST_F(PublisherTest, TheAgentOfANodeThatHasBecomeReadyIsDialledAtOnce) {
  start({}, kDay, kDay);
  auto agent = start_agent("node1");
  const uint16_t port = agent->port();
  agent.reset();
  Endpoint away = endpoint(port);
  away.ready = false;
  publisher_->set_nodes({{"node1", away}});
  lead(1);
  ASSERT_TRUE(wait(
      [](const Progress& p) { return !of(p, "node1").error.empty() && of(p, "node1").error != "not reached yet"; }));
  agent = start_agent("node1", port);
  // gRPC may still hold the connection that failed, and refuse for a second to try it again.
  bool connected = false;
  for (int i = 0; i < 20 && !connected; ++i) {
    publisher_->set_nodes({{"node1", away}});
    publisher_->set_nodes({{"node1", endpoint(port)}});
    connected = wait([](const Progress& p) { return of(p, "node1").connected; }, milliseconds(500));
  }
  EXPECT_TRUE(connected);
}

TEST_F(PublisherTest, ASlowAgentSkipsTheStatesInBetweenAndDelaysNobody) {
  auto slow = start_agent("slow");
  auto quick = start_agent("quick");
  publisher_->set_nodes({{"slow", endpoint(slow->port())}, {"quick", endpoint(quick->port())}});
  lead(1);
  ASSERT_TRUE(wait_connected("slow"));
  slow->pause_reading(true);
  constexpr state::Revision kLast = 50;
  constexpr int kServices = 2000;  // more than a stream's window holds
  for (state::Revision revision = 1; revision <= kLast; ++revision) {
    publisher_->publish(share(make_state(1, revision, kServices)));
    ASSERT_TRUE(wait([&](const Progress& p) { return of(p, "quick").acked_revision == revision; })) << revision;
  }
  EXPECT_FALSE(publisher_->progress().at("slow").up_to_date);
  EXPECT_TRUE(publisher_->progress().at("slow").connected);
  slow->pause_reading(false);
  ASSERT_TRUE(wait([&](const Progress& p) { return of(p, "slow").acked_revision == kLast; }));
  EXPECT_EQ(slow->held(), make_state(1, kLast, kServices));
  EXPECT_LE(slow->seen().snapshots + slow->seen().deltas, 4);
  EXPECT_EQ(quick->seen().snapshots + quick->seen().deltas, static_cast<int>(kLast));
}

TEST_F(PublisherTest, AnAgentThatHoldsItsAckBackIsLaggingAndSkipsStates) {
  auto agent = start_agent("node1");
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(1);
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(wait_up_to_date("node1"));
  agent->hold_back_acks(true);
  publisher_->publish(share(make_state(1, 2)));
  ASSERT_TRUE(agent->wait([&] { return agent->seen().deltas == 1; }));
  for (state::Revision revision = 3; revision <= 9; ++revision) {
    publisher_->publish(share(make_state(1, revision)));
  }
  EXPECT_TRUE(wait([](const Progress& p) { return !of(p, "node1").up_to_date && of(p, "node1").acked_revision == 1; }));
  agent->hold_back_acks(false);
  ASSERT_TRUE(wait([](const Progress& p) { return of(p, "node1").acked_revision == 9; }));
  EXPECT_EQ(agent->seen().deltas, 2);
}

TEST_F(PublisherTest, ADeadPeerIsNoticedByKeepaliveAndFoundAgain) {
  publisher_.reset();
  start(
      {.keepalive_time = milliseconds(200), .keepalive_timeout = milliseconds(300), .dial_timeout = milliseconds(500)});
  auto agent = start_agent("node1");
  fakes::TcpRelay relay(agent->port());
  publisher_->set_nodes({{"node1", endpoint(relay.port())}});
  lead(1);
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(wait_up_to_date("node1"));
  relay.freeze(true);
  ASSERT_TRUE(wait_connected("node1", false));
  EXPECT_NE(publisher_->progress().at("node1").error, "");
  publisher_->publish(share(make_state(1, 2)));
  relay.freeze(false);
  ASSERT_TRUE(wait([](const Progress& p) { return of(p, "node1").connected && of(p, "node1").acked_revision == 2; }));
}

TEST_F(PublisherTest, AnAgentWithAnotherNameInItsCertificateIsNotTalkedTo) {
  auto impostor = start_agent("node1", 0, authority().issue("node1.example"));
  publisher_->set_nodes({{"node1", endpoint(impostor->port())}});
  lead(1);
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(wait([](const Progress& p) { return dial_failed(of(p, "node1")); }));
  EXPECT_FALSE(publisher_->progress().at("node1").connected);
  EXPECT_EQ(impostor->seen().sessions, 0);
}

TEST_F(PublisherTest, AnAgentOfAnotherAuthorityIsNotTalkedTo) {
  const Authority other;
  auto impostor = start_agent("node1", 0, other.issue(tls::kAgentName));
  publisher_->set_nodes({{"node1", endpoint(impostor->port())}});
  lead(1);
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(wait([](const Progress& p) { return dial_failed(of(p, "node1")); }));
  EXPECT_EQ(impostor->seen().sessions, 0);
}

TEST_F(PublisherTest, AnExpiredAgentIsNotTalkedToUntilItHasANewCertificate) {
  auto expired = start_agent("node1", 0, authority().issue(tls::kAgentName, tls::Clock::now() - 2 * kDay));
  const auto port = expired->port();
  publisher_->set_nodes({{"node1", endpoint(port)}});
  lead(1);
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(wait([](const Progress& p) { return dial_failed(of(p, "node1")); }));
  EXPECT_EQ(expired->seen().sessions, 0);
  expired.reset();
  auto renewed = start_agent("node1", port);
  EXPECT_TRUE(wait_up_to_date("node1"));
}

TEST_F(PublisherTest, AnOperatorWithoutTheRightNameIsTurnedAwayUntilItHasOne) {
  auto agent = start_agent("node1");
  const auto pair = authority().issue("somebody");
  publisher_->set_credentials({authority().ca.certificate, pair.certificate, pair.key});
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(1);
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(wait_error("node1", "the certificate does not name the operator"));
  publisher_->set_credentials(operator_credentials());
  EXPECT_TRUE(wait_up_to_date("node1"));
}

TEST_F(PublisherTest, AnAgentThatRestartsIsFoundAgainAndBroughtUpToDate) {
  auto agent = start_agent("node1");
  const auto port = agent->port();
  publisher_->set_nodes({{"node1", endpoint(port)}});
  lead(1);
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(wait_up_to_date("node1"));
  agent.reset();
  ASSERT_TRUE(wait_connected("node1", false));
  EXPECT_FALSE(publisher_->progress().at("node1").up_to_date);
  publisher_->publish(share(make_state(1, 2)));
  agent = start_agent("node1", port);
  ASSERT_TRUE(wait_up_to_date("node1"));
  EXPECT_EQ(agent->held(), make_state(1, 2));
}

TEST_F(PublisherTest, AHigherEpochIsReportedAndAHigherTermGoesThrough) {
  auto agent = start_agent("node1");
  agent->set_epoch(5);
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(3);
  publisher_->publish(share(make_state(3, 1)));
  ASSERT_TRUE(wait([](const Progress& p) { return of(p, "node1").refusal == Refusal::epoch_too_low; }));
  EXPECT_EQ(publisher_->progress().at("node1").highest_epoch, 5U);
  EXPECT_EQ(agent->held(), std::nullopt);
  lead(6);
  publisher_->publish(share(make_state(6, 1)));
  ASSERT_TRUE(wait_up_to_date("node1"));
  EXPECT_EQ(publisher_->progress().at("node1").refusal, Refusal::none);
}

TEST_F(PublisherTest, APushThatIsRefusedIsReportedAndNotRepeated) {
  auto agent = start_agent("node1");
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(1);
  agent->refuse_next_push();
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(wait([](const Progress& p) { return of(p, "node1").refusal == Refusal::invalid_state; }));
  EXPECT_TRUE(publisher_->progress().at("node1").connected);
  publisher_->publish(share(make_state(1, 2)));
  ASSERT_TRUE(wait_up_to_date("node1"));
  EXPECT_EQ(agent->seen().snapshots, 2);
}

TEST_F(PublisherTest, TheWrongNodeIsReported) {
  auto agent = start_agent("node2");
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(1);
  ASSERT_TRUE(wait([](const Progress& p) { return of(p, "node1").refusal == Refusal::wrong_node; }));
  EXPECT_TRUE(wait_error("node1", "this is node2"));
}

TEST_F(PublisherTest, FailuresAndStatusAreReported) {
  auto agent = start_agent("node1");
  agent->fail_services({{"Service/default/s1/http", "TableFull", "no room"}});
  agent->report({"192.0.2.1"}, {"Service/default/s0/http"});
  agent->report_leaving("Service/default/s0/http", "2001:db8::7", 8080, 12);
  agent->report_interface("eth0", "Native");
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(1);
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(
      wait([](const Progress& p) { return of(p, "node1").up_to_date && !of(p, "node1").status.interfaces.empty(); }));
  const auto progress = publisher_->progress().at("node1");
  EXPECT_EQ(progress.info.failures, (std::vector<ServiceFailure>{{"Service/default/s1/http", "TableFull", "no room"}}));
  EXPECT_EQ(progress.status.announcing, (std::vector{*net::IpAddress::parse("192.0.2.1")}));
  EXPECT_EQ(progress.status.services_with_old_flows, (std::vector<std::string>{"Service/default/s0/http"}));
  EXPECT_EQ(progress.status.leaving,
            (std::vector<LeavingFlows>{{"Service/default/s0/http", *net::IpAddress::parse("2001:db8::7"), 8080, 12}}));
  EXPECT_EQ(progress.status.interfaces, (std::vector<Interface>{{"eth0", "Native", "fake"}}));
}

TEST_F(PublisherTest, AfterRestNothingIsPushed) {
  auto agent = start_agent("node1");
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(1);
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(wait_up_to_date("node1"));
  publisher_->rest();
  EXPECT_FALSE(publisher_->progress().at("node1").connected);
  publisher_->publish(share(make_state(1, 2)));
  lead(2);
  ASSERT_TRUE(wait_connected("node1"));
  EXPECT_EQ(agent->held(), make_state(1, 1));
}

TEST_F(PublisherTest, AgentsComeAndGoWithTheirNodes) {
  auto first = start_agent("node1");
  auto second = start_agent("node2");
  publisher_->set_nodes({{"node1", endpoint(first->port())}});
  lead(1);
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(wait_up_to_date("node1"));
  publisher_->set_nodes({{"node2", endpoint(second->port())}});
  ASSERT_TRUE(wait_up_to_date("node2"));
  EXPECT_FALSE(publisher_->progress().contains("node1"));
}

TEST_F(PublisherTest, AnEndpointThatMovedIsDialledAnew) {
  auto before = start_agent("node1");
  auto after = start_agent("node1");
  publisher_->set_nodes({{"node1", endpoint(before->port())}});
  lead(1);
  publisher_->publish(share(make_state(1, 1)));
  ASSERT_TRUE(wait_up_to_date("node1"));
  publisher_->set_nodes({{"node1", endpoint(after->port())}});
  ASSERT_TRUE(after->wait([&] { return after->held().has_value(); }));
}

TEST_F(PublisherTest, AllAgentsAreAskedAndTheSilentOnesNamed) {
  auto agent = start_agent("node1");
  agent->hold(make_state(4, 7));
  const fakes::TcpRelay silent(agent->port());
  const_cast<fakes::TcpRelay&>(silent).freeze(true);
  publisher_->set_nodes({{"node1", endpoint(agent->port())}, {"node2", endpoint(silent.port())}});
  const auto answers = publisher_->ask(milliseconds(500));
  ASSERT_TRUE(answers.at("node1"));
  EXPECT_EQ(answers.at("node1")->epoch, 4U);
  EXPECT_EQ(answers.at("node1")->revision, 7U);
  EXPECT_EQ(answers.at("node1")->digest, state::digest(make_state(4, 7)));
  ASSERT_FALSE(answers.at("node2"));
  EXPECT_EQ(answers.at("node2").error().kind, ErrorKind::unavailable);
  const auto held = publisher_->fetch_state("node1", kDeadline);
  ASSERT_TRUE(held) << held.error().message();
  EXPECT_EQ(held->state, make_state(4, 7));
}

TEST_F(PublisherTest, PurgeReachesEveryAgentAndReportsTheOthers) {
  auto agent = start_agent("node1");
  auto later = start_agent("node2");
  agent->hold(make_state(4, 7));
  later->set_epoch(9);
  publisher_->set_nodes({{"node1", endpoint(agent->port())}, {"node2", endpoint(later->port())}});
  const auto outcomes = publisher_->purge("cluster", 5, kDeadline);
  EXPECT_TRUE(outcomes.at("node1"));
  EXPECT_EQ(agent->held(), std::nullopt);
  ASSERT_FALSE(outcomes.at("node2"));
  EXPECT_NE(outcomes.at("node2").error().message().find("a later leader was here"), std::string::npos);
}

TEST_F(PublisherTest, WithoutACertificateNobodyIsDialled) {
  publisher_.reset();
  publisher_ = Publisher::create({}, [this] {
    const std::lock_guard lock(mutex_);
    ++changes_;
    changed_.notify_all();
  });
  auto agent = start_agent("node1");
  publisher_->set_nodes({{"node1", endpoint(agent->port())}});
  lead(1);
  ASSERT_TRUE(wait_error("node1", "no certificate yet"));
  publisher_->set_credentials(operator_credentials());
  EXPECT_TRUE(wait_connected("node1"));
}

}  // namespace
}  // namespace sluice::publish
