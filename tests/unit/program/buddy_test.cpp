#include <gtest/gtest.h>
// gtest first
#include <rapidcheck.h>

#include <algorithm>
#include <vector>

#include "node-agent/program/buddy.h"

namespace sluice::agent::program {
namespace {

TEST(Buddy, GivesAlignedRangesOfTheSizeAskedFor) {
  BuddyAllocator arena(64);
  for (const uint8_t log2 : std::vector<uint8_t>{3, 0, 2, 5}) {
    const auto range = arena.allocate(log2);
    ASSERT_TRUE(range);
    EXPECT_EQ(range->log2, log2);
    EXPECT_EQ(range->first % range->size(), 0U);
  }
}

TEST(Buddy, MergesWhatIsGivenBack) {
  BuddyAllocator arena(16);
  std::vector<Range> ranges;
  while (const auto range = arena.allocate(0)) {
    ranges.push_back(*range);
  }
  EXPECT_EQ(ranges.size(), 16U);
  for (const Range& range : ranges) {
    arena.release(range);
  }
  EXPECT_EQ(arena.free_ranges(), (std::vector<Range>{{0, 4}}));
}

TEST(Buddy, CutsAnArenaThatIsNoPowerOfTwo) {
  BuddyAllocator arena(11);
  EXPECT_EQ(arena.free_ranges(), (std::vector<Range>{{0, 3}, {8, 1}, {10, 0}}));
  EXPECT_FALSE(arena.allocate(4));
  EXPECT_TRUE(arena.allocate(3));
}

TEST(Buddy, ReservesOnlyWhatIsFreeAlignedAndInBounds) {
  BuddyAllocator arena(16);
  EXPECT_TRUE(arena.reserve({4, 2}));
  EXPECT_FALSE(arena.reserve({4, 2})) << "taken";
  EXPECT_FALSE(arena.reserve({5, 0})) << "inside of a taken one";
  EXPECT_FALSE(arena.reserve({0, 3})) << "holds a taken one";
  EXPECT_FALSE(arena.reserve({9, 1})) << "not aligned";
  EXPECT_FALSE(arena.reserve({16, 0})) << "out of bounds";
  EXPECT_FALSE(arena.reserve({0, 5})) << "larger than the arena";
  EXPECT_EQ(arena.free_units(), 12U);
  arena.release({4, 2});
  EXPECT_EQ(arena.free_ranges(), (std::vector<Range>{{0, 4}}));
}

TEST(Buddy, NeverOverlapsAndLosesNothingOverRandomUse) {
  EXPECT_TRUE(rc::check([] {
    const auto capacity = *rc::gen::inRange<uint32_t>(1, 300);
    BuddyAllocator arena(capacity);
    const auto whole = arena.free_ranges();
    std::vector<Range> held;
    std::vector<bool> used(capacity);
    const auto take = [&](const Range& range) {
      for (uint32_t unit = range.first; unit < range.first + range.size(); ++unit) {
        RC_ASSERT(unit < capacity);
        RC_ASSERT(!used[unit]);
        used[unit] = true;
      }
      held.push_back(range);
    };
    const auto steps = *rc::gen::container<std::vector<std::pair<uint8_t, uint32_t>>>(
        rc::gen::pair(rc::gen::inRange<uint8_t>(0, 8), rc::gen::inRange<uint32_t>(0, 300)));
    for (const auto& [what, number] : steps) {
      if (what < 4) {
        if (const auto range = arena.allocate(what)) {
          take(*range);
        }
      } else if (what == 4) {
        const Range range{number, static_cast<uint8_t>(number % 4)};
        const bool fits = number % range.size() == 0 && range.first + range.size() <= capacity &&
                          std::none_of(used.begin() + range.first, used.begin() + range.first + range.size(),
                                       [](bool unit) { return unit; });
        RC_ASSERT(arena.reserve(range) == fits);
        if (fits) {
          take(range);
        }
      } else if (!held.empty()) {
        const size_t victim = number % held.size();
        for (uint32_t unit = held[victim].first; unit < held[victim].first + held[victim].size(); ++unit) {
          used[unit] = false;
        }
        arena.release(held[victim]);
        held.erase(held.begin() + static_cast<long>(victim));
      }
      RC_ASSERT(arena.free_units() == static_cast<uint32_t>(std::count(used.begin(), used.end(), false)));
    }
    for (const Range& range : held) {
      arena.release(range);
    }
    RC_ASSERT(arena.free_ranges() == whole);
  }));
}

}  // namespace
}  // namespace sluice::agent::program
