// How backend records follow the ways to their backends, and egress entries the interfaces and sources of these.
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "tests/unit/program/expectations.h"

namespace sluice::agent::program::testing {
namespace {

using ::testing::IsEmpty;

TEST(Programmer, ABackendOnThisNodeIsLocalAndMovesToAnotherRecordWhenItsPlaceChanges) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1), backend(4)})});
  kernel.program(state, ways());
  EXPECT_EQ(forwarding_of(record_of(kernel, "web", 4)), static_cast<uint32_t>(SLUICE_FORWARD_LOCAL));
  EXPECT_EQ(record_of(kernel, "web", 4).next_hop, 0U);
  EXPECT_EQ(forwarding_of(record_of(kernel, "web", 1)), static_cast<uint32_t>(SLUICE_FORWARD_NAT));
  const auto old = &record_of(kernel, "web", 1);
  Ways now = ways();
  now.next_hops[backend_ip(1)].local = true;
  const Plan plan = kernel.programmer_.plan_ways(kernel.image_.view(), now);
  kernel.make_stores(plan.writes);
  EXPECT_EQ(forwarding_of(record_of(kernel, "web", 1)), static_cast<uint32_t>(SLUICE_FORWARD_LOCAL));
  EXPECT_EQ(forwarding_of(*old), static_cast<uint32_t>(SLUICE_FORWARD_NAT))
      << "a record's identity does not change while a reader may hold it";
  expect_as(kernel, state, now);
}

TEST(Programmer, AChangedWayIsOneStoreForEachRecord) {
  Kernel kernel;
  const auto state = desired({service("web", {1}, {backend(1), backend(2)}), service("b", {2}, {backend(1)})});
  kernel.program(state, ways());
  Ways now = ways();
  now.next_hops[backend_ip(1)].mac = {9, 8, 7, 6, 5, 4};
  const Plan plan = kernel.programmer_.plan_ways(kernel.image_.view(), now);
  EXPECT_EQ(plan.writes.writes().size(), 2U);
  kernel.make_stores(plan.writes);
  EXPECT_EQ(record_of(kernel, "web", 1).next_hop & 0xffffffffffffULL, 0x040506070809ULL);
  EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), nullptr), IsEmpty());
}

TEST(Programmer, TheNodeLinksElementHasSourcesOfItsOwn) {
  Kernel kernel;
  const auto state = desired({service("web", {1}, {backend(1)})});
  Ways now = ways();
  dataplane::Interface& link = now.interfaces[9];
  link.mac = {9, 9, 9, 9, 9, 9};
  link.mtu = 1500;
  link.node_link = true;
  link.sources = {net::IpAddress::parse("169.254.82.2").value(), net::IpAddress::parse("fd00:5182::2").value()};
  kernel.program(state, now);
  const auto element = [&kernel]() -> const sluice_egress& {
    return kernel.image_.view().egress[kernel.programmer_.interface_element(9)];
  };
  EXPECT_EQ(element().ifindex, 9U);
  EXPECT_EQ(element().flags, SLUICE_EGRESS_NODE_LINK);
  EXPECT_EQ(net::IpAddress::from_ipv4(element().source4), link.sources[0]);
  EXPECT_EQ(from_element(element().source6, net::Family::ipv6), link.sources[1]);
  for (const net::IpAddress& source : link.sources) {
    EXPECT_EQ(kernel.address(source), SLUICE_ADDRESS_NAT) << source.to_string();
  }
  // Another version of the agent may have had others.
  link.sources = {net::IpAddress::parse("169.254.82.3").value(), net::IpAddress::parse("fd00:5182::3").value()};
  kernel.program_to_the_end(state, now);
  EXPECT_EQ(net::IpAddress::from_ipv4(element().source4), link.sources[0]);
  EXPECT_EQ(from_element(element().source6, net::Family::ipv6), link.sources[1]);
}

TEST(Programmer, AnEgressEntryStandsForAnInterfaceAndASource) {
  Kernel kernel;
  Ways now = ways();
  now.next_hops[backend_ip(2)] = via(3, 1, "10.0.3.1");
  now.next_hops[backend_ip(3)] = via(2, 1, "10.0.0.2");
  kernel.program(desired({service("web", {1}, {backend(1), backend(2), backend(3), backend(5)})}), now);
  std::set<std::pair<uint32_t, uint32_t>> entries;
  for (const uint32_t n : {1U, 2U, 3U, 5U}) {
    const uint32_t index = SLUICE_NEXT_HOP_EGRESS(record_of(kernel, "web", n).next_hop);
    ASSERT_NE(index, 0U);
    const auto& entry = kernel.image_.view().egress[index];
    entries.emplace(entry.ifindex, entry.source4);
    EXPECT_EQ(entry.mac[0], entry.ifindex) << "the interface's own MAC";
  }
  EXPECT_EQ(entries.size(), 3U);
  for (const auto* source : {"10.0.0.1", "10.0.0.2", "10.0.3.1"}) {
    EXPECT_NE(kernel.address(ip(source)) & SLUICE_ADDRESS_NAT, 0U) << source;
  }
}

