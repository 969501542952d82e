#include "node-agent/program/programmer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>

#include "tests/unit/program/scene.h"

namespace sluice::agent::program::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

MATCHER_P2(Failure, service, reason, "") {
  return arg.service == service && arg.reason == reason;
}

void expect_as(const Kernel& kernel, const state::DesiredState& desired, const Ways& ways) {
  for (const auto& [key, found] : expected(desired, ways)) {
    EXPECT_EQ(kernel.read(key), found) << key_text(key);
  }
  EXPECT_EQ(kernel.programmer_.keys().positions().size(), expected(desired, ways).size());
}

uint64_t table_word(const Kernel& kernel, const std::string& id) {
  const auto& programmed = kernel.programmer_.programmed().at(id);
  return kernel.image_.view().services[programmed.index].table;
}

const sluice_backend& record_of(const Kernel& kernel, const std::string& id, uint32_t backend_number) {
  const auto& programmed = kernel.programmer_.programmed().at(id);
  for (uint32_t i = 0; i < programmed.records.size(); ++i) {
    const auto& element = kernel.image_.view().backends[programmed.backends->first + i];
    if (programmed.records[i].state == Record::State::used && element.address == backend_ip(backend_number).ipv4()) {
      return element;
    }
  }
  throw std::out_of_range("no such record");
}

TEST(Programmer, LeadsEachKeyToTheTableThatMaglevBuilds) {
  Kernel kernel;
  const auto state =
      desired({service("web", {1, 2}, {backend(1), backend(2), backend(4)}), service("dns", {3}, {backend(5)})});
  EXPECT_THAT(kernel.program(state, ways()).failures, IsEmpty());
  expect_as(kernel, state, ways());
  EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), nullptr), IsEmpty());
}

TEST(Programmer, KeepsEarlierCandidatesInPlanesOfTheSameRange) {
  Kernel kernel;
  const auto state = desired({service("web", {1}, {backend(1), backend(2, 0, 5), backend(3, 5), backend(6, 7)})});
  kernel.program(state, ways());
  EXPECT_GT(SLUICE_TABLE_EARLIER(table_word(kernel, "web")), 0U);
  expect_as(kernel, state, ways());
}

TEST(Programmer, TheSameDesiredStateCostsNoWrite) {
  Kernel kernel;
  const auto state = desired({service("web", {1}, {backend(1), backend(2, 0, 5)}), service("none", {2}, {})});
  kernel.program(state, ways());
  EXPECT_TRUE(kernel.program(state, ways()).writes.empty());
  EXPECT_TRUE(kernel.programmer_.plan_ways(kernel.image_.view(), ways()).writes.empty());
}

TEST(Programmer, ARestartCostsNoWrite) {
  Kernel kernel;
  const auto state = desired({service("web", {1, 4}, {backend(1), backend(2, 0, 5), backend(4)}),
                              service("none", {2}, {}), service("one", {3}, {backend(3)}, 0)});
  kernel.program(state, ways());
  kernel.restart();
  const Plan plan = kernel.program(state, ways());
  EXPECT_TRUE(plan.writes.empty());
  EXPECT_THAT(plan.touched.services, IsEmpty());
  EXPECT_THAT(kernel.programmer_.check(kernel.image_.view(), nullptr), IsEmpty());
}

TEST(Programmer, WhatDoesNotChangeTheTableCostsNoWrite) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1), backend(2)})});
  kernel.program(state, ways());
  state.services["web"].drain_seconds = 7;
  state.services["web"].backends[0].zone = "b";
  state.revision = 99;
  state.epoch = 3;
  EXPECT_TRUE(kernel.program(state, ways()).writes.empty());
}

