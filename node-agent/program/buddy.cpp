#include "node-agent/program/buddy.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace sluice::agent::program {

uint8_t log2_ceil(uint32_t count) {
  return count <= 1 ? 0 : static_cast<uint8_t>(std::bit_width(count - 1));
}

BuddyAllocator::BuddyAllocator(uint32_t capacity) : capacity_(capacity), free_units_(capacity), free_(kOrders) {
  uint32_t first = 0;
  while (first < capacity) {
    const auto fits = static_cast<uint8_t>(std::bit_width(capacity - first) - 1);
    const auto aligned = first == 0 ? fits : static_cast<uint8_t>(std::countr_zero(first));
    const uint8_t log2 = std::min(fits, aligned);
    free_[log2].insert(first);
    first += 1U << log2;
  }
}

std::optional<Range> BuddyAllocator::allocate(uint8_t log2) {
  for (uint8_t order = log2; order < kOrders; ++order) {
    if (free_[order].empty()) {
      continue;
    }
    const uint32_t first = *free_[order].begin();
    free_[order].erase(free_[order].begin());
    while (order > log2) {
      --order;
      free_[order].insert(first + (1U << order));
    }
    free_units_ -= 1U << log2;
    return Range{first, log2};
  }
  return std::nullopt;
}

bool BuddyAllocator::reserve(Range range) {
  if (range.log2 >= kOrders || (range.first & (range.size() - 1)) != 0 || range.first >= capacity_ ||
      range.size() > capacity_ - range.first) {
    return false;
  }
  for (uint8_t order = range.log2; order < kOrders; ++order) {
    const uint32_t start = range.first & ~((1U << order) - 1);
    const auto found = free_[order].find(start);
    if (found == free_[order].end()) {
      continue;
    }
    free_[order].erase(found);
    // Halve down to the range; the halves that it does not lie in stay free.
    uint32_t first = start;
    while (order > range.log2) {
      --order;
      const uint32_t upper = first + (1U << order);
      if (range.first >= upper) {
        free_[order].insert(first);
        first = upper;
      } else {
        free_[order].insert(upper);
      }
    }
    free_units_ -= range.size();
    return true;
  }
  return false;
}

void BuddyAllocator::release(Range range) {
  assert(range.first < capacity_ && range.size() <= capacity_ - range.first);
  free_units_ += range.size();
  uint32_t first = range.first;
  uint8_t order = range.log2;
  while (order + 1 < kOrders) {
    const auto buddy = free_[order].find(first ^ (1U << order));
    if (buddy == free_[order].end()) {
      break;
    }
    first = std::min(first, *buddy);
    free_[order].erase(buddy);
    ++order;
  }
  free_[order].insert(first);
}

bool BuddyAllocator::has(uint8_t log2) const {
  return std::any_of(free_.begin() + log2, free_.end(), [](const auto& ranges) { return !ranges.empty(); });
}

std::vector<Range> BuddyAllocator::free_ranges() const {
  std::vector<Range> ranges;
  for (uint8_t order = 0; order < kOrders; ++order) {
    for (const uint32_t first : free_[order]) {
      ranges.push_back(Range{first, order});
    }
  }
  std::sort(ranges.begin(), ranges.end());
  return ranges;
}

}  // namespace sluice::agent::program