TEST(Programmer, AnEgressEntryOfAnInterfaceThatHasGoneIsClearedAfterTheGracePeriod) {
  // The XDP program also searches all entries for an interface.
  Kernel kernel;
  const auto state = desired({service("web", {1}, {backend(1)})});
  kernel.program(state, ways());
  const auto entry = SLUICE_NEXT_HOP_EGRESS(record_of(kernel, "web", 1).next_hop);
  Ways now = ways();
  now.next_hops[backend_ip(1)] = via(3, 1, "10.0.3.1");
  now.interfaces.erase(2);
  kernel.program(state, now);
  EXPECT_EQ(kernel.image_.view().egress[entry].ifindex, 2U) << "readers may still hold the word";
  kernel.restart();
  kernel.program(state, now);
  kernel.grace_over();
  EXPECT_EQ(kernel.image_.view().egress[entry].ifindex, 0U);
  EXPECT_EQ(kernel.image_.view().egress[entry].device, 0U);
  EXPECT_EQ(kernel.image_.view().egress[SLUICE_NEXT_HOP_EGRESS(record_of(kernel, "web", 1).next_hop)].ifindex, 3U);
}

TEST(Programmer, AnInterfacesNewMacAndMtuAreOneStoreEach) {
  Kernel kernel;
  const auto state = desired({service("web", {1}, {backend(1), backend(2)})});
  kernel.program(state, ways());
  Ways now = ways();
  now.interfaces[2] = {{1, 1, 1, 1, 1, 1}, 1400};
  const Plan plan = kernel.programmer_.plan_ways(kernel.image_.view(), now);
  EXPECT_EQ(plan.writes.writes().size(), 2U) << "MTU and MAC are in two words";
  kernel.make_stores(plan.writes);
  EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), nullptr), IsEmpty());
}

TEST(Programmer, ABackendWithoutAWayIsProgrammedAndItsWayFollows) {
  Kernel kernel;
  Ways now = ways();
  now.next_hops.erase(backend_ip(2));
  const auto state = desired({service("web", {1}, {backend(1), backend(2)})});
  EXPECT_THAT(kernel.program(state, now).failures, IsEmpty());
  EXPECT_EQ(record_of(kernel, "web", 2).next_hop, 0U);
  expect_as(kernel, state, now);
  EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), nullptr), IsEmpty());
  kernel.make_stores(kernel.programmer_.plan_ways(kernel.image_.view(), ways()).writes);
  EXPECT_NE(record_of(kernel, "web", 2).next_hop, 0U);
}

TEST(ProgramWays, EachInterfaceHasAnElementWhoseIndexStays) {
  Kernel kernel;
  Ways now = ways();
  now.interfaces[7] = Interface{{7, 7, 7, 7, 7, 7}, 1496, 100, 3, false};
  now.interfaces[8] = Interface{{8, 8, 8, 8, 8, 8}, 1450, 0, 0, true};
  kernel.program(desired({}), now);
  const auto element = [&](uint32_t ifindex) -> const sluice_egress& {
    return kernel.image_.view().egress[kernel.programmer_.interface_element(ifindex)];
  };
  for (const uint32_t ifindex : {2U, 3U, 4U, 7U, 8U}) {
    EXPECT_NE(kernel.programmer_.interface_element(ifindex), 0U);
    EXPECT_EQ(element(ifindex).device, ifindex);
    EXPECT_EQ(element(ifindex).mac[5], ifindex);
  }
  EXPECT_EQ(kernel.programmer_.interface_element(9), 0U);
  EXPECT_EQ(SLUICE_EGRESS_IFINDEX(element(7).ifindex), 3U) << "the device below it transmits";
  EXPECT_EQ(element(7).vlan, __builtin_bswap16(100));
  EXPECT_EQ(element(8).flags, SLUICE_EGRESS_BY_KERNEL);
  EXPECT_EQ(element(2).flags, 0U);
  for (const uint32_t plain : {2U, 3U, 4U}) EXPECT_EQ(element(plain).ifindex, plain);
  for (const uint32_t other : {7U, 8U}) EXPECT_NE(element(other).ifindex & SLUICE_EGRESS_NOT_PLAIN, 0U) << other;
  const uint32_t index = kernel.programmer_.interface_element(2);
  const auto state =
      desired({service("web", {1}, {backend(1)}), service("v6", {1}, {backend(1, 0, 0, true)}, 4, true)});
  kernel.program_to_the_end(state, now);
  EXPECT_EQ(kernel.programmer_.interface_element(2), index);
  kernel.restart();
  EXPECT_TRUE(kernel.program(state, now).writes.empty());
  EXPECT_EQ(kernel.programmer_.interface_element(2), index);
}