TEST(Programmer, ASwitchIsOneStoreAndTheOldTableStaysWholeUntilTheGracePeriod) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1), backend(2)})});
  kernel.program(state, ways());
  const uint64_t word = table_word(kernel, "web");
  const auto index = kernel.programmer_.programmed().at("web").index;
  const Found before = read_table(kernel.image_.view(), index, word);
  for (uint32_t n = 3; n < 9; ++n) {
    state.services["web"].backends.push_back(backend(n));
    kernel.program(state, ways());
    EXPECT_EQ(read_table(kernel.image_.view(), index, word), before) << "a reader with the old word";
  }
  EXPECT_NE(table_word(kernel, "web"), word);
  expect_as(kernel, state, ways());
}

TEST(Programmer, GenerationRisesWithEachSwitchAndIsNeverZero) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1), backend(2)})});
  kernel.program(state, ways());
  uint32_t generation = SLUICE_TABLE_GENERATION(table_word(kernel, "web"));
  for (int i = 0; i < 600; ++i) {
    state.services["web"].backends[1].address = backend_ip(i % 2 == 0 ? 3 : 2);
    kernel.program(state, ways());
    kernel.grace_over();
    const uint32_t next = SLUICE_TABLE_GENERATION(table_word(kernel, "web"));
    ASSERT_EQ(next, generation % 127 + 1);
    generation = next;
  }
}

TEST(Programmer, ABackendKeepsItsIndexWhileOthersComeAndGo) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1), backend(2), backend(3), backend(5)})});
  kernel.program(state, ways());
  const auto place = [&](uint32_t n) { return &record_of(kernel, "web", n) - kernel.image_.view().backends.data(); };
  const auto third = place(3);
  state.services["web"].backends.erase(state.services["web"].backends.begin());
  kernel.program(state, ways());
  EXPECT_EQ(place(3), third);
  kernel.grace_over();
  state.services["web"].backends.push_back(backend(6));
  kernel.program(state, ways());
  EXPECT_EQ(place(3), third);
}

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

TEST(Programmer, CountsGoWithABackendToAnotherRecord) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1), backend(2)})});
  Plan plan = kernel.program(state, ways());
  EXPECT_EQ(plan.new_services.size(), 1U);
  EXPECT_EQ(plan.backend_counters.size(), 2U);
  const auto place = [&](uint32_t n) {
    return static_cast<uint32_t>(&record_of(kernel, "web", n) - kernel.image_.view().backends.data());
  };
  const std::map<uint32_t, uint32_t> before = {{1, place(1)}, {2, place(2)}};
  state.services["web"].backends.push_back(backend(3));  // more than the range holds
  plan = kernel.program(state, ways());
  EXPECT_TRUE(plan.new_services.empty());
  std::map<uint32_t, std::optional<uint32_t>> moves;
  for (const CounterMove& move : plan.backend_counters) {
    moves[move.to] = move.from;
  }
  const std::map<uint32_t, std::optional<uint32_t>> expected = {
      {place(1), before.at(1)}, {place(2), before.at(2)}, {place(3), std::nullopt}};
  EXPECT_EQ(moves, expected);
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

TEST(Programmer, MoreThanFourNatSourcesAreRefusedForTheServicesThatNeedThem) {
  Kernel kernel;
  Ways now = ways();
  std::vector<state::Service> services;
  for (uint32_t n = 1; n <= 5; ++n) {
    now.next_hops[backend_ip(n * 4 + 1)].source = ip("10.0.0." + std::to_string(n));
    services.push_back(service("s" + std::to_string(n), {n}, {backend(n * 4 + 1)}));
  }
  EXPECT_THAT(kernel.program(desired(services), now).failures, ElementsAre(Failure("s5", "TableFull")));
  services.erase(services.begin());
  EXPECT_THAT(kernel.program_to_the_end(desired(services), now).failures, IsEmpty());
}

