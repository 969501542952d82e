#include "node-agent/dataplane/loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <array>
#include <bit>
#include <cerrno>
#include <ctime>
#include <map>

#include "bpf/sluice.skel.h"
#include "bpf/stack.skel.h"

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kOperation = "open the BPF object";
constexpr uint32_t kLeastFlows = 64;

bool is_table(int fd) {
  bpf_map_info info{};
  __u32 length = sizeof info;
  return bpf_obj_get_info_by_fd(fd, &info, &length) == 0 && info.type == BPF_MAP_TYPE_ARRAY && info.max_entries == 1 &&
         (info.map_flags & BPF_F_MMAPABLE) != 0;
}

using Constants = std::array<uint64_t, SLUICE_CONSTANT_COUNT>;
// Of the object that this thread is loading.
thread_local const Constants* loading = nullptr;

// Makes each load of a table's map into the load of its memory, and puts the constants into the text. Called by libbpf
// with the descriptors put in.
int prepare_text(bpf_program* program, bpf_prog_load_opts* options, long flags) {
  options->prog_flags |= static_cast<__u32>(flags);
  // libbpf's own copy, which is loaded next; only its type says that it is not to be written.
  auto* code = const_cast<bpf_insn*>(bpf_program__insns(program));
  const size_t count = bpf_program__insn_cnt(program);
  std::map<int, bool> tables;
  for (size_t i = 0; i + 1 < count; ++i) {
    if (code[i].code != (BPF_LD | BPF_IMM | BPF_DW)) {
      continue;
    }
    if (code[i].src_reg == BPF_PSEUDO_MAP_FD) {
      const auto [known, fresh] = tables.try_emplace(code[i].imm, false);
      if (fresh) {
        known->second = is_table(code[i].imm);
      }
      if (known->second) {
        code[i].src_reg = BPF_PSEUDO_MAP_VALUE;
        code[i + 1].imm = 0;
      }
    } else if (code[i].src_reg == 0 && static_cast<uint32_t>(code[i + 1].imm) == SLUICE_CONSTANT_MARK) {
      const uint64_t value = loading->at(static_cast<size_t>(code[i].imm));
      code[i].imm = static_cast<int32_t>(value);
      code[i + 1].imm = static_cast<int32_t>(value >> 32);
    }
    ++i;  // its second half
  }
  return 0;
}

struct Section {
  const char* name;
  bpf_prog_type type;
  bpf_attach_type attach;
  long flags;  // that libbpf's own handler, which ours stands in for, would set
};
constexpr Section kSections[] = {
    {"xdp.frags", BPF_PROG_TYPE_XDP, BPF_XDP, BPF_F_XDP_HAS_FRAGS},
    {"tc", BPF_PROG_TYPE_SCHED_CLS, static_cast<bpf_attach_type>(0), 0},
    {"syscall", BPF_PROG_TYPE_SYSCALL, static_cast<bpf_attach_type>(0), BPF_F_SLEEPABLE},
};

// libbpf keeps handlers for the whole process.
int register_handlers() {
  for (const Section& section : kSections) {
    libbpf_prog_handler_opts options{};
    options.sz = sizeof options;
    options.cookie = section.flags;
    options.prog_prepare_load_fn = prepare_text;
    if (const int handle = libbpf_register_prog_handler(section.name, section.type, section.attach, &options);
        handle < 0) {
      return -handle;
    }
  }
  return 0;
}

Constants constants_of(const MapSizes& sizes) {
  Constants constants{};
  constants[SLUICE_CONSTANT_KEYS_MASK] = sizes.tables.keys - 1;
  constants[SLUICE_CONSTANT_KEYS6_MASK] = sizes.tables.keys6 - 1;
  constants[SLUICE_CONSTANT_SERVICES_MASK] = sizes.tables.services - 1;
  constants[SLUICE_CONSTANT_SLOTS_MASK] = sizes.tables.slots - 1;
  constants[SLUICE_CONSTANT_BACKENDS_MASK] = sizes.tables.backends - 1;
  constants[SLUICE_CONSTANT_FLOWS4_MASK] = sizes.flows4 - 1;
  constants[SLUICE_CONSTANT_HALF_OPEN4_MASK] = sizes.half_open4 - 1;
  constants[SLUICE_CONSTANT_FLOWS6_MASK] = sizes.flows6 - 1;
  constants[SLUICE_CONSTANT_HALF_OPEN6_MASK] = sizes.half_open6 - 1;
  constants[SLUICE_CONSTANT_JIFFIES_PER_SECOND] = jiffies_per_second();
  return constants;
}

Status set_sizes(bpf_object* object, const MapSizes& sizes) {
  for (const TableSize& table : table_sizes(sizes)) {
    bpf_map* map = bpf_object__find_map_by_name(object, table.name);
    if (map == nullptr) {
      return fail(ErrorKind::internal, kOperation, table.name, "it has no such map");
    }
    if (const int error = bpf_map__set_value_size(map, static_cast<__u32>(table.bytes())); error != 0) {
      return fail_errno(-error, kOperation, table.name);
    }
  }
  bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "backend_counters"), sizes.tables.backends);
  bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "owned_addresses"), sizes.owned_addresses);
  return {};
}

// Once in the process.
Status have_handlers() {
  static const int refused = register_handlers();
  return refused == 0 ? Status() : fail_errno(refused, kOperation, "");
}

}  // namespace

