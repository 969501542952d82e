// Who gets which address: each test one rule, most as tables.
#include "operator/ipam/allocator.h"

#include <gtest/gtest.h>

#include <ctime>

#include "operator/planner/requests.h"
#include "tests/unit/operator/builders.h"

namespace sluice::ipam {
namespace {

using resources::ClusterState;
using resources::Owner;
using test::created;
using test::ip;
using test::Json;
using test::lb_owner;
using test::service_owner;

// A cluster on which the allocator runs and whose claims it writes.
class Allocate : public ::testing::Test {
 protected:
  void put(Json object) { ASSERT_TRUE(cluster_.upsert(test::shared(std::move(object)))); }
  void erase(const std::string& kind, const std::string& ns, const std::string& name) {
    cluster_.erase(kind, {ns, name});
  }

  Outcome allocate() {
    const Pools pools(cluster_.pools, reserved_ranges(cluster_, {}));
    const auto requests = planner::make_requests(cluster_, previous_, {});
    return ipam::allocate({pools, cluster_.claims, cluster_.namespaces, requests, busy_});
  }
  // Allocates and writes claims as the API server would, until nothing is left to write.
  Outcome settle() {
    for (int round = 0; round < 10; ++round) {
      Outcome out = allocate();
      if (out.writes.create.empty() && out.writes.update.empty() && out.writes.remove.empty()) return out;
      for (const auto* list : {&out.writes.create, &out.writes.update}) {
        for (const resources::AddressClaim& written : *list) put(resources::claim_object(written));
      }
      for (const resources::AddressClaim& gone : out.writes.remove) erase("AddressClaim", "", gone.meta.key.name);
    }
    ADD_FAILURE() << "claims do not settle";
    return {};
  }
  static std::string held(const Outcome& outcome, const Owner& owner) {
    std::string out;
    for (const Allocation& a : outcome.decisions.at(owner).held)
      out += (out.empty() ? "" : ",") + a.address.to_string();
    return out;
  }
  std::string held(const Owner& owner) { return held(settle(), owner); }
  std::string reason(const Owner& owner) { return settle().decisions.at(owner).reason; }
  std::string message(const Owner& owner) { return settle().decisions.at(owner).message; }

  ClusterState cluster_;
  state::DesiredState previous_;
  std::set<net::IpAddress> busy_;
  Owner web_ = service_owner("shop", "web");
  Owner api_ = service_owner("shop", "api");
};

Json at(int second) {
  return {{"metadata", {{"creationTimestamp", created(second)}}}};
}
Json wants(const std::string& address, int second = 0) {
  return {{"metadata", {{"creationTimestamp", created(second)}, {"annotations", {{"sluice.io/addresses", address}}}}}};
}
Json from(const std::string& pools) {
  return {{"metadata", {{"annotations", {{"sluice.io/address-pools", pools}}}}}};
}

TEST_F(Allocate, TheLowestFreeAddressOfThePool) {
  put(test::pool("public", {"192.0.2.10-192.0.2.20"}));
  put(test::service("shop", "web"));
  put(test::service("shop", "api", at(1)));
  EXPECT_EQ(held(web_), "192.0.2.10");
  EXPECT_EQ(held(api_), "192.0.2.11");
}

TEST_F(Allocate, AnAddressIsHeldOnlyOnceItsClaimExists) {
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::service("shop", "web"));
  const Outcome first = allocate();
  EXPECT_TRUE(first.decisions.at(web_).held.empty());
  EXPECT_EQ(first.decisions.at(web_).reason, "Claiming");
  ASSERT_EQ(first.writes.create.size(), 1U);
  EXPECT_EQ(first.writes.create[0].meta.key.name, "192.0.2.0");
  EXPECT_EQ(first.writes.create[0].pool, "public");
  EXPECT_EQ(first.writes.create[0].owners[0].owner, web_);
  EXPECT_EQ(first.writes.create[0].owners[0].ports, (std::vector<resources::ClaimPort>{{80, "TCP"}}));
}

TEST_F(Allocate, NoClaimBeforeTheFinalizer) {
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::service("shop", "web", {{"metadata", {{"finalizers", nullptr}}}}));
  const Outcome out = allocate();
  EXPECT_TRUE(out.writes.create.empty());
  EXPECT_EQ(out.decisions.at(web_).reason, "Claiming");
}

