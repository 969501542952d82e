#include "node-agent/program/flow_tables.h"

#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <thread>

namespace sluice::agent::program {
namespace {

constexpr uint32_t kServices = 16;
constexpr std::array<uint64_t, 2> kKey = {21, 22};

void set_ends(sluice_flow4& flow, uint32_t n) {
  flow.backend = 0x0a000001;
  flow.source = n;
  flow.client = n;
}
void set_ends(sluice_flow6& flow, uint32_t n) {
  flow.backend.words[1] = 0x0a000001;
  flow.source.words[1] = n;
  flow.client.words[1] = n;
}
uint32_t client_of(const sluice_flow4& flow) {
  return flow.client;
}
uint32_t client_of(const sluice_flow6& flow) {
  return static_cast<uint32_t>(flow.client.words[1]);
}
uint32_t hash_of(const sluice_flow4& flow) {
  return sluice_flow4_hash(flow.backend, flow.source, flow.tuple, kKey[0], kKey[1]);
}
uint32_t hash_of(const sluice_flow6& flow) {
  return sluice_flow6_hash(&flow.backend, &flow.source, flow.tuple, kKey[0], kKey[1]);
}

template <typename Record>
Record flow(uint32_t n, uint32_t service = 0) {
  Record record{};
  set_ends(record, n);
  record.tuple = SLUICE_FLOW_TUPLE(80, 1234, 6, SLUICE_FLOW_LOCAL);
  record.client_port = 1234;
  record.head.service = service;
  record.head.backend = n + 7;
  record.head.seen = 99;
  record.head.next_hop = 5;
  record.head.control = SLUICE_FLOW_CONTROL(SLUICE_FLOW_LIVE, SLUICE_FLOW_REPLIED, 77, 1000 + n);
  return record;
}

// A table in memory of its own.
template <typename Record>
struct Memory {
  explicit Memory(uint32_t size) : records(size), shares(kServices + 1) {}
  FlowTable<Record> table() { return {records, shares, &sluice_shares::flows4, kKey}; }
  [[nodiscard]] uint32_t live() const {
    uint32_t count = 0;
    for (const Record& record : records) {
      count += SLUICE_FLOW_STATUS(record.head.control) == SLUICE_FLOW_LIVE ? 1 : 0;
    }
    return count;
  }

  // Nothing is under way: each record is where its home says, and the other way round; shares count what is there.
  void expect_consistent() {
    const auto mask = static_cast<uint32_t>(records.size() - 1);
    std::vector<uint32_t> by_service(shares.size());
    uint32_t bits = 0;
    for (uint32_t position = 0; position <= mask; ++position) {
      const Record& record = records[position];
      bits += static_cast<uint32_t>(std::popcount(record.head.homes));
      ASSERT_EQ(record.head.homes & ~SLUICE_FLOW_HOMES, 0U) << "locked";
      const uint32_t status = SLUICE_FLOW_STATUS(record.head.control);
      ASSERT_TRUE(status == SLUICE_FLOW_LIVE || status == SLUICE_FLOW_FREE);
      if (status == SLUICE_FLOW_LIVE) {
        const uint32_t home = hash_of(record) & mask;
        const uint32_t distance = (position - home) & mask;
        ASSERT_LT(distance, static_cast<uint32_t>(SLUICE_FLOW_WINDOW));
        ASSERT_NE(records[home].head.homes & (1U << distance), 0U);
        ++by_service[0];
        ++by_service[record.head.service + 1];
      }
    }
    ASSERT_EQ(bits, live());
    for (size_t i = 0; i < shares.size(); ++i) {
      ASSERT_EQ(shares[i].flows4, by_service[i]) << i;
    }
  }

