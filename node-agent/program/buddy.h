// Ranges of a power of two, out of an arena: what slot tables, backend records and key tables live in. Pure.
//
// Knowlton, "A fast storage allocator", CACM 8(10), 1965: a range is aligned on its size and merges with its buddy when
// both are free.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

namespace sluice::agent::program {

// [first, first + 2^log2) in units of the arena.
struct Range {
  uint32_t first = 0;
  uint8_t log2 = 0;
  [[nodiscard]] uint32_t size() const { return 1U << log2; }
  friend auto operator<=>(const Range&, const Range&) = default;
  friend bool operator==(const Range&, const Range&) = default;
};

class BuddyAllocator {
 public:
  // An arena of any size; what is not a power of two is cut into aligned ranges.
  explicit BuddyAllocator(uint32_t capacity);

  // The lowest free range of 2^log2 units out of the smallest one that has it; nullopt when none is free.
  std::optional<Range> allocate(uint8_t log2);
  // Takes exactly this range. False, and nothing is taken, where it is not aligned, out of bounds or not wholly free.
  bool reserve(Range range);
  // Gives back a range that allocate() returned or reserve() took. Giving back anything else is a mistake of the
  // caller's.
  void release(Range range);

  // Whether allocate(log2) would find one.
  [[nodiscard]] bool has(uint8_t log2) const;
  [[nodiscard]] uint32_t capacity() const { return capacity_; }
  [[nodiscard]] uint32_t free_units() const { return free_units_; }
  // The free ranges, each as large as it can be, by position.
  [[nodiscard]] std::vector<Range> free_ranges() const;

 private:
  static constexpr uint8_t kOrders = 32;
  uint32_t capacity_;
  uint32_t free_units_ = 0;
  std::vector<std::set<uint32_t>> free_;  // by log2: first units
};

// The smallest k with 2^k >= count; 0 for 0.
uint8_t log2_ceil(uint32_t count);

}  // namespace sluice::agent::program
