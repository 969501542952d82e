#include "common/maglev/maglev.h"

#include <gtest/gtest.h>
// rapidcheck's headers want gtest's first.
#include <rapidcheck.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

namespace sluice::maglev {
namespace {

std::vector<Candidate> equals(size_t count, uint64_t first_identity = 1) {
  std::vector<Candidate> candidates(count);
  for (size_t i = 0; i < count; ++i) candidates[i] = {mix(first_identity + i), 1};
  return candidates;
}

std::vector<size_t> shares(const std::vector<uint16_t>& table, size_t candidates) {
  std::vector<size_t> counts(candidates);
  for (const uint16_t index : table) {
    if (index != kNoBackend) ++counts.at(index);
  }
  return counts;
}

// Share of the slots that another than the removed or added backend has after the change.
double disruption(const std::vector<uint64_t>& before, const std::vector<uint64_t>& after, uint64_t changed) {
  size_t moved = 0;
  for (size_t slot = 0; slot < before.size(); ++slot) {
    if (before[slot] != after[slot] && before[slot] != changed && after[slot] != changed) ++moved;
  }
  return static_cast<double>(moved) / static_cast<double>(before.size());
}

std::vector<uint64_t> identities(const std::vector<Candidate>& candidates, uint8_t log2) {
  std::vector<uint64_t> named;
  for (const uint16_t index : build(candidates, log2)) named.push_back(candidates.at(index).identity);
  return named;
}

TEST(MaglevWalk, AsksForEverySlotOnce) {
  for (uint8_t log2 = 0; log2 <= 10; ++log2) {
    const uint32_t slots = 1U << log2;
    for (uint64_t identity = 0; identity < 50; ++identity) {
      const Walk start = walk(identity, log2);
      EXPECT_EQ(start.step % 2, 1U);
      std::set<uint32_t> seen;
      for (uint32_t n = 0; n < slots; ++n) seen.insert((start.offset + n * start.step) & (slots - 1));
      EXPECT_EQ(seen.size(), slots);
    }
  }
}

// Three backends over eight slots, as in the paper's table 1:
//
//   A (identity 1: offset 1, step 3) asks for 1 4 7 2 5 0 3 6
//   B (identity 2: offset 6, step 1) asks for 6 7 0 1 2 3 4 5
//   C (identity 3: offset 5, step 5) asks for 5 2 7 4 1 6 3 0
//
//   round 1: A takes 1, B takes 6, C takes 5
//   round 2: A takes 4, B takes 7, C takes 2
//   round 3: A finds 7, 2 and 5 taken and takes 0; B finds 0, 1 and 2 taken and takes 3; the table is full
TEST(Maglev, EightSlotsByHand) {
  EXPECT_EQ(walk(1, 3).offset, 1U);
  EXPECT_EQ(walk(1, 3).step, 3U);
  EXPECT_EQ(walk(2, 3).offset, 6U);
  EXPECT_EQ(walk(2, 3).step, 1U);
  EXPECT_EQ(walk(3, 3).offset, 5U);
  EXPECT_EQ(walk(3, 3).step, 5U);
  const uint16_t a = 0;
  const uint16_t b = 1;
  const uint16_t c = 2;
  EXPECT_EQ(build(std::vector<Candidate>{{1, 7}, {2, 7}, {3, 7}}, 3), (std::vector<uint16_t>{a, a, c, b, a, c, b, b}));
}

// Without C:
//   round 1: A takes 1, B takes 6
//   round 2: A takes 4, B takes 7
//   round 3: A finds 7 taken and takes 2, B takes 0
//   round 4: A takes 5, B finds 1 and 2 taken and takes 3
TEST(Maglev, EightSlotsByHandAfterOneLeft) {
  EXPECT_EQ(build(std::vector<Candidate>{{1, 7}, {2, 7}}, 3), (std::vector<uint16_t>{1, 0, 0, 1, 0, 0, 1, 1}));
}

TEST(Maglev, EveryEqualSetOverSmallTablesIsEvenToOneSlotAndComplete) {
  for (uint8_t log2 = 0; log2 <= 6; ++log2) {
    const size_t slots = size_t{1} << log2;
    for (size_t count = 1; count <= slots; ++count) {
      for (uint64_t seed = 0; seed < 5; ++seed) {
        const auto table = build(equals(count, seed * 1000), log2);
        ASSERT_EQ(table.size(), slots);
        const auto counts = shares(table, count);
        EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), size_t{0}), slots);
        const auto [least, most] = std::ranges::minmax(counts);
        EXPECT_LE(most - least, 1U) << count << " over 2^" << int{log2};
        EXPECT_GE(least, 1U);
      }
    }
  }
}

