// Tables of what an agent answers.
#include "node-agent/ctl/show.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace sluice::agent::ctl {
namespace {

using testing::HasSubstr;

Json backends() {
  return Json::parse(R"({"node":"n1","revision":7,"services":[
    {"service":"Service/shop/web/http","frontends":["192.0.2.10:80"],"protocol":"TCP","forwarding":"Auto",
     "backends":[
       {"address":"10.1.0.1:8080","node":"n1","group":"web","weight":1,"share":0.5,"state":"ready","way":"local"},
       {"address":"10.1.1.1:8080","node":"n2","group":"web","weight":1,"share":0.5,"state":"draining","way":"tunnel",
        "nextHop":{"device":"eth0","gateway":"10.0.0.254","mac":"02:00:00:00:00:01"},"mtu":1440}]},
    {"service":"Service/shop/api/grpc","frontends":["192.0.2.11:443","192.0.2.12:443"],"protocol":"TCP",
     "forwarding":"Tunnel","failure":"Unreachable: backend 10.1.2.1: no route","backends":[
       {"address":"10.1.2.1:9090","node":"n3","group":"api","weight":10,"share":1,"state":"ready","way":"tunnel",
        "reason":"the tunnel to n3 is not proved: no way","nextHop":{"why":"no route"}}]},
    {"service":"Service/shop/empty/http","frontends":["192.0.2.13:80"],"protocol":"TCP","forwarding":"Auto",
     "backends":[]}]})");
}

TEST(Show, BackendsAsATable) {
  EXPECT_EQ(backends_text(backends(), false),
            "SERVICE                   FRONTENDS                       BACKEND         NODE   WEIGHT   SHARE    STATE  "
            "    WAY      "
            "NEXT-HOP              MTU    WHY\n"
            "Service/shop/web/http     192.0.2.10:80                   10.1.0.1:8080   n1     1        50.0%    ready  "
            "    local    "
            "-                     -\n"
            "Service/shop/web/http     192.0.2.10:80                   10.1.1.1:8080   n2     1        50.0%    "
            "draining   tunnel   "
            "eth0 via 10.0.0.254   1440\n"
            "Service/shop/api/grpc     192.0.2.11:443,192.0.2.12:443   10.1.2.1:9090   n3     10       100.0%   ready  "
            "    tunnel   "
            "-                     -      the tunnel to n3 is not proved: no way; no way: no route\n"
            "Service/shop/empty/http   192.0.2.13:80                   -               -      -        -        -      "
            "    -        "
            "-                     -      there are no backends\n"
            "\n"
            "Service/shop/api/grpc: Unreachable: backend 10.1.2.1: no route\n");
}

TEST(Show, WideHasMoreColumns) {
  const std::string text = backends_text(backends(), true);
  EXPECT_THAT(text, HasSubstr("PROTOCOL   FORWARDING   GROUP   MAC"));
  EXPECT_THAT(text, HasSubstr("TCP        Auto         web     02:00:00:00:00:01"));
}

TEST(Show, NothingIsSaidInWords) {
  EXPECT_EQ(backends_text(Json::parse(R"({"services":[]})"), false), "no services\n");
  EXPECT_THAT(tunnels_text(Json::parse(R"({"tunnels":[]})")), HasSubstr("no tunnels"));
  EXPECT_EQ(drains_text(Json::parse(R"({"services":[]})")), "no backend is leaving\n");
}

TEST(Show, TunnelsAsATable) {
  const Json answer = Json::parse(R"({"node":"n1","tunnels":[
    {"node":"n2","address":"10.0.0.2","port":6082,"proved":true,"sinceSeconds":7300.2,"lastProofSeconds":0.31,"key":3,
     "mtu":1500,"fits":{"ipv4":1440,"ipv6":1428}},
    {"node":"n3","address":"10.0.0.3","port":6082,"proved":false,"sinceSeconds":75,"key":3,"mtu":0,
     "fits":{"ipv4":0,"ipv6":0},"why":"no probe has come back"}]})");
  EXPECT_EQ(
      tunnels_text(answer),
      "NODE   ADDRESS    PROVED   SINCE   LAST-PROOF   KEY   MTU    FITS-IPV4   FITS-IPV6   WHY-NOT\n"
      "n2     10.0.0.2   yes      121m    0.3s         3     1500   1440        1428\n"
      "n3     10.0.0.3   no       75s     -            3     -      -           -           no probe has come back\n");
  EXPECT_TRUE(tunnels_lack(answer));
}

