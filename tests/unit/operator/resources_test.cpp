// Parsing what the API server sends, selectors, and the endpoints of a port.
#include <gtest/gtest.h>

#include "operator/resources/endpoints.h"
#include "operator/resources/selector.h"
#include "tests/unit/operator/builders.h"

namespace sluice::resources {
namespace {

using test::Json;

// --- parsing

TEST(Parse, WhatIsUnknownOrOfAnotherTypeNeverFails) {
  const std::vector<Json> odd = {nullptr,
                                 true,
                                 7,
                                 "text",
                                 Json::array(),
                                 Json::array({nullptr, 7, "x", Json::array()}),
                                 Json::object(),
                                 {{"unknown", {{"deep", 1}}}}};
  for (const char* kind : {"Service", "EndpointSlice", "Endpoints", "Node", "Namespace", "ServiceCIDR", "LoadBalancer",
                           "AddressPool", "LoadBalancerNode"}) {
    for (const Json& value : odd) {
      Json object = {{"kind", kind}, {"metadata", {{"name", "x"}, {"namespace", "ns"}}}};
      for (const char* field : {"spec", "status", "endpoints", "ports", "subsets", "addressType"})
        object[field] = value;
      object["metadata"]["labels"] = value;
      object["metadata"]["annotations"] = value;
      object["metadata"]["finalizers"] = value;
      object["metadata"]["generation"] = value;
      ClusterState cluster;
      EXPECT_TRUE(cluster.upsert(test::shared(object))) << object;
    }
    for (const char* field : {"ports", "ipFamilies", "addresses", "backends", "announcements", "taints", "podCIDRs",
                              "cidrs", "serviceSelector", "drain"}) {
      for (const Json& value : odd) {
        const Json object = {
            {"kind", kind}, {"metadata", {{"name", "x"}, {"namespace", "ns"}}}, {"spec", {{field, value}}}};
        ClusterState cluster;
        EXPECT_TRUE(cluster.upsert(test::shared(object))) << object;
      }
    }
  }
}

TEST(Parse, WhatCannotBeNamedFails) {
  ClusterState cluster;
  for (const Json& object :
       {Json(nullptr), Json("x"), Json{{"kind", "Service"}}, Json{{"kind", "Service"}, {"metadata", {{"name", "x"}}}},
        Json{{"kind", "Pod"}, {"metadata", {{"name", "x"}, {"namespace", "y"}}}},
        Json{{"kind", "AddressClaim"}, {"metadata", {{"name", "x"}}}, {"spec", {{"address", "x"}}}}}) {
    EXPECT_FALSE(cluster.upsert(test::shared(object))) << object;
  }
  EXPECT_TRUE(cluster.services.empty());
}

TEST(Parse, AService) {
  const auto service = parse_service(test::shared(test::service(
      "shop", "web",
      {{"metadata", {{"annotations", {{"sluice.io/addresses", "192.0.2.1"}}}, {"generation", 3}}},
       {"spec",
        {{"loadBalancerIP", "192.0.2.9"},
         {"loadBalancerSourceRanges", {"10.0.0.0/8"}},
         {"sessionAffinity", "ClientIP"},
         {"ports", {{{"port", 80}, {"nodePort", 30080}}, {{"name", "x"}, {"port", 70000}, {"protocol", "Quantum"}}}}}},
       {"status",
        {{"loadBalancer", {{"ingress", {{{"ip", "192.0.2.1"}, {"ipMode", "VIP"}}, {{"hostname", "a.example"}}}}}}}}})));
  ASSERT_TRUE(service);
  EXPECT_EQ(service->meta.key, (ObjectKey{"shop", "web"}));
  EXPECT_EQ(service->meta.annotation("sluice.io/addresses"), "192.0.2.1");
  EXPECT_TRUE(service->meta.has_finalizer("sluice.io/cleanup"));
  EXPECT_EQ(service->load_balancer_class, "sluice.io/xdp");
  EXPECT_EQ(service->load_balancer_ip, "192.0.2.9");
  EXPECT_EQ(service->session_affinity, "ClientIP");
  EXPECT_EQ(service->external_traffic_policy, "Cluster");
  EXPECT_TRUE(service->has_selector);
  EXPECT_EQ(service->ports, (std::vector<ServicePort>{{"", "TCP", 80, 30080}, {"x", "Quantum", 0, 0}}));
  EXPECT_EQ(service->ingress, (std::vector<IngressPoint>{{"192.0.2.1", "", "VIP"}, {"", "a.example", ""}}));
}

TEST(Parse, TheFingerprintFollowsSpecAndOurAnnotationsAlone) {
  const auto fingerprint = [](const Json& more) {
    return parse_service(test::shared(test::service("a", "b", more)))->fingerprint;
  };
  const int64_t plain = fingerprint(Json::object());
  EXPECT_EQ(fingerprint({{"metadata", {{"labels", {{"a", "b"}}}, {"annotations", {{"example.org/x", "y"}}}}},
                         {"status", {{"x", 1}}}}),
            plain);
  EXPECT_NE(fingerprint({{"spec", {{"sessionAffinity", "ClientIP"}}}}), plain);
  EXPECT_NE(fingerprint({{"metadata", {{"annotations", {{"sluice.io/forwarding", "NAT"}}}}}}), plain);
}

TEST(Parse, ALoadBalancerWithAndWithoutItsDefaults) {
  const auto plain = parse_load_balancer(test::shared(
      test::load_balancer("a", "b",
                          {{"ports", {{{"name", "x"}, {"port", 80}}}},
                           {"backends", {{{"name", "v"}, {"service", {{"name", "s"}}}, {"weight", nullptr}}}}})));
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->ports[0].protocol, "TCP");
  EXPECT_EQ(plain->ports[0].backend_port, (PortRef{80, ""}));
  EXPECT_EQ(plain->backends[0].weight, 1U);
  EXPECT_EQ(plain->drain_seconds, 300U);
  EXPECT_EQ(plain->forwarding, "Auto");
  EXPECT_FALSE(plain->client_ip_affinity);
  const auto full = parse_load_balancer(test::shared(test::load_balancer(
      "a", "b",
      {{"ports", {{{"name", "x"}, {"port", 443}, {"protocol", "UDP"}, {"backendPort", "https"}}}},
       {"backends",
        {{{"name", "v"}, {"service", {{"name", "s"}}}, {"weight", 0}, {"ports", {{{"name", "x"}, {"port", 8443}}}}}}},
       {"drain", {{"timeoutSeconds", 5}}},
       {"sessionAffinity", {{"clientIP", Json::object()}}}})));
  ASSERT_TRUE(full);
  EXPECT_EQ(full->ports[0].backend_port, (PortRef{0, "https"}));
  EXPECT_EQ(full->backends[0].weight, 0U);
  EXPECT_EQ(full->backends[0].ports[0].second, (PortRef{8443, ""}));
  EXPECT_TRUE(full->client_ip_affinity);
  EXPECT_EQ(full->drain_seconds, 5U);
}

TEST(Parse, ANode) {
  const auto node = parse_node(test::node(
      "n", "172.30.0.1",
      {{"spec", {{"podCIDRs", {"10.244.1.0/24", "nonsense"}}, {"taints", {{{"key", "k"}, {"effect", "NoSchedule"}}}}}},
       {"status",
        {{"addresses",
          {{{"type", "Hostname"}, {"address", "n"}},
           {{"type", "InternalIP"}, {"address", "172.30.0.1"}},
           {{"type", "ExternalIP"}, {"address", "203.0.113.1"}}}},
         {"conditions",
          {{{"type", "Ready"}, {"status", "Unknown"}}, {{"type", "NetworkUnavailable"}, {"status", "True"}}}}}}}));
  ASSERT_TRUE(node);
  ASSERT_EQ(node->addresses.size(), 2U);
  EXPECT_EQ(node->addresses[1].type, "ExternalIP");
  EXPECT_EQ(node->pod_ranges.size(), 1U);
  EXPECT_EQ(node->taints[0].key, "k");
  EXPECT_FALSE(node->ready);
  EXPECT_TRUE(node->network_unavailable);
}

TEST(Parse, AClaimSurvivesTheWayToTheServerAndBack) {
  const Json object = test::claim("192.0.2.7", "public", {test::service_owner("a", "b"), test::lb_owner("c", "d")});
  const auto claim = parse_address_claim(object);
  ASSERT_TRUE(claim);
  EXPECT_EQ(claim->owners[1].owner, test::lb_owner("c", "d"));
  const auto again = parse_address_claim(claim_object(*claim));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->owners, claim->owners);
  EXPECT_EQ(again->address, claim->address);
  EXPECT_EQ(again->pool, "public");
}

