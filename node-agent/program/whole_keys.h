// The map keys6: IPv6 keys in full, as their words in the key table are only prints. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "node-agent/program/buddy.h"
#include "node-agent/program/image.h"
#include "node-agent/program/keys.h"

namespace sluice::agent::program {

// An element is written before the key that leads to it, and taken by another only a grace period after that key has
// gone.
class WholeKeys {
 public:
  explicit WholeKeys(uint32_t elements) : indices_(elements) {}

  // Takes over what an image has at an index. False: that is not what an IPv6 key with this word could mean, or another
  // key leads there.
  bool adopt(const ImageView& image, uint64_t word, uint32_t index);

  // Where the key is or, with the next commit(), will be; nullopt: no room, or another key has its print.
  std::optional<uint32_t> take(const WholeKey& key);
  [[nodiscard]] bool collides(const WholeKey& key) const;
  [[nodiscard]] const WholeKey* find(uint64_t word) const;
  // Appends the stores of what has been taken since the last commit(), or forgets it.
  void commit(WriteList& writes);
  void rollback();
  // The key of this word has gone from the key table.
  void drop(uint64_t word);
  void grace_over();
  [[nodiscard]] bool awaits_grace() const { return !retired_.empty(); }

  [[nodiscard]] uint32_t free_elements() const { return indices_.free_units(); }
  // As many elements from the first on hold all that is in use.
  [[nodiscard]] uint32_t extent() const { return in_use_.empty() ? 0 : in_use_.rbegin()->first + 1; }

 private:
  struct Placed {
    WholeKey key;
    uint32_t index = 0;
  };
  BuddyAllocator indices_;
  std::unordered_map<uint64_t, Placed> placed_;  // by word
  std::map<uint32_t, uint64_t> in_use_;          // index -> word
  std::vector<uint64_t> fresh_;                  // words taken and not written yet
  std::vector<uint32_t> retired_;
};

}  // namespace sluice::agent::program
