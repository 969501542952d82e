// From cluster to desired state: what is programmed, with whom, at which revision.
#include "operator/planner/planner.h"

#include <gtest/gtest.h>

#include "common/maglev/service_table.h"
#include "tests/unit/operator/planning.h"

namespace sluice::planner {
namespace {

using test::Json;
using test::lb_owner;
using test::service_owner;

TEST_F(Planning, AServiceStandsOnItsAddressWithItsEndpoints) {
  add_web();
  world_.settle();
  const state::Service& web = world_.service(web_);
  EXPECT_EQ(web.addresses, (std::vector<net::IpAddress>{test::ip("192.0.2.0")}));
  EXPECT_EQ(web.port, 80);
  EXPECT_EQ(web.protocol, state::Protocol::tcp);
  EXPECT_EQ(web.affinity, state::Affinity::none);
  EXPECT_EQ(web.forwarding, state::Forwarding::automatic);
  EXPECT_EQ(web.groups, (std::vector<state::Group>{{"web", 1}}));
  EXPECT_EQ(world_.backends(web_), "10.244.1.1:8080 10.244.1.2:8080");
  EXPECT_EQ(web.backends[0].node, "node1");
  EXPECT_EQ(web.backends[0].joined, 0U);
  EXPECT_EQ(world_.state.cluster_id, "cluster-uid");
  EXPECT_EQ(world_.state.nodes.at("node2").addresses, (std::vector<net::IpAddress>{test::ip("172.30.0.2")}));
  EXPECT_TRUE(world_.state.nodes.at("node2").source_addresses.empty());
}

TEST_F(Planning, NothingIsProgrammedBeforeTheClaimExists) {
  add_web();
  const Round first = world_.round();
  EXPECT_TRUE(first.plan.next.services.empty());
  EXPECT_EQ(first.addresses.writes.create.size(), 1U);
  EXPECT_EQ(world_.round().plan.next.services.size(), 1U);
}

TEST_F(Planning, WhatFollowsFromTheSpec) {
  world_.put(test::service(
      "shop", "dns",
      {{"metadata", {{"annotations", {{"sluice.io/forwarding", "NAT"}}}}},
       {"spec",
        {{"sessionAffinity", "ClientIP"},
         {"ports", {{{"name", "udp"}, {"protocol", "UDP"}, {"port", 53}}, {{"name", "tcp"}, {"port", 53}}}}}}}));
  world_.settle();
  EXPECT_EQ(world_.service("Service/shop/dns/udp").protocol, state::Protocol::udp);
  EXPECT_EQ(world_.service("Service/shop/dns/tcp").protocol, state::Protocol::tcp);
  EXPECT_EQ(world_.service("Service/shop/dns/tcp").affinity, state::Affinity::client_ip);
  EXPECT_EQ(world_.service("Service/shop/dns/tcp").forwarding, state::Forwarding::nat);
  EXPECT_EQ(world_.backends("Service/shop/dns/tcp"), "") << "a Service without endpoints is there, to refuse";
}

TEST_F(Planning, OnlyServicesOfOurClass) {
  add_web();
  world_.put(test::service("shop", "other", {{"spec", {{"loadBalancerClass", "example.org/lb"}}}}));
  world_.put(test::service("shop", "classless", {{"spec", {{"loadBalancerClass", nullptr}}}}));
  world_.put(test::service("shop", "internal", {{"spec", {{"type", "ClusterIP"}, {"loadBalancerClass", nullptr}}}}));
  world_.settle();
  EXPECT_EQ(world_.state.services.size(), 1U);
  world_.options.default_class = true;
  world_.settle();
  EXPECT_EQ(world_.state.services.size(), 2U);
  EXPECT_TRUE(world_.state.services.contains("Service/shop/classless/http"));
}

TEST_F(Planning, ALoadBalancerSplitsOverServicesByWeight) {
  world_.put(test::service("shop", "v1", {{"spec", {{"type", "ClusterIP"}, {"loadBalancerClass", nullptr}}}}));
  world_.put(test::service("shop", "v2", {{"spec", {{"type", "ClusterIP"}, {"loadBalancerClass", nullptr}}}}));
  world_.put(test::slice("shop", "v1", {"10.244.1.1"}));
  world_.put(test::slice("shop", "v2", {"10.244.2.1", "10.244.2.2"}));
  world_.put(test::load_balancer("shop", "split",
                                 {{"addresses", {"192.0.2.10"}},
                                  {"ports", {{{"name", "https"}, {"port", 443}, {"backendPort", "http"}}}},
                                  {"drain", {{"timeoutSeconds", 77}}},
                                  {"sessionAffinity", {{"clientIP", Json::object()}}},
                                  {"backends",
                                   {{{"name", "v1"}, {"service", {{"name", "v1"}}}, {"weight", 90}},
                                    {{"name", "v2"}, {"service", {{"name", "v2"}}}, {"weight", 10}}}}}));
  world_.settle();
  const state::Service& split = world_.service("LoadBalancer/shop/split/https");
  EXPECT_EQ(split.addresses, (std::vector<net::IpAddress>{test::ip("192.0.2.10")}));
  EXPECT_EQ(split.port, 443);
  EXPECT_EQ(split.groups, (std::vector<state::Group>{{"v1", 90}, {"v2", 10}}));
  EXPECT_EQ(split.drain_seconds, 77U);
  EXPECT_EQ(split.affinity, state::Affinity::client_ip);
  EXPECT_EQ(world_.backends(split.id), "10.244.1.1:8080 10.244.2.1:8080 10.244.2.2:8080");
  const state::Revision before = world_.state.revision;
  world_.edit("LoadBalancer", "shop", "split",
              {{"spec",
                {{"backends",
                  {{{"name", "v1"}, {"service", {{"name", "v1"}}}, {"weight", 50}},
                   {{"name", "v2"}, {"service", {{"name", "v2"}}}, {"weight", 50}}}}}}});
  world_.settle();
  EXPECT_EQ(world_.state.revision, before + 1);
  EXPECT_EQ(maglev::boundaries(world_.service("LoadBalancer/shop/split/https")),
            (std::vector<state::Revision>{before + 1}));
}

TEST_F(Planning, SeveralPortsEachWithItsTarget) {
  const Json ports = {{{"name", "http"}, {"port", 80}},
                      {{"name", "alt"}, {"port", 8080}},
                      {{"name", "dns"}, {"port", 53}, {"protocol", "UDP"}}};
  world_.put(test::service("shop", "web",
                           {{"spec", {{"type", "ClusterIP"}, {"loadBalancerClass", nullptr}, {"ports", ports}}}}));
  world_.put(test::slice("shop", "web", {"10.244.1.1"}, "node1",
                         {{"ports",
                           {{{"name", "http"}, {"port", 9000}},
                            {{"name", "alt"}, {"port", 9001}},
                            {{"name", "dns"}, {"port", 9053}, {"protocol", "UDP"}}}}}));
  world_.put(test::load_balancer(
      "shop", "lb",
      {{"ports",
        {{{"name", "a"}, {"port", 80}},
         {{"name", "b"}, {"port", 81}, {"backendPort", "alt"}},
         {{"name", "c"}, {"port", 82}, {"backendPort", 80}},
         {{"name", "d"}, {"port", 53}, {"protocol", "UDP"}}}},
       {"backends",
        {{{"name", "v1"}, {"service", {{"name", "web"}}}, {"ports", {{{"name", "c"}, {"port", 8080}}}}}}}}));
  world_.settle();
  EXPECT_EQ(world_.backends("LoadBalancer/shop/lb/a"), "10.244.1.1:9000");
  EXPECT_EQ(world_.backends("LoadBalancer/shop/lb/b"), "10.244.1.1:9001");
  EXPECT_EQ(world_.backends("LoadBalancer/shop/lb/c"), "10.244.1.1:9001") << "the entry's own port";
  EXPECT_EQ(world_.backends("LoadBalancer/shop/lb/d"), "10.244.1.1:9053");
}

TEST_F(Planning, BackendsThatLeadNowhereAreNamedAndTheOthersWork) {
  add_web();
  world_.put({{"kind", "Service"},
              {"metadata", {{"namespace", "shop"}, {"name", "ext"}}},
              {"spec", {{"type", "ExternalName"}, {"externalName", "example.org"}}}});
  struct Case {
    Json backend;
    std::string reason;
    std::string message;
  };
  const std::vector<Case> cases = {
      {{{"name", "x"}, {"service", {{"name", "gone"}}}},
       "ServiceNotFound",
       "spec.backends[x]: Service shop/gone does not exist"},
      {{{"name", "x"}, {"service", {{"name", "ext"}}}}, "ExternalName", "Service shop/ext is of type ExternalName"},
      {{{"name", "x"}, {"service", {{"name", "web"}}}, {"ports", {{{"name", "http"}, {"port", 81}}}}},
       "PortNotFound",
       "Service shop/web has no TCP port 81 (for port http); set backendPort to one it has"},
      {{{"name", "x"}, {"service", {{"name", "web"}}}, {"ports", {{{"name", "http"}, {"port", "grpc"}}}}},
       "PortNotFound",
       "no TCP port grpc"},
  };
  for (const Case& c : cases) {
    world_.put(test::load_balancer("shop", "lb",
                                   {{"backends", {{{"name", "v1"}, {"service", {{"name", "web"}}}}, c.backend}}}));
    const Round round = world_.settle();
    const Finding& found = round.plan.objects.at(lb_owner("shop", "lb")).backends_resolved;
    EXPECT_FALSE(found.good);
    EXPECT_EQ(found.reason, c.reason);
    EXPECT_NE(found.message.find(c.message), std::string::npos) << found.message;
    EXPECT_EQ(world_.backends("LoadBalancer/shop/lb/http"), "10.244.1.1:8080 10.244.1.2:8080");
  }
}

TEST_F(Planning, ServicesOfOtherNamespacesAreOutOfReach) {
  add_web();
  world_.put(test::load_balancer("other", "lb", Json::object()));
  const Round round = world_.settle();
  EXPECT_EQ(round.plan.objects.at(lb_owner("other", "lb")).backends_resolved.reason, "ServiceNotFound");
}

struct Refused {
  Json more;
  std::string reason;
  std::string message;
};

TEST_F(Planning, WhatIsNotBuiltOnServicesIsRefusedByName) {
  const auto annotated = [](const std::string& name, const std::string& value) {
    return Json{{"metadata", {{"annotations", {{name, value}}}}}};
  };
  Json differ = annotated("sluice.io/addresses", "192.0.2.9");
  differ["spec"] = {{"loadBalancerIP", "192.0.2.8"}};
  const std::vector<Refused> cases = {
      {{{"spec", {{"loadBalancerSourceRanges", {"203.0.113.0/24", "203.0.113.0"}}}}},
       "InvalidSourceRange",
       "annotation \"203.0.113.0\": no /LENGTH"},
      {{{"spec", {{"ports", {{{"port", 80}, {"protocol", "SCTP"}}}}}}}, "NotSupported", "spec.ports[80].protocol SCTP"},
      {annotated("sluice.io/forwarding", "DSR"), "InvalidAnnotation", "must be Auto, NAT, Tunnel or Direct"},
      {annotated("sluice.io/sharing-key", "a"), "NotSupported", "annotation sluice.io/sharing-key"},
      {annotated("sluice.io/addresses", "2001:db8::1"), "InvalidAddress",
       "annotation sluice.io/addresses 2001:db8::1 is IPv6, and spec.ipFamilies is IPv4 alone"},
      {annotated("sluice.io/addresses", "2001:db8::1,2001:db8::2"), "InvalidAddress", "2001:db8::1 is IPv6"},
      {annotated("sluice.io/addresses", "web.example.org"), "InvalidAddress",
       "annotation sluice.io/addresses web.example.org"},
      {annotated("sluice.io/addresses", "192.0.2.1,192.0.2.2"), "InvalidAnnotation", "at most one address per family"},
      {annotated("sluice.io/address-pools", "a,b,c"), "InvalidAnnotation", "at most one pool per family"},
      {annotated("service.beta.kubernetes.io/load-balancer-source-ranges", "10.0.0.0/8,office"), "InvalidSourceRange",
       "\"office\""},
      {{{"spec", {{"loadBalancerIP", "x"}}}}, "InvalidAddress", "spec.loadBalancerIP x"},
      {differ, "AddressesDiffer", "spec.loadBalancerIP 192.0.2.8 and annotation sluice.io/addresses 192.0.2.9 differ"},
  };
  for (const Refused& c : cases) {
    add_web();
    world_.settle();
    ASSERT_TRUE(world_.state.services.contains(web_));
    const state::DesiredState before = world_.state;
    world_.put(test::service("shop", "web", c.more));
    const Round round = world_.settle();
    const Finding& found = round.plan.objects.at(service_owner("shop", "web")).accepted;
    EXPECT_EQ(found.reason, c.reason) << c.more;
    EXPECT_NE(found.message.find(c.message), std::string::npos) << found.message;
    EXPECT_NE(found.message.find("; what was in force before stays as it was"), std::string::npos) << found.message;
    EXPECT_EQ(world_.state, before) << "an edit that cannot be built changes nothing: " << c.more;
    world_.put(test::service("shop", "fresh", c.more));
    const Finding fresh = world_.settle().plan.objects.at(service_owner("shop", "fresh")).accepted;
    EXPECT_EQ(fresh.reason, c.reason);
    EXPECT_NE(fresh.message.find("; nothing of this object is programmed"), std::string::npos) << fresh.message;
    EXPECT_EQ(world_.state, before) << "one that was not in force is not programmed";
    world_.erase("Service", "shop", "fresh");
  }
}

TEST_F(Planning, APreferenceThatIsNotFollowedIsSaidAndRefusesNothing) {
  world_.put(test::service("shop", "web", {{"spec", {{"trafficDistribution", "PreferSameZone"}}}}));
  const Round round = world_.settle();
  const Finding& found = round.plan.objects.at(service_owner("shop", "web")).accepted;
  EXPECT_TRUE(found.good);
  EXPECT_NE(found.message.find("spec.trafficDistribution PreferSameZone is not followed"), std::string::npos)
      << found.message;
  EXPECT_TRUE(world_.state.services.contains(web_));
}

TEST_F(Planning, AnAffinitysTimeoutTravels) {
  const auto seconds = [this](const Json& config) {
    world_.put(
        test::service("shop", "web", {{"spec", {{"sessionAffinity", "ClientIP"}, {"sessionAffinityConfig", config}}}}));
    world_.settle();
    return world_.service(web_).affinity_seconds;
  };
  EXPECT_EQ(seconds({{"clientIP", {{"timeoutSeconds", 60}}}}), 60U);
  EXPECT_EQ(seconds(nullptr), 10'800U) << "the API server's default";
  world_.put(test::load_balancer("shop", "lb", {{"sessionAffinity", {{"clientIP", {{"timeoutSeconds", 90}}}}}}));
  world_.settle();
  EXPECT_EQ(world_.service("LoadBalancer/shop/lb/http").affinity_seconds, 90U);
}

TEST_F(Planning, ForwardingTravels) {
  const std::vector<std::pair<const char*, state::Forwarding>> rows = {{"Auto", state::Forwarding::automatic},
                                                                       {"NAT", state::Forwarding::nat},
                                                                       {"Tunnel", state::Forwarding::tunnel},
                                                                       {"Direct", state::Forwarding::direct}};
  for (const auto& [name, forwarding] : rows) {
    world_.put(test::service("shop", "web", {{"metadata", {{"annotations", {{"sluice.io/forwarding", name}}}}}}));
    world_.put(test::load_balancer("shop", "lb", {{"forwarding", name}}));
    world_.settle();
    EXPECT_EQ(world_.service(web_).forwarding, forwarding) << name;
    EXPECT_EQ(world_.service("LoadBalancer/shop/lb/http").forwarding, forwarding) << name;
  }
}

TEST_F(Planning, AllowedSourcesOfBothFamiliesTravelFromFieldAndAnnotation) {
  const auto sources = [this](const std::string& id) {
    std::string out;
    for (const net::Prefix& prefix : world_.service(id).allowed_sources) {
      out += (out.empty() ? "" : " ") + prefix.to_string();
    }
    return out;
  };
  const auto annotation = [](const char* value) {
    return Json{{"annotations", {{"service.beta.kubernetes.io/load-balancer-source-ranges", value}}}};
  };
  world_.put(test::service("shop", "web",
                           {{"spec", {{"loadBalancerSourceRanges", {"203.0.113.9/24 ", "2001:DB8::/32"}}}},
                            {"metadata", annotation("10.0.0.0/8")}}));
  world_.settle();
  EXPECT_EQ(sources(web_), "203.0.113.0/24 2001:db8::/32") << "the field comes before the annotation";
  world_.put(test::service("shop", "web", {{"metadata", annotation("10.0.0.0/8, 192.168.0.0/16")}}));
  world_.settle();
  EXPECT_EQ(sources(web_), "10.0.0.0/8 192.168.0.0/16");
  world_.put(test::service("shop", "web"));
  world_.settle();
  EXPECT_EQ(sources(web_), "") << "cleared";
  world_.put(test::load_balancer("shop", "lb", {{"allowedSources", {"203.0.113.0/24"}}}));
  world_.settle();
  EXPECT_EQ(sources("LoadBalancer/shop/lb/http"), "203.0.113.0/24");
}

TEST_F(Planning, MorePortsThanAClaimCanNameAreRefused) {
  const auto ports = [](int count) {
    Json out = Json::array();
    for (int i = 1; i <= count; ++i) out.push_back({{"name", "p" + std::to_string(i)}, {"port", i}});
    return Json{{"spec", {{"ports", std::move(out)}}}};
  };
  world_.put(test::service("shop", "web", ports(128)));
  world_.settle();
  EXPECT_EQ(world_.state.services.size(), 128U);
  world_.put(test::service("shop", "more", ports(129)));
  const Finding found = world_.settle().plan.objects.at(service_owner("shop", "more")).accepted;
  EXPECT_EQ(found.reason, "NotSupported");
  EXPECT_NE(found.message.find("spec.ports (129, at most 128)"), std::string::npos) << found.message;
}

TEST_F(Planning, WhatIsNotBuiltOnLoadBalancersIsRefusedByName) {
  const std::vector<Refused> cases = {
      {{{"allowedSources", {"203.0.113.0/33"}}}, "InvalidSourceRange", "spec.allowedSources \"203.0.113.0/33\""},
      {{{"healthCheck", {{"tcp", Json::object()}}}}, "NotSupported", "spec.healthCheck"},
      {{{"sharingKey", "a"}}, "NotSupported", "spec.sharingKey"},
      {{{"ipFamilies", {"IPv4"}}, {"addresses", {"2001:db8::1"}}},
       "InvalidAddress",
       "spec.addresses 2001:db8::1 is IPv6, and spec.ipFamilies is IPv4 alone"},
      {{{"addresses", {"192.0.2.1", "2001:db8::1"}}},
       "InvalidAddress",
       "spec.addresses 2001:db8::1 is IPv6, and spec.ipFamilyPolicy is SingleStack; for addresses of both families set "
       "it to PreferDualStack"},
      {{{"backends", {{{"name", "dc"}, {"address", "dc.example.org"}}}}},
       "InvalidAddress",
       "spec.backends[dc].address dc.example.org"},
      {{{"backends", {{{"name", "v"}, {"service", {{"name", "web"}}}, {"ports", {{{"name", "nope"}, {"port", 1}}}}}}}},
       "InvalidPort",
       "spec.backends[v].ports[nope]"},
  };
  for (const Refused& c : cases) {
    add_web();
    world_.put(test::load_balancer("shop", "lb", Json::object()));
    world_.settle();
    ASSERT_TRUE(world_.state.services.contains("LoadBalancer/shop/lb/http"));
    const state::DesiredState before = world_.state;
    world_.put(test::load_balancer("shop", "lb", c.more));
    const Round round = world_.settle();
    const Finding& found = round.plan.objects.at(lb_owner("shop", "lb")).accepted;
    EXPECT_EQ(found.reason, c.reason) << c.more;
    EXPECT_NE(found.message.find(c.message), std::string::npos) << found.message;
    EXPECT_EQ(world_.state, before) << "an edit that cannot be built changes nothing: " << c.more;
    world_.put(test::load_balancer("shop", "fresh", c.more));
    EXPECT_EQ(world_.settle().plan.objects.at(lb_owner("shop", "fresh")).accepted.reason, c.reason);
    EXPECT_EQ(world_.state, before) << "one that was not in force is not programmed";
    world_.erase("LoadBalancer", "shop", "fresh");
  }
}

TEST_F(Planning, AllThatIsNotBuiltIsSaidAtOnce) {
  world_.put(test::load_balancer("shop", "lb", {{"sharingKey", "a"}, {"healthCheck", {{"tcp", Json::object()}}}}));
  const Round round = world_.settle();
  EXPECT_EQ(round.plan.objects.at(lb_owner("shop", "lb")).accepted.message,
            "not supported yet: spec.sharingKey, spec.healthCheck; nothing of this object is programmed until that is "
            "corrected");
}

TEST_F(Planning, AnAddressIsGivenOnOnlyWhenEveryAgentHasLetItGo) {
  world_.put(test::pool("public", {"192.0.2.1"}));
  add_web();
  world_.settle();
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  world_.erase("Service", "shop", "web");
  for (int i = 0; i < 5; ++i) world_.round();
  world_.ack("node1");
  world_.round();
  EXPECT_TRUE(world_.has("AddressClaim", "", "192.0.2.1"));
  EXPECT_TRUE(world_.state.services.empty());
  world_.ack("node2");
  world_.settle();
  EXPECT_TRUE(world_.state.services.contains("LoadBalancer/shop/lb/http"));
}

TEST_F(Planning, AnAgentThatIsLostHoldsNothingUp) {
  world_.put(test::pool("public", {"192.0.2.1"}));
  add_web();
  world_.settle();
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  world_.disconnect("node2");
  world_.erase("Service", "shop", "web");
  world_.settle();
  EXPECT_TRUE(world_.state.services.empty());
  const Round waiting = world_.settle();
  ASSERT_TRUE(waiting.plan.again_at);
  world_.pass(std::chrono::seconds(45));
  world_.settle();
  EXPECT_TRUE(world_.state.services.contains("LoadBalancer/shop/lb/http"));
}

TEST_F(Planning, TheIncumbentKeepsAPortThatTwoOwnersOfAClaimWant) {
  world_.put(test::service("shop", "old", {{"metadata", {{"creationTimestamp", test::created(9)}}}}));
  world_.settle();
  world_.put(test::service("shop", "api", {{"metadata", {{"creationTimestamp", test::created(1)}}}}));
  world_.put(test::claim("192.0.2.0", "public", {service_owner("shop", "old"), service_owner("shop", "api")}));
  const Round round = world_.settle();
  EXPECT_TRUE(world_.state.services.contains("Service/shop/old/http"));
  EXPECT_FALSE(world_.state.services.contains("Service/shop/api/http"));
  EXPECT_EQ(round.plan.objects.at(service_owner("shop", "api")).addresses.reason, "PortInUse");
  EXPECT_NE(round.plan.objects.at(service_owner("shop", "old")).addresses.message.find("Service shop/api asks for"),
            std::string::npos);
}

TEST_F(Planning, AClaimDeletedByHandInterruptsNothing) {
  add_web();
  world_.settle();
  expect_claimed_again();
}

TEST_F(Planning, HandMadeSlicesMayNotNameWhatIsNotTheirs) {
  world_.put(
      {{"kind", "ServiceCIDR"}, {"metadata", {{"name", "kubernetes"}}}, {"spec", {{"cidrs", {"10.96.0.0/16"}}}}});
  world_.put(test::slice("default", "kubernetes", {"172.30.0.99"}));
  world_.put(test::service("shop", "web", {{"spec", {{"selector", nullptr}}}}));
  world_.put(test::slice("shop", "web",
                         {"10.244.1.1", "172.30.0.1", "172.30.0.99", "10.96.0.1", "192.0.2.77", "127.0.0.1",
                          "169.254.169.254", "198.51.100.7"}));
  const Round round = world_.settle();
  EXPECT_EQ(world_.backends(web_), "10.244.1.1:8080 198.51.100.7:8080");
  const Finding& found = round.plan.objects.at(service_owner("shop", "web")).backends_resolved;
  EXPECT_EQ(found.reason, "EndpointsRefused");
  for (const char* why : {"172.30.0.1: an address of node node1", "172.30.0.99: the API server's address",
                          "10.96.0.1: in the Services' range 10.96.0.0/16", "192.0.2.77: in AddressPool public",
                          "127.0.0.1: not a global unicast address", "169.254.169.254: not a global unicast"}) {
    EXPECT_NE(found.message.find(why), std::string::npos) << why << " in " << found.message;
  }
}

TEST_F(Planning, TheCacheChangesNothing) {
  add_web();
  world_.put(test::load_balancer("shop", "lb", Json::object()));
  world_.settle();
  const auto check = [&] {
    ResolveCache fresh;
    const RoundInput input = world_.input();
    const Round cached = decide(input, world_.cache);
    EXPECT_EQ(cached.plan.next, decide(input, fresh).plan.next);
    world_.state = cached.plan.next;
  };
  world_.put(test::slice("shop", "web", {"10.244.1.9"}));
  check();
  world_.erase("EndpointSlice", "shop", "web-abcde");
  check();
  world_.put(test::service("shop", "web", {{"spec", {{"selector", nullptr}}}}));
  world_.put(test::slice("shop", "web", {"172.30.0.9"}));
  check();
  EXPECT_EQ(world_.backends(web_), "172.30.0.9:8080");
  world_.put(test::node("node3", "172.30.0.9"));
  check();
  EXPECT_EQ(world_.backends(web_), "") << "the guard has a new address";
}

}  // namespace
}  // namespace sluice::planner