TEST_F(Allocate, OlderFirstThenNamespaceThenName) {
  put(test::pool("public", {"192.0.2.1-192.0.2.4"}));
  put(test::service("b", "x", at(5)));
  put(test::service("a", "y", at(5)));
  put(test::service("a", "x", at(5)));
  put(test::service("z", "z", at(1)));
  const Outcome out = settle();
  EXPECT_EQ(held(out, service_owner("z", "z")), "192.0.2.1");
  EXPECT_EQ(held(out, service_owner("a", "x")), "192.0.2.2");
  EXPECT_EQ(held(out, service_owner("a", "y")), "192.0.2.3");
  EXPECT_EQ(held(out, service_owner("b", "x")), "192.0.2.4");
}

TEST_F(Allocate, PoolsByPriorityThenName) {
  put(test::pool("c", {"192.0.2.0/28"}, {{"priority", 5}}));
  put(test::pool("b", {"198.51.100.0/28"}, {{"priority", 1}}));
  put(test::pool("a", {"203.0.113.0/28"}, {{"priority", 1}}));
  put(test::service("shop", "web"));
  EXPECT_EQ(held(web_), "203.0.113.0");
}

TEST_F(Allocate, TheNextPoolWhenOneIsFull) {
  put(test::pool("a", {"192.0.2.1"}));
  put(test::pool("b", {"198.51.100.1"}));
  put(test::service("shop", "web"));
  put(test::service("shop", "api", at(1)));
  EXPECT_EQ(held(api_), "198.51.100.1");
}

TEST_F(Allocate, APoolWithoutAutoAssignOnlyByName) {
  put(test::pool("quiet", {"192.0.2.0/24"}, {{"autoAssign", false}}));
  put(test::service("shop", "web"));
  put(test::service("shop", "api", from("quiet")));
  EXPECT_EQ(reason(web_), "NoPool");
  EXPECT_EQ(message(web_), "AddressPool quiet: autoAssign is false, it must be asked for by name");
  EXPECT_EQ(held(api_), "192.0.2.0");
}

TEST_F(Allocate, APoolWithoutAutoAssignByAddress) {
  put(test::pool("quiet", {"192.0.2.0/24"}, {{"autoAssign", false}}));
  put(test::service("shop", "web", wants("192.0.2.77")));
  EXPECT_EQ(held(web_), "192.0.2.77");
}

TEST_F(Allocate, NamedPoolsInTheirOrder) {
  put(test::pool("a", {"192.0.2.1"}));
  put(test::pool("b", {"198.51.100.1"}));
  put(test::load_balancer("shop", "lb", {{"addressPools", {"b", "a"}}}));
  put(test::load_balancer("shop", "second", {{"addressPools", {"b", "a"}}}, at(1)));
  EXPECT_EQ(held(lb_owner("shop", "lb")), "198.51.100.1");
  EXPECT_EQ(held(lb_owner("shop", "second")), "192.0.2.1");
}

TEST_F(Allocate, WhatIsWrongWithANamedPoolIsSaid) {
  put(test::pool("a", {"127.0.0.0/24"}));
  put(test::service("shop", "web", from("a")));
  put(test::service("shop", "api", from("lan")));
  EXPECT_EQ(reason(web_), "PoolNotReady");
  EXPECT_EQ(reason(api_), "NoSuchPool");
  EXPECT_EQ(message(api_), "AddressPool lan does not exist");
}

TEST_F(Allocate, NoPoolAtAllSaysWhatToDo) {
  put(test::service("shop", "web"));
  EXPECT_EQ(reason(web_), "NoPool");
  EXPECT_EQ(message(web_), "there is no AddressPool; create one with the addresses that may be used");
}

TEST_F(Allocate, AnExhaustedPoolSaysSoWithCounts) {
  put(test::pool("public", {"192.0.2.1-192.0.2.2"}));
  for (int i = 0; i < 3; ++i) put(test::service("shop", "s" + std::to_string(i), at(i)));
  EXPECT_EQ(reason(service_owner("shop", "s2")), "PoolExhausted");
  EXPECT_EQ(
      message(service_owner("shop", "s2")),
      "AddressPool public is exhausted: 2 of 2 IPv4 addresses are in use; add addresses to it or name another pool");
}

