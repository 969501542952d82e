#include "node-agent/dataplane/read_back.h"

namespace sluice::agent::dataplane {

Result<ReadBack> ReadBack::of(const Maps& maps) {
  ReadBack read(maps.sizes().tables);
  for (size_t i = 0; i < program::kMapCount; ++i) {
    const auto map = static_cast<program::MapId>(i);
    const char* name = program::map_name(map);
    auto mapping = Mapping::of(maps.fd(name), size_t{element_count(read.sizes_, map)} * program::element_bytes(map),
                               Access::read, name);
    if (!mapping) {
      return tl::unexpected(mapping.error());
    }
    read.maps_.at(i) = std::move(*mapping);
  }
  return read;
}

program::ImageView ReadBack::view() const {
  std::array<const void*, program::kMapCount> memory{};
  for (size_t i = 0; i < program::kMapCount; ++i) {
    memory.at(i) = maps_.at(i).data();
  }
  return program::view_of(sizes_, memory);
}

}  // namespace sluice::agent::dataplane
