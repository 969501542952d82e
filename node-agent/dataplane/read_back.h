// What the kernel says is in the maps: read by a mapping of its own, which cannot be written through. Internal to
// dataplane/.
#pragma once

#include <array>

#include "common/result.h"
#include "node-agent/dataplane/maps.h"

namespace sluice::agent::dataplane {

class ReadBack {
 public:
  static Result<ReadBack> of(const Maps& maps);
  [[nodiscard]] program::ImageView view() const;

 private:
  explicit ReadBack(const program::Sizes& sizes) : sizes_(sizes) {}

  program::Sizes sizes_;
  std::array<Mapping, program::kMapCount> maps_;
};

}  // namespace sluice::agent::dataplane
