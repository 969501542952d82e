// The standalone agent's modes of attaching, under traffic.
#include <gmock/gmock.h>

#include <chrono>
#include <set>
#include <string>

#include "tests/netns/standalone_fixture.h"

namespace sluice::lab {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

class InMode : public Standalone, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Modes, InMode, testing::Values("Native", "Generic"),
                         [](const auto& row) { return std::string(row.param); });

TEST_P(InMode, HundredBusyConnectionsLoseNothingAndUdpIsAnswered) {
  const auto agent =
      started(file_text(backend(1) + "," + backend(2), std::string("{name: eth0, mode: ") + GetParam() + "}"));
  EXPECT_THAT(agent->metrics(), HasSubstr(std::string("interface=\"eth0\",mode=\"") + GetParam() + "\""));
  EXPECT_TRUE(agent->wait_ready(200, std::string(GetParam()) == "Generic" ? "GenericMode" : "Ready=True Ready"));

  auto busy = load();
  busy->run_for(seconds(3));
  const auto outcome = busy->stop();
  expect_smooth(outcome);
  EXPECT_EQ(outcome.connections.at("b1") + outcome.connections.at("b2"), 100U);
  RecordProperty("requests_per_second", static_cast<int>(outcome.requests / 3));

  const auto udp = ask_udp(lab_.ns("client"), kAddress, 53, 100);
  EXPECT_EQ(udp.count(""), 0U) << "datagrams without an answer";
  EXPECT_GT(udp.at("b1"), 20);
  EXPECT_GT(udp.at("b2"), 20);
  EXPECT_EQ(http_[0]->peers(), std::set<std::string>{kBalancer}) << "nat: the backend sees the balancer's address";
}

TEST_P(InMode, NewConnectionAtEveryRequestLosesNothing) {
  const auto agent =
      started(file_text(backend(1) + "," + backend(2), std::string("{name: eth0, mode: ") + GetParam() + "}"));
  auto busy = load({.connections = 20, .keep_alive = false});
  ASSERT_TRUE(busy->run(2000));
  const auto outcome = busy->stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
}

class BesideABridge : public Standalone {
 protected:
  // An Ethernet device whose driver has no native XDP.
  void SetUp() override {
    ASSERT_EQ(lab_.in("lb", "ip link add bare type bridge").exit_code, 0);
    ASSERT_EQ(lab_.in("lb", "ip link set bare up").exit_code, 0);
  }
  // The id of its XDP link: another one after it was detached.
  [[nodiscard]] std::string link(const std::string& interface) const {
    const std::string output =
        lab_.in("lb", "sh -c 'bpftool link show pinned " + lab_.bpffs() + "/v*/links/xdp-" + interface + "'").output;
    return output.substr(0, output.find(':'));
  }
};

TEST_F(BesideABridge, AutomaticModeIsGenericForAllWhereOneDriverRefusesAndARestartDetachesNothing) {
  auto agent = started(file_text(backend(1) + "," + backend(2), "{name: eth0, mode: Auto}, {name: bare, mode: Auto}"));
  EXPECT_TRUE(agent->wait_ready(200, "bare: driver bridge does not take XDP in native mode"));
  EXPECT_THAT(agent->metrics(), HasSubstr("interface=\"eth0\",mode=\"Generic\""));
  EXPECT_THAT(agent->metrics(), HasSubstr("interface=\"bare\",mode=\"Generic\""));
  const std::string eth0 = link("eth0");
  const std::string bare = link("bare");
  auto busy = load();
  ASSERT_TRUE(busy->run(1000));
  agent->kill();
  agent = start();
  EXPECT_TRUE(agent->wait_ready(200, "was in generic mode before, and stays so until it is detached"));
  ASSERT_EQ(lab_.in("lb", "ip link set bare address 02:00:00:00:77:03").exit_code, 0);
  ASSERT_TRUE(eventually([&] {
    const std::string log = agent->log();
    return log.find("attached to bare", log.find("is up")) != std::string::npos;
  })) << "again, for its other MAC: "
      << agent->log();
  busy->run_for(milliseconds(500));
  EXPECT_EQ(link("eth0"), eth0);
  EXPECT_EQ(link("bare"), bare);
  EXPECT_NE(bare, "");
  expect_smooth(busy->stop());
}

TEST_F(BesideABridge, NativeModeByNameIsRefusedAndNotAskedForAgain) {
  const auto with_bridge = [](int backends, const std::string& mode) {
    return file_text(backend(1) + (backends > 1 ? "," + backend(2) : ""), "eth0, {name: bare, mode: " + mode + "}");
  };
  const auto agent = started(with_bridge(2, "Generic"));
  const std::string eth0 = link("eth0");
  const std::string before = link("bare");
  auto busy = load();
  ASSERT_TRUE(busy->run(500));
  write(with_bridge(2, "Native"));
  const std::string refusal = "is not in force, what was before it stands: ";
  ASSERT_TRUE(agent->wait_log(refusal));
  EXPECT_THAT(agent->log(), HasSubstr("bare: driver bridge does not take XDP in native mode"));
  const std::string tried = link("bare");
  EXPECT_NE(tried, "") << "in generic mode again";
  EXPECT_NE(tried, before);
  write(with_bridge(1, "Native"));
  EXPECT_TRUE(eventually([&] {
    const std::string log = agent->log();
    return log.find(refusal, log.find(refusal) + refusal.size()) != std::string::npos;
  }));
  busy->run_for(milliseconds(500));
  EXPECT_EQ(link("bare"), tried);
  EXPECT_EQ(link("eth0"), eth0);
  expect_smooth(busy->stop());
}

}  // namespace
}  // namespace sluice::lab
