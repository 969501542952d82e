// What the agent answers sluicectl, from what it knows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/inspect/view.h"
#include "tests/unit/agent/fixtures.h"

namespace sluice::agent::inspect {
namespace {

using dataplane::Forward;
using testing::HasSubstr;

// Node n1 of a cluster, with one service of backends here, on n2 and outside.
class Inspect : public testing::Test {
 protected:
  Inspect() {
    state_.revision = 9;
    state_.tunnel.keys = {{3, {1, 2}}};
    service_.id = "s/http";
    service_.addresses = {ip("192.0.2.10")};
    service_.port = 80;
    service_.groups = {{"old", 30}, {"new", 10}};
    service_.sizes = {{0, 8}};
    add("10.1.0.1", "n1", 0, Forward::local);
    add("10.1.1.1", "n2", 0, Forward::tunnel);
    add("198.51.100.7", "", 1, Forward::nat);
    network_.links[2].name = "eth0";
    nexthop::Way way;
    way.ifindex = 2;
    way.mac = dataplane::Mac{2, 0, 0, 0, 0, 9};
    way.mtu = 1500;
    ways_.every[ip("172.30.0.2")] = way;
    way.gateway = ip("172.30.0.254");
    ways_.every[ip("198.51.100.7")] = ways_.every[ip("10.1.1.1")] = way;
    tunnel::TunnelFact tunnel;
    tunnel.node = "n2";
    tunnel.address = ip("172.30.0.2");
    tunnel.port = 6082;
    tunnel.key = 3;
    tunnel.usable = true;
    tunnel.mtu = 1480;
    tunnel.fits4 = 1420;
    tunnel.fits6 = 1408;
    tunnel.since = now_ - std::chrono::seconds(90);
    tunnel.heard = now_ - std::chrono::milliseconds(500);
    tunnels_ = {tunnel};
  }
  void add(const std::string& address, const std::string& node, uint32_t group, Forward way) {
    state::Backend backend;
    backend.address = ip(address);
    backend.port = 8080;
    backend.node = node;
    backend.group = group;
    service_.backends.push_back(backend);
    records_.push_back({"s/http", backend.address, 8080, way});
  }
  View view() {
    state_.services["s/http"] = service_;
    return {node_, &state_, facts_, ways_, network_, records_, tunnels_, now_};
  }
  Json row(size_t i) { return backends(view())["services"][0]["backends"].at(i); }

