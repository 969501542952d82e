// The BPF objects as they have to be opened and loaded: tables of the sizes asked for, programs that address them
// directly.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/result.h"
#include "node-agent/dataplane/network.h"
#include "node-agent/program/image.h"

struct bpf_object;
struct sluice_bpf;
struct sluice_stack_bpf;

namespace sluice::agent::dataplane {

// Entries of owned_addresses, each an address on one interface, for so many services: an address of its own for each,
// on a node with four interfaces that it is reached by. 80 bytes each.
constexpr uint32_t owned_room(uint32_t services) {
  return std::max<uint32_t>(4096, 4 * services);
}

// The most elements that a table may have: the verifier reaches no further than 512 MiB into one.
constexpr uint32_t kMostKeys = 1U << 24;
constexpr uint32_t kMostServices = 1U << 24;
constexpr uint32_t kMostSlots = 1U << 27;
constexpr uint32_t kMostBackends = 1U << 24;
constexpr uint32_t kMostFlows = 1U << 22;

// Tables' are powers of two.
struct MapSizes {
  program::Sizes tables;
  // Records. A table takes three quarters of them.
  uint32_t flows4 = 262144;
  uint32_t half_open4 = 65536;
  uint32_t flows6 = 65536;
  uint32_t half_open6 = 16384;
  uint32_t owned_addresses = owned_room(program::Sizes{}.services);
};

// Refuses (invalid) sizes that the programs cannot work with; the reason names the map.
Status check(const MapSizes& sizes);

// A table: one value that holds all its elements.
struct TableSize {
  const char* name;  // the map's
  uint32_t element;  // bytes
  uint32_t count;
  [[nodiscard]] size_t bytes() const { return size_t{element} * count; }
};
std::vector<TableSize> table_sizes(const MapSizes& sizes);

// What is fixed in the programs of one interface.
struct InterfaceConstants {
  uint32_t ifindex = 0;
  Mac mac{};
  uint32_t egress = 0;     // its index in `egress`; 0: none
  bool node_link = false;  // the far end of the node link
  friend bool operator==(const InterfaceConstants&, const InterfaceConstants&) = default;
};

// The rate of the clock that flow records are stamped with.
uint32_t jiffies_per_second();

struct SkeletonDeleter {
  void operator()(sluice_bpf* skeleton) const;
  void operator()(sluice_stack_bpf* skeleton) const;
};
using Skeleton = std::unique_ptr<sluice_bpf, SkeletonDeleter>;
using StackSkeleton = std::unique_ptr<sluice_stack_bpf, SkeletonDeleter>;

// Opens the object, with everything set that is to be set before it is loaded; maps may still be replaced by others.
Result<Skeleton> open_skeleton(const MapSizes& sizes, const InterfaceConstants& interface);
// The same of the object with the programs for the node's own network stack.
Result<StackSkeleton> open_stack_skeleton(const MapSizes& sizes);
// Loads its programs, and makes the maps that it does not share. 0 or an errno.
int load_skeleton(sluice_bpf& skeleton);
int load_skeleton(sluice_stack_bpf& skeleton);
// The descriptor of a loaded program; negative where the object has none of that name.
int program_fd(const bpf_object* object, const char* name);
// The maps of an object that lead its programs to each other, {id, file descriptor} each.
Result<std::vector<std::pair<uint32_t, int>>> program_arrays(const bpf_object* object);

}  // namespace sluice::agent::dataplane