TEST(Parse, ClaimsAreNamedAfterTheirAddress) {
  EXPECT_EQ(claim_name(test::ip("192.0.2.10")), "192.0.2.10");
  EXPECT_EQ(claim_name(test::ip("2001:db8::10")), "2001-0db8-0000-0000-0000-0000-0000-0010");
}

// --- selectors

TEST(Selector, Matches) {
  struct Case {
    Json selector;
    Labels labels;
    bool matches;
  };
  const auto expression = [](const char* op, const Json& values) {
    return Json{{"matchExpressions", {{{"key", "env"}, {"operator", op}, {"values", values}}}}};
  };
  const std::vector<Case> cases = {
      {Json::object(), {}, true},
      {{{"matchLabels", {{"env", "prod"}}}}, {{"env", "prod"}, {"x", "y"}}, true},
      {{{"matchLabels", {{"env", "prod"}}}}, {{"env", "dev"}}, false},
      {{{"matchLabels", {{"env", "prod"}, {"x", "y"}}}}, {{"env", "prod"}}, false},
      {expression("In", {"a", "b"}), {{"env", "b"}}, true},
      {expression("In", {"a", "b"}), {{"env", "c"}}, false},
      {expression("In", {"a", "b"}), {}, false},
      {expression("NotIn", {"a"}), {{"env", "b"}}, true},
      {expression("NotIn", {"a"}), {{"env", "a"}}, false},
      {expression("NotIn", {"a"}), {}, true},
      {expression("Exists", nullptr), {{"env", ""}}, true},
      {expression("Exists", nullptr), {}, false},
      {expression("DoesNotExist", nullptr), {}, true},
      {expression("DoesNotExist", nullptr), {{"env", ""}}, false},
      {expression("Near", {"a"}), {{"env", "a"}}, false},
  };
  for (const Case& c : cases) {
    const auto pool = parse_address_pool(test::shared(test::pool("p", {}, {{"serviceSelector", c.selector}})));
    EXPECT_EQ(pool->service_selector.matches(c.labels), c.matches) << c.selector;
  }
}