TEST(Maglev, FourHundredOver65536AreEvenToOneSlot) {
  const auto [least, most] = std::ranges::minmax(shares(build(equals(400), 16), 400));
  EXPECT_LE(most - least, 1U);
}

TEST(Maglev, MoreCandidatesThanSlotsFillTheTableWithDistinctOnes) {
  const auto table = build(equals(100), 4);
  EXPECT_EQ(std::set<uint16_t>(table.begin(), table.end()).size(), 16U);
}

TEST(Maglev, RemovingOneMovesFewOfTheOthersSlots) {
  const struct {
    size_t candidates;
    uint8_t log2;
    double bar;
  } rows[] = {{10, 10, 0.04}, {10, 14, 0.04}, {100, 14, 0.02}, {400, 16, 0.02}, {1000, 16, 0.02}};
  for (const auto& row : rows) {
    double sum = 0;
    constexpr size_t kRemoved = 10;
    for (size_t i = 0; i < kRemoved; ++i) {
      auto candidates = equals(row.candidates);
      const auto before = identities(candidates, row.log2);
      const size_t gone = i * row.candidates / kRemoved;
      const uint64_t identity = candidates[gone].identity;
      candidates.erase(candidates.begin() + static_cast<ptrdiff_t>(gone));
      sum += disruption(before, identities(candidates, row.log2), identity);
    }
    EXPECT_LT(sum / kRemoved, row.bar) << row.candidates << " over 2^" << int{row.log2};
  }
}

// A plain modulo would move nearly all: what the bars above are worth.
TEST(Maglev, TheDisruptionMeasureSeesAModuloTable) {
  const auto candidates = equals(100);
  std::vector<uint64_t> before;
  std::vector<uint64_t> after;
  for (size_t slot = 0; slot < 16384; ++slot) {
    before.push_back(candidates[slot % 100].identity);
    after.push_back(candidates[slot % 99].identity);
  }
  EXPECT_GT(disruption(before, after, candidates[99].identity), 0.9);
}

TEST(Maglev, WeightsAreRespectedToASlotOrSo) {
  const struct {
    std::vector<uint64_t> weights;
    uint8_t log2;
  } rows[] = {
      {{90, 10}, 10},
      {{10, 90}, 10},
      {{1000, 1}, 10},
      {{1000, 1}, 16},
      {{1, 1000}, 16},
      {{3, 2, 1}, 12},
      {{UINT64_MAX, UINT64_MAX / 9}, 12},
      {{5, 0, 5}, 8},
  };
  for (const auto& row : rows) {
    std::vector<Candidate> candidates;
    double total = 0;
    for (size_t i = 0; i < row.weights.size(); ++i) {
      candidates.push_back({mix(i), row.weights[i]});
      total += static_cast<double>(row.weights[i]);
    }
    const auto counts = shares(build(candidates, row.log2), candidates.size());
    for (size_t i = 0; i < candidates.size(); ++i) {
      const double exact = std::ldexp(static_cast<double>(row.weights[i]) / total, row.log2);
      EXPECT_NEAR(static_cast<double>(counts[i]), exact, 1.01) << "weight " << row.weights[i];
    }
  }
}

// 90 over three, 10 over fifty: each of the fifty has 8.2 slots of 4,096. Rounded alike they would have 9.8% or 11%.
TEST(Maglev, AGroupOfManyLightMembersGetsItsShare) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    auto candidates = equals(53, seed * 100);
    for (size_t i = 0; i < candidates.size(); ++i) candidates[i].weight = i < 3 ? 90 * 50 : 10 * 3;
    const auto counts = shares(build(candidates, 12), candidates.size());
    const auto light = std::accumulate(counts.begin() + 3, counts.end(), size_t{0});
    EXPECT_NEAR(static_cast<double>(light) / 4096, 0.10, 0.004);
  }
}

