#include <gtest/gtest.h>
// gtest first
#include <rapidcheck.h>

#include <map>

#include "node-agent/program/key_table.h"
#include "tests/unit/program/reference_reader.h"

namespace sluice::agent::program {
namespace {

using Keys = std::map<uint64_t, KeyValue>;

std::optional<KeyValue> find(const ImageView& image, uint64_t key) {
  const auto* entry = testing::find_entry(image, key, [](const auto&) { return true; });
  return entry == nullptr ? std::nullopt : std::optional(KeyValue{entry->value, entry->extra});
}

// How the table has to change to hold exactly these.
KeyTable::Delta delta(const KeyTable& table, const Keys& wanted) {
  KeyTable::Delta delta;
  for (const auto& [key, value] : wanted) {
    if (table.find(key) != value) {
      delta.set.emplace_back(key, value);
    }
  }
  for (const auto& [key, position] : table.positions()) {
    if (!wanted.contains(key)) {
      delta.removed.push_back(key);
    }
  }
  return delta;
}

KeyTable decode(const Image& image) {
  return KeyTable::decode(image.view(), [](const sluice_key_entry& entry) { return entry.value < 4096; });
}

Sizes small(uint32_t entries) {
  Sizes sizes;
  sizes.keys = entries;
  sizes.services = 4096;
  sizes.slots = 64;
  sizes.backends = 64;
  return sizes;
}

uint64_t key(uint32_t n) {
  return sluice_key_ipv4(0x0a000000U + n, 0x5000, n % 2 == 0 ? 6 : 17);
}

// A table and the map it lives in. Every store is made alone, and after each of them every key must lead where it led
// before or where it shall lead.
class Stepped {
 public:
  explicit Stepped(uint32_t entries) : image_(small(entries)), table_(entries) {}

  KeyTable::Room set(const Keys& wanted) {
    const auto wished = delta(table_, wanted);
    KeyTable::Change change = table_.prepare(wished);
    if (change.room != KeyTable::Room::fits) {
      return change.room;
    }
    WriteList writes;
    table_.commit(wished, std::move(change), writes);
    for (const Write& write : writes.writes()) {
      for (uint32_t i = 0; i < write.count; ++i) {
        apply(Write{write.map, write.ordered, write.word + i, 1, 0}, writes.values(write).subspan(i, 1),
              image_.data(write.map));
        // Whole new tables are written where nobody looks: checking after each entry would take the square of their
        // size.
        if (write.count < 100) {
          check(wanted);
        }
      }
      check(wanted);
    }
    held_ = wanted;
    stores_ = writes.writes().size();
    return KeyTable::Room::fits;
  }

  void check(const Keys& wanted) {
    for (const auto& keys : {held_, wanted}) {
      for (const auto& [key, value] : keys) {
        const auto found = find(image_.view(), key);
        const auto before = held_.find(key);
        const auto after = wanted.find(key);
        const bool as_before = before == held_.end() ? !found : found == before->second;
        const bool as_after = after == wanted.end() ? !found : found == after->second;
        ASSERT_TRUE(as_before || as_after) << key;
      }
    }
  }

