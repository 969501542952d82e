// Both address families: a service of the state for each, with its own addresses and endpoints.
#include <gtest/gtest.h>

#include "tests/unit/operator/planning.h"

namespace sluice::planner {
namespace {

using test::Json;
using test::lb_owner;
using test::service_owner;

class DualStack : public Planning {
 protected:
  DualStack() { world_.put(test::pool("public", {"192.0.2.0/24", "2001:db8::/120"})); }
  static Json both(const char* policy = "RequireDualStack") {
    return {{"spec", {{"ipFamilies", {"IPv4", "IPv6"}}, {"ipFamilyPolicy", policy}}}};
  }
  void put_slices(const std::string& service = "web") {
    world_.put(test::slice("shop", service, {"10.244.1.1", "10.244.1.2"}));
    world_.put(test::slice("shop", service, {"2001:db8:1::1"}, "node1",
                           {{"metadata", {{"name", service + "-six"}}}, {"addressType", "IPv6"}}));
  }
  void add_dual() {
    world_.put(test::service("shop", "web", both()));
    put_slices();
    world_.settle();
  }
  const std::string six_ = web_ + "/IPv6";
};

TEST_F(DualStack, APortIsAServiceForEachFamily) {
  add_dual();
  EXPECT_EQ(world_.state.services.size(), 2U);
  EXPECT_EQ(world_.service(web_).addresses, (std::vector{test::ip("192.0.2.0")}));
  EXPECT_EQ(world_.backends(web_), "10.244.1.1:8080 10.244.1.2:8080");
  EXPECT_EQ(world_.service(six_).addresses, (std::vector{test::ip("2001:db8::1")}));
  EXPECT_EQ(world_.backends(six_), "2001:db8:1::1:8080");
  EXPECT_EQ(world_.service(six_).port, 80);
  EXPECT_TRUE(world_.state.announcements.contains(test::ip("2001:db8::1")));
}

TEST_F(DualStack, StatusHasBothAddresses) {
  add_dual();
  EXPECT_EQ(world_.object("Service", "shop", "web")["status"]["loadBalancer"]["ingress"],
            Json({{{"ip", "192.0.2.0"}, {"ipMode", "VIP"}}, {{"ip", "2001:db8::1"}, {"ipMode", "VIP"}}}));
  EXPECT_EQ(world_.condition("Service", "shop", "web", "sluice.io/Programmed"), "True Programmed");
  EXPECT_EQ(world_.condition("Service", "shop", "web", "sluice.io/Announced"), "True Announced");
  world_.put(test::load_balancer("shop", "lb", {{"ipFamilyPolicy", "PreferDualStack"}}));
  world_.settle();
  const Json status = world_.object("LoadBalancer", "shop", "lb")["status"];
  EXPECT_EQ(status["summary"]["addresses"], "192.0.2.1,2001:db8::2");
  EXPECT_EQ(status["addresses"][1]["address"], "2001:db8::2");
  EXPECT_EQ(status["backends"]["total"], 3);
}

TEST_F(DualStack, IsNotProgrammedBeforeBothAddressesAre) {
  constexpr const char* kClaim = "2001-0db8-0000-0000-0000-0000-0000-0001";
  world_.put(test::service("shop", "web", both()));
  put_slices();
  // Two claims are two writes: the other one is seen first.
  for (int i = 0; i < 5; ++i) {
    world_.round();
    if (world_.has("AddressClaim", "", kClaim)) world_.erase("AddressClaim", "", kClaim);
    world_.ack_all();
  }
  EXPECT_EQ(world_.state.services.size(), 1U);
  EXPECT_EQ(world_.condition("Service", "shop", "web", "sluice.io/Programmed"), "False Claiming");
  world_.settle();
  EXPECT_EQ(world_.condition("Service", "shop", "web", "sluice.io/Programmed"), "True Programmed");
  const Json before = world_.object("Service", "shop", "web")["status"];
  world_.erase("AddressClaim", "", kClaim);
  world_.round();
  EXPECT_EQ(world_.condition("Service", "shop", "web", "sluice.io/Programmed"), "True Programmed")
      << "it is claimed again, and in the maps all the while";
  world_.settle();
  EXPECT_EQ(world_.object("Service", "shop", "web")["status"]["loadBalancer"], before["loadBalancer"]);
}

TEST_F(DualStack, AnIPv6ServiceAloneIsOneService) {
  world_.put(test::service("shop", "web", {{"spec", {{"ipFamilies", {"IPv6"}}, {"ipFamilyPolicy", "SingleStack"}}}}));
  put_slices();
  world_.settle();
  EXPECT_EQ(world_.state.services.size(), 1U);
  EXPECT_EQ(world_.backends(six_), "2001:db8:1::1:8080");
}

TEST_F(DualStack, OneThatBecomesDualKeepsItsFirstAddressAndHistory) {
  world_.put(test::service("shop", "web"));
  put_slices();
  world_.settle();
  const state::Service before = world_.service(web_);
  world_.edit("Service", "shop", "web", both());
  world_.settle();
  EXPECT_EQ(world_.service(web_), before);
  EXPECT_EQ(world_.service(six_).addresses, (std::vector{test::ip("2001:db8::1")}));
}

TEST_F(DualStack, OneThatGoesBackToASingleStackLosesTheOther) {
  add_dual();
  world_.edit("Service", "shop", "web", {{"spec", {{"ipFamilies", {"IPv4"}}, {"ipFamilyPolicy", "SingleStack"}}}});
  world_.settle();
  EXPECT_TRUE(world_.state.services.contains(web_));
  EXPECT_FALSE(world_.state.services.contains(six_));
  EXPECT_FALSE(world_.has("AddressClaim", "", "2001-0db8-0000-0000-0000-0000-0000-0001"));
  EXPECT_EQ(world_.object("Service", "shop", "web")["status"]["loadBalancer"]["ingress"],
            Json({{{"ip", "192.0.2.0"}, {"ipMode", "VIP"}}}));
}

TEST_F(DualStack, InForceStaysWithBothFamiliesAndFollowsItsPods) {
  add_dual();
  world_.edit("Service", "shop", "web", {{"metadata", {{"annotations", {{"sluice.io/sharing-key", "a"}}}}}});
  const state::DesiredState before = world_.state;
  world_.settle();
  EXPECT_EQ(world_.state, before);
  world_.put(test::slice("shop", "web", {"2001:db8:1::1", "2001:db8:1::2"}, "node1",
                         {{"metadata", {{"name", "web-six"}}}, {"addressType", "IPv6"}}));
  world_.settle();
  EXPECT_EQ(world_.backends(six_), "2001:db8:1::1:8080 2001:db8:1::2:8080");
  EXPECT_EQ(world_.service(web_), before.services.at(web_));
}

TEST_F(DualStack, AFamilyThatABackendsServiceLacksIsSaid) {
  world_.put(test::service("shop", "web"));
  put_slices();
  world_.put(test::load_balancer("shop", "lb", {{"ipFamilyPolicy", "RequireDualStack"}}));
  const Round round = world_.settle();
  const Finding& found = round.plan.objects.at(lb_owner("shop", "lb")).backends_resolved;
  EXPECT_EQ(found.reason, "FamilyMismatch");
  EXPECT_EQ(found.message,
            "spec.backends[v1]: Service shop/web has no IPv6 endpoints; set its ipFamilyPolicy to PreferDualStack");
  EXPECT_EQ(world_.backends("LoadBalancer/shop/lb/http"), "10.244.1.1:8080 10.244.1.2:8080");
  EXPECT_EQ(world_.backends("LoadBalancer/shop/lb/http/IPv6"), "");
}

TEST_F(DualStack, AServicesAddressesOfBothFamiliesAreTakenFromTheAnnotation) {
  Json asked = both();
  asked["metadata"]["annotations"]["sluice.io/addresses"] = "2001:db8::aa, 192.0.2.77";
  world_.put(test::service("shop", "web", asked));
  world_.settle();
  EXPECT_EQ(world_.service(web_).addresses, (std::vector{test::ip("192.0.2.77")}));
  EXPECT_EQ(world_.service(six_).addresses, (std::vector{test::ip("2001:db8::aa")}));
}

TEST_F(DualStack, AllOfADeletedOnesAddressesAreGivenBack) {
  add_dual();
  world_.edit("Service", "shop", "web", {{"metadata", {{"deletionTimestamp", test::created(9)}}}});
  world_.settle();
  EXPECT_TRUE(world_.state.services.empty());
  EXPECT_TRUE(world_.cluster.claims.empty());
  EXPECT_FALSE(world_.has("Service", "shop", "web"));
}

class StaticBackends : public DualStack {
 protected:
  StaticBackends() {
    world_.options.allowed_static_backends = {net::Prefix::parse("198.51.100.0/24").value(),
                                              net::Prefix::parse("10.0.0.0/8").value(),
                                              net::Prefix::parse("2001:db8:9::/48").value()};
  }
  Finding with(const Json& backends, Json spec = Json::object()) {
    // A list of one is taken for its element.
    spec["backends"] = backends.is_array() ? backends : Json::array({backends});
    world_.put(test::load_balancer("shop", "lb", spec));
    return world_.settle().plan.objects.at(lb_owner("shop", "lb")).backends_resolved;
  }
  static Json at(const std::string& address) { return {{"name", "dc"}, {"address", address}}; }
  const std::string lb_ = "LoadBalancer/shop/lb/http";
};

TEST_F(StaticBackends, StandBesideServicesWithTheirOwnShareAndPort) {
  add_web();
  const Finding found = with(
      {{{"name", "v1"}, {"service", {{"name", "web"}}}, {"weight", 9}},
       {{"name", "dc"}, {"address", "198.51.100.7"}, {"weight", 1}, {"ports", {{{"name", "http"}, {"port", 8443}}}}}});
  EXPECT_TRUE(found.good) << found.message;
  EXPECT_EQ(world_.backends(lb_), "10.244.1.1:8080 10.244.1.2:8080 198.51.100.7:8443");
  EXPECT_EQ(world_.service(lb_).groups, (std::vector<state::Group>{{"v1", 9}, {"dc", 1}}));
  EXPECT_EQ(world_.service(lb_).backends.back().node, "");
  const Json status = world_.object("LoadBalancer", "shop", "lb")["status"];
  EXPECT_EQ(status["backends"]["ready"], 3);
}

TEST_F(StaticBackends, ThePortIsTheResourcesUnlessSaid) {
  with({at("198.51.100.7")});
  EXPECT_EQ(world_.backends(lb_), "198.51.100.7:80");
  with({at("198.51.100.7")}, {{"ports", {{{"name", "http"}, {"port", 80}, {"backendPort", 8080}}}}});
  EXPECT_EQ(world_.backends(lb_), "198.51.100.7:8080");
  const Finding named =
      with({at("198.51.100.7")}, {{"ports", {{{"name", "http"}, {"port", 80}, {"backendPort", "web"}}}}});
  EXPECT_EQ(named.reason, "PortNotFound");
  EXPECT_NE(named.message.find("port web (for port http) is a name, which only Services have"), std::string::npos);
}

TEST_F(StaticBackends, OnlyInsideWhatIsAllowedAndNeverTheClustersOwn) {
  world_.put(
      {{"kind", "ServiceCIDR"}, {"metadata", {{"name", "kubernetes"}}}, {"spec", {{"cidrs", {"10.96.0.0/16"}}}}});
  world_.put(test::slice("default", "kubernetes", {"10.0.0.99"}));
  world_.put(test::node("node1", "10.0.0.1", {{"spec", {{"podCIDRs", {"10.244.1.0/24"}}}}}));
  world_.put(test::pool("inner", {"10.9.0.0/24"}));
  world_.options.ranges.pods = {net::Prefix::parse("10.250.0.0/16").value()};
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"203.0.113.1", "203.0.113.1: not in the operator's --allowed-static-backends"},
      {"10.0.0.1", "10.0.0.1: an address of node node1"},
      {"10.0.0.99", "10.0.0.99: the API server's address"},
      {"10.96.0.1", "10.96.0.1: in the Services' range 10.96.0.0/16"},
      {"10.244.1.7", "10.244.1.7: in the pods' range 10.244.1.0/24"},
      {"10.250.0.7", "10.250.0.7: in the pods' range 10.250.0.0/16"},
      {"10.9.0.7", "10.9.0.7: in AddressPool inner"},
      {"127.0.0.1", "127.0.0.1: not a global unicast address"},
      {"169.254.169.254", "169.254.169.254: not a global unicast address"},
  };
  for (const auto& [address, why] : cases) {
    const Finding found = with({at(address)});
    EXPECT_EQ(found.reason, "BackendRefused") << address;
    EXPECT_EQ(found.message, "spec.backends[dc]: " + why);
    EXPECT_EQ(world_.backends(lb_), "") << address;
  }
  EXPECT_TRUE(with({at("10.0.0.2")}).good);
  world_.options.allowed_static_backends.clear();
  EXPECT_EQ(world_.settle().plan.objects.at(lb_owner("shop", "lb")).backends_resolved.reason, "BackendRefused");
  EXPECT_EQ(world_.backends(lb_), "");
}

TEST_F(StaticBackends, AreOfTheirOwnFamily) {
  const Finding found = with({at("198.51.100.7"), {{"name", "six"}, {"address", "2001:db8:9::7"}}},
                             {{"ipFamilyPolicy", "RequireDualStack"}});
  EXPECT_TRUE(found.good) << found.message;
  EXPECT_EQ(world_.backends(lb_), "198.51.100.7:80");
  EXPECT_EQ(world_.backends(lb_ + "/IPv6"), "2001:db8:9::7:80");
}

TEST_F(StaticBackends, AreOnNoNode) {
  const Finding found = with({at("198.51.100.7")}, {{"externalTrafficPolicy", "Local"}});
  EXPECT_EQ(found.reason, "BackendRefused");
  EXPECT_NE(found.message.find("is on no node, and externalTrafficPolicy is Local"), std::string::npos);
}

}  // namespace
}  // namespace sluice::planner