TEST(Maglev, WhoeverHasAWeightGetsASlot) {
  auto candidates = equals(400);
  candidates[0].weight = 1'000'000'000'000;
  const auto counts = shares(build(candidates, 15), candidates.size());
  EXPECT_GE(std::ranges::min(counts), 1U);
}

TEST(Maglev, ScalingAllWeightsChangesNothing) {
  auto candidates = equals(20);
  for (size_t i = 0; i < candidates.size(); ++i) candidates[i].weight = 1 + i % 5;
  const auto before = build(candidates, 12);
  for (Candidate& candidate : candidates) candidate.weight *= 1U << 20;
  EXPECT_EQ(build(candidates, 12), before);
}

TEST(Maglev, OrderOfTheInputDoesNotMatter) {
  EXPECT_TRUE(rc::check("a shuffled input gives the same table", [] {
    const auto count = *rc::gen::inRange<size_t>(1, 40);
    auto candidates = equals(count, *rc::gen::arbitrary<uint64_t>());
    for (Candidate& candidate : candidates) candidate.weight = *rc::gen::inRange<uint64_t>(1, 1001);
    const auto before = identities(candidates, 9);
    std::mt19937_64 random(*rc::gen::arbitrary<uint64_t>());
    std::shuffle(candidates.begin(), candidates.end(), random);
    RC_ASSERT(identities(candidates, 9) == before);
  }));
}

TEST(Maglev, WithoutWeightNobodyHasASlot) {
  EXPECT_EQ(build({}, 4), std::vector<uint16_t>(16, kNoBackend));
  EXPECT_EQ(build(std::vector<Candidate>{{1, 0}, {2, 0}}, 4), std::vector<uint16_t>(16, kNoBackend));
}

TEST(Maglev, OneCandidateHasAllSlots) {
  EXPECT_EQ(build(std::vector<Candidate>{{7, 1}}, 0), std::vector<uint16_t>{0});
  EXPECT_EQ(build(std::vector<Candidate>{{7, 3}}, 6), std::vector<uint16_t>(64, 0));
  EXPECT_EQ(build(std::vector<Candidate>{{7, 0}, {8, 1}}, 6), std::vector<uint16_t>(64, 1));
}

TEST(Maglev, TheMostCandidatesFitAndOneMoreIsABug) {
  const auto table = build(equals(65535), kMaxLog2);
  const auto counts = shares(table, 65535);
  EXPECT_EQ(std::ranges::min(counts), 8U);
  EXPECT_EQ(std::ranges::max(counts), 9U);
  EXPECT_DEATH((void)build(equals(65536), 4), "");
  EXPECT_DEATH((void)build(equals(1), kMaxLog2 + 1), "");
}

TEST(Maglev, OneHeavyAmongManyLightTakesNoLongerThanEquals) {
  const auto time = [](const std::vector<Candidate>& candidates) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(build(candidates, kMaxLog2).size(), 1U << kMaxLog2);
    return std::chrono::steady_clock::now() - start;
  };
  auto skewed = equals(8192);
  skewed[0].weight = 1'000'000'000;
  // Asking everyone in every round takes 4e9 steps, over a hundred times as long.
  EXPECT_LT(time(skewed), 10 * time(equals(8192)) + std::chrono::milliseconds(200));
}

TEST(WantedLog2, IsSixtyFourSlotsACandidateWithinBounds) {
  const struct {
    size_t candidates;
    uint8_t log2;
  } rows[] = {{0, 0},
              {1, 0},
              {2, 10},
              {16, 10},
              {17, 11},
              {32, 11},
              {33, 12},
              {250, 14},
              {400, 15},
              {512, 15},
              {8192, 19},
              {65535, kMaxLog2},
              {SIZE_MAX, kMaxLog2}};
  for (const auto& row : rows) EXPECT_EQ(wanted_log2(row.candidates), row.log2) << row.candidates;
}

}  // namespace
}  // namespace sluice::maglev