TEST(Selector, ReadsAsKubectlWritesIt) {
  const LabelSelector selector{
      {{"a", "b"}}, {{"c", "In", {"d", "e"}}, {"f", "NotIn", {"g"}}, {"h", "Exists", {}}, {"i", "DoesNotExist", {}}}};
  EXPECT_EQ(selector.to_string(), "a=b,c in (d,e),f notin (g),h,!i");
}

// --- endpoints

class Endpoints : public ::testing::Test {
 protected:
  void put(Json object) { ASSERT_TRUE(cluster_.upsert(test::shared(std::move(object)))); }
  PortEndpoints resolve(net::Family family = net::Family::ipv4, Scope scope = Scope::cluster) {
    const auto found = cluster_.slices.find({"shop", "web"});
    const SlicesByName none;
    const Service& service = *cluster_.services.at({"shop", "web"});
    return resolve_endpoints(service, service.ports.at(0), found == cluster_.slices.end() ? none : *found->second,
                             family, scope, guard_);
  }
  static std::string text(const PortEndpoints& endpoints) {
    std::string out;
    for (const Endpoint& one : endpoints.chosen) {
      out += (out.empty() ? "" : " ") + one.address.to_string() + ":" + std::to_string(one.port);
    }
    return out;
  }
  std::string resolved() { return text(resolve()); }
  // A slice named `name` with endpoints of these conditions, 10.244.0.1 and so on.
  void put_slice(const std::string& name, const Json& conditions, int first = 1) {
    Json slice = test::slice("shop", "web", {});
    slice["metadata"]["name"] = name;
    for (const Json& one : conditions) {
      slice["endpoints"].push_back({{"addresses", {"10.244.0." + std::to_string(first++)}}, {"conditions", one}});
    }
    put(slice);
  }
  ClusterState cluster_;
  EndpointGuard guard_;
};

TEST_F(Endpoints, ConditionsDecide) {
  struct Case {
    const char* rule;
    Json conditions;
    std::string chosen;
  };
  const Json ready = {{"ready", true}};
  const Json unready = {{"ready", false}};
  const Json ending = {{"ready", false}, {"serving", true}, {"terminating", true}};
  const std::vector<Case> cases = {
      {"nil ready means true", {Json::object(), nullptr}, "10.244.0.1:8080 10.244.0.2:8080"},
      {"unready are not chosen", {ready, unready}, "10.244.0.1:8080"},
      {"ready win over terminating", {ending, ready}, "10.244.0.2:8080"},
      {"without a ready one, those that serve and terminate",
       {ending, unready, ending},
       "10.244.0.1:8080 10.244.0.3:8080"},
      {"serving alone is not enough", {{{"ready", false}, {"serving", true}}}, ""},
      {"nil serving follows ready", {{{"ready", false}, {"terminating", true}}}, ""},
      {"ready though terminating, as publishNotReadyAddresses makes it",
       {{{"ready", true}, {"serving", true}, {"terminating", true}}},
       "10.244.0.1:8080"},
  };
  for (const Case& c : cases) {
    cluster_ = {};
    put(test::service("shop", "web"));
    put_slice("web-a", c.conditions);
    EXPECT_EQ(resolved(), c.chosen) << c.rule;
  }
}