TEST(ProgramWays, AnElementThatIsInUseGetsTheSourceOfTheOtherFamilyInPlaceFirstWordLast) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1)})});
  kernel.program(state, ways());
  const uint32_t index = SLUICE_NEXT_HOP_EGRESS(record_of(kernel, "web", 1).next_hop);
  EXPECT_EQ(kernel.image_.view().egress[index].source4, ip("10.0.0.1").ipv4());
  EXPECT_EQ(kernel.image_.view().egress[index].source6.words[0], 0U);
  state.services["v6"] = service("v6", {1}, {backend(1, 0, 0, true)}, 4, true);
  const Plan plan = kernel.programmer_.plan(kernel.image_.view(), state, kNode, ways());
  const sluice_address wanted = raw(ip("2001:db8::1"));
  step_through(plan, kernel.image_, [&](const Write&) {
    const auto& source = kernel.image_.view().egress[index].source6;
    ASSERT_TRUE(source.words[0] == 0 || (source.words[0] == wanted.words[0] && source.words[1] == wanted.words[1]));
  });
  EXPECT_EQ(kernel.image_.view().egress[index].source6.words[0], wanted.words[0]);
  EXPECT_EQ(SLUICE_NEXT_HOP_EGRESS(record_of(kernel, "v6", backend_ip(1, true)).next_hop), index);
}

TEST(ProgramWays, AnInterfacesElementTakesOverTheNodesNewSources) {
  // The node's addresses have changed: ways that the kernel is asked for must not use the former.
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1)}), service("v6", {1}, {backend(1, 0, 0, true)}, 4, true)});
  kernel.program_to_the_end(state, ways());
  Ways now = ways();
  for (auto& [address, way] : now.next_hops) {
    way.source = ip(address.is_ipv4() ? "10.0.0.9" : "2001:db8::9");
  }
  kernel.program_to_the_end(state, now);
  const auto& element = kernel.image_.view().egress[kernel.programmer_.interface_element(2)];
  EXPECT_EQ(element.source4, ip("10.0.0.9").ipv4());
  EXPECT_EQ(element.source6.words[1], raw(ip("2001:db8::9")).words[1]);
  EXPECT_EQ(kernel.address(ip("10.0.0.1")), SLUICE_ADDRESS_NODE) << "nat's no more";
  kernel.restart();
  EXPECT_TRUE(kernel.program(state, now).writes.empty());
}

TEST(ProgramWays, DirectAndIpInIpHaveAWayToTheBackendItself) {
  Kernel kernel;
  auto web = service("web", {1}, {backend(1)});
  web.port = 8080;
  web.forwarding = state::Forwarding::direct;
  kernel.program(desired({web}), ways());
  EXPECT_EQ(forwarding_of(record_of(kernel, "web", 1)), static_cast<uint32_t>(SLUICE_FORWARD_DIRECT));
  EXPECT_EQ(record_of(kernel, "web", 1).next_hop & 0xffffffffffffULL, 0x010000000002ULL);
}

TEST(ProgramWays, WhoIsToldWhatHasChangedLooksAtNothingElse) {
  Kernel kernel;
  auto state = desired({service("a", {1}, {backend(1)}), service("b", {2}, {backend(1), backend(2)})});
  kernel.program(state, ways());
  Ways now = ways();
  now.next_hops[backend_ip(1)].mac[0] = 99;
  now.next_hops[backend_ip(2)].mac[0] = 98;
  const Changes one{{}, {backend_ip(1)}};
  const Plan plan = kernel.programmer_.plan_ways(kernel.image_.view(), now, &one);
  kernel.make_stores(plan.writes);
  EXPECT_EQ(plan.writes.writes().size(), 2U);
  EXPECT_EQ(record_of(kernel, "b", 1).next_hop & 0xff, 99U);
  EXPECT_NE(record_of(kernel, "b", 2).next_hop & 0xff, 98U);
  state.services["a"].backends.push_back(backend(3));
  state.services["b"].backends.push_back(backend(3));
  const Changes a{{"a"}, {}};
  kernel.make_stores(kernel.programmer_.plan(kernel.image_.view(), state, kNode, now, &a).writes);
  EXPECT_EQ(kernel.read(key_of(state.services["a"])), expected(state, now).at(key_of(state.services["a"])));
  EXPECT_NE(kernel.read(key_of(state.services["b"])), expected(state, now).at(key_of(state.services["b"])));
  kernel.program(state, now);
  expect_as(kernel, state, now);
}

}  // namespace
}  // namespace sluice::agent::program::testing
