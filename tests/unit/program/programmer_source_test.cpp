// Who may send to a service, what addresses are to the node, and which backends count there.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/program/expectations.h"

namespace sluice::agent::program::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

net::Prefix prefix(const std::string& text) {
  return net::Prefix::parse(text).value();
}

uint32_t set_of(const Kernel& kernel, const std::string& id) {
  return SLUICE_SETTINGS_SOURCES(kernel.image_.view().services[kernel.programmer_.programmed().at(id).index].settings);
}

TEST(ProgramSources, AServicesAllowedSourcesAreASetThatIsThereBeforeAnythingLeadsToIt) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1)}), service("all", {2}, {backend(1)})});
  state.services["web"].allowed_sources = {prefix("203.0.113.0/24"), prefix("198.51.100.0/24"),
                                           prefix("203.0.113.0/24")};
  const Plan plan = kernel.program(state, ways());
  EXPECT_THAT(plan.failures, IsEmpty());
  ASSERT_EQ(plan.source_sets_to_add.size(), 1U);
  const SourceSet& set = plan.source_sets_to_add[0];
  EXPECT_THAT(set.prefixes, ElementsAre(prefix("198.51.100.0/24"), prefix("203.0.113.0/24")));
  EXPECT_EQ(set.family, net::Family::ipv4);
  EXPECT_EQ(set_of(kernel, "web"), set.id);
  EXPECT_EQ(set_of(kernel, "all"), 0U);
  EXPECT_THAT(kernel.programmer_.source_sets(), ElementsAre(set.id));
}

TEST(ProgramSources, ServicesThatAllowTheSameShareASetAndKeepItWhileTheyDo) {
  Kernel kernel;
  auto state = desired({service("a", {1}, {backend(1)}), service("b", {2}, {backend(1)})});
  state.services["a"].allowed_sources = {prefix("203.0.113.0/24"), prefix("198.51.100.0/24")};
  state.services["b"].allowed_sources = {prefix("198.51.100.0/24"), prefix("203.0.113.0/24")};
  EXPECT_EQ(kernel.program(state, ways()).source_sets_to_add.size(), 1U);
  const uint32_t id = set_of(kernel, "a");
  EXPECT_EQ(set_of(kernel, "b"), id);
  state.services["a"].backends.push_back(backend(2));
  const Plan other = kernel.program(state, ways());
  EXPECT_THAT(other.source_sets_to_add, IsEmpty());
  EXPECT_EQ(set_of(kernel, "a"), id);
  // One of them changes: another set; the first stays for the other.
  state.services["a"].allowed_sources.pop_back();
  const Plan plan = kernel.program(state, ways());
  EXPECT_EQ(plan.source_sets_to_add.size(), 1U);
  EXPECT_THAT(plan.source_sets_to_remove, IsEmpty());
  EXPECT_NE(set_of(kernel, "a"), id);
  // The other goes, and its set with it.
  state.services.erase("b");
  EXPECT_THAT(kernel.program(state, ways()).source_sets_to_remove, ElementsAre(id));
  // The same need at once: another id, as a reader may still know the first.
  state.services["b"] = service("b", {2}, {backend(1)});
  state.services["b"].allowed_sources = {prefix("198.51.100.0/24"), prefix("203.0.113.0/24")};
  kernel.program(state, ways());
  EXPECT_NE(set_of(kernel, "b"), id);
}

TEST(ProgramSources, PrefixesOfTheOtherFamilyAreNotTheServicesAndAloneAllowNobody) {
  Kernel kernel;
  auto state = desired({service("v4", {1}, {backend(1)}), service("v6", {1}, {backend(1, 0, 0, true)}, 4, true)});
  for (auto& [id, service] : state.services) {
    service.allowed_sources = {prefix("203.0.113.0/24")};
  }
  kernel.program(state, ways());
  EXPECT_THAT(kernel.sets_.at(set_of(kernel, "v4")).prefixes, ElementsAre(prefix("203.0.113.0/24")));
  ASSERT_NE(set_of(kernel, "v6"), 0U);
  EXPECT_THAT(kernel.sets_.at(set_of(kernel, "v6")).prefixes, IsEmpty());
  EXPECT_EQ(kernel.sets_.at(set_of(kernel, "v6")).family, net::Family::ipv6);
}