TEST(Programmer, WhatThisNodeCannotDoIsRefusedWholeAndOthersGoOn) {
  Kernel kernel;
  auto tunnel = service("tunnel", {1}, {backend(1)});
  tunnel.forwarding = state::Forwarding::tunnel;
  auto direct = service("direct", {2}, {backend(1)});
  direct.forwarding = state::Forwarding::direct;
  auto sources = service("sources", {3}, {backend(1)});
  sources.allowed_sources = {net::Prefix::parse("203.0.113.0/24").value()};
  auto local = service("local", {4}, {backend(1)});
  local.traffic_policy = state::TrafficPolicy::local;
  auto dual = service("dual", {5}, {backend(1)});
  dual.addresses.push_back(ip("2001:db8::1"));
  auto v6_backend = service("v6", {6}, {backend(1)});
  v6_backend.backends[0].address = ip("2001:db8::2");
  const auto state = desired({tunnel, direct, sources, local, dual, v6_backend, service("web", {7}, {backend(1)})});
  const Plan plan = kernel.program(state, ways());
  EXPECT_EQ(plan.failures.size(), 6U);
  for (const auto& failure : plan.failures) {
    EXPECT_EQ(failure.reason, "NotSupported") << failure.service << failure.message;
  }
  EXPECT_EQ(kernel.programmer_.programmed().size(), 1U);
  expect_as(kernel, state, ways());
}

TEST(Programmer, AServiceThatAsksForWhatThisNodeCannotDoIsTakenOut) {
  // To go on without its source ranges would let in whom it wants to keep out.
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1)})});
  kernel.program(state, ways());
  state.services["web"].allowed_sources = {net::Prefix::parse("203.0.113.0/24").value()};
  EXPECT_THAT(kernel.program(state, ways()).failures, ElementsAre(Failure("web", "NotSupported")));
  EXPECT_FALSE(kernel.read(sluice_key_ipv4(service_ip(1).ipv4(), htons(80), 6)));
}

TEST(Programmer, AnAddressMovesFromOneServiceToAnotherInOneStore) {
  Kernel kernel;
  auto state = desired({service("a", {1, 2}, {backend(1)}), service("b", {3}, {backend(2)})});
  kernel.program(state, ways());
  std::swap(state.services["a"].addresses[1], state.services["b"].addresses[0]);
  const Plan plan = kernel.program(state, ways());
  EXPECT_EQ(plan.writes.writes().size(), 2U);
  expect_as(kernel, state, ways());
}

TEST(Programmer, AffinityIsAFlagOfTheService) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1)})});
  kernel.program(state, ways());
  state.services["web"].affinity = state::Affinity::client_ip;
  EXPECT_EQ(kernel.program(state, ways()).writes.writes().size(), 1U);
  const auto index = kernel.programmer_.programmed().at("web").index;
  EXPECT_EQ(kernel.image_.view().services[index].flags, SLUICE_SERVICE_VALID | SLUICE_SERVICE_AFFINITY);
}

TEST(Programmer, AServiceWithoutBackendsIsThereWithoutATable) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {})});
  kernel.program(state, ways());
  EXPECT_EQ(kernel.read(key_of(state.services["web"])), Found{});
  state.services["web"].backends = {backend(1)};
  kernel.program(state, ways());
  expect_as(kernel, state, ways());
  state.services["web"].backends.clear();
  kernel.program(state, ways());
  EXPECT_EQ(kernel.read(key_of(state.services["web"])), Found{});
}

TEST(Programmer, SettingsAreWrittenOnce) {
  Kernel kernel;
  kernel.program(desired({}), ways());
  const auto& config = *kernel.image_.view().config;
  EXPECT_EQ(config.flow_hash_key[0], 11U);
  EXPECT_EQ(config.flow_hash_key[1], 12U);
  EXPECT_EQ(config.nat_port_first, 10000U);
  EXPECT_EQ(config.nat_port_last, 29999U);
}

struct FullCase {
  const char* map;
  Sizes sizes;
};

class Full : public ::testing::TestWithParam<FullCase> {};