TEST_F(Allocate, APoolOfTheOtherFamilyHasNothingToGive) {
  put(test::pool("six", {"2001:db8::/64"}));
  put(test::service("shop", "web"));
  EXPECT_EQ(reason(web_), "NoPool");
  EXPECT_EQ(message(web_), "AddressPool six has no IPv4 addresses");
}

// --- address families

Json families(const Json& list, const char* policy, const std::string& address = "") {
  Json out = {{"spec", {{"ipFamilies", list}, {"ipFamilyPolicy", policy}}}};
  if (!address.empty()) out["metadata"]["annotations"]["sluice.io/addresses"] = address;
  return out;
}
const Json kBoth = {"IPv4", "IPv6"};

TEST_F(Allocate, OneAddressOfEachFamilyTheLeadingOneFirst) {
  put(test::pool("public", {"192.0.2.1-192.0.2.9", "2001:db8::/64"}));
  put(test::service("shop", "web", families(kBoth, "RequireDualStack")));
  put(test::service("shop", "api", families({"IPv6", "IPv4"}, "PreferDualStack")));
  put(test::service("shop", "six", families({"IPv6"}, "SingleStack")));
  const Outcome out = settle();
  EXPECT_EQ(held(out, web_), "192.0.2.2,2001:db8::3") << "of equal age by name";
  EXPECT_EQ(held(out, api_), "2001:db8::1,192.0.2.1");
  EXPECT_EQ(held(out, service_owner("shop", "six")), "2001:db8::2");
  EXPECT_TRUE(out.decisions.at(web_).complete());
  EXPECT_EQ(out.decisions.at(web_).message, "192.0.2.2 from AddressPool public, 2001:db8::3 from AddressPool public");
}

TEST_F(Allocate, TheAddressOfASubnetsRoutersIsNotGivenOut) {
  put(test::pool("public", {"2001:db8::/127", "2001:db8:1::/120"}));
  put(test::service("shop", "web", families({"IPv6"}, "SingleStack")));
  put(test::service("shop", "api", families({"IPv6"}, "SingleStack")));
  EXPECT_EQ(held(api_), "2001:db8::1");
  EXPECT_EQ(held(web_), "2001:db8:1::1");
}

TEST_F(Allocate, EachFamilyFromItsOwnPool) {
  put(test::pool("four", {"192.0.2.0/28"}, {{"autoAssign", false}}));
  put(test::pool("six", {"2001:db8::/120"}, {{"autoAssign", false}}));
  Json asked = families(kBoth, "RequireDualStack");
  asked["metadata"]["annotations"]["sluice.io/address-pools"] = "six,four";
  put(test::service("shop", "web", asked));
  EXPECT_EQ(held(web_), "192.0.2.0,2001:db8::1");
}

TEST_F(Allocate, RequireDualStackIsBothOrNone) {
  put(test::pool("public", {"192.0.2.1"}));
  put(test::service("shop", "web", families(kBoth, "RequireDualStack")));
  put(test::service("shop", "zzz", at(5)));
  const Outcome first = allocate();
  EXPECT_EQ(first.decisions.at(web_).reason, "NoPool");
  EXPECT_EQ(first.decisions.at(web_).message, "AddressPool public has no IPv6 addresses");
  EXPECT_TRUE(first.decisions.at(web_).claiming.empty());
  EXPECT_EQ(held(web_), "");
  EXPECT_EQ(held(service_owner("shop", "zzz")), "192.0.2.1") << "what it does not take is free for others";
}

TEST_F(Allocate, PreferDualStackTakesWhatThereIs) {
  put(test::pool("public", {"192.0.2.1-192.0.2.9"}));
  put(test::service("shop", "web", families(kBoth, "PreferDualStack")));
  EXPECT_EQ(held(web_), "192.0.2.1");
  EXPECT_EQ(reason(web_), "Allocated");
  erase("AddressPool", "", "public");
  put(test::pool("six", {"2001:db8::/120"}));
  EXPECT_EQ(held(web_), "192.0.2.1,2001:db8::1") << "what it has stays, and what can be had now is added";
  erase("AddressPool", "", "six");
  put(test::service("shop", "api", families(kBoth, "PreferDualStack")));
  EXPECT_EQ(reason(api_), "NoPool") << "one of them is needed";
}

