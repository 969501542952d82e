// Services of type LoadBalancer, from `kubectl apply` to the state that the agents hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kube/operator_lab.h"

namespace sluice::test {
namespace {

using kube::kAddressClaims;
using kube::kServices;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(OperatorService, GetsAnAddressOnceTheAnnouncingNodeHasProgrammedIt) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  lab.make_pod("web-1", "web", 0, "10.1.0.1");
  lab.make_pod("web-2", "web", 1, "10.1.1.1");
  const auto address = lab.wait_for_address("web");
  EXPECT_EQ(address, "192.0.2.0");
  for (const size_t node : {0U, 1U}) {
    lab.wait_for_backends(node, address, {"10.1.0.1:8080", "10.1.1.1:8080"});
  }
  for (const char* type : {"Accepted", "AddressesAllocated", "BackendsResolved", "Programmed", "Announced"}) {
    lab.wait_for_condition(kServices, "web", std::string("sluice.io/") + type, "True");
  }
  const auto claim = lab.get(kAddressClaims, address);
  EXPECT_EQ(claim.value("/spec/owners/0/name"_json_pointer, ""), "web");
  EXPECT_EQ(claim.value("/spec/pool"_json_pointer, ""), "public");
  const auto service = lab.get(kServices, "web");
  EXPECT_THAT(service["metadata"]["finalizers"], ElementsAre("sluice.io/cleanup"));
  EXPECT_EQ(service["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
  EXPECT_TRUE(eventually([&] {
    const auto reasons = lab.event_reasons("Service", "web");
    return std::ranges::find(reasons, "EnsuredLoadBalancer") != reasons.end();
  }));
}

TEST(OperatorService, ShowsNoAddressBeforeTheAnnouncingNodeHasReadItBack) {
  Lab lab(1);
  lab.start();
  lab.agent(0).hold_back_acks(true);
  lab.make_service("web");
  lab.wait_for_condition(kServices, "web", "sluice.io/AddressesAllocated", "True");
  lab.wait_for_condition(kServices, "web", "sluice.io/Programmed", "False", "Programming");
  EXPECT_THAT(lab.ingress("web"), IsEmpty());
  lab.agent(0).hold_back_acks(false);
  lab.wait_for_address("web");
}

TEST(OperatorService, FollowsItsPods) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  const auto address = lab.wait_for_address("web");
  lab.wait_for_backends(0, address, {});
  lab.make_pod("web-1", "web", 0, "10.1.0.1");
  lab.make_pod("web-2", "web", 1, "10.1.1.1");
  lab.wait_for_backends(0, address, {"10.1.0.1:8080", "10.1.1.1:8080"});
  lab.set_pod_ready("web-1", false);
  lab.wait_for_backends(0, address, {"10.1.1.1:8080"});
  lab.set_pod_ready("web-1", true);
  lab.wait_for_backends(1, address, {"10.1.0.1:8080", "10.1.1.1:8080"});
  lab.remove_pod("web-2");
  lab.wait_for_backends(1, address, {"10.1.0.1:8080"});
}

TEST(OperatorService, OfAnotherClassOrNoneIsLeftAlone) {
  Lab lab;
  lab.start();
  lab.make_service("foreign", {{"loadBalancerClass", "example.com/other"}});
  lab.make_service("classless", {{"loadBalancerClass", nullptr}});
  lab.make_service("ours");
  lab.wait_for_address("ours");
  for (const char* name : {"foreign", "classless"}) {
    const auto service = lab.get(kServices, name);
    EXPECT_FALSE(service["metadata"].contains("finalizers")) << name;
    EXPECT_EQ(service["status"], json({{"loadBalancer", json::object()}})) << name;
  }
}

TEST(OperatorService, WithoutAClassIsServedByTheDefaultClass) {
  Lab lab;
  lab.start({"--default-class"});
  lab.make_service("classless", {{"loadBalancerClass", nullptr}});
  const auto address = lab.wait_for_address("classless");
  EXPECT_THAT(lab.get(kServices, "classless")["metadata"]["finalizers"],
              ElementsAre("sluice.io/cleanup", "service.kubernetes.io/load-balancer-cleanup"));
  lab.remove(kServices, "classless");
  EXPECT_TRUE(lab.gone(kServices, "classless"));
  EXPECT_TRUE(lab.gone(kAddressClaims, address));
}

TEST(OperatorService, ServedByTheDefaultClassIsLetGoWhenThatIsSwitchedOff) {
  Lab lab;
  lab.start({"--default-class"});
  lab.make_service("classless", {{"loadBalancerClass", nullptr}});
  lab.make_service("dying", {{"loadBalancerClass", nullptr}});
  const auto address = lab.wait_for_address("classless");
  lab.wait_for_address("dying");
  lab.replace_operator();  // without the flag
  EXPECT_TRUE(lab.gone(kAddressClaims, address));
  EXPECT_TRUE(eventually([&] {
    const auto service = lab.get(kServices, "classless");
    return !service["metadata"].contains("finalizers") && service["status"] == json({{"loadBalancer", json::object()}});
  })) << lab.get(kServices, "classless").dump(2);
  lab.remove(kServices, "dying");
  EXPECT_TRUE(lab.gone(kServices, "dying"));
}

TEST(OperatorService, OfAClassGivenByFlagIsServed) {
  Lab lab;
  lab.start({"--class=example.com/sluice"});
  lab.make_service("named", {{"loadBalancerClass", "example.com/sluice"}});
  lab.wait_for_address("named");
}

TEST(OperatorService, WaitsForAnExhaustedPoolAndSaysSo) {
  Lab lab;
  lab.start();
  for (int i = 0; i < 8; ++i) {
    lab.make_service("s" + std::to_string(i));
    lab.wait_for_address("s" + std::to_string(i));
  }
  lab.make_service("late");
  lab.wait_for_condition(kServices, "late", "sluice.io/AddressesAllocated", "False", "PoolExhausted");
  EXPECT_THAT(lab.condition(kServices, "late", "sluice.io/AddressesAllocated").message, HasSubstr("public"));
  EXPECT_TRUE(eventually([&] {
    const auto reasons = lab.event_reasons("Service", "late");
    return std::ranges::find(reasons, "SyncLoadBalancerFailed") != reasons.end();
  }));
  const auto freed = lab.ingress("s3").front();
  lab.remove(kServices, "s3");
  EXPECT_EQ(lab.wait_for_address("late"), freed);
  lab.wait_for_condition(kServices, "late", "sluice.io/AddressesAllocated", "True");
}

TEST(OperatorService, GetsTheAddressItAsksFor) {
  Lab lab;
  lab.start();
  lab.make_service("web", json::object(), {{"annotations", {{"sluice.io/addresses", "192.0.2.5"}}}});
  EXPECT_EQ(lab.wait_for_address("web"), "192.0.2.5");
  lab.make_service("other", json::object(), {{"annotations", {{"sluice.io/addresses", "192.0.2.5"}}}});
  lab.wait_for_condition(kServices, "other", "sluice.io/AddressesAllocated", "False", "AddressInUse");
  lab.make_service("outside", json::object(), {{"annotations", {{"sluice.io/addresses", "203.0.113.1"}}}});
  lab.wait_for_condition(kServices, "outside", "sluice.io/AddressesAllocated", "False", "AddressNotInPool");
}

TEST(OperatorService, WithWhatIsNotSupportedIsRefusedByName) {
  Lab lab;
  lab.start();
  lab.make_service("shared", json::object(), {{"annotations", {{"sluice.io/sharing-key", "web"}}}});
  lab.wait_for_condition(kServices, "shared", "sluice.io/Accepted", "False", "NotSupported");
  EXPECT_THAT(lab.condition(kServices, "shared", "sluice.io/Accepted").message, HasSubstr("sluice.io/sharing-key"));
  EXPECT_THAT(lab.ingress("shared"), IsEmpty());
  lab.patch(kServices, "shared", {{"metadata", {{"annotations", {{"sluice.io/sharing-key", nullptr}}}}}});
  lab.wait_for_address("shared");
}

TEST(OperatorService, WithPolicyLocalIsAnnouncedByANodeWithAReadyPod) {
  Lab lab;
  lab.start();
  lab.make_service("web",
                   {{"externalTrafficPolicy", "Local"},
                    {"loadBalancerSourceRanges", {"203.0.113.0/24"}},
                    {"sessionAffinity", "ClientIP"},
                    {"sessionAffinityConfig", {{"clientIP", {{"timeoutSeconds", 60}}}}}},
                   {{"annotations", {{"sluice.io/forwarding", "Tunnel"}}}});
  for (const size_t node : {size_t{0}, size_t{1}}) {
    const std::string pod = "web-" + std::to_string(node);
    lab.make_pod(pod, "web", node, "10.1.0." + std::to_string(node + 1));
    const auto address = net::IpAddress::parse(lab.wait_for_address("web")).value();
    ASSERT_TRUE(lab.agent(node).wait([&] {
      const auto state = lab.agent(node).held();
      if (!state || !state->announcements.contains(address)) return false;
      return state->announcements.at(address).nodes.front() == Lab::node_name(node);
    })) << pod;
    const auto state = lab.agent(node).held();
    const state::Service& web = state->services.begin()->second;
    EXPECT_EQ(web.traffic_policy, state::TrafficPolicy::local);
    EXPECT_EQ(web.forwarding, state::Forwarding::tunnel);
    EXPECT_EQ(web.affinity_seconds, 60U);
    EXPECT_EQ(web.allowed_sources, (std::vector{net::Prefix::parse("203.0.113.0/24").value()}));
    lab.remove_pod(pod);
  }
}

TEST(OperatorService, InForceStaysWithAnEditThatIsNotAcceptedAndFollowsItsPods) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  lab.make_pod("web-1", "web", 0, "10.1.0.1");
  const auto address = lab.wait_for_address("web");
  lab.wait_for_backends(0, address, {"10.1.0.1:8080"});
  const auto annotate = [&](const char* forwarding) {
    lab.patch(kServices, "web", {{"metadata", {{"annotations", {{"sluice.io/forwarding", forwarding}}}}}});
  };
  annotate("nat");
  lab.wait_for_condition(kServices, "web", "sluice.io/Accepted", "False", "InvalidAnnotation");
  EXPECT_THAT(lab.condition(kServices, "web", "sluice.io/Accepted").message,
              HasSubstr("what was in force before stays"));
  lab.make_pod("web-2", "web", 1, "10.1.1.1");
  lab.wait_for_backends(0, address, {"10.1.0.1:8080", "10.1.1.1:8080"});
  EXPECT_THAT(lab.ingress("web"), ElementsAre(address));
  EXPECT_EQ(lab.condition(kServices, "web", "sluice.io/Announced").status, "True");
  // The next operator knows it from the agents alone.
  lab.replace_operator();
  lab.remove_pod("web-1");
  lab.wait_for_backends(1, address, {"10.1.1.1:8080"});
  EXPECT_THAT(lab.ingress("web"), ElementsAre(address));
  EXPECT_EQ(lab.condition(kServices, "web", "sluice.io/Accepted").status, "False");
  annotate("NAT");
  lab.wait_for_condition(kServices, "web", "sluice.io/Accepted", "True");
  lab.wait_for_condition(kServices, "web", "sluice.io/Programmed", "True");
  EXPECT_THAT(lab.ingress("web"), ElementsAre(address));
  EXPECT_EQ(lab.agent(0).held()->services.at("Service/" + lab.ns() + "/web/http").forwarding, state::Forwarding::nat);
}

TEST(OperatorService, IsHeldUntilEveryLivingAgentHasTakenItDown) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  const auto address = lab.wait_for_address("web");
  lab.agent(1).hold_back_acks(true);
  lab.remove(kServices, "web");
  EXPECT_TRUE(lab.agent(0).wait([&] { return lab.agent(0).held()->services.empty(); }));
  EXPECT_TRUE(lab.agent(1).wait([&] { return lab.agent(1).held()->services.empty(); }));
  lab.wait_for_condition(kServices, "web", "sluice.io/Programmed", "False", "Deleting");
  EXPECT_FALSE(lab.get(kAddressClaims, address).is_null());
  lab.agent(1).hold_back_acks(false);
  EXPECT_TRUE(lab.gone(kServices, "web"));
  EXPECT_TRUE(lab.gone(kAddressClaims, address));
}

