#include "node-agent/program/programmer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>

#include "tests/unit/program/expectations.h"

namespace sluice::agent::program::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

uint64_t table_word(const Kernel& kernel, const std::string& id) {
  const auto& programmed = kernel.programmer_.programmed().at(id);
  return kernel.image_.view().services[programmed.index].table;
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

TEST(Programmer, AnAddressMovesFromOneServiceToAnotherInOneStore) {
  Kernel kernel;
  auto state = desired({service("a", {1, 2}, {backend(1)}), service("b", {3}, {backend(2)})});
  kernel.program(state, ways());
  std::swap(state.services["a"].addresses[1], state.services["b"].addresses[0]);
  const Plan plan = kernel.program(state, ways());
  EXPECT_EQ(plan.writes.writes().size(), 2U) << "addresses go on being services'";
  expect_as(kernel, state, ways());
}

TEST(Programmer, AffinityIsASettingOfTheService) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1)})});
  kernel.program(state, ways());
  state.services["web"].affinity = state::Affinity::client_ip;
  EXPECT_EQ(kernel.program(state, ways()).writes.writes().size(), 1U);
  const auto index = kernel.programmer_.programmed().at("web").index;
  const uint64_t settings = kernel.image_.view().services[index].settings;
  EXPECT_EQ(SLUICE_SETTINGS_FLAGS(settings),
            SLUICE_SERVICE_VALID | SLUICE_SERVICE_AFFINITY | SLUICE_SERVICE_AFFINITY_CHANGED);
  EXPECT_EQ(SLUICE_SETTINGS_AFFINITY(settings), 10'800U);
  expect_as(kernel, state, ways());
}

TEST(Programmer, ThatTheAffinityWasChangedIsMarkedForGoodAndForNoOtherService) {
  Kernel kernel;
  auto state = desired({service("web", {1}, {backend(1)}), service("api", {2}, {backend(2)})});
  state.services["api"].affinity = state::Affinity::client_ip;
  kernel.program(state, ways());
  const auto flags = [&](const char* id) {
    return SLUICE_SETTINGS_FLAGS(kernel.image_.view().services[kernel.programmer_.programmed().at(id).index].settings);
  };
  EXPECT_EQ(flags("api"), SLUICE_SERVICE_VALID | SLUICE_SERVICE_AFFINITY);
  state.services["web"].affinity = state::Affinity::client_ip;
  kernel.program(state, ways());
  state.services["web"].affinity = state::Affinity::none;
  kernel.program(state, ways());
  EXPECT_EQ(flags("web"), SLUICE_SERVICE_VALID | SLUICE_SERVICE_AFFINITY_CHANGED);
  EXPECT_EQ(flags("api"), SLUICE_SERVICE_VALID | SLUICE_SERVICE_AFFINITY);
  expect_as(kernel, state, ways());
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
  EXPECT_THAT(damage(MapId::config, 0, 0), ::testing::SizeIs(::testing::Ge(2U)));
  // A key that no service has, in a free place where a reader finds it.
  const uint64_t word = kernel.programmer_.keys().word();
  const uint32_t mask = (1U << SLUICE_KEY_TABLE_LOG2(word)) - 1;
  uint32_t place = 0;
  uint32_t number = 70;
  uint64_t stranger = 0;
  do {
    stranger = sluice_key_ipv4(service_ip(++number).ipv4(), htons(80), 6);
    place = SLUICE_KEY_TABLE_OFFSET(word) + (sluice_key_hash(stranger, SLUICE_KEY_TABLE_SEED(word)) & mask);
  } while (kernel.image_.view().keys[place].key != SLUICE_KEY_EMPTY);
  EXPECT_THAT(damage(MapId::keys, place * 2, stranger),
              ElementsAre(Failure(service_ip(number).to_string() + ":80/TCP", "ReadBackDiffers")));
}

TEST(Programmer, RegionsHoldAllThatCheckReads) {
  Kernel kernel;
  const auto state =
      desired({service("web", {1, 3}, {backend(1), backend(2, 0, 3)}), service("dns", {2}, {backend(3)})});
  Plan plan = kernel.program(state, ways());
  const auto copy_of = [&](const Touched* touched) {
    Image copy(kernel.sizes_);
    for (const Region& region : kernel.programmer_.regions(touched)) {
      const size_t bytes = element_bytes(region.map);
      std::memcpy(static_cast<char*>(copy.data(region.map)) + region.first * bytes,
                  static_cast<char*>(kernel.image_.data(region.map)) + region.first * bytes, region.count * bytes);
    }
    return copy;
  };
  EXPECT_THAT(kernel.programmer_.check(copy_of(nullptr).view(), nullptr), IsEmpty());
  EXPECT_THAT(kernel.programmer_.check(copy_of(&plan.touched).view(), &plan.touched), IsEmpty());
  EXPECT_GE(kernel.programmer_.check(Image(kernel.sizes_).view(), &plan.touched).size(), 2U) << "nothing was read";
}

}  // namespace
}  // namespace sluice::agent::program::testing