TEST_P(Full, AServiceWithoutRoomFailsKeepsWhatItHadAndOthersGoOn) {
  Kernel kernel(GetParam().sizes);
  std::vector<state::Service> services;
  for (uint32_t n = 0; n < 3; ++n) {
    services.push_back(service("a" + std::to_string(n), {n + 1}, {backend(1), backend(2)}));
  }
  EXPECT_THAT(kernel.program_to_the_end(desired(services), ways()).failures, IsEmpty());
  // Each grows at once, and many more come: only some find room.
  for (auto& service : services) {
    service.addresses.push_back(service_ip(static_cast<uint32_t>(200 + service.id[1] - '0')));
    service.backends.push_back(backend(3));
  }
  for (uint32_t n = 0; n < 60; ++n) {
    services.push_back(service("b" + std::to_string(n), {n + 10}, {backend(1), backend(2), backend(5)}));
  }
  const auto state = desired(services);
  const Plan plan = kernel.program_to_the_end(state, ways());
  ASSERT_FALSE(plan.failures.empty());
  std::map<std::string, std::string> failed;
  for (const auto& failure : plan.failures) {
    EXPECT_EQ(failure.reason, "TableFull");
    EXPECT_THAT(failure.message, HasSubstr(GetParam().map));
    failed[failure.service] = failure.message;
  }
  size_t programmed = 0;
  for (const auto& [id, service] : state.services) {
    auto whole = expected(desired({service}), ways());
    if (!failed.contains(id)) {
      ++programmed;
    } else if (id[0] == 'a') {
      auto before = service;
      before.addresses.pop_back();
      before.backends.pop_back();
      whole = expected(desired({before}), ways());
      EXPECT_FALSE(kernel.read(key_of(service, 1))) << "half programmed";
    } else {
      EXPECT_FALSE(kernel.read(key_of(service)));
      continue;
    }
    for (const auto& [key, found] : whole) {
      EXPECT_EQ(kernel.read(key), found) << id;
    }
  }
  EXPECT_GT(programmed, 3U);
  // Room comes back with what goes.
  for (uint32_t n = 10; n < 70; ++n) {
    services.pop_back();
  }
  EXPECT_THAT(kernel.program_to_the_end(desired(services), ways()).failures, IsEmpty());
  expect_as(kernel, desired(services), ways());
}

INSTANTIATE_TEST_SUITE_P(Maps, Full,
                         ::testing::Values(FullCase{"service_keys", {128, 64, 1U << 20, 4096}},
                                           FullCase{"services", {1024, 16, 1U << 20, 4096}},
                                           FullCase{"slots", {1024, 64, 256, 4096}},
                                           FullCase{"backends", {1024, 64, 1U << 20, 64}}),
                         [](const auto& full) { return std::string(full.param.map); });

TEST(Programmer, WhatAllServicesNeedAtOnceIsMadeInSeveralRounds) {
  // The slots hold all services once, and not twice: tables switch as others are freed.
  Sizes sizes = small_sizes();
  sizes.slots = 16 * 10;
  Kernel kernel(sizes);
  std::vector<state::Service> services;
  for (uint32_t n = 0; n < 8; ++n) {
    services.push_back(service("s" + std::to_string(n), {n + 1}, {backend(1), backend(2)}));
  }
  kernel.program(desired(services), ways());
  for (auto& service : services) {
    service.backends.push_back(backend(3));
  }
  EXPECT_THAT(kernel.program_to_the_end(desired(services), ways()).failures, IsEmpty());
  expect_as(kernel, desired(services), ways());
}

TEST(Programmer, ThousandsOfChangesLeakNothing) {
  Kernel kernel;
  const auto slots = kernel.programmer_.arenas().slots.free_ranges();
  const auto backends = kernel.programmer_.arenas().backends.free_ranges();
  const auto services = kernel.programmer_.arenas().services.free_ranges();
  uint32_t random = 1;
  for (int round = 0; round < 3000; ++round) {
    std::vector<state::Service> wanted;
    for (uint32_t n = 0; n < 4; ++n) {
      random = random * 1664525U + 1013904223U;
      std::vector<state::Backend> members;
      for (uint32_t b = 0; b < (random >> 16) % 9; ++b) {
        members.push_back(backend((random >> 20) % 8 + b, b % 3, b % 2 == 0 ? 0 : 5));
      }
      if ((random >> 10) % 4 != 0) {
        wanted.push_back(service("s" + std::to_string(n), {n * 3 + (random >> 12) % 3 + 1}, members));
      }
    }
    ASSERT_THAT(kernel.program_to_the_end(desired(wanted), ways()).failures, IsEmpty());
    if (round % 50 == 0) {
      kernel.restart();
    }
  }
  kernel.program_to_the_end(desired({}), ways());
  EXPECT_EQ(kernel.programmer_.arenas().slots.free_ranges(), slots);
  EXPECT_EQ(kernel.programmer_.arenas().backends.free_ranges(), backends);
  EXPECT_EQ(kernel.programmer_.arenas().services.free_ranges(), services);
  EXPECT_FALSE(kernel.programmer_.awaits_grace());
}

