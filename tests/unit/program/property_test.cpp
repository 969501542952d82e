// Random sequences of desired states: what readers see at every single store, after restarts, and over garbage.
#include <gtest/gtest.h>
// gtest first
#include <rapidcheck.h>

#include <cstring>
#include <random>
#include <set>

#include "tests/unit/program/scene.h"

namespace sluice::agent::program::testing {
namespace {

// For the report of what failed.
std::string text_of(const WriteList& writes) {
  std::string text;
  for (const Write& write : writes.writes()) {
    text += std::string(map_name(write.map)) + "[" + std::to_string(write.word) + "]";
    for (const uint64_t value : writes.values(write)) {
      text += " " + std::to_string(value);
    }
    text += "; ";
  }
  return text;
}

using Readings = std::map<WholeKey, std::optional<Found>>;

std::vector<WholeKey> all_keys() {
  std::vector<WholeKey> keys;
  for (uint32_t n = 1; n < 9; ++n) {
    for (const bool v6 : {false, true}) {
      for (const uint16_t port : {uint16_t{80}, uint16_t{8080}}) {
        keys.push_back(WholeKey{service_ip(n, v6), __builtin_bswap16(port), 6});
      }
    }
  }
  return keys;
}

Readings read_all(const Kernel& kernel) {
  Readings readings;
  for (const WholeKey& key : all_keys()) {
    readings[key] = kernel.read(key);
  }
  return readings;
}

Readings expected_readings(const state::DesiredState& desired, const Ways& ways) {
  Readings readings;
  const auto found = expected(desired, ways);
  for (const WholeKey& key : all_keys()) {
    const auto entry = found.find(key);
    readings[key] = entry == found.end() ? std::nullopt : std::optional(entry->second);
  }
  return readings;
}

bool same_table(const std::optional<Found>& a, const std::optional<Found>& b) {
  return a.has_value() == b.has_value() && (!a || identities(*a) == identities(*b));
}

// The new table of the service that has a key now: on the way it may stand behind an address that the service is about
// to lose.
std::map<WholeKey, Found> new_tables_of_old_owners(const state::DesiredState& before, const state::DesiredState& now,
                                                   const Ways& ways) {
  std::map<WholeKey, Found> tables;
  for (const auto& [id, service] : before.services) {
    const auto same = now.services.find(id);
    if (same == now.services.end() || same->second.addresses.empty()) {
      continue;
    }
    auto alone = now;
    alone.services = {*same};
    const auto found = expected(alone, ways);
    for (size_t i = 0; i < service.addresses.size() && !found.empty(); ++i) {
      tables[key_of(service, i)] = found.begin()->second;
    }
  }
  return tables;
}

// A tunnelled packet finds the backend that it names, or none.
void assert_tunnels_find_only_what_they_name(const Kernel& kernel) {
  const auto image = kernel.image_.view();
  for (uint32_t service = 0; service < kernel.sizes_.services; ++service) {
    for (uint32_t n = 0; n < 12; ++n) {
      for (const bool v6 : {false, true}) {
        const uint16_t port = __builtin_bswap16(8080);
        const auto* found = read_backend(image, service, backend_ip(n, v6), port);
        const sluice_address wanted = raw(backend_ip(n, v6));
        RC_ASSERT((found == nullptr || (SLUICE_BACKEND_SERVICE(found->what) == service &&
                                        SLUICE_BACKEND_FORWARDING(found->what) == SLUICE_FORWARD_LOCAL &&
                                        SLUICE_BACKEND_PORT(found->what) == port &&
                                        std::memcmp(&found->address, &wanted, sizeof wanted) == 0)));
      }
    }
  }
}

// Addresses, tunnels' keys and sets of sources are as they should be.
void assert_the_rest_stands(const Kernel& kernel, const state::DesiredState& desired, const Ways& ways) {
  const auto image = kernel.image_.view();
  const auto behind = expected_behind_tunnels(desired, ways);
  size_t backends = 0;
  for (const auto& [id, expected] : behind) {
    const uint32_t index = kernel.programmer_.programmed().at(id).index;
    for (const FoundBackend& one : expected) {
      const bool v6 = desired.services.at(id).addresses.front().family() == net::Family::ipv6;
      const auto address = *from_element(one.address, v6 ? net::Family::ipv6 : net::Family::ipv4);
      const auto* found = read_backend(image, index, address, one.port);
      RC_ASSERT(found != nullptr);
      RC_ASSERT(found_backend(image, *found) == one);
      ++backends;
    }
  }
  const auto addresses = expected_addresses(desired, ways);
  for (const auto& [address, flags] : addresses) {
    const uint32_t found = find_address(image, address);
    RC_ASSERT((found & ~(SLUICE_ADDRESS_NAT | 0xffffU)) == flags);
    if ((flags & SLUICE_ADDRESS_PEER) != 0) {
      const auto text = outer_destination(image, SLUICE_ADDRESS_PEER_INDEX(found));
      RC_ASSERT(std::any_of(ways.peers.begin(), ways.peers.end(), [&](const auto& entry) {
        const auto& underlay = entry.second.underlay;
        return entry.second.address.to_string() == text &&
               (entry.second.address == address || std::count(underlay.begin(), underlay.end(), address) != 0);
      }));
    }
  }
  size_t keys = backends;
  for (const auto& [word, position] : kernel.programmer_.keys().positions()) {
    keys -= SLUICE_KEY_KIND(word) == SLUICE_KEY_BACKEND ? 1 : 0;
  }
  RC_ASSERT(keys == 0U);
  std::set<uint32_t> sets;
  for (const auto& [id, service] : desired.services) {
    const auto programmed = kernel.programmer_.programmed().find(id);
    if (programmed == kernel.programmer_.programmed().end()) {
      continue;
    }
    const uint32_t set = SLUICE_SETTINGS_SOURCES(image.services[programmed->second.index].settings);
    const auto allowed = allowed_sources(service);
    RC_ASSERT((set != 0) == allowed.has_value());
    if (allowed) {
      auto sorted = *allowed;
      std::sort(sorted.begin(), sorted.end());
      RC_ASSERT(kernel.sets_.contains(set));
      RC_ASSERT(kernel.sets_.at(set).prefixes == sorted);
      RC_ASSERT(kernel.sets_.at(set).family == service.addresses.front().family());
      sets.insert(set);
    }
  }
}

// What a caller who knows would tell.
Changes changes_between(const state::DesiredState& before, const state::DesiredState& now, const Ways& before_ways,
                        const Ways& now_ways) {
  Changes changes;
  const auto note = [](const auto& a, const auto& b, auto& names) {
    for (const auto& [name, value] : a) {
      const auto other = b.find(name);
      if (other == b.end() || other->second != value) {
        names.insert(name);
      }
    }
  };
  note(before.services, now.services, changes.services);
  note(now.services, before.services, changes.services);
  note(before_ways.next_hops, now_ways.next_hops, changes.next_hops);
  note(now_ways.next_hops, before_ways.next_hops, changes.next_hops);
  return changes;
}

// Nobody in the table in force has left the choice.
bool nobody_in_force_has_left(const std::optional<Found>& found) {
  return !found || found->planes.empty() ||
         std::all_of(found->planes[0].begin(), found->planes[0].end(),
                     [](const auto& slot) { return !slot || (slot->flags & SLUICE_BACKEND_LEFT) == 0; });
}

TEST(ProgramProperty, AtEveryStoreEachKeyReadsItsOldOrItsNewTable) {
  EXPECT_TRUE(rc::check([] {
    Kernel kernel;
    auto before = desired({});
    Ways before_ways;
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
      const auto changes = changes_between(before, now, before_ways, now_ways);
      const bool told = *rc::gen::inRange(0, 2) == 0;
      const Plan plan = kernel.programmer_.plan(kernel.image_.view(), now, kNode, now_ways, told ? &changes : nullptr);
      RC_ASSERT(!plan.retry_after_grace);
      kernel.follow(plan);
      step_through(plan, kernel.image_, [&](const Write& write) {
        if (write.map != MapId::services && write.map != MapId::keys && write.map != MapId::config && !write.ordered) {
          return;  // where nothing leads yet: what leads there next shows whether that was so
        }
        for (const WholeKey& key : all_keys()) {
          const auto reading = kernel.read(key);
          RC_ASSERT(nobody_in_force_has_left(reading));
          const auto other = others.find(key);
          RC_ASSERT((same_table(reading, old_readings.at(key)) || same_table(reading, new_readings.at(key)) ||
                     (other != others.end() && same_table(reading, other->second))));
        }
        assert_tunnels_find_only_what_they_name(kernel);
      });
      RC_ASSERT(read_all(kernel) == new_readings);
      assert_the_rest_stands(kernel, now, now_ways);
      for (const auto& [index, word, found] : held) {
        RC_ASSERT(identities(read_table(kernel.image_.view(), index, word)) == identities(found));
      }
      RC_ASSERT(kernel.programmer_.check(kernel.image_.view(), nullptr).empty());
      RC_ASSERT(kernel.programmer_.plan(kernel.image_.view(), now, kNode, now_ways).writes.empty());
      kernel.grace_over();
      RC_ASSERT(kernel.sets_.size() == kernel.programmer_.source_sets().size());
      if (*rc::gen::inRange(0, 4) == 0) {
        kernel.restart();
        const Plan again = kernel.program(now, now_ways);
        // Nobody knows what is in the sets of sources.
        RC_ASSERT(again.writes.writes().size() == again.source_sets_to_remove.size() ||
                  !again.source_sets_to_add.empty());
        RC_ASSERT(!again.writes.empty() == !again.source_sets_to_add.empty());
        assert_the_rest_stands(kernel, now, now_ways);
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
      after.follow(plan);
      after.make_stores(plan.writes, prefix);
      after.restart();
      after.program_to_the_end(now, now_ways);
      RC_ASSERT(read_all(after) == expected_readings(now, now_ways));
      RC_ASSERT(after.programmer_.check(after.image_.view(), nullptr).empty());
      assert_the_rest_stands(after, now, now_ways);
      after.restart();
      const Plan again = after.program(now, now_ways);
      RC_ASSERT(again.writes.empty() == again.source_sets_to_add.empty());
      after.grace_over();
      // And nothing is lost: all comes back when all services go.
      after.program_to_the_end(desired({}), Ways{});
      RC_ASSERT(after.sets_.empty());
      RC_ASSERT(after.programmer_.keys().positions().empty());
      RC_ASSERT(!after.programmer_.awaits_grace());
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
          SLUICE_KEY_TABLE_WORD(random() % 300, random() % 10, random());
    }
    kernel.restart();
    const auto now = random_desired();
    kernel.program_to_the_end(now, ways());
    RC_ASSERT(read_all(kernel) == expected_readings(now, ways()));
    RC_ASSERT(kernel.programmer_.check(kernel.image_.view(), nullptr).empty());
    assert_the_rest_stands(kernel, now, ways());
    kernel.restart();
    const Plan again = kernel.program(now, ways());
    RC_LOG() << text_of(again.writes);
    RC_ASSERT(again.writes.empty() == again.source_sets_to_add.empty());
  }));
}

}  // namespace
}  // namespace sluice::agent::program::testing
