// The standalone file: what it may say, and that every mistake is found with its place and its field.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "node-agent/config/standalone.h"

namespace sluice::agent::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kHead = "apiVersion: sluice.io/v1alpha1\nkind: StandaloneConfig\n";

// One load balancer of one line an own field; `extra` replaces or adds lines.
std::string with_balancer(const std::string& body) {
  return std::string(kHead) + "loadBalancers:\n" + body;
}

constexpr const char* kGood = R"(- name: web
  addresses: [192.0.2.10]
  ports: [{name: http, port: 80, protocol: TCP, backendPort: 8080}]
  backends: [{name: a, address: 10.0.0.2}, {name: b, address: 10.0.0.3, weight: 2}]
)";

std::vector<std::string> mistakes(const std::string& text) {
  const auto config = parse_standalone(text);
  std::vector<std::string> out;
  if (config) return out;
  for (const Mistake& mistake : config.error()) out.push_back(mistake.text("lb.yaml"));
  return out;
}

StandaloneConfig good(const std::string& text) {
  EXPECT_THAT(mistakes(text), IsEmpty());
  return parse_standalone(text).value_or(StandaloneConfig{});
}

TEST(StandaloneConfig, OneServiceForEachPortWithOneGroupForEachBackend) {
  const auto config = good(with_balancer(kGood));
  ASSERT_EQ(config.services.size(), 1U);
  const state::Service& service = config.services.front();
  EXPECT_EQ(service.id, "web/http");
  EXPECT_EQ(service.port, 80);
  EXPECT_EQ(service.protocol, state::Protocol::tcp);
  EXPECT_EQ(service.drain_seconds, 300U);
  EXPECT_EQ(service.groups, (std::vector<state::Group>{{"a", 1}, {"b", 2}}));
  ASSERT_EQ(service.backends.size(), 2U);
  EXPECT_EQ(service.backends[1].address.to_string(), "10.0.0.3");
  EXPECT_EQ(service.backends[1].port, 8080);
  EXPECT_EQ(service.backends[1].group, 1U);
}

