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

// A bridge is an Ethernet device whose driver has no native XDP.
TEST_F(Standalone, AutomaticModeIsGenericForAllWhereOneDriverRefusesAndARestartDetachesNothing) {
  ASSERT_EQ(lab_.in("lb", "ip link add bare type bridge").exit_code, 0);
  ASSERT_EQ(lab_.in("lb", "ip link set bare up").exit_code, 0);
  const auto link = [&](const std::string& interface) {
    const std::string output =
        lab_.in("lb", "sh -c 'bpftool link show pinned " + lab_.bpffs() + "/v*/links/xdp-" + interface + "'").output;
    return output.substr(0, output.find(':'));
  };
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

}  // namespace
}  // namespace sluice::lab