TEST_F(Allocate, AWantedAddressOfOneFamilyAndAnyOfTheOther) {
  put(test::pool("public", {"192.0.2.1-192.0.2.9", "2001:db8::/120"}));
  put(test::service("shop", "web", families(kBoth, "RequireDualStack", "192.0.2.7")));
  put(test::service("shop", "api", families(kBoth, "RequireDualStack", "2001:db8::7")));
  const Outcome out = settle();
  EXPECT_EQ(held(out, web_), "192.0.2.7,2001:db8::1");
  EXPECT_EQ(held(out, api_), "2001:db8::7,192.0.2.1");
}

TEST_F(Allocate, OneThatGoesBackToASingleStackGivesTheOtherAddressBack) {
  put(test::pool("public", {"192.0.2.1-192.0.2.9", "2001:db8::/120"}));
  put(test::service("shop", "web", families(kBoth, "RequireDualStack")));
  ASSERT_EQ(held(web_), "192.0.2.1,2001:db8::1");
  put(test::service("shop", "web"));
  EXPECT_EQ(held(web_), "192.0.2.1");
  EXPECT_FALSE(cluster_.claims.contains(resources::claim_name(ip("2001:db8::1"))));
}

TEST_F(Allocate, ALostClaimOfOneFamilyIsMadeAgain) {
  put(test::pool("public", {"192.0.2.1-192.0.2.9", "2001:db8::/120"}));
  put(test::service("shop", "web", families(kBoth, "RequireDualStack")));
  ASSERT_EQ(held(web_), "192.0.2.1,2001:db8::1");
  state::Service six;
  six.id = "Service/shop/web/http/IPv6";
  six.addresses = {ip("2001:db8::1")};
  previous_.services.emplace(six.id, six);
  busy_ = {ip("2001:db8::1")};
  erase("AddressClaim", "", resources::claim_name(ip("2001:db8::1")));
  EXPECT_EQ(held(web_), "192.0.2.1,2001:db8::1");
}

TEST_F(Allocate, ALoadBalancersFamilyIsTheClustersUnlessItSaysOtherwise) {
  put(test::pool("public", {"192.0.2.1-192.0.2.9", "2001:db8::/120"}));
  const auto lb_held = [this](const Json& spec) {
    put(test::load_balancer("shop", "lb", spec));
    const std::string out = held(lb_owner("shop", "lb"));
    erase("LoadBalancer", "shop", "lb");
    settle();
    return out;
  };
  EXPECT_EQ(lb_held(Json::object()), "192.0.2.1");
  EXPECT_EQ(lb_held({{"ipFamilies", {"IPv6"}}}), "2001:db8::1");
  EXPECT_EQ(lb_held({{"addresses", {"2001:db8::9"}}}), "2001:db8::9");
  EXPECT_EQ(lb_held({{"ipFamilyPolicy", "RequireDualStack"}}), "192.0.2.1,2001:db8::1");
  put(test::service("default", "kubernetes",
                    {{"spec", {{"type", "ClusterIP"}, {"loadBalancerClass", nullptr}, {"ipFamilies", {"IPv6"}}}}}));
  EXPECT_EQ(lb_held(Json::object()), "2001:db8::1");
  EXPECT_EQ(lb_held({{"ipFamilyPolicy", "PreferDualStack"}}), "2001:db8::1,192.0.2.1");
  EXPECT_EQ(lb_held({{"ipFamilyPolicy", "PreferDualStack"}, {"ipFamilies", {"IPv4", "IPv6"}}}),
            "192.0.2.1,2001:db8::1");
}

