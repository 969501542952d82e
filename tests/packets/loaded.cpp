#include "tests/packets/loaded.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <tuple>
#include <vector>

namespace sluice::packets {
namespace {

int keep_message(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  std::array<char, 4096> line{};
  std::vsnprintf(line.data(), line.size(), format, arguments);
  libbpf_messages() += line.data();
  return 0;
}

void clear_array(const bpf_map* map) {
  const std::vector<uint8_t> zero(size_t{bpf_map__value_size(map)} * static_cast<size_t>(libbpf_num_possible_cpus()));
  for (uint32_t i = 0; i < bpf_map__max_entries(map); i++)
    must(bpf_map__update_elem(map, &i, sizeof(i), zero.data(), zero.size(), BPF_ANY), "clear an array");
}

void clear_hash(const bpf_map* map) {
  std::vector<uint8_t> key(bpf_map__key_size(map));
  while (bpf_map__get_next_key(map, nullptr, key.data(), key.size()) == 0)
    must(bpf_map__delete_elem(map, key.data(), key.size(), 0), "clear a hash");
}

agent::dataplane::MapSizes sizes_of(const Options& options) {
  agent::dataplane::MapSizes sizes;
  sizes.tables = {.keys = 1024, .keys6 = 128, .services = kServices, .slots = 4096, .backends = kBackends};
  sizes.flows4 = sizes.half_open4 = sizes.flows6 = sizes.half_open6 = options.flow_entries;
  sizes.owned_addresses = 64;
  return sizes;
}

// Those that `from` has as well.
void share_maps(bpf_object* object, const bpf_object* from) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (bpf_map__is_internal(map) || bpf_map__type(map) == BPF_MAP_TYPE_PROG_ARRAY) continue;
    const bpf_map* const shared = bpf_object__find_map_by_name(from, bpf_map__name(map));
    if (shared != nullptr) must(bpf_map__reuse_fd(map, bpf_map__fd(shared)), "share a map");
  }
}

void loaded(int error) {
  if (error == 0) return;
  throw std::runtime_error(
      fmt::format("the kernel does not load the programs: {} (needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)\n{}",
                  std::strerror(error), libbpf_messages()));
}

}  // namespace

std::string& libbpf_messages() {
  static std::string messages;
  return messages;
}

void must(int result, const std::string& what) {
  if (result < 0) throw std::runtime_error(fmt::format("{}: {}\n{}", what, std::strerror(-result), libbpf_messages()));
}

std::shared_ptr<Loaded> Loaded::get(const Options& options) {
  // Not kept where others have its maps, or it has others'.
  if (options.maps_of != nullptr || options.interface != 0) return std::make_shared<Loaded>(options);
  static std::map<std::tuple<uint32_t, Mac, uint32_t, bool>, std::vector<std::shared_ptr<Loaded>>> kept;
  auto& alike = kept[{options.egress, options.mac, options.flow_entries, options.node_link}];
  for (const auto& one : alike) {
    if (one.use_count() != 1) continue;
    one->clear();
    return one;
  }
  return alike.emplace_back(std::make_shared<Loaded>(options));
}

Loaded::Loaded(const Options& options) {
  libbpf_messages().clear();
  libbpf_set_print(keep_message);
  sizes_ = sizes_of(options);
  agent::dataplane::InterfaceConstants constants;
  constants.ifindex = options.interface != 0 ? options.interface : interfaces().lan;
  constants.mac = options.mac;
  constants.egress = options.egress;
  constants.node_link = options.node_link;
  skeleton_ = must(agent::dataplane::open_skeleton(sizes_, constants));
  if (options.maps_of != nullptr) share_maps(skeleton_->obj, options.maps_of->skeleton()->obj);
  loaded(agent::dataplane::load_skeleton(*skeleton_));
  stack_ = must(agent::dataplane::open_stack_skeleton(sizes_));
  share_maps(stack_->obj, skeleton_->obj);
  loaded(agent::dataplane::load_skeleton(*stack_));
  for (const auto& table : agent::dataplane::table_sizes(sizes_)) {
    const bpf_map* map = bpf_object__find_map_by_name(skeleton_->obj, table.name);
    memory_.emplace(table.name, must(agent::dataplane::Mapping::of(bpf_map__fd(map), table.bytes(),
                                                                   agent::dataplane::Access::write, table.name)));
  }
}

void Loaded::clear() const {
  for (const auto& table : agent::dataplane::table_sizes(sizes_))
    std::memset(memory_.at(table.name).data(), 0, table.bytes());
  const bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton_->obj) {
    switch (bpf_map__type(map)) {
      case BPF_MAP_TYPE_PERCPU_ARRAY:
        clear_array(map);
        break;
      case BPF_MAP_TYPE_HASH:
      case BPF_MAP_TYPE_LRU_HASH:
      case BPF_MAP_TYPE_PERCPU_HASH:
      case BPF_MAP_TYPE_LRU_PERCPU_HASH:
      case BPF_MAP_TYPE_LPM_TRIE:
        clear_hash(map);
        break;
      default:
        break;
    }
  }
}

}  // namespace sluice::packets