TEST(OperatorService, IsNotHeldByAnAgentThatIsLost) {
  Lab lab;
  lab.start({"--announce-grace=1s"});
  lab.make_service("web");
  lab.wait_for_address("web");
  lab.stop_agent(1);
  lab.remove(kServices, "web");
  EXPECT_TRUE(eventually([&] { return lab.get(kServices, "web").is_null(); }, std::chrono::seconds(40)));
}

TEST(OperatorService, ThatStopsBeingALoadBalancerIsReleased) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  const auto address = lab.wait_for_address("web");
  lab.patch(kServices, "web", {{"spec", {{"type", "ClusterIP"}, {"loadBalancerClass", nullptr}}}});
  EXPECT_TRUE(lab.gone(kAddressClaims, address));
  EXPECT_TRUE(eventually([&] {
    const auto service = lab.get(kServices, "web");
    return !service["metadata"].contains("finalizers") && service["status"] == json({{"loadBalancer", json::object()}});
  })) << lab.get(kServices, "web").dump(2);
  EXPECT_TRUE(lab.agent(0).wait([&] { return lab.agent(0).held()->services.empty(); }));
}

TEST(OperatorService, ComesFromEndpointsWhereTheOperatorIsToldSo) {
  Lab lab;
  lab.start({"--endpoints-source=endpoints"});
  lab.make_service("web");
  lab.make_pod("web-1", "web", 0, "10.1.0.1");
  lab.wait_for_backends(1, lab.wait_for_address("web"), {"10.1.0.1:8080"});
}

