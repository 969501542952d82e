// The maps: made or taken over from their pins, mapped into memory, shared by the programs. Internal to dataplane/.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <vector>

#include "common/result.h"
#include "node-agent/dataplane/fd.h"
#include "node-agent/program/image.h"

struct bpf_object;

namespace sluice::agent::dataplane {

// Entries of owned_addresses, each an address on one interface, for so many services: an address of its own for each,
// on a node with four interfaces that it is reached by. 80 bytes each.
constexpr uint32_t owned_room(uint32_t services) {
  return std::max<uint32_t>(4096, 4 * services);
}

struct MapSizes {
  program::Sizes tables;
  uint32_t flows = 262144;
  uint32_t owned_addresses = owned_room(program::Sizes{}.services);
};

class Maps {
 public:
  // Takes over the maps pinned in the layout's directory that are as they should be and makes the others. The maps that
  // make up tables, and the counters by their indices, are taken over or made all together: one of them alone means
  // nothing.
  static Result<Maps> open(const std::string& directory, const MapSizes& sizes);
  Maps(const Maps&) = delete;
  Maps& operator=(const Maps&) = delete;
  Maps(Maps&& other) noexcept;
  Maps& operator=(Maps&&) = delete;
  ~Maps();

  // The map named so in bpf/sluice.h.
  [[nodiscard]] int fd(const std::string& name) const { return fds_.at(name).get(); }
  [[nodiscard]] int fd(program::MapId map) const { return fd(program::map_name(map)); }
  // Where the map lies in memory.
  [[nodiscard]] void* memory(program::MapId map) const { return memory_.at(static_cast<size_t>(map)); }
  [[nodiscard]] program::ImageView view() const;
  [[nodiscard]] const MapSizes& sizes() const { return sizes_; }
  // The tables were made now, and hold nothing.
  [[nodiscard]] bool fresh_tables() const { return fresh_tables_; }
  // Some map is not in the place of its pin yet: programs that are attached still use another.
  [[nodiscard]] bool replacing() const { return !unpinned_.empty(); }

  // Lets a program object use these maps instead of making its own. Before it is loaded.
  Status share_with(bpf_object* object) const;
  // Copies the flows that an older table of another size has and this one does not.
  Status take_over_flows() const;
  // Puts these maps in the place of what is pinned.
  Status pin_all();

 private:
  Maps() = default;
  Status map_memory();
  Status take_over_owned(int older) const;

  std::string directory_;
  MapSizes sizes_;
  std::map<std::string, Fd> fds_;
  std::array<void*, program::kMapCount> memory_{};
  bool fresh_tables_ = false;
  std::vector<std::string> unpinned_;
  Fd older_flows_;
};

}  // namespace sluice::agent::dataplane
