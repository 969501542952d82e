#include "node-agent/program/whole_keys.h"

namespace sluice::agent::program {

bool WholeKeys::adopt(const ImageView& image, uint64_t word, uint32_t index) {
  if (index >= image.keys6.size() || placed_.contains(word)) {
    return false;
  }
  const auto key = whole_key(image.keys6[index]);
  if (!key || key->word() != word || !indices_.reserve(Range{index, 0})) {
    return false;
  }
  placed_[word] = Placed{*key, index};
  in_use_[index] = word;
  return true;
}

std::optional<uint32_t> WholeKeys::take(const WholeKey& key) {
  const uint64_t word = key.word();
  const auto there = placed_.find(word);
  if (there != placed_.end()) {
    return there->second.key == key ? std::optional(there->second.index) : std::nullopt;
  }
  const auto range = indices_.allocate(0);
  if (!range) {
    return std::nullopt;
  }
  placed_[word] = Placed{key, range->first};
  in_use_[range->first] = word;
  fresh_.push_back(word);
  return range->first;
}

bool WholeKeys::collides(const WholeKey& key) const {
  const WholeKey* there = find(key.word());
  return there != nullptr && *there != key;
}

const WholeKey* WholeKeys::find(uint64_t word) const {
  const auto there = placed_.find(word);
  return there == placed_.end() ? nullptr : &there->second.key;
}

void WholeKeys::commit(WriteList& writes) {
  for (const uint64_t word : fresh_) {
    const Placed& placed = placed_.at(word);
    writes.store_element(MapId::keys6, placed.index, to_element(placed.key));
  }
  fresh_.clear();
}

void WholeKeys::rollback() {
  for (const uint64_t word : fresh_) {
    const auto placed = placed_.find(word);
    indices_.release(Range{placed->second.index, 0});
    in_use_.erase(placed->second.index);
    placed_.erase(placed);
  }
  fresh_.clear();
}

void WholeKeys::drop(uint64_t word) {
  const auto placed = placed_.find(word);
  if (placed != placed_.end()) {
    retired_.push_back(placed->second.index);
    in_use_.erase(placed->second.index);
    placed_.erase(placed);
  }
}

void WholeKeys::grace_over() {
  for (const uint32_t index : retired_) {
    indices_.release(Range{index, 0});
  }
  retired_.clear();
}

}  // namespace sluice::agent::program
