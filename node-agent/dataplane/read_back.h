// What the kernel says is in the maps: read by bpf(2), not by the mapping that was written through. Internal to
// dataplane/.
#pragma once

#include <array>
#include <vector>

#include "common/result.h"
#include "node-agent/dataplane/maps.h"
#include "node-agent/program/programmer.h"

namespace sluice::agent::dataplane {

class ReadBack {
 public:
  // Reads these parts; everything else is zero.
  static Result<ReadBack> read(const Maps& maps, const std::vector<program::Region>& regions);
  ReadBack(const ReadBack&) = delete;
  ReadBack& operator=(const ReadBack&) = delete;
  ReadBack(ReadBack&& other) noexcept;
  ReadBack& operator=(ReadBack&&) = delete;
  ~ReadBack();

  [[nodiscard]] program::ImageView view() const;

 private:
  explicit ReadBack(const program::Sizes& sizes) : sizes_(sizes) {}
  [[nodiscard]] size_t bytes(program::MapId map) const;

  program::Sizes sizes_;
  std::array<void*, program::kMapCount> memory_{};
};

}  // namespace sluice::agent::dataplane