TEST(StandaloneConfig, BackendPortIsThePortUnlessSaidAndABackendMayOverrideIt) {
  const auto config = good(with_balancer(R"(- name: dns
  addresses: [192.0.2.10]
  ports: [{name: udp, port: 53, protocol: UDP}, {name: tcp, port: 53}]
  backends: [{name: a, address: 10.0.0.2, ports: [{name: udp, port: 5353}]}]
)"));
  ASSERT_EQ(config.services.size(), 2U);
  EXPECT_EQ(config.services[0].backends[0].port, 5353);
  EXPECT_EQ(config.services[0].protocol, state::Protocol::udp);
  EXPECT_EQ(config.services[1].backends[0].port, 53);
}

TEST(StandaloneConfig, DrainAffinityForwardingAndInterfacesAreTaken) {
  const auto config = good(std::string(kHead) + R"(interfaces: [eth0, {name: "en*", mode: Generic}, {name: eth1}]
loadBalancers:
- name: web
  addresses: [192.0.2.10]
  ports: [{name: http, port: 80}]
  backends: [{name: a, address: 10.0.0.2, weight: 0}]
  forwarding: NAT
  externalTrafficPolicy: Cluster
  ipFamilyPolicy: SingleStack
  ipFamilies: [IPv4]
  sessionAffinity: {clientIP: {timeoutSeconds: 60}}
  drain: {timeoutSeconds: 0}
)");
  EXPECT_EQ(config.interfaces,
            (std::vector<Interface>{
                {"eth0", InterfaceMode::unset}, {"en*", InterfaceMode::generic}, {"eth1", InterfaceMode::unset}}));
  ASSERT_EQ(config.services.size(), 1U);
  EXPECT_EQ(config.services[0].affinity, state::Affinity::client_ip);
  EXPECT_EQ(config.services[0].affinity_seconds, 60U);
  EXPECT_EQ(config.services[0].forwarding, state::Forwarding::nat);
  EXPECT_EQ(config.services[0].drain_seconds, 0U);
  EXPECT_EQ(config.services[0].groups[0].weight, 0U);
}

TEST(StandaloneConfig, ForwardingIsTakenByName) {
  const std::pair<const char*, state::Forwarding> rows[] = {{"Auto", state::Forwarding::automatic},
                                                            {"NAT", state::Forwarding::nat},
                                                            {"Tunnel", state::Forwarding::tunnel},
                                                            {"Direct", state::Forwarding::direct}};
  for (const auto& [name, forwarding] : rows) {
    const auto config = good(with_balancer(std::string(kGood) + "  forwarding: " + name + "\n"));
    ASSERT_EQ(config.services.size(), 1U) << name;
    EXPECT_EQ(config.services[0].forwarding, forwarding) << name;
  }
}

TEST(StandaloneConfig, AllowedSourcesOfBothFamiliesAreTakenByEveryService) {
  const auto config = good(with_balancer(R"(- name: web
  addresses: [192.0.2.10, "2001:db8::10"]
  ports: [{name: http, port: 80}]
  backends: [{name: a, address: 10.0.0.2}, {name: b, address: "2001:db8:1::2"}]
  allowedSources: [203.0.113.0/24, "2001:db8:2::/48", 203.0.113.7/32]
)"));
  ASSERT_EQ(config.services.size(), 2U);
  for (const state::Service& service : config.services) {
    ASSERT_EQ(service.allowed_sources.size(), 3U) << service.id;
    EXPECT_EQ(service.allowed_sources[1].to_string(), "2001:db8:2::/48");
  }
}

TEST(StandaloneConfig, DualStackIsAServiceForEachFamilyWithItsAddressesAndBackends) {
  const auto config = good(with_balancer(R"(- name: web
  addresses: [192.0.2.10, "2001:db8::10", 192.0.2.11]
  ports: [{name: http, port: 80}, {name: https, port: 443}]
  backends: [{name: a, address: "2001:db8:1::2", weight: 3}, {name: b, address: 10.0.0.2}]
  ipFamilyPolicy: RequireDualStack
  ipFamilies: [IPv6, IPv4]
)"));
  ASSERT_EQ(config.services.size(), 4U);
  EXPECT_EQ(config.services[0].id, "web/http");
  EXPECT_EQ(config.services[1].id, "web/http/IPv6");
  EXPECT_EQ(config.services[3].id, "web/https/IPv6");
  EXPECT_EQ(config.services[0].addresses.size(), 2U);
  EXPECT_EQ(config.services[0].groups, (std::vector<state::Group>{{"b", 1}}));
  ASSERT_EQ(config.services[1].addresses.size(), 1U);
  EXPECT_EQ(config.services[1].addresses[0].to_string(), "2001:db8::10");
  EXPECT_EQ(config.services[1].groups, (std::vector<state::Group>{{"a", 3}}));
  ASSERT_EQ(config.services[1].backends.size(), 1U);
  EXPECT_EQ(config.services[1].backends[0].address.to_string(), "2001:db8:1::2");
  EXPECT_EQ(config.services[1].backends[0].group, 0U);
}

TEST(StandaloneConfig, NoLoadBalancersIsAWishButHasToBeWritten) {
  EXPECT_TRUE(good(std::string(kHead) + "loadBalancers: []\n").services.empty());
  EXPECT_THAT(mistakes(kHead), ElementsAre("lb.yaml:1:1: loadBalancers: is missing"));
}

TEST(StandaloneConfig, MistakeNamesFileLineColumnFieldAndWhatIsThere) {
  EXPECT_THAT(mistakes(with_balancer(R"(- name: web
  addresses: [192.0.2.10]
  ports: [{name: http, port: 80}]
  backends:
  - {name: a, address: 10.0.0.2}
  - name: b
    address: 10.0.0.3
    weight: -3
)")),
              ElementsAre("lb.yaml:11:13: loadBalancers[0].backends[1].weight: must be 0..1000, is -3"));
}

TEST(StandaloneConfig, AllMistakesAreFoundInTheOrderOfTheirLines) {
  const auto found = mistakes(with_balancer(R"(- name: Web
  addresses: [192.0.2.10, 192.0.2.10]
  ports: [{name: http, port: 0}]
  backends: [{name: a, address: nonsense}]
)"));
  EXPECT_THAT(found, ElementsAre(HasSubstr("lb.yaml:4:9: loadBalancers[0].name: must be 1..63 lower-case letters"),
                                 HasSubstr("lb.yaml:5:27: loadBalancers[0].addresses[1]: 192.0.2.10 is given twice"),
                                 HasSubstr("lb.yaml:6:30: loadBalancers[0].ports[0].port: must be 1..65535, is 0"),
                                 HasSubstr("backends[0].address: must be an address, is \"nonsense\"")));
}

struct Refused {
  const char* name;
  const char* body;     // of loadBalancers
  const char* message;  // part of the only mistake
};
class RefusedBalancer : public testing::TestWithParam<Refused> {};

TEST_P(RefusedBalancer, WithItsReason) {
  EXPECT_THAT(mistakes(with_balancer(GetParam().body)), ElementsAre(HasSubstr(GetParam().message)));
}

const Refused kRefused[] = {
    {"misspelt_field",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, adress: 10.0.0.1, address: "
     "10.0.0.1}]}",
     "loadBalancers[0].backends[0].adress: no such field; is it address?"},
    {"unknown_field",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, address: 10.0.0.1}], zzz: "
     "1}",
     "loadBalancers[0].zzz: no such field"},
    {"field_twice",
     "- {name: w, name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, address: "
     "10.0.0.1}]}",
     "loadBalancers[0].name: is given twice"},
    {"address_not_canonical",
     "- {name: w, addresses: [\"2001:DB8::1\"], ports: [{name: p, port: 1}], backends: [{name: a, address: "
     "\"2001:db8:1::1\"}]}",
     "addresses[0]: must be an address, is \"2001:DB8::1\": not in canonical form (RFC 5952): write 2001:db8::1"},
    {"link_local",
     "- {name: w, addresses: [\"fe80::1\"], ports: [{name: p, port: 1}], backends: [{name: a, address: "
     "\"2001:db8:1::1\"}]}",
     "fe80::1 is not the address of a single host"},
    {"address_of_a_family_without_a_backend",
     "- {name: w, addresses: [192.0.2.1, \"2001:db8::1\"], ports: [{name: p, port: 1}], backends: [{name: a, address: "
     "10.0.0.1}]}",
     "addresses: an address is IPv6 and no backend is"},
    {"backend_of_a_family_without_an_address",
     "- {name: w, addresses: [\"2001:db8::1\"], ports: [{name: p, port: 1}], backends: [{name: a, address: 10.0.0.1}, "
     "{name: b, address: \"2001:db8:1::1\"}]}",
     "backends: a backend is IPv4 and no address is"},
    {"loopback",
     "- {name: w, addresses: [127.0.0.1], ports: [{name: p, port: 1}], backends: [{name: a, address: 10.0.0.1}]}",
     "127.0.0.1 is not the address of a single host"},
    {"sctp",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1, protocol: SCTP}], backends: [{name: a, address: "
     "10.0.0.1}]}",
     "ports[0].protocol: NotSupported: SCTP"},
    {"protocol_in_lower_case",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1, protocol: tcp}], backends: [{name: a, address: "
     "10.0.0.1}]}",
     "ports[0].protocol: must be TCP or UDP, is \"tcp\"; is it TCP?"},
    {"port_as_text",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: \"80\"}], backends: [{name: a, address: 10.0.0.1}]}",
     "ports[0].port: must be 1..65535, is the text \"80\""},
    {"backend_port_by_name",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1, backendPort: http}], backends: [{name: a, "
     "address: 10.0.0.1}]}",
     "ports[0].backendPort: must be a number, is \"http\": a port's name means something only with a Service"},
    {"port_twice",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}, {name: q, port: 1}], backends: [{name: a, "
     "address: 10.0.0.1}]}",
     "ports[1]: port 1 TCP is given twice"},
    {"service_backend",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, service: {name: s}}]}",
     "backends[0].service: there are no Services without Kubernetes: give an address"},
    {"backend_twice",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, address: 10.0.0.1}, {name: "
     "b, address: "
     "10.0.0.1}]}",
     "backends[1]: 10.0.0.1:1 is already the backend a of port p"},
    {"backend_name_twice",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, address: 10.0.0.1}, {name: "
     "a, address: "
     "10.0.0.2}]}",
     "backends[1]: the name a is given twice"},
    {"backend_is_balanced",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, address: 192.0.2.1}]}",
     "packets would go in circles"},
    {"override_of_no_port",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, address: 10.0.0.1, ports: "
     "[{name: q, "
     "port: 2}]}]}",
     "no port of this load balancer is named q"},
    {"weight_above",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, address: 10.0.0.1, weight: "
     "1001}]}",
     "weight: must be 0..1000, is 1001"},
    {"weight_with_fraction",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, address: 10.0.0.1, weight: "
     "1.5}]}",
     "weight: must be 0..1000, is 1.5"},
    {"no_backends", "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: []}",
     "backends: must have 1..256 entries, has 0"},
    {"pools",
     "- {name: w, addresses: [192.0.2.1], addressPools: [x], ports: [{name: p, port: 1}], backends: [{name: a, "
     "address: 10.0.0.1}]}",
     "addressPools: NotSupported"},
    {"allowed_source_with_host_bits",
     "- {name: w, addresses: [192.0.2.1], allowedSources: [10.0.0.1/8], ports: [{name: p, port: 1}], backends: [{name: "
     "a, address: 10.0.0.1}]}",
     "allowedSources[0]: must be a prefix as 203.0.113.0/24, is \"10.0.0.1/8\""},
    {"affinity_timeout_above",
     "- {name: w, addresses: [192.0.2.1], sessionAffinity: {clientIP: {timeoutSeconds: 86401}}, ports: [{name: p, "
     "port: "
     "1}], backends: [{name: a, address: 10.0.0.1}]}",
     "sessionAffinity.clientIP.timeoutSeconds: must be 1..86400, is 86401"},
    {"health_check",
     "- {name: w, addresses: [192.0.2.1], healthCheck: {}, ports: [{name: p, port: 1}], backends: [{name: a, address: "
     "10.0.0.1}]}",
     "healthCheck: NotSupported"},
    {"sharing_key",
     "- {name: w, addresses: [192.0.2.1], sharingKey: k, ports: [{name: p, port: 1}], backends: [{name: a, address: "
     "10.0.0.1}]}",
     "sharingKey: NotSupported"},
    {"forwarding_unknown",
     "- {name: w, addresses: [192.0.2.1], forwarding: DSR, ports: [{name: p, port: 1}], backends: [{name: a, "
     "address: 10.0.0.1}]}",
     "forwarding: must be Auto or NAT or Tunnel or Direct, is \"DSR\""},
    {"local_policy",
     "- {name: w, addresses: [192.0.2.1], externalTrafficPolicy: Local, ports: [{name: p, port: 1}], backends: [{name: "
     "a, address: "
     "10.0.0.1}]}",
     "externalTrafficPolicy: there are no other nodes without Kubernetes"},
    {"dual_stack_with_one_family",
     "- {name: w, addresses: [192.0.2.1], ipFamilyPolicy: RequireDualStack, ports: [{name: p, port: 1}], backends: "
     "[{name: a, address: 10.0.0.1}]}",
     "ipFamilyPolicy: RequireDualStack, but the addresses are of one family"},
    {"single_stack_with_two_families",
     "- {name: w, addresses: [192.0.2.1, \"2001:db8::1\"], ipFamilyPolicy: SingleStack, ports: [{name: p, port: 1}], "
     "backends: [{name: a, address: 10.0.0.1}, {name: b, address: \"2001:db8:1::1\"}]}",
     "ipFamilyPolicy: SingleStack, but the addresses are of both families"},
    {"family_without_an_address",
     "- {name: w, addresses: [192.0.2.1], ipFamilies: [IPv4, IPv6], ports: [{name: p, port: 1}], backends: [{name: a, "
     "address: 10.0.0.1}]}",
     "ipFamilies[1]: no address is IPv6: list one"},
    {"address_taken_by_another",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, address: 10.0.0.1}]}\n"
     "- {name: v, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, address: 10.0.0.1}]}",
     "loadBalancers[1]: 192.0.2.1:1 TCP is already taken by w"},
    {"name_twice",
     "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, address: 10.0.0.1}]}\n"
     "- {name: w, addresses: [192.0.2.2], ports: [{name: p, port: 1}], backends: [{name: a, address: 10.0.0.1}]}",
     "loadBalancers[1]: the name w is given twice"},
};
INSTANTIATE_TEST_SUITE_P(Table, RefusedBalancer, testing::ValuesIn(kRefused),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(StandaloneConfig, AddressMayBeSharedOnAnotherPort) {
  EXPECT_EQ(
      good(with_balancer(
               "- {name: w, addresses: [192.0.2.1], ports: [{name: p, port: 1}], backends: [{name: a, address: "
               "10.0.0.1}]}\n"
               "- {name: v, addresses: [192.0.2.1], ports: [{name: p, port: 1, protocol: UDP}], backends: [{name: a, "
               "address: 10.0.0.1}]}"))
          .services.size(),
      2U);
}

TEST(StandaloneConfig, WhatIsNoYamlIsToldWithItsPlace) {
  EXPECT_THAT(mistakes("apiVersion: [\nkind: x"), ElementsAre(HasSubstr("lb.yaml:")));
  EXPECT_THAT(mistakes("a: b: c"), ElementsAre(HasSubstr("not YAML: ")));
  EXPECT_THAT(mistakes(""), ElementsAre("lb.yaml:1:1: the file is empty"));
  EXPECT_THAT(mistakes("just a text"), ElementsAre("lb.yaml:1:1: must be a mapping, is just a text"));
  EXPECT_THAT(mistakes(with_balancer(kGood) + "---\na: b\n"), ElementsAre(HasSubstr("one document is expected")));
}

TEST(StandaloneConfig, OtherKindsAndVersionsAreRefused) {
  EXPECT_THAT(mistakes("apiVersion: sluice.io/v2\nkind: LoadBalancer\nloadBalancers: []\n"),
              ElementsAre("lb.yaml:1:13: apiVersion: must be sluice.io/v1alpha1, is \"sluice.io/v2\"",
                          "lb.yaml:2:7: kind: must be StandaloneConfig, is \"LoadBalancer\""));
}

TEST(StandaloneConfig, InterfaceNamesAreChecked) {
  EXPECT_THAT(mistakes(std::string(kHead) + "interfaces: [a-name-that-is-too-long, eth0, eth0]\nloadBalancers: []\n"),
              ElementsAre(HasSubstr("interfaces[0]: must be a device's name or a pattern of at most 15 characters"),
                          HasSubstr("interfaces[2]: eth0 is given twice")));
}

}  // namespace
}  // namespace sluice::agent::config