TEST_F(Allocate, AvoidBuggyIPs) {
  put(test::pool("public", {"192.0.2.254-192.0.3.1"}, {{"avoidBuggyIPs", true}}));
  for (int i = 0; i < 3; ++i) put(test::service("shop", "s" + std::to_string(i), at(i)));
  put(test::service("shop", "web", wants("192.0.3.0", 9)));
  EXPECT_EQ(held(service_owner("shop", "s0")), "192.0.2.254");
  EXPECT_EQ(held(service_owner("shop", "s1")), "192.0.3.1");
  EXPECT_EQ(reason(service_owner("shop", "s2")), "PoolExhausted");
  EXPECT_EQ(reason(web_), "NotAdmitted");
}

TEST_F(Allocate, SelectorsDecideWhoIsAdmitted) {
  put(test::name_space("shop", {{"tier", "gold"}}));
  put(test::name_space("dev"));
  put(test::pool(
      "gold", {"192.0.2.0/24"},
      {{"namespaceSelector", {{"matchLabels", {{"tier", "gold"}}}}},
       {"serviceSelector", {{"matchExpressions", {{{"key", "app"}, {"operator", "In"}, {"values", {"web"}}}}}}}}));
  put(test::service("shop", "web", {{"metadata", {{"labels", {{"app", "web"}}}}}}));
  put(test::service("shop", "api"));
  put(test::service("dev", "web", {{"metadata", {{"labels", {{"app", "web"}}}}}}));
  EXPECT_EQ(held(web_), "192.0.2.0");
  EXPECT_EQ(message(api_),
            "AddressPool gold: its serviceSelector (app in (web)) does not match the labels of shop/api");
  EXPECT_EQ(message(service_owner("dev", "web")),
            "AddressPool gold: its namespaceSelector (tier=gold) does not match namespace dev");
}

TEST_F(Allocate, AWantedAddressMustLieInAPoolThatAdmits) {
  put(test::pool("gold", {"192.0.2.0/24"}, {{"namespaceSelector", {{"matchLabels", {{"tier", "gold"}}}}}}));
  put(test::pool("other", {"203.0.113.0/24"}));
  put(test::service("shop", "web", wants("192.0.2.7")));
  put(test::service("shop", "api", wants("198.51.100.1")));
  Json both = wants("203.0.113.1");
  both.merge_patch(from("gold"));
  put(test::service("shop", "third", both));
  EXPECT_EQ(reason(web_), "NotAdmitted");
  EXPECT_EQ(reason(api_), "AddressNotInPool");
  EXPECT_EQ(message(api_), "198.51.100.1 is in no AddressPool; add it to one");
  EXPECT_EQ(message(service_owner("shop", "third")),
            "203.0.113.1 is in AddressPool other, which is not among the pools asked for");
}

TEST_F(Allocate, AWantedAddressComesBeforeAnyAutomaticOne) {
  put(test::pool("public", {"192.0.2.1-192.0.2.3"}));
  put(test::service("shop", "api", at(0)));
  put(test::service("shop", "web", wants("192.0.2.1", 9)));
  EXPECT_EQ(held(web_), "192.0.2.1");
  EXPECT_EQ(held(api_), "192.0.2.2");
}

TEST_F(Allocate, OfTwoThatWantAnAddressTheOlderHasItAndBothAreTold) {
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::service("shop", "web", wants("192.0.2.7", 5)));
  put(test::service("shop", "api", wants("192.0.2.7", 6)));
  const Outcome out = settle();
  EXPECT_EQ(held(out, web_), "192.0.2.7");
  EXPECT_EQ(out.decisions.at(web_).message,
            "192.0.2.7 from AddressPool public; 192.0.2.7 is also asked for by Service shop/api");
  EXPECT_EQ(out.decisions.at(api_).reason, "AddressInUse");
  EXPECT_EQ(out.decisions.at(api_).message, "192.0.2.7 is held by Service shop/web");
}

TEST_F(Allocate, TheIncumbentKeepsAContestedAddress) {
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::service("shop", "web", wants("192.0.2.7", 9)));
  EXPECT_EQ(held(web_), "192.0.2.7");
  put(test::service("shop", "api", wants("192.0.2.7", 1)));
  EXPECT_EQ(held(web_), "192.0.2.7");
  EXPECT_EQ(reason(api_), "AddressInUse");
  erase("Service", "shop", "web");
  EXPECT_EQ(held(api_), "192.0.2.7");
}

