// Random sequences of desired states: what readers see at every single store, after restarts, and over garbage.
#include <gtest/gtest.h>
// gtest first
#include <rapidcheck.h>

#include <random>

#include "tests/unit/program/scene.h"

namespace sluice::agent::program::testing {
namespace {

using Readings = std::map<uint64_t, std::optional<Found>>;

std::vector<uint64_t> all_keys() {
  std::vector<uint64_t> keys;
  for (uint32_t n = 1; n < 9; ++n) {
    keys.push_back(key_of(service("", {n}, {})));
  }
  return keys;
}

Readings read_all(const Kernel& kernel) {
  Readings readings;
  for (const uint64_t key : all_keys()) {
    readings[key] = kernel.read(key);
  }
  return readings;
}

Readings expected_readings(const state::DesiredState& desired, const Ways& ways) {
  Readings readings;
  const auto found = expected(desired, ways);
  for (const uint64_t key : all_keys()) {
    const auto entry = found.find(key);
    readings[key] = entry == found.end() ? std::nullopt : std::optional(entry->second);
  }
  return readings;
}

// The new table of the service that has a key now: on the way it may stand behind an address that the service is about
// to lose.
std::map<uint64_t, Found> new_tables_of_old_owners(const state::DesiredState& before, const state::DesiredState& now,
                                                   const Ways& ways) {
  std::map<uint64_t, Found> tables;
  for (const auto& [id, service] : before.services) {
    const auto same = now.services.find(id);
    if (same == now.services.end() || same->second.addresses.empty()) {
      continue;
    }
    const auto found = expected(desired({same->second}), ways);
    for (size_t i = 0; i < service.addresses.size() && !found.empty(); ++i) {
      tables[key_of(service, i)] = found.begin()->second;
    }
  }
  return tables;
}

TEST(ProgramProperty, AtEveryStoreEachKeyReadsItsOldOrItsNewTable) {
  EXPECT_TRUE(rc::check([] {
    Kernel kernel;
    auto before = desired({});
    auto before_ways = ways();
    const auto rounds = *rc::gen::inRange(1, 6);
    for (int round = 0; round < rounds; ++round) {
      const auto now = random_desired();
      const auto now_ways = random_ways();
      const Readings old_readings = read_all(kernel);
      const Readings new_readings = expected_readings(now, now_ways);
      const auto others = new_tables_of_old_owners(before, now, now_ways);
      std::vector<std::tuple<uint32_t, uint64_t, Found>> held;  // what readers under way hold
      for (const auto& [id, programmed] : kernel.programmer_.programmed()) {
        held.emplace_back(programmed.index, programmed.table,
                          read_table(kernel.image_.view(), programmed.index, programmed.table));
      }
      const Plan plan = kernel.programmer_.plan(kernel.image_.view(), now, kNode, now_ways);
      RC_ASSERT(!plan.retry_after_grace);
      step_through(plan, kernel.image_, [&] {
        for (const uint64_t key : all_keys()) {
          const auto reading = kernel.read(key);
          const auto other = others.find(key);
          RC_ASSERT((reading == old_readings.at(key) || reading == new_readings.at(key) ||
                     (other != others.end() && reading == other->second)));
        }
      });
      RC_ASSERT(read_all(kernel) == new_readings);
      for (const auto& [index, word, found] : held) {
        RC_ASSERT(read_table(kernel.image_.view(), index, word) == found);
      }
      RC_ASSERT(kernel.programmer_.check(kernel.image_.view(), nullptr).empty());
      RC_ASSERT(kernel.programmer_.plan(kernel.image_.view(), now, kNode, now_ways).writes.empty());
      kernel.grace_over();
      if (*rc::gen::inRange(0, 4) == 0) {
        kernel.restart();
        RC_ASSERT(kernel.programmer_.plan(kernel.image_.view(), now, kNode, now_ways).writes.empty());
      }
      before = now;
      before_ways = now_ways;
    }
  }));
}

TEST(ProgramProperty, AnInterruptedPlanIsTakenUpByTheNext) {
  EXPECT_TRUE(rc::check([] {
    Kernel kernel;
    kernel.program_to_the_end(random_desired(), ways());
    const auto interrupted = random_desired();
    const auto now_ways = random_ways();
    const Plan plan = kernel.programmer_.plan(kernel.image_.view(), interrupted, kNode, now_ways);
    const size_t all = Kernel(kernel).make_stores(plan.writes);
    const auto prefix = *rc::gen::inRange<size_t>(0, all + 1);
    // The same state, and another, from every such point.
    for (const auto& now : {interrupted, random_desired()}) {
      Kernel after = kernel;
      after.make_stores(plan.writes, prefix);
      after.restart();
      after.program_to_the_end(now, now_ways);
      RC_ASSERT(read_all(after) == expected_readings(now, now_ways));
      RC_ASSERT(after.programmer_.check(after.image_.view(), nullptr).empty());
      after.restart();
      RC_ASSERT(after.program(now, now_ways).writes.empty());
      // And nothing is lost: all comes back when all services go.
      after.program_to_the_end(desired({}), now_ways);
      RC_ASSERT(after.programmer_.arenas().slots.free_units() == after.sizes_.slots / SLUICE_SLOT_UNIT);
      RC_ASSERT(after.programmer_.arenas().backends.free_units() == after.sizes_.backends);
      RC_ASSERT(after.programmer_.arenas().services.free_units() == after.sizes_.services);
    }
  }));
}

TEST(ProgramProperty, GarbageIsOverwrittenNotFollowed) {
  EXPECT_TRUE(rc::check([] {
    Kernel kernel;
    kernel.program_to_the_end(random_desired(), ways());
    std::mt19937_64 random(*rc::gen::arbitrary<uint64_t>());
    const auto places = *rc::gen::inRange(1, 200);
    for (int i = 0; i < places; ++i) {
      const auto map = static_cast<MapId>(random() % kMapCount);
      const auto words = element_count(kernel.sizes_, map) * element_words(map);
      // Wholly random, small, or one bit of what is there.
      const auto word = static_cast<uint32_t>(random() % (random() % 2 == 0 ? words : std::min(words, 64U)));
      auto* there = static_cast<uint64_t*>(kernel.image_.data(map)) + word;
      switch (random() % 3) {
        case 0:
          *there = random();
          break;
        case 1:
          *there = random() % 70000;
          break;
        default:
          *there ^= uint64_t{1} << random() % 64;
      }
    }
    if (random() % 2 == 0) {
      // A table word that may lead to a table.
      auto* word = static_cast<uint64_t*>(kernel.image_.data(MapId::services)) + random() % 8 * 2;
      *word = SLUICE_TABLE_WORD(random() % 4200 & ~7U, random() % 12, random() % 4, 1, random() % 140);
    }
    if (random() % 2 == 0) {
      *static_cast<uint64_t*>(kernel.image_.data(MapId::config)) =
          SLUICE_SERVICE_TABLE_WORD(random() % 300, random() % 10, random());
    }
    kernel.restart();
    const auto now = random_desired();
    kernel.program_to_the_end(now, ways());
    RC_ASSERT(read_all(kernel) == expected_readings(now, ways()));
    RC_ASSERT(kernel.programmer_.check(kernel.image_.view(), nullptr).empty());
    kernel.restart();
    RC_ASSERT(kernel.program(now, ways()).writes.empty());
  }));
}

}  // namespace
}  // namespace sluice::agent::program::testing
