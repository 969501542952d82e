// What is nearly full, and what is said of it.
#include "node-agent/health/capacity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/fixtures.h"

namespace sluice::agent::health {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

// A node of which each table holds 1000 and is empty.
Usage empty() {
  Usage usage;
  usage.flows_ipv4 = usage.flows_ipv6 = {0, 0, 1000, 1000};
  usage.tables = {{"services", 0, 1000}, {"backends", 0, 1000}, {"slots", 0, 1000}};
  return usage;
}

dataplane::PortUse ports(uint32_t used) {
  return {ip("10.0.0.1"), ip("10.1.0.7"), 8080, 6, used, 1000};
}

TEST(Capacity, WhatIsLessThanFourFifthsFullIsNoShortage) {
  Usage usage = empty();
  usage.flows_ipv4 = {799, 799, 1000, 1000};
  usage.tables[0].used = 799;
  usage.nat_ports = {ports(799)};
  EXPECT_THAT(find_shortages(usage, {}), IsEmpty());
  EXPECT_EQ(capacity_condition({}), (Condition{"CapacityLeft", true, "CapacityLeft",
                                               "flow tables, service tables and source ports have room"}));
}

TEST(Capacity, EachThatIsFourFifthsFullIsNamedWithWhatToRaise) {
  struct Case {
    const char* what;
    void (*fill)(Usage&);
    const char* reason;
    const char* way_out;
  };
  const std::vector<Case> cases = {
      {"established IPv4 flows", [](Usage& u) { u.flows_ipv4.established = 800; }, "FlowTableNearlyFull",
       "--max-flows"},
      {"half-open IPv4 flows", [](Usage& u) { u.flows_ipv4.half_open = 800; }, "FlowTableNearlyFull", "--max-flows"},
      {"established IPv6 flows", [](Usage& u) { u.flows_ipv6.established = 800; }, "FlowTableNearlyFull",
       "--max-flows"},
      {"half-open IPv6 flows", [](Usage& u) { u.flows_ipv6.half_open = 800; }, "FlowTableNearlyFull", "--max-flows"},
      {"the table of services", [](Usage& u) { u.tables[0].used = 800; }, "ServiceTableNearlyFull", "--max-services"},
      {"the table of backends", [](Usage& u) { u.tables[1].used = 800; }, "ServiceTableNearlyFull", "--max-backends"},
      {"the table of slots", [](Usage& u) { u.tables[2].used = 800; }, "ServiceTableNearlyFull", "--max-slots"},
      {"source ports from 10.0.0.1 to 10.1.0.7:8080 (TCP)", [](Usage& u) { u.nat_ports = {ports(800)}; },
       "SourcePortsNearlyUsed", "--nat-ports"},
  };
  for (const Case& one : cases) {
    Usage usage = empty();
    one.fill(usage);
    const auto found = find_shortages(usage, {});
    ASSERT_THAT(found, SizeIs(1)) << one.what;
    EXPECT_EQ(found[0].what, one.what);
    const Condition condition = capacity_condition(found);
    EXPECT_FALSE(condition.status);
    EXPECT_EQ(condition.reason, one.reason);
    EXPECT_THAT(condition.message, HasSubstr(std::string(one.what) + ": 80 % of 1000"));
    EXPECT_THAT(condition.message, HasSubstr(one.way_out));
  }
}

TEST(Capacity, ServiceThatHasNearlyItsShareIsNamedThoughTheTableHasRoom) {
  Usage usage = empty();
  usage.flows_ipv4.established = 600;
  usage.shares = {{"s/http", false, 600, 800}, {"s/other", true, 10, 0}};
  EXPECT_THAT(find_shortages(usage, {}), SizeIs(1)) << "three quarters are not four fifths";
  usage.shares[0].flows = 640;
  const auto found = find_shortages(usage, {});
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_EQ(found[0].what, "the share of s/http in established IPv4 flows");
  EXPECT_EQ(found[1].percent, 100U) << "one that may have nothing";
  const Condition condition = capacity_condition(found);
  EXPECT_EQ(condition.reason, "FlowShareNearlyUsed");
  EXPECT_THAT(condition.message, HasSubstr("IPv4 flows: 80 % or more are in use: raise --max-flows"));
  usage.shares[0].most = 795;
  EXPECT_EQ(find_shortages(usage, found), found) << "what it may have changes all the time";
}

TEST(Capacity, WhatWasNamedStaysSoUntilThereIsRoomAgain) {
  Usage usage = empty();
  usage.tables[0].used = 800;
  auto found = find_shortages(usage, {});
  usage.tables[0].used = 750;
  found = find_shortages(usage, found);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].percent, 75U);
  usage.tables[0].used = 749;
  EXPECT_THAT(find_shortages(usage, found), IsEmpty());
}

TEST(Capacity, MessageDoesNotChangeWithEachFlow) {
  Usage usage = empty();
  usage.flows_ipv4.established = 801;
  const auto first = find_shortages(usage, {});
  usage.flows_ipv4.established = 849;
  EXPECT_EQ(find_shortages(usage, first), first);
  usage.flows_ipv4.established = 850;
  EXPECT_NE(find_shortages(usage, first), first);
}

TEST(Capacity, OfManyAFewAreNamed) {
  Usage usage = empty();
  for (uint16_t port = 1; port <= 9; ++port) {
    usage.nat_ports.push_back(ports(1000));
    usage.nat_ports.back().port = port;
  }
  const Condition condition = capacity_condition(find_shortages(usage, {}));
  EXPECT_THAT(condition.message, HasSubstr("10.1.0.7:4 (TCP): 100 %"));
  EXPECT_THAT(condition.message, Not(HasSubstr("10.1.0.7:5 (TCP)")));
  EXPECT_THAT(condition.message, HasSubstr("and 5 more"));
}

TEST(Capacity, BeforeAnythingIsKnownNothingIsShort) {
  EXPECT_THAT(find_shortages({}, {}), IsEmpty());
}

}  // namespace
}  // namespace sluice::agent::health