TEST(OperatorLoadBalancer, SplitsByWeightOverServices) {
  Lab lab;
  lab.start();
  lab.make_backend_service("v1");
  lab.make_backend_service("v2");
  lab.make_pod("v1-1", "v1", 0, "10.1.0.1");
  lab.make_pod("v2-1", "v2", 1, "10.1.1.1");
  lab.make_load_balancer("shop", {{"ports", {{{"name", "http"}, {"port", 80}, {"backendPort", "http"}}}},
                                  {"backends",
                                   {{{"name", "v1"}, {"service", {{"name", "v1"}}}, {"weight", 90}},
                                    {{"name", "v2"}, {"service", {{"name", "v2"}}}, {"weight", 10}}}}});
  lab.wait_for_condition(kube::kLoadBalancers, "shop", "Programmed", "True");
  lab.wait_for_condition(kube::kLoadBalancers, "shop", "Announced", "True");
  const auto status = lab.get(kube::kLoadBalancers, "shop")["status"];
  const auto address = status["addresses"][0]["address"].get<std::string>();
  lab.wait_for_backends(0, address, {"10.1.0.1:8080", "10.1.1.1:8080"});
  const auto state = *lab.agent(0).held();
  const auto& service = state.services.at("LoadBalancer/" + lab.ns() + "/shop/http");
  std::map<std::string, uint32_t> weights;
  for (const auto& backend : service.backends) {
    weights[backend.address.to_string()] = service.groups.at(backend.group).weight;
  }
  EXPECT_EQ(weights, (std::map<std::string, uint32_t>{{"10.1.0.1", 90}, {"10.1.1.1", 10}}));
  EXPECT_EQ(status["observedGeneration"], 1);
  EXPECT_EQ(status["summary"]["addresses"], address);
  EXPECT_TRUE(
      eventually([&] { return lab.get(kube::kLoadBalancers, "shop")["status"]["summary"]["backends"] == "2/2"; }));
  lab.remove(kube::kLoadBalancers, "shop");
  EXPECT_TRUE(lab.gone(kube::kLoadBalancers, "shop"));
  EXPECT_TRUE(lab.gone(kAddressClaims, address));
  EXPECT_TRUE(lab.agent(1).wait([&] { return lab.agent(1).held()->services.empty(); }));
}