TEST(ProgramSources, AfterARestartNobodyKnowsWhatIsInASetSoThatAnotherTakesItsPlace) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1)})});
  state.services["web"].allowed_sources = {prefix("203.0.113.0/24")};
  kernel.program(state, ways());
  const uint32_t id = set_of(kernel, "web");
  kernel.restart();
  const Plan plan = kernel.program(state, ways());
  EXPECT_EQ(plan.writes.writes().size(), 1U);
  EXPECT_THAT(plan.source_sets_to_remove, ElementsAre(id));
  EXPECT_NE(set_of(kernel, "web"), id);
  EXPECT_THAT(kernel.sets_.at(set_of(kernel, "web")).prefixes, ElementsAre(prefix("203.0.113.0/24")));
}

TEST(ProgramSources, AServiceWithoutRoomBringsNoSet) {
  Sizes sizes = small_sizes();
  sizes.backends = 2;
  Kernel kernel(sizes);
  auto web = service("web", {1}, {backend(1), backend(2), backend(3)});
  web.allowed_sources = {prefix("203.0.113.0/24")};
  const Plan plan = kernel.program(desired({web}), ways());
  EXPECT_EQ(plan.failures.size(), 1U);
  EXPECT_THAT(plan.source_sets_to_add, IsEmpty());
  EXPECT_THAT(plan.source_sets_to_remove, IsEmpty());
  EXPECT_THAT(kernel.programmer_.source_sets(), IsEmpty());
}

TEST(ProgramAddresses, AnAddressIsAllThatItIsAtOnce) {
  Kernel kernel;
  Ways now = ways_with_peers();
  auto state = desired({service("web", {1}, {backend(1)}), service("v6", {2}, {backend(2, 0, 0, true)}, 4, true)});
  state.services["web"].addresses.push_back(ip("10.0.0.1"));  // the node's own, and nat's source
  kernel.program(state, now);
  EXPECT_EQ(kernel.address(service_ip(1)), SLUICE_ADDRESS_SERVICE);
  EXPECT_EQ(kernel.address(service_ip(2, true)), SLUICE_ADDRESS_SERVICE);
  EXPECT_EQ(kernel.address(ip("10.0.0.1")), SLUICE_ADDRESS_SERVICE | SLUICE_ADDRESS_NODE | SLUICE_ADDRESS_NAT);
  EXPECT_EQ(kernel.address(ip("2001:db8::1")), SLUICE_ADDRESS_NODE | SLUICE_ADDRESS_NAT);
  EXPECT_EQ(kernel.address(ip("10.0.0.77")), 0U);
  now.peers.clear();
  kernel.program(state, now);
  EXPECT_EQ(kernel.address(ip("10.0.0.101")), 0U);
  // The last of two services at an address goes.
  state.services["second"] = service("second", {1}, {});
  state.services["second"].port = 81;
  kernel.program(state, now);
  state.services.erase("web");
  kernel.program(state, now);
  EXPECT_EQ(kernel.address(service_ip(1)), SLUICE_ADDRESS_SERVICE);
  EXPECT_EQ(kernel.address(ip("10.0.0.1")) & ~SLUICE_ADDRESS_NAT, SLUICE_ADDRESS_NODE);
  state.services.erase("second");
  now.node_addresses.clear();
  now.interfaces.erase(2);
  kernel.program(state, now);
  EXPECT_EQ(kernel.address(service_ip(1)), 0U);
  EXPECT_EQ(kernel.address(ip("10.0.0.1")), 0U);
  EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), nullptr), IsEmpty());
}