TEST_F(Endpoints, AreCountedAsDifferentOnes) {
  put(test::service("shop", "web"));
  put_slice("web-a", {{{"ready", true}}, {{"ready", false}}});
  put_slice("web-b", {{{"ready", true}}}, 2);
  const PortEndpoints out = resolve();
  EXPECT_EQ(out.total, 2U);
  EXPECT_EQ(out.ready, 2U) << "one slice is ahead of the other: the better standing counts";
  EXPECT_EQ(text(out), "10.244.0.1:8080 10.244.0.2:8080");
}

TEST_F(Endpoints, SlicesAreMergedAndSorted) {
  put(test::service("shop", "web"));
  put_slice("web-z", {nullptr}, 1);
  put_slice("web-a", {nullptr}, 9);
  EXPECT_EQ(resolved(), "10.244.0.1:8080 10.244.0.9:8080");
}

TEST_F(Endpoints, OfEachNodeTheReadyOnesElseThoseThatServeWhileTheyTerminate) {
  put(test::service("shop", "web"));
  const Json ready = {{"ready", true}};
  const Json ending = {{"ready", false}, {"serving", true}, {"terminating", true}};
  Json slice = test::slice("shop", "web", {});
  const auto add = [&](const char* address, const Json& node, const Json& conditions) {
    slice["endpoints"].push_back({{"addresses", {address}}, {"nodeName", node}, {"conditions", conditions}});
  };
  add("10.244.1.1", "node1", ready);
  add("10.244.1.2", "node1", ending);
  add("10.244.2.1", "node2", ending);
  add("10.244.3.1", "node3", {{"ready", false}});
  add("10.244.9.1", nullptr, ready);
  put(slice);
  const PortEndpoints out = resolve(net::Family::ipv4, Scope::node);
  EXPECT_EQ(text(out), "10.244.1.1:8080 10.244.2.1:8080");
  EXPECT_EQ(out.ready_on, std::set<std::string>{"node1"});
  EXPECT_EQ(resolved(), "10.244.1.1:8080 10.244.9.1:8080") << "over the whole cluster";
}

TEST_F(Endpoints, PortsMatchByNameAndProtocol) {
  put(test::service("shop", "web"));
  struct Case {
    Json ports;
    std::string chosen;
  };
  const std::vector<Case> cases = {
      {{{{"name", "http"}, {"port", 9000}}}, "10.244.0.1:9000"},
      {{{{"name", "http"}, {"port", 9000}, {"protocol", "UDP"}}}, ""},
      {{{{"name", "other"}, {"port", 9000}}}, ""},
      {{{{"port", 9000}}}, ""},
      {{{{"name", "http"}}}, ""},
      {{{{"name", "http"}, {"port", 9000}}, {{"name", "other"}, {"port", 9001}}}, "10.244.0.1:9000"},
      {{{{"name", "http"}, {"port", 9000}}, {{"name", "http"}, {"port", 9001}}}, "10.244.0.1:9000 10.244.0.1:9001"},
  };
  for (const Case& c : cases) {
    put(test::slice("shop", "web", {"10.244.0.1"}, "node1", {{"ports", c.ports}}));
    EXPECT_EQ(resolved(), c.chosen) << c.ports;
  }
}

TEST_F(Endpoints, AnUnnamedPortMatchesAnUnnamedOne) {
  put(test::service("shop", "web", {{"spec", {{"ports", {{{"port", 80}}}}}}}));
  put(test::slice("shop", "web", {"10.244.0.1"}, "node1", {{"ports", {{{"port", 8080}}}}}));
  EXPECT_EQ(resolved(), "10.244.0.1:8080");
  put(test::slice("shop", "web", {"10.244.0.1"}, "node1", {{"ports", {{{"name", ""}, {"port", 8080}}}}}));
  EXPECT_EQ(resolved(), "10.244.0.1:8080");
}