TEST(OperatorLoadBalancer, TellsHowManyFlowsItsLeavingBackendsHaveEveryTenSeconds) {
  Lab lab;
  lab.start();
  lab.make_backend_service("v1");
  lab.make_pod("v1-1", "v1", 0, "10.1.0.1");
  lab.make_pod("v1-2", "v1", 1, "10.1.1.1");
  lab.make_load_balancer("shop", {{"ports", {{{"name", "http"}, {"port", 80}}}},
                                  {"backends", {{{"name", "v1"}, {"service", {{"name", "v1"}}}}}}});
  lab.wait_for_condition(kube::kLoadBalancers, "shop", "Programmed", "True");
  const auto backends = [&] { return lab.get(kube::kLoadBalancers, "shop")["status"]["backends"]; };
  ASSERT_TRUE(eventually([&] { return backends().value("ready", 0) == 2; }));
  EXPECT_EQ(backends()["drainingFlows"], 0);
  const std::string service = "LoadBalancer/" + lab.ns() + "/shop/http";
  for (const size_t node : {0U, 1U}) lab.agent(node).report({}, {service});  // or its history is forgotten
  lab.set_pod_ready("v1-2", false);
  ASSERT_TRUE(eventually([&] { return backends().value("draining", 0) == 1; })) << backends();
  lab.agent(0).report_leaving(service, "10.1.1.1", 8080, 7);
  lab.agent(1).report_leaving(service, "10.1.1.1", 8080, 5);
  ASSERT_TRUE(eventually([&] { return backends().value("drainingFlows", 0) == 12; })) << backends();
  const auto written = std::chrono::steady_clock::now();
  for (uint64_t flows = 6; flows > 0; --flows) lab.agent(0).report_leaving(service, "10.1.1.1", 8080, flows);
  ASSERT_TRUE(eventually([&] { return backends().value("drainingFlows", 0) == 6; })) << backends();
  EXPECT_GE(std::chrono::steady_clock::now() - written, std::chrono::seconds(8)) << "no more often than that";
}