  std::vector<Record> records;
  std::vector<sluice_shares> shares;
};

template <typename Record>
class FlowTables : public ::testing::Test {};
using Records = ::testing::Types<sluice_flow4, sluice_flow6>;
TYPED_TEST_SUITE(FlowTables, Records);

TYPED_TEST(FlowTables, ARecordIsFoundUntilItIsRemoved) {
  Memory<TypeParam> memory(256);
  auto table = memory.table();
  const auto one = flow<TypeParam>(1, 3);
  EXPECT_EQ(table.find(one), nullptr);
  EXPECT_EQ(table.insert(one), StoredFlow::stored);
  EXPECT_EQ(table.insert(one), StoredFlow::there_already);
  const TypeParam* there = table.find(one);
  ASSERT_NE(there, nullptr);
  EXPECT_EQ(client_of(*there), 1U);
  EXPECT_EQ(there->head.backend, 8U);
  EXPECT_EQ(there->head.seen, 99U);
  EXPECT_EQ(there->head.next_hop, 5U);
  EXPECT_EQ(SLUICE_FLOW_ACK(there->head.control), 1001U);
  EXPECT_NE(there->head.control & SLUICE_FLOW_REPLIED, 0U);
  memory.expect_consistent();
  const auto position = static_cast<uint32_t>(there - memory.records.data());
  const uint64_t control = there->head.control;
  EXPECT_FALSE(table.remove(position, control ^ SLUICE_FLOW_CLIENT_FIN)) << "it has changed since";
  EXPECT_TRUE(table.remove(position, control));
  EXPECT_FALSE(table.remove(position, control));
  EXPECT_EQ(table.find(one), nullptr);
  memory.expect_consistent();
  EXPECT_EQ(table.insert(one), StoredFlow::stored);
  EXPECT_NE(SLUICE_FLOW_GENERATION(table.find(one)->head.control), SLUICE_FLOW_GENERATION(control));
}

TYPED_TEST(FlowTables, ARecordThatWasUsedSinceItWasShownStays) {
  Memory<TypeParam> memory(64);
  auto table = memory.table();
  table.insert(flow<TypeParam>(1));
  std::map<uint32_t, TypeParam> shown;
  table.for_each([&](uint32_t position, const TypeParam& record) { shown[position] = record; });
  ASSERT_EQ(shown.size(), 1U);
  const auto [position, record] = *shown.begin();
  memory.records[position].head.seen = 100;
  EXPECT_FALSE(table.remove(position, record));
  memory.records[position].head.seen = 99;
  EXPECT_TRUE(table.remove(position, record));
}

TYPED_TEST(FlowTables, RecordsOfOneHomeShareItsWindowAndNoMore) {
  Memory<TypeParam> memory(256);
  auto table = memory.table();
  // All with the last position as their home: the window wraps.
  std::vector<TypeParam> flows;
  for (uint32_t n = 0; flows.size() <= SLUICE_FLOW_WINDOW; ++n) {
    if ((hash_of(flow<TypeParam>(n)) & 255) == 255) {
      flows.push_back(flow<TypeParam>(n));
    }
  }
  for (uint32_t i = 0; i < SLUICE_FLOW_WINDOW; ++i) {
    ASSERT_EQ(table.insert(flows[i]), StoredFlow::stored);
  }
  EXPECT_EQ(table.insert(flows.back()), StoredFlow::full);
  memory.expect_consistent();
  for (uint32_t i = 0; i < SLUICE_FLOW_WINDOW; ++i) {
    ASSERT_NE(table.find(flows[i]), nullptr);
  }
  const auto position = static_cast<uint32_t>(table.find(flows[7]) - memory.records.data());
  table.remove(position, memory.records[position].head.control);
  EXPECT_EQ(table.insert(flows.back()), StoredFlow::stored);
  EXPECT_EQ(table.find(flows[7]), nullptr);
  memory.expect_consistent();
}

TYPED_TEST(FlowTables, AServiceHasAtMostTwiceWhatIsLeft) {
  Memory<TypeParam> memory(1024);
  auto table = memory.table();
  uint32_t stored = 0;
  for (uint32_t n = 0; n < 3000; ++n) {
    stored += table.insert(flow<TypeParam>(n, 1)) == StoredFlow::stored ? 1 : 0;
  }
  EXPECT_EQ(stored, 512U) << "of the 768 that the table takes";
  EXPECT_EQ(table.insert(flow<TypeParam>(5000, 2)), StoredFlow::stored);
  EXPECT_EQ(table.insert(flow<TypeParam>(5001, kServices)), StoredFlow::full) << "it has no share";
  memory.expect_consistent();
}

TYPED_TEST(FlowTables, MoveIntoATableOfAnotherSize) {
  Memory<TypeParam> small(1024);
  Memory<TypeParam> large(4096);
  auto from = small.table();
  auto to = large.table();
  for (uint32_t n = 0; n < 300; ++n) {
    ASSERT_EQ(from.insert(flow<TypeParam>(n, n % kServices)), StoredFlow::stored);
  }
  from.for_each([&](uint32_t, const TypeParam& record) { EXPECT_EQ(to.insert(record), StoredFlow::stored); });
  for (uint32_t n = 0; n < 300; ++n) {
    const auto* there = to.find(flow<TypeParam>(n));
    ASSERT_NE(there, nullptr);
    EXPECT_EQ(SLUICE_FLOW_ACK(there->head.control), 1000 + n);
  }
  EXPECT_EQ(large.live(), 300U);
  large.expect_consistent();
  uint32_t seen = 0;
  from.for_each([&](uint32_t position, const TypeParam&) { seen += position >= 100 && position < 200 ? 1 : 1000; }, 100,
                100);
  EXPECT_LT(seen, 1000U) << "only the part that was asked for";
}

TYPED_TEST(FlowTables, WhatAKilledProcessHasLeftIsEndedAtTheSecondLook) {
  Memory<TypeParam> memory(256);
  auto table = memory.table();
  for (uint32_t n = 0; n < 4; ++n) {
    table.insert(flow<TypeParam>(n, 2));
  }
  const auto head = [&](uint32_t n) -> sluice_flow_head& { return table.find(flow<TypeParam>(n))->head; };
  sluice_flow_head& dead = head(0);
  sluice_flow_head& back = head(1);
  dead.control |= 3;                      // being removed, with its bit still in place
  const uint64_t control = back.control;  //
  back.control = (control & ~3ULL) | SLUICE_FLOW_DEAD;
  sluice_flow_head* free = nullptr;
  for (auto& record : memory.records) {
    if (record.head.control == 0 && record.head.homes == 0) {
      free = &record.head;
    }
  }
  free->control = SLUICE_FLOW_CONTROL(SLUICE_FLOW_BUSY, 0, 9, 0);
  free->homes = SLUICE_FLOW_LOCK;
  Leftovers seen;
  EXPECT_EQ(table.reclaim(seen), 0U);
  EXPECT_EQ(seen.records.size(), 3U);
  EXPECT_EQ(seen.homes.size(), 1U);
  back.control = control;  // that was another at work
  EXPECT_EQ(table.reclaim(seen), 3U);
  EXPECT_EQ(SLUICE_FLOW_STATUS(dead.control), SLUICE_FLOW_FREE);
  EXPECT_EQ(SLUICE_FLOW_STATUS(free->control), SLUICE_FLOW_FREE);
  EXPECT_EQ(SLUICE_FLOW_GENERATION(free->control), 9U);
  EXPECT_EQ(memory.live(), 3U);
  memory.expect_consistent();
  EXPECT_EQ(table.reclaim(seen), 0U);
}

TYPED_TEST(FlowTables, SharesThatDifferTwiceByTheSameAreMended) {
  Memory<TypeParam> memory(256);
  auto table = memory.table();
  for (uint32_t n = 0; n < 6; ++n) {
    table.insert(flow<TypeParam>(n, 2));
  }
  // A flow's service has moved to another index, as packets bring records up to date.
  table.find(flow<TypeParam>(1))->head.service = 5;
  memory.shares[5].flows4 = UINT32_MAX;  // service 4: counted down once too often
  ShareDrift drift;
  EXPECT_EQ(table.mend_shares(drift), 0U);
  EXPECT_EQ(table.mend_shares(drift), 3U);
  memory.expect_consistent();
  EXPECT_EQ(table.mend_shares(drift), 0U);
}

// Threads that stand for CPUs and for the sweeper.
TYPED_TEST(FlowTables, TwoThreadsNeverMakeOneKeyTwiceNorLoseOne) {
  Memory<TypeParam> memory(1024);
  constexpr uint32_t kFlows = 400;
  std::atomic<uint32_t> stored{0};
  std::atomic<uint32_t> removed{0};
  std::atomic<bool> go{false};
  const auto make = [&](uint32_t seed) {
    auto table = memory.table();
    std::mt19937 random(seed);
    while (!go) {
    }
    for (int i = 0; i < 60'000; ++i) {
      const auto n = static_cast<uint32_t>(random() % kFlows);
      const auto one = flow<TypeParam>(n, n % kServices);
      if (random() % 2 == 0) {
        stored += table.insert(one) == StoredFlow::stored ? 1 : 0;
      } else if (auto* there = table.find(one)) {
        const uint64_t control = __atomic_load_n(&there->head.control, __ATOMIC_ACQUIRE);
        removed += table.remove(static_cast<uint32_t>(there - memory.records.data()), control) ? 1 : 0;
      }
    }
  };
  std::thread first(make, 1);
  std::thread second(make, 2);
  go = true;
  auto table = memory.table();
  Leftovers seen;
  for (int i = 0; i < 200; ++i) {
    table.for_each([&](uint32_t, const TypeParam& record) {
      // A copy is of one record: what is made from the number fits.
      ASSERT_EQ(record.head.backend, client_of(record) + 7);
      ASSERT_EQ(record.head.service, client_of(record) % kServices);
      ASSERT_EQ(SLUICE_FLOW_ACK(record.head.control), 1000 + client_of(record));
    });
  }
  first.join();
  second.join();
  EXPECT_EQ(memory.live(), stored - removed);
  EXPECT_GT(removed, 1000U);
  std::set<uint32_t> once;
  table.for_each([&](uint32_t, const TypeParam& record) { EXPECT_TRUE(once.insert(client_of(record)).second); });
  memory.expect_consistent();
}

}  // namespace
}  // namespace sluice::agent::program