TEST_F(Endpoints, OtherFamiliesAndNamesAreSkipped) {
  put(test::service("shop", "web"));
  put(test::slice("shop", "web", {"10.244.0.1"}));
  put(test::slice("shop", "web", {"2001:db8::1"}, "node1",
                  {{"metadata", {{"name", "web-six"}}}, {"addressType", "IPv6"}}));
  put(test::slice("shop", "web", {"web.example.org"}, "node1",
                  {{"metadata", {{"name", "web-fqdn"}}}, {"addressType", "FQDN"}}));
  EXPECT_EQ(resolved(), "10.244.0.1:8080");
  EXPECT_EQ(text(resolve(net::Family::ipv6)), "2001:db8::1:8080");
}

TEST_F(Endpoints, OfSeveralAddressesOfAnEndpointTheFirstCounts) {
  put(test::service("shop", "web"));
  put(test::slice("shop", "web", {}, "node1", {{"endpoints", {{{"addresses", {"10.244.0.1", "10.244.0.2"}}}}}}));
  EXPECT_EQ(resolved(), "10.244.0.1:8080");
}

TEST_F(Endpoints, TheGuardLooksAtWhatNobodyVouchesFor) {
  guard_.forbid(test::ip("10.244.0.1"), "forbidden");
  struct Case {
    const char* what;
    Json service;
    Json slice;
    std::string chosen;
  };
  const Json by_hand = {{"metadata", {{"labels", {{"endpointslice.kubernetes.io/managed-by", "me"}}}}}};
  const Json mirrored = {
      {"metadata",
       {{"labels", {{"endpointslice.kubernetes.io/managed-by", "endpointslicemirroring-controller.k8s.io"}}}}}};
  const Json no_selector = {{"spec", {{"selector", nullptr}}}};
  const std::vector<Case> cases = {
      {"the controller's", Json::object(), Json::object(), "10.244.0.1:8080 10.244.0.2:8080"},
      {"by hand", Json::object(), by_hand, "10.244.0.2:8080"},
      {"mirrored from Endpoints", no_selector, mirrored, "10.244.0.2:8080"},
      {"forged label without a selector", no_selector, Json::object(), "10.244.0.2:8080"},
  };
  for (const Case& c : cases) {
    put(test::service("shop", "web", c.service));
    put(test::slice("shop", "web", {"10.244.0.1", "10.244.0.2"}, "node1", c.slice));
    EXPECT_EQ(resolved(), c.chosen) << c.what;
    EXPECT_EQ(resolve().refused.empty(), c.chosen.size() > 20) << c.what;
  }
}

TEST_F(Endpoints, FromEndpointsObjects) {
  put(test::service("shop", "web"));
  const Json object = {{"kind", "Endpoints"},
                       {"metadata", {{"namespace", "shop"}, {"name", "web"}}},
                       {"subsets",
                        {{{"addresses", {{{"ip", "10.244.0.1"}, {"nodeName", "node1"}}, {{"ip", "2001:db8::1"}}}},
                          {"notReadyAddresses", {{{"ip", "10.244.0.2"}}}},
                          {"ports", {{{"name", "http"}, {"port", 8080}}}}},
                         {{"addresses", {{{"ip", "10.244.0.3"}}}}, {"ports", {{{"name", "http"}, {"port", 9090}}}}}}}};
  put(object);
  EXPECT_EQ(resolved(), "10.244.0.1:8080 10.244.0.3:9090");
  EXPECT_EQ(resolve().total, 3U);
  EXPECT_EQ(resolve().chosen[0].node, "node1");
  EXPECT_EQ(text(resolve(net::Family::ipv6)), "2001:db8::1:8080");
  Json fewer = object;
  fewer["subsets"].erase(0);
  put(fewer);
  EXPECT_EQ(resolved(), "10.244.0.3:9090");
  cluster_.erase("Endpoints", {"shop", "web"});
  EXPECT_TRUE(cluster_.slices.empty());
}

TEST(ClusterStateTest, ASliceFollowsItsLabel) {
  ClusterState cluster;
  ASSERT_TRUE(cluster.upsert(test::shared(test::slice("shop", "web", {"10.244.0.1"}))));
  const auto before = cluster.slices.at({"shop", "web"});
  ASSERT_TRUE(cluster.upsert(test::shared(test::slice(
      "shop", "web", {"10.244.0.1"}, "n", {{"metadata", {{"labels", {{"kubernetes.io/service-name", "api"}}}}}}))));
  EXPECT_FALSE(cluster.slices.contains({"shop", "web"}));
  EXPECT_EQ(cluster.slices.at({"shop", "api"})->size(), 1U);
  EXPECT_EQ(before->size(), 1U) << "what was handed out stays as it was";
  cluster.erase("EndpointSlice", {"shop", "web-abcde"});
  EXPECT_TRUE(cluster.slices.empty());
}

}  // namespace
}  // namespace sluice::resources