TEST_F(Allocate, SeveralAddressesOfALoadBalancerInTheirOrder) {
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::load_balancer("shop", "lb", {{"addresses", {"192.0.2.9", "192.0.2.3"}}}));
  EXPECT_EQ(held(lb_owner("shop", "lb")), "192.0.2.9,192.0.2.3");
}

TEST_F(Allocate, WhatCanBeHadIsHeldWhileTheRestIsMissing) {
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::service("shop", "web", wants("192.0.2.3")));
  settle();
  put(test::load_balancer("shop", "lb", {{"addresses", {"192.0.2.9", "192.0.2.3"}}}));
  const Outcome out = settle();
  EXPECT_EQ(held(out, lb_owner("shop", "lb")), "192.0.2.9");
  EXPECT_EQ(out.decisions.at(lb_owner("shop", "lb")).reason, "AddressInUse");
}

struct PoolEdit {
  const char* what;
  std::vector<Json> pools;
};

TEST_F(Allocate, AnAddressInUseNeverMovesBecauseOfItsPool) {
  const std::vector<PoolEdit> edits = {
      {"pool removed", {}},
      {"pool shrunk", {test::pool("public", {"192.0.2.128/25"})}},
      {"pool moved", {test::pool("public", {"198.51.100.0/24"})}},
      {"not auto-assigning", {test::pool("public", {"192.0.2.0/24"}, {{"autoAssign", false}})}},
      {"admits others only",
       {test::pool("public", {"192.0.2.0/24"}, {{"namespaceSelector", {{"matchLabels", {{"a", "b"}}}}}})}},
      {"avoids it", {test::pool("public", {"192.0.2.0/24"}, {{"avoidBuggyIPs", true}})}},
      {"broken", {test::pool("public", {"nonsense"})}},
      {"overlapping", {test::pool("public", {"192.0.2.0/24"}), test::pool("a", {"192.0.2.0/28"})}},
      {"a better one",
       {test::pool("public", {"192.0.2.0/24"}), test::pool("a", {"203.0.113.0/24"}, {{"priority", -1}})}},
  };
  for (const PoolEdit& edit : edits) {
    SCOPED_TRACE(edit.what);
    cluster_ = {};
    put(test::pool("public", {"192.0.2.0/24"}));
    put(test::service("shop", "web"));
    ASSERT_EQ(held(web_), "192.0.2.0");
    erase("AddressPool", "", "public");
    for (const Json& pool : edit.pools) put(pool);
    EXPECT_EQ(held(web_), "192.0.2.0");
    EXPECT_EQ(reason(web_), "Allocated");
  }
}

TEST_F(Allocate, AnOwnerThatAsksForAnotherAddressGetsItAndThenLosesTheOld) {
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::service("shop", "web", wants("192.0.2.7")));
  settle();
  put(test::service("shop", "web", wants("192.0.2.8")));
  const Outcome first = allocate();
  EXPECT_EQ(held(first, web_), "192.0.2.7") << "until the other is held";
  EXPECT_TRUE(first.writes.remove.empty());
  EXPECT_EQ(held(web_), "192.0.2.8");
  EXPECT_FALSE(cluster_.claims.contains("192.0.2.7"));
}

TEST_F(Allocate, AnOwnerThatAsksForWhatItCannotHaveKeepsWhatItHas) {
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::service("shop", "api", wants("192.0.2.8")));
  put(test::service("shop", "web", wants("192.0.2.7")));
  settle();
  put(test::service("shop", "web", wants("192.0.2.8")));
  EXPECT_EQ(held(web_), "192.0.2.7");
  EXPECT_EQ(reason(web_), "AddressInUse");
  EXPECT_EQ(message(web_), "192.0.2.8 is held by Service shop/api; 192.0.2.7 from AddressPool public stays meanwhile");
}

TEST_F(Allocate, AnOwnerThatAsksForAnotherPoolMoves) {
  put(test::pool("a", {"192.0.2.0/24"}));
  put(test::pool("b", {"198.51.100.0/24"}));
  put(test::service("shop", "web"));
  EXPECT_EQ(held(web_), "192.0.2.0");
  put(test::service("shop", "web", from("b")));
  EXPECT_EQ(held(web_), "198.51.100.0");
  put(test::service("shop", "web"));
  EXPECT_EQ(held(web_), "198.51.100.0") << "without a wish it stays";
}

