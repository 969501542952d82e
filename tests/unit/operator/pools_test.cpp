// Which pools may be given out from, and how they are counted.
#include "operator/ipam/pools.h"

#include <gtest/gtest.h>

#include "tests/unit/operator/builders.h"

namespace sluice::ipam {
namespace {

using test::Json;

class PoolCheck : public ::testing::Test {
 protected:
  void put(Json object) { ASSERT_TRUE(cluster_.upsert(test::shared(std::move(object)))); }
  Pools check(const KnownRanges& told = {}) { return {cluster_.pools, reserved_ranges(cluster_, told)}; }
  resources::ClusterState cluster_;
};

net::Prefix prefix(const std::string& text) {
  return *net::Prefix::parse(text);
}

TEST_F(PoolCheck, WhatOverlapsIsRefusedAndNamed) {
  put(test::node("node1", "192.0.2.11", {{"spec", {{"podCIDRs", {"10.244.1.0/24"}}}}}));
  put({{"kind", "ServiceCIDR"}, {"metadata", {{"name", "kubernetes"}}}, {"spec", {{"cidrs", {"10.96.0.0/16"}}}}});
  struct Case {
    std::vector<std::string> addresses;
    std::string overlap;  // empty: ready
  };
  const std::vector<Case> cases = {
      {{"192.0.2.64/26"}, ""},
      {{"192.0.2.0/24"}, "192.0.2.0/24 overlaps the InternalIP of node node1"},
      {{"198.51.100.0/24", "192.0.2.11"}, "192.0.2.11 overlaps the InternalIP of node node1"},
      {{"192.0.2.12-192.0.2.20"}, ""},
      {{"10.244.1.255-10.244.2.0"}, "10.244.1.255-10.244.2.0 overlaps the pod range 10.244.1.0/24 of node node1"},
      {{"10.240.0.0/12"}, "overlaps the pod range"},
      {{"10.96.255.0/24"}, "10.96.255.0/24 overlaps the Services' range 10.96.0.0/16"},
      {{"172.20.5.0/24"}, "172.20.5.0/24 overlaps the pod range 172.20.0.0/16"},
      {{"127.0.0.1"}, "overlaps 127.0.0.0/8, not for hosts"},
      {{"224.0.0.1-224.0.0.9"}, "overlaps 224.0.0.0/4"},
      {{"fe80::/64"}, "overlaps fe80::/10"},
      {{"2001:db8::/64", "192.0.2.64/26"}, ""},
      {{"192.0.2.64/26", "192.0.2.100-192.0.2.102"}, "192.0.2.64/26 and 192.0.2.100-192.0.2.102 overlap"},
      {{"192.0.2.65/26"}, "spec.addresses[0] 192.0.2.65/26"},
      {{"192.0.2.9-192.0.2.5"}, "spec.addresses[0]"},
      {{}, "spec.addresses is empty"},
  };
  for (const Case& c : cases) {
    put(test::pool("public", c.addresses));
    const Pools pools = check({{prefix("172.20.0.0/16")}, {}});
    const Pool& pool = *pools.find("public");
    EXPECT_EQ(pool.ready, c.overlap.empty()) << pool.message;
    EXPECT_NE(pool.message.find(c.overlap), std::string::npos) << pool.message;
  }
}

TEST_F(PoolCheck, OfTwoPoolsThatOverlapTheYoungerIsRefused) {
  Json older = test::pool("z-older", {"192.0.2.0/24"});
  Json younger = test::pool("a-younger", {"192.0.2.128-192.0.3.5"});
  older["metadata"]["creationTimestamp"] = test::created(1);
  younger["metadata"]["creationTimestamp"] = test::created(2);
  put(older);
  put(younger);
  const Pools pools = check();
  EXPECT_TRUE(pools.find("z-older")->ready);
  EXPECT_EQ(pools.find("a-younger")->reason, "Overlap");
  EXPECT_EQ(
      pools.find("a-younger")->message,
      "192.0.2.128-192.0.3.5 overlaps 192.0.2.0/24 of AddressPool z-older; no new addresses are given out from this "
      "pool, those in use stay");
}

TEST_F(PoolCheck, OneThatOverlapsOnlyARefusedPoolIsReady) {
  put(test::pool("a", {"192.0.2.0/28"}));
  put(test::pool("b", {"192.0.2.0/24"}));
  put(test::pool("c", {"192.0.2.128/25"}));
  const Pools pools = check();
  EXPECT_FALSE(pools.find("b")->ready);
  EXPECT_TRUE(pools.find("c")->ready);
}

TEST_F(PoolCheck, ClusterIPsAreReservedWhereTheRangeIsNotKnown) {
  put(test::service("shop", "web"));
  put(test::pool("public", {"10.96.0.0/24"}));
  EXPECT_EQ(check().find("public")->reason, "Overlap");
}

TEST_F(PoolCheck, WhatIsNotBuiltIsRefusedByName) {
  struct Case {
    std::vector<std::string> addresses;
    Json spec;
    std::string message;
  };
  const std::vector<Case> cases = {
      {{"192.0.2.0/24"},
       {{"announcements", {{{"name", "tor"}, {"type", "BGP"}}}}},
       "spec.announcements[tor].type BGP is not supported yet"},
      {{"192.0.2.0/24"},
       {{"allowCrossNamespaceSharing", true}},
       "spec.allowCrossNamespaceSharing is not supported yet"},
  };
  for (const Case& c : cases) {
    put(test::pool("public", c.addresses, c.spec));
    const Pools pools = check();
    EXPECT_FALSE(pools.find("public")->ready);
    EXPECT_EQ(pools.find("public")->reason, "NotSupported");
    EXPECT_NE(pools.find("public")->message.find(c.message), std::string::npos) << pools.find("public")->message;
  }
  put(test::pool("public", {"192.0.2.0/24"}, {{"allowCrossNamespaceSharing", false}}));
  EXPECT_TRUE(check().find("public")->ready) << "the default asks for nothing";
}

TEST_F(PoolCheck, AddressesFindTheirPool) {
  put(test::pool("a", {"192.0.2.0/28", "2001:db8::/120"}));
  put(test::pool("b", {"192.0.2.16"}));
  put(test::pool("c", {"192.0.2.17", "nonsense"}));
  const Pools pools = check();
  const auto name = [&](const char* address) {
    const Pool* found = pools.pool_of(test::ip(address));
    return found == nullptr ? std::string() : found->name;
  };
  EXPECT_EQ(name("192.0.2.0"), "a");
  EXPECT_EQ(name("192.0.2.15"), "a");
  EXPECT_EQ(name("192.0.2.16"), "b");
  EXPECT_EQ(name("192.0.2.17"), "");
  EXPECT_EQ(name("192.0.1.255"), "");
  EXPECT_EQ(name("2001:db8::ff"), "a");
  EXPECT_EQ(name("2001:db8::100"), "");
  EXPECT_EQ(pools.unready_pool_of(test::ip("192.0.2.17"))->name, "c");
}

TEST_F(PoolCheck, UsageIsCountedInDecimalOfAnySize) {
  put(test::pool("a", {"192.0.2.0/24", "198.51.100.10-198.51.100.20", "2001:db8::/64", "2001:db8:1::/64"}));
  put(test::claim("192.0.2.7", "a", {}));
  put(test::claim("198.51.100.20", "elsewhere", {}));
  put(test::claim("203.0.113.1", "a", {}));
  const auto used = usage(check(), cluster_.claims).at("a");
  EXPECT_EQ(used.ipv4_total, "267");
  EXPECT_EQ(used.ipv4_assigned, "2");
  EXPECT_EQ(used.ipv6_total, "36893488147419103232");
  EXPECT_EQ(used.ipv6_assigned, "0");
}

}  // namespace
}  // namespace sluice::ipam
