#include "node-agent/dataplane/read_back.h"

#include <bpf/bpf.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace sluice::agent::dataplane {
namespace {

constexpr uint32_t kBatch = 16384;

Status read_region(int fd, const program::Region& region, char* map, std::vector<uint32_t>& keys) {
  const uint32_t size = program::element_bytes(region.map);
  uint32_t position = region.first;
  uint32_t left = region.count;
  while (left > 0) {
    // A batch begins behind the key that it is given.
    uint32_t before = position - 1;
    uint32_t after = 0;
    uint32_t count = std::min(left, kBatch);
    keys.resize(count);
    if (bpf_map_lookup_batch(fd, position == 0 ? nullptr : &before, &after, keys.data(), map + size_t{position} * size,
                             &count, nullptr) != 0 &&
        errno != ENOENT) {
      return fail_errno(errno, "read back map", program::map_name(region.map));
    }
    if (count == 0) {
      return fail(ErrorKind::internal, "read back map", program::map_name(region.map), "it ends too early");
    }
    position += count;
    left -= count;
  }
  return {};
}

}  // namespace

ReadBack::ReadBack(ReadBack&& other) noexcept : sizes_(other.sizes_), memory_(std::exchange(other.memory_, {})) {}

ReadBack::~ReadBack() {
  for (size_t map = 0; map < memory_.size(); ++map) {
    if (memory_.at(map) != nullptr) {
      munmap(memory_.at(map), bytes(static_cast<program::MapId>(map)));
    }
  }
}

size_t ReadBack::bytes(program::MapId map) const {
  return size_t{element_count(sizes_, map)} * program::element_bytes(map);
}

program::ImageView ReadBack::view() const {
  std::array<const void*, program::kMapCount> memory{};
  std::copy(memory_.begin(), memory_.end(), memory.begin());
  return program::view_of(sizes_, memory);
}

Result<ReadBack> ReadBack::read(const Maps& maps, const std::vector<program::Region>& regions) {
  ReadBack copy(maps.sizes().tables);
  for (size_t i = 0; i < program::kMapCount; ++i) {
    // Pages that nothing is read into take no memory.
    void* memory = mmap(nullptr, copy.bytes(static_cast<program::MapId>(i)), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      return fail_errno(errno, "read back maps", "");
    }
    copy.memory_.at(i) = memory;
  }
  std::vector<uint32_t> keys;
  for (const auto& region : regions) {
    auto* map = static_cast<char*>(copy.memory_.at(static_cast<size_t>(region.map)));
    if (Status read = read_region(maps.fd(region.map), region, map, keys); !read) {
      return tl::unexpected(read.error());
    }
  }
  return copy;
}

}  // namespace sluice::agent::dataplane