TEST_F(Allocate, ARenamedPoolMovesNothing) {
  put(test::pool("a", {"192.0.2.0/24"}));
  put(test::service("shop", "web", from("a")));
  settle();
  erase("AddressPool", "", "a");
  put(test::pool("b", {"192.0.2.0/24"}));
  put(test::service("shop", "web", from("b")));
  EXPECT_EQ(held(web_), "192.0.2.0");
  EXPECT_EQ(cluster_.claims.at("192.0.2.0")->pool, "b");
}

TEST_F(Allocate, AClaimIsReleasedWithItsLastOwner) {
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::claim("192.0.2.5", "public", {web_, api_}));
  put(test::service("shop", "web"));
  put(test::service("shop", "api"));
  EXPECT_EQ(held(web_), "192.0.2.5");
  EXPECT_EQ(held(api_), "192.0.2.5");
  erase("Service", "shop", "web");
  EXPECT_EQ(held(api_), "192.0.2.5");
  EXPECT_EQ(cluster_.claims.at("192.0.2.5")->owners.size(), 1U);
  erase("Service", "shop", "api");
  settle();
  EXPECT_TRUE(cluster_.claims.empty());
}

TEST_F(Allocate, AnOwnerInDeletionKeepsItsAddressUntilItIsGone) {
  put(test::pool("public", {"192.0.2.1"}));
  put(test::service("shop", "web"));
  settle();
  put(test::service("shop", "web", {{"metadata", {{"deletionTimestamp", created(9)}}}}));
  put(test::service("shop", "api", at(1)));
  EXPECT_EQ(held(web_), "192.0.2.1");
  EXPECT_EQ(reason(api_), "PoolExhausted");
  erase("Service", "shop", "web");
  EXPECT_EQ(held(api_), "192.0.2.1");
}

TEST_F(Allocate, AnOwnerInDeletionGetsNothingNew) {
  put(test::pool("public", {"192.0.2.1"}));
  put(test::service("shop", "web", {{"metadata", {{"deletionTimestamp", created(9)}}}}));
  EXPECT_EQ(held(web_), "");
  EXPECT_EQ(reason(web_), "NotRequested");
}

TEST_F(Allocate, OneThatIsNotAcceptedKeepsWhatItHasAndGetsNothingNew) {
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::service("shop", "web"));
  settle();
  const Json shared = {{"metadata", {{"annotations", {{"sluice.io/sharing-key", "a"}}}}}};
  put(test::service("shop", "web", shared));
  put(test::service("shop", "api", shared));
  EXPECT_EQ(held(web_), "192.0.2.0");
  EXPECT_EQ(held(api_), "");
}

TEST_F(Allocate, APortThatChangesIsWrittenIntoTheClaim) {
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::service("shop", "web"));
  settle();
  put(test::service("shop", "web", {{"spec", {{"ports", {{{"port", 53}, {"protocol", "UDP"}}}}}}}));
  const Outcome out = allocate();
  ASSERT_EQ(out.writes.update.size(), 1U);
  EXPECT_EQ(out.writes.update[0].owners[0].ports, (std::vector<resources::ClaimPort>{{53, "UDP"}}));
}

TEST_F(Allocate, AnAddressInStatusWithoutAClaimIsAdopted) {
  const Json status = {{"metadata", {{"creationTimestamp", created(9)}}},
                       {"status", {{"loadBalancer", {{"ingress", {{{"ip", "192.0.2.77"}}}}}}}}};
  put(test::pool("public", {"192.0.2.0/24"}, {{"autoAssign", false}}));
  put(test::service("shop", "web", status));
  put(test::service("shop", "api", wants("192.0.2.77", 1)));
  EXPECT_EQ(held(web_), "192.0.2.77") << "it was there first, though the other is older and asks for it";
  EXPECT_EQ(reason(api_), "AddressInUse");
}

TEST_F(Allocate, AnAddressInStatusThatNoPoolHasIsNotAdopted) {
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::service("shop", "web", {{"status", {{"loadBalancer", {{"ingress", {{{"ip", "203.0.113.1"}}}}}}}}}));
  EXPECT_EQ(held(web_), "192.0.2.0");
}