  const std::string node_ = "n1";
  state::DesiredState state_;
  state::Service service_;
  health::Facts facts_;
  nexthop::Ways ways_;
  nexthop::NetworkView network_;
  std::vector<dataplane::BackendRecord> records_;
  std::vector<tunnel::TunnelFact> tunnels_;
  tunnel::Clock::time_point now_{std::chrono::hours(1)};
};

TEST_F(Inspect, BackendsWithTheWayToEach) {
  facts_.revision = 9;
  const Json answer = backends(view());
  EXPECT_EQ(answer["node"], "n1");
  EXPECT_EQ(answer["revision"], 9);
  const Json& service = answer["services"].at(0);
  EXPECT_EQ(service["service"], "s/http");
  EXPECT_EQ(service["frontends"], Json({"192.0.2.10:80"}));
  EXPECT_EQ(service["protocol"], "TCP");
  EXPECT_EQ(service["forwarding"], "Auto");
  EXPECT_EQ(row(0), Json({{"address", "10.1.0.1:8080"},
                          {"node", "n1"},
                          {"group", "old"},
                          {"weight", 30},
                          {"share", 0.375},
                          {"state", "ready"},
                          {"way", "local"}}));
  EXPECT_EQ(row(1), Json({{"address", "10.1.1.1:8080"},
                          {"node", "n2"},
                          {"group", "old"},
                          {"weight", 30},
                          {"share", 0.375},
                          {"state", "ready"},
                          {"way", "tunnel"},
                          {"nextHop", {{"device", "eth0"}, {"mac", "02:00:00:00:00:09"}}},
                          {"mtu", 1420}}));
  EXPECT_EQ(row(2), Json({{"address", "198.51.100.7:8080"},
                          {"group", "new"},
                          {"weight", 10},
                          {"share", 0.25},
                          {"state", "ready"},
                          {"way", "nat"},
                          {"reason", "Auto: it is on no node of Sluice's"},
                          {"nextHop", {{"device", "eth0"}, {"gateway", "172.30.0.254"}, {"mac", "02:00:00:00:00:09"}}},
                          {"mtu", 1500}}));
}

TEST_F(Inspect, TunnelThatIsNotProvedLeavesAutoToNatAndSaysWhy) {
  tunnels_[0].usable = false;
  tunnels_[0].why = "no probe has come back";
  EXPECT_EQ(row(1)["way"], "nat");
  EXPECT_EQ(row(1)["reason"], "the tunnel to n2 is not proved: no probe has come back");
  EXPECT_EQ(row(1)["nextHop"]["gateway"], "172.30.0.254") << "to the backend itself";
  EXPECT_EQ(row(1)["mtu"], 1500);
  records_[1].strict = true;
  EXPECT_EQ(row(1)["way"], "tunnel") << "asked for by name";
  EXPECT_THAT(row(1)["reason"], HasSubstr("not proved"));
  EXPECT_FALSE(row(1).contains("mtu"));
}

TEST_F(Inspect, AutoSaysWhyItHasNoTunnel) {
  records_[1].way = Forward::nat;
  EXPECT_EQ(row(1)["reason"], "Auto: no tunnel leads to n2");
  state_.tunnel.keys.clear();
  EXPECT_EQ(row(1)["reason"], "Auto: there are no keys for tunnels");
  service_.forwarding = state::Forwarding::nat;
  EXPECT_FALSE(row(1).contains("reason")) << "it was asked for";
}

TEST_F(Inspect, WhatFitsIsOfTheClientsPacket) {
  records_[2].way = Forward::ipip;
  EXPECT_EQ(row(2)["mtu"], 1480);
  EXPECT_EQ(row(2)["reason"], "it is on no node of Sluice's");
  records_[2].way = Forward::direct;
  EXPECT_EQ(row(2)["mtu"], 1500);
}

TEST_F(Inspect, WithoutAWayTheReasonIsSaid) {
  ways_.unresolved[ip("198.51.100.7")] = "no route: Network is unreachable";
  EXPECT_EQ(row(2)["nextHop"], Json({{"why", "no route: Network is unreachable"}}));
  ways_ = {};
  EXPECT_EQ(row(1)["nextHop"], Json({{"why", "not looked up yet"}}));
}

TEST_F(Inspect, SharesAreOfThoseThatTakeNewFlows) {
  service_.backends[0].left = 9;
  records_[0].left = true;
  EXPECT_EQ(row(0)["state"], "draining");
  EXPECT_EQ(row(0)["share"], 0.0);
  EXPECT_EQ(row(1)["share"], 0.75) << "its group's, alone";
  service_.groups[0].weight = 0;
  EXPECT_EQ(row(1)["share"], 0.0);
  EXPECT_EQ(row(2)["share"], 1.0);
  service_.groups[1].weight = 0;
  EXPECT_EQ(row(2)["share"], 0.0);
}

TEST_F(Inspect, EachAddressAndPortIsToldOnceAsItIsNow) {
  state::Backend again = service_.backends[0];
  service_.backends[0].left = 5;
  again.group = 1;
  again.joined = 5;
  service_.backends.push_back(again);
  EXPECT_EQ(backends(view())["services"][0]["backends"].size(), 3U);
  EXPECT_EQ(row(2)["address"], "10.1.0.1:8080");
  EXPECT_EQ(row(2)["group"], "new");
  EXPECT_EQ(row(2)["state"], "ready");
}

TEST_F(Inspect, BackendsThatAreNotProgrammedSayWhy) {
  state::Backend next = service_.backends[1];
  next.address = ip("10.1.1.9");
  next.joined = state::kNotYet;
  service_.backends.push_back(next);
  EXPECT_EQ(row(3)["state"], "joining");
  EXPECT_EQ(row(3)["way"], "none");
  EXPECT_EQ(row(3)["reason"], "waits for its node");
  service_.traffic_policy = state::TrafficPolicy::local;
  records_.erase(records_.begin() + 1, records_.end());
  EXPECT_EQ(row(0)["share"], 1.0);
  EXPECT_EQ(row(1)["reason"], "traffic policy Local: this node keeps to its own");
}

TEST_F(Inspect, WhatHasLeftLongAgoIsNotToldOf) {
  service_.backends[2].left = 3;
  records_.pop_back();
  EXPECT_EQ(backends(view())["services"][0]["backends"].size(), 2U);
}

TEST_F(Inspect, FailureOfAServiceIsToldWithIt) {
  facts_.failures = {{"s/http", "TableFull", "no room"}};
  EXPECT_EQ(backends(view())["services"][0]["failure"], "TableFull: no room");
}

TEST_F(Inspect, TunnelsWithTheirAges) {
  EXPECT_EQ(tunnels(view()), Json({{"node", "n1"},
                                   {"tunnels",
                                    {{{"node", "n2"},
                                      {"address", "172.30.0.2"},
                                      {"port", 6082},
                                      {"proved", true},
                                      {"sinceSeconds", 90.0},
                                      {"lastProofSeconds", 0.5},
                                      {"key", 3},
                                      {"mtu", 1480},
                                      {"fits", {{"ipv4", 1420}, {"ipv6", 1408}}}}}}}));
  tunnels_[0].usable = false;
  tunnels_[0].heard.reset();
  tunnels_[0].why = "no probe has come back";
  const Json one = tunnels(view())["tunnels"][0];
  EXPECT_EQ(one["proved"], false);
  EXPECT_FALSE(one.contains("lastProofSeconds"));
  EXPECT_EQ(one["why"], "no probe has come back");
}

TEST_F(Inspect, DrainsAreOfLeavingBackendsAndSayHowTheyAreCounted) {
  EXPECT_EQ(drains(view()), Json({{"node", "n1"}, {"services", Json::array()}}));
  for (auto& record : records_) record.left = true;
  add("198.51.100.8", "", 1, Forward::ipip);
  records_.back().left = true;
  facts_.leaving = {{"s/http", ip("10.1.0.1"), 8080, 12}, {"s/http", ip("198.51.100.8"), 8080, 3}};
  const Json answer = drains(view());
  ASSERT_EQ(answer["services"].size(), 1U);
  EXPECT_EQ(answer["services"][0]["backends"],
            Json({{{"address", "10.1.0.1:8080"}, {"node", "n1"}, {"way", "local"}, {"flows", 12}, {"counted", "here"}},
                  {{"address", "10.1.1.1:8080"}, {"node", "n2"}, {"way", "tunnel"}, {"flows", 0}, {"counted", "there"}},
                  {{"address", "198.51.100.7:8080"}, {"way", "nat"}, {"flows", 0}, {"counted", "here"}},
                  {{"address", "198.51.100.8:8080"}, {"way", "ipip"}, {"flows", 3}, {"counted", "idle"}}}));
}

TEST_F(Inspect, WithoutAStateThereIsNothing) {
  View empty{node_, nullptr, facts_, ways_, network_, {}, {}, now_};
  EXPECT_EQ(backends(empty)["services"], Json::array());
  EXPECT_EQ(tunnels(empty)["tunnels"], Json::array());
  EXPECT_EQ(drains(empty)["services"], Json::array());
}

}  // namespace
}  // namespace sluice::agent::inspect