TEST(Show, AgesAreAsShortAsKubectls) {
  const auto shown = [](double seconds) {
    const Json answer = {{"tunnels", {{{"node", "n"}, {"proved", true}, {"sinceSeconds", seconds}}}}};
    const std::string text = tunnels_text(answer);
    const auto row = text.substr(text.find('\n') + 1);
    std::istringstream words(row);
    std::string node, address, proved, since;
    words >> node >> address >> proved >> since;
    return since;
  };
  EXPECT_EQ(shown(-1), "0.0s");
  EXPECT_EQ(shown(9.94), "9.9s");
  EXPECT_EQ(shown(10), "10s");
  EXPECT_EQ(shown(119), "119s");
  EXPECT_EQ(shown(120), "2m");
  EXPECT_EQ(shown(150), "2m30s");
  EXPECT_EQ(shown(660), "11m");
  EXPECT_EQ(shown(4 * 3600), "4h");
  EXPECT_EQ(shown(49 * 3600), "2d");
}

TEST(Show, DrainsAsATableWithHowTheyAreCounted) {
  const Json answer = Json::parse(R"({"node":"n1","services":[{"service":"s/http","backends":[
    {"address":"10.1.0.1:8080","node":"n1","way":"local","flows":12,"counted":"here"},
    {"address":"10.1.1.1:8080","node":"n2","way":"tunnel","flows":0,"counted":"there"},
    {"address":"198.51.100.7:8080","way":"ipip","flows":3,"counted":"idle"}]}]})");
  EXPECT_EQ(drains_text(answer),
            "SERVICE   BACKEND             NODE   WAY      FLOWS   COUNTED\n"
            "s/http    10.1.0.1:8080       n1     local    12      exact\n"
            "s/http    10.1.1.1:8080       n2     tunnel   0       those by nat\n"
            "s/http    198.51.100.7:8080   -      ipip     3       seen within the idle time\n");
  EXPECT_EQ(left_of(answer).flows, 15U);
  EXPECT_EQ(left_of(answer).backends, 2U);
  EXPECT_THAT(elsewhere(answer), HasSubstr("ask on n2\n"));
}

TEST(Show, WhatIsMeantByAName) {
  const std::string id = "Service/shop/web/http";
  for (const char* typed : {"Service/shop/web/http", "shop/web/http", "shop/web", "web", "http", "Service/shop"}) {
    EXPECT_TRUE(is_meant(id, typed)) << typed;
  }
  for (const char* typed : {"we", "shop/http", "web/shop", "Service/web", ""})
    EXPECT_FALSE(is_meant(id, typed)) << typed;
  EXPECT_EQ(only(backends(), "web")["services"].size(), 1U);
  EXPECT_EQ(only(backends(), "shop")["services"].size(), 3U);
  EXPECT_EQ(only(backends(), "")["services"].size(), 3U);
}

TEST(Show, WhatIsNotAsItShouldBe) {
  EXPECT_TRUE(backends_lack(backends()));
  EXPECT_FALSE(backends_lack(only(backends(), "web")));
  Json no_way = only(backends(), "web");
  no_way["services"][0]["backends"][0]["nextHop"] = {{"why", "no route"}};
  EXPECT_TRUE(backends_lack(no_way));
}

TEST(Show, AnswersOfOtherVersionsBreakNothing) {
  const Json little = Json::parse(R"({"services":[{"service":"s","backends":[{"address":"a"}]}]})");
  EXPECT_THAT(backends_text(little, true), HasSubstr("s         -           a         -"));
  EXPECT_FALSE(backends_lack(little));
  EXPECT_THAT(tunnels_text(Json::parse(R"({"tunnels":[{"node":"n2"}]})")), HasSubstr("n2"));
  EXPECT_THAT(drains_text(Json::parse(R"({})")), HasSubstr("no backend"));
}

}  // namespace
}  // namespace sluice::agent::ctl