TEST_F(Allocate, AnAddressInStatusOfAPoolThatDoesNotAdmitIsNotAdopted) {
  put(test::pool("gold", {"192.0.2.0/24"}, {{"namespaceSelector", {{"matchLabels", {{"tier", "gold"}}}}}}));
  put(test::pool("public", {"198.51.100.0/24"}));
  put(test::service("shop", "web", {{"status", {{"loadBalancer", {{"ingress", {{{"ip", "192.0.2.1"}}}}}}}}}));
  EXPECT_EQ(held(web_), "198.51.100.0");
}

TEST_F(Allocate, AClaimDeletedByHandIsMadeAgainEvenWithoutItsPool) {
  state::Service programmed;
  programmed.id = "Service/shop/web/http";
  programmed.addresses = {ip("192.0.2.77")};
  previous_.services.emplace(programmed.id, programmed);
  put(test::pool("other", {"198.51.100.0/24"}));
  put(test::service("shop", "web"));
  EXPECT_EQ(held(web_), "192.0.2.77");
}

TEST_F(Allocate, AnAddressStillOnNodesIsNotGivenOutNorItsClaimDeleted) {
  put(test::pool("public", {"192.0.2.1-192.0.2.2"}));
  put(test::service("shop", "web"));
  settle();
  erase("Service", "shop", "web");
  busy_ = {ip("192.0.2.1")};
  put(test::service("shop", "api", wants("192.0.2.1")));
  EXPECT_EQ(reason(api_), "AddressInUse");
  EXPECT_TRUE(cluster_.claims.contains("192.0.2.1"));
  busy_.clear();
  EXPECT_EQ(held(api_), "192.0.2.1");
}

TEST_F(Allocate, MoreThanAskedForIsGivenBackButWhatIsInUse) {
  state::Service programmed;
  programmed.id = "LoadBalancer/shop/lb/http";
  programmed.addresses = {ip("192.0.2.5")};
  previous_.services.emplace(programmed.id, programmed);
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::claim("192.0.2.4", "public", {lb_owner("shop", "lb")}));
  put(test::claim("192.0.2.5", "public", {lb_owner("shop", "lb")}));
  put(test::load_balancer("shop", "lb", Json::object()));
  EXPECT_EQ(held(lb_owner("shop", "lb")), "192.0.2.5");
  EXPECT_FALSE(cluster_.claims.contains("192.0.2.4"));
}

TEST_F(Allocate, WhatAgentsHaveIsKeptThoughItsClaimWasDeletedAndAnotherIsOnItsWayOut) {
  state::Service programmed;
  programmed.id = "LoadBalancer/shop/lb/http";
  programmed.addresses = {ip("192.0.2.5")};
  previous_.services.emplace(programmed.id, programmed);
  busy_ = {ip("192.0.2.4"), ip("192.0.2.5")};
  put(test::pool("public", {"192.0.2.0/24"}));
  put(test::claim("192.0.2.4", "public", {lb_owner("shop", "lb")}));
  put(test::load_balancer("shop", "lb", Json::object()));
  const Outcome out = allocate();
  ASSERT_EQ(out.writes.create.size(), 1U);
  EXPECT_EQ(out.writes.create[0].address, ip("192.0.2.5"));
}

TEST_F(Allocate, ALargePoolWithManyClaimsIsFast) {
  put(test::pool("public", {"11.0.0.0/8"}));
  for (int i = 0; i < 10'000; ++i) put(test::service("shop", "s" + std::to_string(i)));
  const std::clock_t start = std::clock();  // this process's own time: others may have the machine
  Outcome out = allocate();
  ASSERT_EQ(out.writes.create.size(), 10'000U);
  for (const resources::AddressClaim& written : out.writes.create) put(resources::claim_object(written));
  put(test::service("shop", "web"));
  out = allocate();
  EXPECT_EQ(out.decisions.at(web_).claiming[0].address, ip("11.0.39.16"));
  // Far from what a walk over a /8, or over all claims for each request, would take.
  EXPECT_LT((std::clock() - start) / CLOCKS_PER_SEC, 5);
}

}  // namespace
}  // namespace sluice::ipam