TEST(OperatorLoadBalancer, WithAnUnknownBackendSaysWhichAndServesTheOthers) {
  Lab lab;
  lab.start();
  lab.make_backend_service("v1");
  lab.make_pod("v1-1", "v1", 0, "10.1.0.1");
  lab.make_load_balancer(
      "shop",
      {{"ports", {{{"name", "http"}, {"port", 80}}}},
       {"backends",
        {{{"name", "v1"}, {"service", {{"name", "v1"}}}}, {{"name", "gone"}, {"service", {{"name", "nowhere"}}}}}}});
  lab.wait_for_condition(kube::kLoadBalancers, "shop", "BackendsResolved", "False", "ServiceNotFound");
  EXPECT_THAT(lab.condition(kube::kLoadBalancers, "shop", "BackendsResolved").message, HasSubstr("nowhere"));
  lab.wait_for_condition(kube::kLoadBalancers, "shop", "Programmed", "True");
  lab.make_backend_service("nowhere");
  lab.wait_for_condition(kube::kLoadBalancers, "shop", "BackendsResolved", "True");
}

TEST(OperatorLoadBalancer, WithWhatIsNotSupportedIsRefusedByName) {
  Lab lab;
  lab.start();
  const json ports = {{{"name", "http"}, {"port", 80}}};
  lab.make_load_balancer("probed", {{"ports", ports},
                                    {"backends", {{{"name", "v1"}, {"service", {{"name", "v1"}}}}}},
                                    {"healthCheck", {{"tcp", json::object()}}}});
  lab.wait_for_condition(kube::kLoadBalancers, "probed", "Accepted", "False", "NotSupported");
  EXPECT_THAT(lab.condition(kube::kLoadBalancers, "probed", "Accepted").message, HasSubstr("healthCheck"));
}

TEST(OperatorLoadBalancer, OfBothFamiliesLeadsToBackendsOutsideTheClusterThatAreAllowed) {
  Lab lab;
  lab.start({"--allowed-static-backends=198.51.100.0/24,2001:db8:9::/48"});
  lab.make_pool("six", {"2001:db8::/120"});
  const json backends = {{{"name", "dc"}, {"address", "198.51.100.7"}},
                         {{"name", "six"}, {"address", "2001:db8:9::7"}}};
  lab.make_load_balancer("shop", {{"ports", {{{"name", "http"}, {"port", 80}, {"backendPort", 8080}}}},
                                  {"ipFamilyPolicy", "RequireDualStack"},
                                  {"backends", backends}});
  lab.wait_for_condition(kube::kLoadBalancers, "shop", "Programmed", "True");
  lab.wait_for_condition(kube::kLoadBalancers, "shop", "BackendsResolved", "True", "Resolved");
  const json status = lab.get(kube::kLoadBalancers, "shop")["status"];
  ASSERT_EQ(status["addresses"].size(), 2U) << status;
  EXPECT_EQ(status["addresses"][1]["address"], "2001:db8::1");
  EXPECT_EQ(lab.backends(0, status["addresses"][0]["address"], 80), (std::vector<std::string>{"198.51.100.7:8080"}));
  EXPECT_EQ(lab.backends(0, "2001:db8::1", 80), (std::vector<std::string>{"2001:db8:9::7:8080"}));
  EXPECT_FALSE(lab.get(kube::kAddressClaims, "2001-0db8-0000-0000-0000-0000-0000-0001").is_null());

  lab.patch(kube::kLoadBalancers, "shop", {{"spec", {{"backends", {{{"name", "dc"}, {"address", "203.0.113.7"}}}}}}});
  lab.wait_for_condition(kube::kLoadBalancers, "shop", "BackendsResolved", "False", "BackendRefused");
  EXPECT_THAT(lab.condition(kube::kLoadBalancers, "shop", "BackendsResolved").message,
              HasSubstr("--allowed-static-backends"));
}

TEST(OperatorPool, ThatOverlapsAnotherIsRefusedAndReportsItsUse) {
  Lab lab;
  lab.start();
  lab.make_service("web");
  lab.wait_for_address("web");
  EXPECT_TRUE(eventually([&] {
    const auto status = lab.get(kube::kAddressPools, "public")["status"];
    return status["ipv4"] == json({{"total", "8"}, {"assigned", "1"}});
  })) << lab.get(kube::kAddressPools, "public")["status"];
  lab.make_pool("second", {"192.0.2.4-192.0.2.20"});
  lab.wait_for_condition(kube::kAddressPools, "second", "Ready", "False", "Overlap");
  EXPECT_THAT(lab.condition(kube::kAddressPools, "second", "Ready").message, HasSubstr("public"));
}

}  // namespace
}  // namespace sluice::test