TEST(Programmer, CheckNamesTheServiceWhoseMapsDiffer) {
  Kernel kernel;
  const auto state = desired({service("web", {1}, {backend(1), backend(2)}), service("dns", {2}, {backend(3)})});
  kernel.program(state, ways());
  const auto damage = [&](MapId map, uint32_t word, uint64_t value) {
    Kernel copy = kernel;
    apply(Write{map, false, word, 1, 0}, std::span(&value, 1), copy.image_.data(map));
    return copy.programmer_.check(copy.image_.view(), nullptr);
  };
  const auto& web = kernel.programmer_.programmed().at("web");
  EXPECT_THAT(damage(MapId::slots, SLUICE_TABLE_OFFSET(web.table) / 4, 0x0001000000010000ULL),
              ElementsAre(Failure("web", "ReadBackDiffers")));
  EXPECT_THAT(damage(MapId::backends, web.backends->first * 4, 12345), ElementsAre(Failure("web", "ReadBackDiffers")));
  EXPECT_THAT(damage(MapId::backends, web.backends->first * 4 + 1, 12345),
              ElementsAre(Failure("web", "ReadBackDiffers")));
  EXPECT_THAT(damage(MapId::services, web.index * 2 + 1, 0), ElementsAre(Failure("web", "ReadBackDiffers")));
  EXPECT_THAT(damage(MapId::config, 0, 0).size(), 2U);
  // A key that no service has.
  const uint64_t word = kernel.programmer_.keys().word();
  const uint64_t stranger = sluice_key_ipv4(service_ip(77).ipv4(), htons(80), 6);
  const uint32_t mask = (1U << SLUICE_SERVICE_TABLE_LOG2(word)) - 1;
  const uint32_t home = sluice_service_hash(stranger, SLUICE_SERVICE_TABLE_SEED(word)) & mask;
  EXPECT_THAT(damage(MapId::service_keys, (SLUICE_SERVICE_TABLE_OFFSET(word) + home) * 2, stranger),
              ElementsAre(Failure("192.0.2.77:80/TCP", "ReadBackDiffers")));
}

TEST(Programmer, RegionsHoldAllThatCheckReads) {
  Kernel kernel;
  const auto state =
      desired({service("web", {1, 3}, {backend(1), backend(2, 0, 3)}), service("dns", {2}, {backend(3)})});
  Plan plan = kernel.program(state, ways());
  const auto copy_of = [&](const Touched* touched) {
    Image copy(kernel.sizes_);
    for (const Region& region : kernel.programmer_.regions(touched)) {
      const uint32_t bytes = element_bytes(region.map);
      std::memcpy(static_cast<char*>(copy.data(region.map)) + region.first * bytes,
                  static_cast<char*>(kernel.image_.data(region.map)) + region.first * bytes, region.count * bytes);
    }
    return copy;
  };
  EXPECT_THAT(kernel.programmer_.check(copy_of(nullptr).view(), nullptr), IsEmpty());
  EXPECT_THAT(kernel.programmer_.check(copy_of(&plan.touched).view(), &plan.touched), IsEmpty());
  EXPECT_EQ(kernel.programmer_.check(Image(kernel.sizes_).view(), &plan.touched).size(), 2U) << "nothing was read";
}

}  // namespace
}  // namespace sluice::agent::program::testing
