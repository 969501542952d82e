// sluicectl and real agents: what it shows is what the traffic finds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "tests/netns/nodes_fixture.h"

namespace sluice::lab {
namespace {

using nlohmann::json;
using testing::ContainsRegex;
using testing::HasSubstr;

class Ctl : public Nodes {
 protected:
  CommandOutcome ctl(const std::string& arguments, const std::string& node = "n1") const {
    return sluicectl(lab_, node, arguments);
  }
  bool wait_tunnel() const {
    return eventually([&] { return ctl("tunnels").exit_code == 0; });
  }
};

TEST_F(Ctl, BackendsGoTheWayThatTheyAreShownToGo) {
  push(desired(Underlay::ipv4, {1, 2}));
  ASSERT_TRUE(wait_tunnel()) << ctl("tunnels").output;
  const auto shown = ctl("backends s/http");
  EXPECT_EQ(shown.exit_code, 0) << shown.output;
  EXPECT_THAT(shown.output,
              ContainsRegex("SERVICE +FRONTENDS +BACKEND +NODE +WEIGHT +SHARE +STATE +WAY +NEXT-HOP +MTU"));
  EXPECT_THAT(shown.output, ContainsRegex("s/http +10.77.0.50:80 +10.88.1.2:8080 +n1 +1 +50.0% +ready +local +- +-"));
  EXPECT_THAT(shown.output,
              ContainsRegex("s/http +10.77.0.50:80 +10.88.2.2:8080 +n2 +1 +50.0% +ready +tunnel +eth0 +1440"));
  EXPECT_THAT(shown.output,
              ContainsRegex("s/http/IPv6 +\\[fd77::50\\]:80 +\\[fd88:2::2\\]:8080 +n2 .* tunnel +eth0 +1428"));
  EXPECT_GT(asked(kAddress, "pod2", 20), 0);
  lose_tunnels(true);
  ASSERT_TRUE(eventually([&] { return ctl("tunnels").exit_code == 1; }));
  EXPECT_THAT(ctl("backends").output,
              ContainsRegex("10.88.2.2:8080 +n2 .* nat +eth0 via 10.77.0.2 +1500 +the tunnel to "
                            "n2 is not proved: probes come back no more"));
  lose_tunnels(false);
}

TEST_F(Ctl, TunnelsAreShownWithWhatIsProvedOfThem) {
  push(desired(Underlay::ipv4, {1, 2}));
  ASSERT_TRUE(wait_tunnel());
  const auto answer = json::parse(ctl("tunnels -o json").output);
  ASSERT_EQ(answer["tunnels"].size(), 1U);
  const json& tunnel = answer["tunnels"][0];
  EXPECT_EQ(tunnel["node"], "n2");
  EXPECT_EQ(tunnel["address"], node_address(2));
  EXPECT_EQ(tunnel["key"], 1);
  EXPECT_EQ(tunnel["mtu"], 1500);
  EXPECT_LT(tunnel["lastProofSeconds"].get<double>(), 5);
  EXPECT_THAT(ctl("tunnels").output, ContainsRegex("n2 +10.77.0.2 +yes +[0-9.]+s +[0-9.]+s +1 +1500 +1440 +1428"));
}

TEST_F(Ctl, DrainWaitsForTheLastFlowWhereItIsCounted) {
  auto state = desired(Underlay::ipv4, {1, 2});
  push(state);
  ASSERT_TRUE(wait_tunnel());
  EXPECT_EQ(ctl("drain s/http").output, "no backend is leaving\n");
  HttpLoad busy(lab_.ns("client"), kAddress, kPort, {.connections = 20});
  ASSERT_TRUE(busy.run(200));
  state.revision = 2;
  for (auto& [id, one] : state.services) one.backends[1].left = 2;
  push(state);
  ASSERT_TRUE(busy.run(200));
  // Through the tunnel they are on n2; the node that places them has no record.
  const auto there = ctl("drain s/http", "n2");
  EXPECT_EQ(there.exit_code, 1) << there.output;
  EXPECT_THAT(there.output, ContainsRegex("s/http +10.88.2.2:8080 +n2 +local +[1-9][0-9]* +exact"));
  const auto here = ctl("drain s/http");
  EXPECT_EQ(here.exit_code, 0) << here.output;
  EXPECT_THAT(here.output, ContainsRegex("s/http +10.88.2.2:8080 +n2 +tunnel +0 +those by nat"));
  EXPECT_THAT(here.output, HasSubstr("ask on n2"));
  EXPECT_EQ(ctl("drain s/http --wait --timeout 2s", "n2").exit_code, 1);
  EXPECT_THAT(nodes_[1]->agent().metrics(),
              ContainsRegex("sluice_agent_draining_flows\\{service=\"s/http\",backend=\"10.88.2.2:8080\"\\} [1-9]"));
  const auto outcome = busy.stop();
  EXPECT_EQ(outcome.failures, 0U) << outcome.first_failure;
  // Closed flows are gone half a minute later.
  const auto waited = ctl("drain s/http --wait --timeout 100s", "n2");
  EXPECT_EQ(waited.exit_code, 0) << waited.output;
  EXPECT_THAT(waited.output, HasSubstr("waiting: "));
}

TEST_F(Ctl, WhatIsAskedForInVainIsToldOnStderrWithExitCodeOne) {
  push(desired(Underlay::ipv4, {1}));
  const auto no_service = ctl("backends other");
  EXPECT_EQ(no_service.exit_code, 1);
  EXPECT_THAT(no_service.output, HasSubstr("this node has no service other\nIt has:\n  s/http\n  s/http/IPv6\n"));
  EXPECT_EQ(ctl("drain").exit_code, 2) << "it needs a service";
  EXPECT_EQ(ctl("frobnicate").exit_code, 2);
  agent(1).kill();
  const auto no_agent = ctl("tunnels");
  EXPECT_EQ(no_agent.exit_code, 1);
  EXPECT_THAT(no_agent.output, HasSubstr("nobody listens: does sluice-agent run on this machine"));
  EXPECT_EQ(ctl("tunnels", "n3").exit_code, 1);
  EXPECT_THAT(ctl("tunnels", "n3").output, HasSubstr("there is no such socket"));
}

TEST_F(Ctl, SocketIsRootsAloneIsTakenOverFromAKilledAgentAndGoesWithItsOwn) {
  push(desired(Underlay::ipv4, {1}));
  struct stat found {};
  ASSERT_EQ(stat(socket_of(lab_, "n1").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600U);
  agent(1).kill();
  nodes_[0]->start();
  EXPECT_TRUE(eventually([&] { return ctl("backends").exit_code == 0; }));
  EXPECT_EQ(agent(1).terminate(), 0);
  EXPECT_NE(stat(socket_of(lab_, "n1").c_str(), &found), 0);
}

}  // namespace
}  // namespace sluice::lab