  Image image_;
  KeyTable table_;
  Keys held_;
  size_t stores_ = 0;
};

Keys range_of_keys(uint32_t first, uint32_t count) {
  Keys keys;
  for (uint32_t n = first; n < first + count; ++n) {
    keys[key(n)] = {n, n * 3};
  }
  return keys;
}

TEST(KeyTable, TenThousandSequentialAddressesHaveShortProbeSequences) {
  KeyTable table(1U << 18);
  const auto keys = range_of_keys(0, 10000);
  WriteList writes;
  table.commit(delta(table, keys), table.prepare(delta(table, keys)), writes);
  EXPECT_LE(table.longest_probe(), 4U);
  EXPECT_GE(table.size(), 40000U) << "built at a load of at most a quarter";
}

TEST(KeyTable, HoldsAsManyKeysAsItSays) {
  KeyTable table(1024);
  const auto keys = range_of_keys(0, table.max_keys());
  WriteList writes;
  const auto wished = delta(table, keys);
  auto change = table.prepare(wished);
  ASSERT_EQ(change.room, KeyTable::Room::fits);
  table.commit(wished, std::move(change), writes);
  EXPECT_LE(table.longest_probe(), static_cast<uint32_t>(SLUICE_MAX_PROBES));
}

TEST(KeyTable, TheSameKeysCostNoStore) {
  Stepped stepped(1024);
  stepped.set(range_of_keys(0, 50));
  stepped.set(range_of_keys(0, 50));
  EXPECT_EQ(stepped.stores_, 0U);
}

TEST(KeyTable, OneMoreKeyIsTwoStoresInPlace) {
  Stepped stepped(1024);
  stepped.set(range_of_keys(0, 20));
  stepped.set(range_of_keys(0, 21));
  EXPECT_EQ(stepped.stores_, 2U);
}

TEST(KeyTable, AKeyThatLeadsElsewhereIsOneStore) {
  Stepped stepped(1024);
  auto keys = range_of_keys(0, 20);
  stepped.set(keys);
  keys[key(7)] = {99, 98};
  stepped.set(keys);
  EXPECT_EQ(stepped.stores_, 1U);
}

TEST(KeyTable, GrowsBeforeItIsCrowded) {
  Stepped stepped(4096);
  for (uint32_t count = 1; count <= 700; ++count) {
    ASSERT_EQ(stepped.set(range_of_keys(0, count)), KeyTable::Room::fits);
    stepped.table_.grace_over();
    ASSERT_LE(count * 8, stepped.table_.size() * 3);
  }
}

TEST(KeyTable, AFormerKeysEntryIsNotGivenToAnotherBeforeTheGracePeriod) {
  // A reader that has found the key and not yet loaded the index must not find another key's index.
  Stepped stepped(1024);
  stepped.set(range_of_keys(0, 16));
  std::map<uint64_t, size_t> entries;
  for (size_t i = 0; i < stepped.image_.view().keys.size(); ++i) {
    entries[stepped.image_.view().keys[i].key] = i;
  }
  const size_t size = stepped.table_.size();
  for (uint32_t round = 1; round < 8; ++round) {
    stepped.set(range_of_keys(round * 2, 16));
    ASSERT_EQ(stepped.table_.size(), size);
    for (uint32_t n = 0; n < 16; ++n) {
      const auto& entry = stepped.image_.view().keys[entries[key(n)]];
      ASSERT_TRUE(entry.key == key(n) || entry.key == SLUICE_KEY_EMPTY || entry.key == SLUICE_KEY_DELETED);
      ASSERT_EQ(entry.value, n);
      ASSERT_EQ(entry.extra, n * 3);
    }
  }
}

TEST(KeyTable, SaysWhetherAGracePeriodWouldMakeRoom) {
  Stepped stepped(128);
  ASSERT_EQ(stepped.set(range_of_keys(0, 24)), KeyTable::Room::fits);
  EXPECT_EQ(stepped.table_.prepare(delta(stepped.table_, range_of_keys(0, 100))).room, KeyTable::Room::full);
  // Everything changes: the other generation is taken at some point.
  KeyTable::Room room = KeyTable::Room::fits;
  for (uint32_t round = 1; round < 20 && room == KeyTable::Room::fits; ++round) {
    room = stepped.set(range_of_keys(round * 24, 24));
  }
  ASSERT_EQ(room, KeyTable::Room::after_grace);
  stepped.table_.grace_over();
  EXPECT_EQ(stepped.set(range_of_keys(24 * 30, 24)), KeyTable::Room::fits);
}

TEST(KeyTable, DecodesWhatItHasWritten) {
  Stepped stepped(1024);
  for (uint32_t round = 0; round < 5; ++round) {
    stepped.set(range_of_keys(round * 7, 30));
    stepped.table_.grace_over();
  }
  KeyTable decoded = decode(stepped.image_);
  EXPECT_EQ(decoded.word(), stepped.table_.word());
  WriteList writes;
  const auto wished = delta(decoded, stepped.held_);
  decoded.commit(wished, decoded.prepare(wished), writes);
  EXPECT_TRUE(writes.empty());
}

TEST(KeyTable, ADamagedTableIsBuiltAnew) {
  Stepped stepped(1024);
  const auto keys = range_of_keys(0, 20);
  stepped.set(keys);
  auto* entries = static_cast<uint64_t*>(stepped.image_.data(MapId::keys));
  const uint64_t word = stepped.table_.word();
  const size_t size = stepped.table_.size();
  // A key where no reader looks for it.
  const uint32_t home = sluice_key_hash(key(500), SLUICE_KEY_TABLE_SEED(word));
  entries[(SLUICE_KEY_TABLE_OFFSET(word) + ((home + 20) & (size - 1))) * 2] = key(500);
  KeyTable decoded = decode(stepped.image_);
  EXPECT_FALSE(decoded.find(key(500)));
  WriteList writes;
  const auto wished = delta(decoded, keys);
  decoded.commit(wished, decoded.prepare(wished), writes);
  EXPECT_NE(decoded.word(), word);
}

TEST(KeyTable, EveryStoreOfRandomChangesLeavesEachKeyOldOrNew) {
  EXPECT_TRUE(rc::check([] {
    Stepped stepped(*rc::gen::element(128U, 256U, 1024U));
    const auto rounds = *rc::gen::inRange(1, 25);
    for (int round = 0; round < rounds; ++round) {
      const auto wanted = *rc::gen::container<Keys>(rc::gen::map(rc::gen::inRange<uint32_t>(0, 60), key),
                                                    rc::gen::map(rc::gen::inRange<uint32_t>(0, 64), [](uint32_t n) {
                                                      return KeyValue{n, n + 1};
                                                    }));
      if (stepped.set(wanted) == KeyTable::Room::after_grace) {
        stepped.table_.grace_over();
        const auto room = stepped.set(wanted);
        RC_ASSERT((room == KeyTable::Room::fits || wanted.size() > stepped.table_.max_keys()));
      }
      RC_ASSERT(!::testing::Test::HasFatalFailure());
      RC_ASSERT(stepped.table_.longest_probe() <= static_cast<uint32_t>(SLUICE_MAX_PROBES));
      if (*rc::gen::inRange(0, 3) == 0) {
        stepped.table_.grace_over();
      }
      if (*rc::gen::inRange(0, 5) == 0) {
        stepped.table_ = decode(stepped.image_);
      }
    }
  }));
}

}  // namespace
}  // namespace sluice::agent::program