Status check(const MapSizes& sizes) {
  const struct {
    const char* name;
    uint32_t size, least, most;
  } tables[] = {
      {"keys", sizes.tables.keys, 128, kMostKeys},
      {"keys6", sizes.tables.keys6, 1, kMostKeys},
      {"services", sizes.tables.services, 1, kMostServices},
      {"slots", sizes.tables.slots, SLUICE_SLOT_UNIT, kMostSlots},
      {"backends", sizes.tables.backends, 1, kMostBackends},
      {"flows4", sizes.flows4, kLeastFlows, kMostFlows},
      {"half_open4", sizes.half_open4, kLeastFlows, kMostFlows},
      {"flows6", sizes.flows6, kLeastFlows, kMostFlows},
      {"half_open6", sizes.half_open6, kLeastFlows, kMostFlows},
  };
  for (const auto& table : tables) {
    if (!std::has_single_bit(table.size) || table.size < table.least || table.size > table.most) {
      return fail(ErrorKind::invalid, "open the dataplane", "",
                  "the size of the table '" + std::string(table.name) + "' must be a power of two from " +
                      std::to_string(table.least) + " to " + std::to_string(table.most) + ", not " +
                      std::to_string(table.size));
    }
  }
  if (sizes.owned_addresses == 0) {
    return fail(ErrorKind::invalid, "open the dataplane", "", "there must be room for owned addresses");
  }
  return {};
}

std::vector<TableSize> table_sizes(const MapSizes& sizes) {
  std::vector<TableSize> all;
  for (size_t i = 0; i < program::kMapCount; ++i) {
    const auto map = static_cast<program::MapId>(i);
    all.push_back({program::map_name(map), program::element_bytes(map), element_count(sizes.tables, map)});
  }
  all.push_back({"proofs", sizeof(sluice_proof), SLUICE_MAX_PEERS});
  all.push_back({"flows4", sizeof(sluice_flow4), sizes.flows4});
  all.push_back({"half_open4", sizeof(sluice_flow4), sizes.half_open4});
  all.push_back({"flows6", sizeof(sluice_flow6), sizes.flows6});
  all.push_back({"half_open6", sizeof(sluice_flow6), sizes.half_open6});
  all.push_back({"shares", sizeof(sluice_shares), sizes.tables.services + 1});  // the first counts all
  return all;
}

uint32_t jiffies_per_second() {
  timespec tick{};
  clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
  return static_cast<uint32_t>(1'000'000'000 / std::max(tick.tv_nsec, 1L));
}

void SkeletonDeleter::operator()(sluice_bpf* skeleton) const {
  sluice_bpf__destroy(skeleton);
}

void SkeletonDeleter::operator()(sluice_stack_bpf* skeleton) const {
  sluice_stack_bpf__destroy(skeleton);
}

Result<Skeleton> open_skeleton(const MapSizes& sizes, const InterfaceConstants& interface) {
  if (Status ready = have_handlers(); !ready) {
    return tl::unexpected(ready.error());
  }
  Skeleton skeleton(sluice_bpf__open());
  if (skeleton == nullptr) {
    return fail_errno(errno, kOperation, "");
  }
  if (Status sized = set_sizes(skeleton->obj, sizes); !sized) {
    return tl::unexpected(sized.error());
  }
  Constants constants = constants_of(sizes);
  constants[SLUICE_CONSTANT_INTERFACE_INDEX] = interface.ifindex;
  constants[SLUICE_CONSTANT_INTERFACE_EGRESS] = interface.egress;
  constants[SLUICE_CONSTANT_INTERFACE_IS_NODE_LINK] = interface.node_link ? 1 : 0;
  std::copy(interface.mac.begin(), interface.mac.end(),
            reinterpret_cast<uint8_t*>(&constants[SLUICE_CONSTANT_INTERFACE_MAC]));
  std::copy(constants.begin(), constants.end(), std::begin(skeleton->rodata->constants));
  return skeleton;
}

Result<StackSkeleton> open_stack_skeleton(const MapSizes& sizes) {
  if (Status ready = have_handlers(); !ready) {
    return tl::unexpected(ready.error());
  }
  StackSkeleton skeleton(sluice_stack_bpf__open());
  if (skeleton == nullptr) {
    return fail_errno(errno, kOperation, "");
  }
  if (Status sized = set_sizes(skeleton->obj, sizes); !sized) {
    return tl::unexpected(sized.error());
  }
  const Constants constants = constants_of(sizes);
  std::copy(constants.begin(), constants.end(), std::begin(skeleton->rodata->constants));
  return skeleton;
}

namespace {

template <typename Object>
int load_with_constants(Object& skeleton, int (*load)(Object*)) {
  Constants constants{};
  std::copy(std::begin(skeleton.rodata->constants), std::end(skeleton.rodata->constants), constants.begin());
  loading = &constants;
  const int error = -load(&skeleton);
  loading = nullptr;
  return error;
}

}  // namespace

int load_skeleton(sluice_bpf& skeleton) {
  return load_with_constants(skeleton, sluice_bpf__load);
}
int load_skeleton(sluice_stack_bpf& skeleton) {
  return load_with_constants(skeleton, sluice_stack_bpf__load);
}

int program_fd(const bpf_object* object, const char* name) {
  const bpf_program* program = bpf_object__find_program_by_name(object, name);
  return program == nullptr ? -1 : bpf_program__fd(program);
}

Result<std::vector<std::pair<uint32_t, int>>> program_arrays(const bpf_object* object) {
  std::vector<std::pair<uint32_t, int>> found;
  const bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (bpf_map__type(map) != BPF_MAP_TYPE_PROG_ARRAY) {
      continue;
    }
    bpf_map_info info{};
    __u32 length = sizeof info;
    if (bpf_obj_get_info_by_fd(bpf_map__fd(map), &info, &length) != 0) {
      return fail_errno(errno, "look at map", bpf_map__name(map));
    }
    found.emplace_back(info.id, bpf_map__fd(map));
  }
  return found;
}

}  // namespace sluice::agent::dataplane