TEST(ProgramAddresses, CheckNamesAnAddressWhoseKeyDiffers) {
  Kernel kernel;
  const Plan plan = kernel.program(desired({}), ways());
  EXPECT_FALSE(plan.touched.keys.empty());
  const auto word = WholeKey{ip("10.0.0.1"), 0, 0}.word();
  auto* entries = static_cast<sluice_key_entry*>(kernel.image_.data(MapId::keys));
  for (uint32_t i = 0; i < kernel.sizes_.keys; ++i) {
    if (entries[i].key == word) {
      entries[i].value = 1;
    }
  }
  EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), nullptr),
              ElementsAre(Failure("10.0.0.1", "ReadBackDiffers")));
  EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), &plan.touched),
              ElementsAre(Failure("10.0.0.1", "ReadBackDiffers")));
}

TEST(ProgramPolicy, WithThePolicyLocalOnlyBackendsOfThisNodeCount) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(0), backend(1), backend(2), backend(4, 0, 5)})});
  state.services["web"].traffic_policy = state::TrafficPolicy::local;
  kernel.program(state, ways());
  expect_as(kernel, state, ways());
  const auto found = kernel.read(key_of(state.services["web"]));
  ASSERT_EQ(found->planes.size(), 2U);
  for (const auto& slot : found->planes[0]) {
    EXPECT_EQ(slot->forwarding, static_cast<uint32_t>(SLUICE_FORWARD_LOCAL));
  }
  // A node without any keeps the keys and has no table.
  state.services["web"].backends = {backend(1), backend(2)};
  kernel.program(state, ways());
  EXPECT_EQ(kernel.read(key_of(state.services["web"])), Found{});
  EXPECT_EQ(kernel.programmer_.programmed().at("web").table, 0U);
  EXPECT_EQ(kernel.address(service_ip(1)), SLUICE_ADDRESS_SERVICE);
  // One turns out to be on this machine.
  Ways now = ways();
  now.next_hops[backend_ip(1)].local = true;
  kernel.make_stores(kernel.programmer_.plan_ways(kernel.image_.view(), now).writes);
  expect_as(kernel, state, now);
  EXPECT_NE(kernel.programmer_.programmed().at("web").table, 0U);
}

TEST(ProgramHistory, ABackendThatOnlyHistoryNamesHasLeftAfterTheSwitchAndIsBackBeforeIt) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1), backend(2)})});
  kernel.program(state, ways());
  const auto no_table_names_one_that_left = [&] {
    const auto found = kernel.read(key_of(state.services["web"]));
    for (const auto& slot : found->planes.at(0)) {
      ASSERT_EQ(slot->flags & SLUICE_BACKEND_LEFT, 0U);
    }
  };
  const auto change = [&] {
    const Plan plan = kernel.programmer_.plan(kernel.image_.view(), state, kNode, ways());
    step_through(plan, kernel.image_, [&](const Write&) { no_table_names_one_that_left(); });
    kernel.grace_over();
    expect_as(kernel, state, ways());
  };
  state.services["web"].backends[1].left = 5;
  change();
  EXPECT_EQ(SLUICE_BACKEND_FLAGS(record_of(kernel, "web", 2).what), SLUICE_BACKEND_LEFT);
  state.services["web"].backends.push_back(backend(2, 8));
  change();
  EXPECT_EQ(SLUICE_BACKEND_FLAGS(record_of(kernel, "web", 2).what), 0U);
  // In another group it is the same backend.
  state.services["web"].backends[2].left = 9;
  state.services["web"].groups.push_back({"other", 1});
  state.services["web"].backends.push_back(backend(2, 9));
  state.services["web"].backends[3].group = 1;
  change();
  EXPECT_EQ(SLUICE_BACKEND_FLAGS(record_of(kernel, "web", 2).what), 0U);
}

}  // namespace
}  // namespace sluice::agent::program::testing
