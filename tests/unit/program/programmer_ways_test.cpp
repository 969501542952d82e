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
  EXPECT_EQ(record_of(kernel, "web", 4).forwarding, SLUICE_FORWARD_LOCAL);
  EXPECT_EQ(record_of(kernel, "web", 4).next_hop, 0U);
  EXPECT_EQ(record_of(kernel, "web", 1).forwarding, SLUICE_FORWARD_NAT);
  const auto old = &record_of(kernel, "web", 1);
  Ways now = ways();
  now.next_hops[backend_ip(1)].local = true;
  const Plan plan = kernel.programmer_.plan_ways(kernel.image_.view(), now);
  kernel.make_stores(plan.writes);
  EXPECT_EQ(record_of(kernel, "web", 1).forwarding, SLUICE_FORWARD_LOCAL);
  EXPECT_EQ(old->forwarding, SLUICE_FORWARD_NAT) << "a record's identity does not change while a reader may hold it";
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
    entries.emplace(entry.ifindex, entry.source);
    EXPECT_EQ(entry.mac[0], entry.ifindex) << "the interface's own MAC";
  }
  EXPECT_EQ(entries.size(), 3U);
  const auto& sources = kernel.image_.view().config->nat_sources;
  for (const auto* source : {"10.0.0.1", "10.0.0.2", "10.0.3.1"}) {
    EXPECT_NE(std::find(std::begin(sources), std::end(sources), ip(source).ipv4()), std::end(sources)) << source;
  }
}

TEST(Programmer, AnEgressEntryThatNoRecordNamesIsClearedAfterTheGracePeriod) {
  // The XDP program also searches all entries for an interface.
  Kernel kernel;
  const auto state = desired({service("web", {1}, {backend(1)})});
  kernel.program(state, ways());
  const auto entry = SLUICE_NEXT_HOP_EGRESS(record_of(kernel, "web", 1).next_hop);
  Ways now = ways();
  now.next_hops[backend_ip(1)] = via(3, 1, "10.0.3.1");
  kernel.program(state, now);
  EXPECT_EQ(kernel.image_.view().egress[entry].ifindex, 2U) << "readers may still hold the word";
  kernel.restart();
  kernel.program(state, now);
  kernel.grace_over();
  EXPECT_EQ(kernel.image_.view().egress[entry].ifindex, 0U);
  EXPECT_EQ(kernel.image_.view().egress[SLUICE_NEXT_HOP_EGRESS(record_of(kernel, "web", 1).next_hop)].ifindex, 3U);
}

TEST(Programmer, AnInterfacesNewMacAndMtuAreOneStore) {
  Kernel kernel;
  const auto state = desired({service("web", {1}, {backend(1), backend(2)})});
  kernel.program(state, ways());
  Ways now = ways();
  now.interfaces[2] = {{1, 1, 1, 1, 1, 1}, 1400};
  const Plan plan = kernel.programmer_.plan_ways(kernel.image_.view(), now);
  EXPECT_EQ(plan.writes.writes().size(), 1U);
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

}  // namespace
}  // namespace sluice::agent::program::testing
