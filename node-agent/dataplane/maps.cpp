#include "node-agent/dataplane/maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <optional>
#include <set>

#include "bpf/sluice.skel.h"
#include "bpf/stack.skel.h"
#include "common/log/spdlog.h"
#include "node-agent/dataplane/bpffs.h"

namespace sluice::agent::dataplane {
namespace {

using program::MapId;

constexpr const char* kBase = "counter_base";

// Indices in one of these mean something only together with the others.
const std::set<std::string>& tables() {
  static const std::set<std::string> names = {"keys",   "keys6",    "services",         "slots",          "backends",
                                              "egress", "peers",    "proofs",           "config",         "sources4",
                                              kBase,    "sources6", "backend_counters", "service_reasons"};
  return names;
}

// Of these, too, and shares are counted by the services' indices: they do not outlive the tables.
const std::set<std::string>& flow_maps() {
  static const std::set<std::string> names = {"flows4", "half_open4", "flows6", "half_open6", "shares"};
  return names;
}

// What a map has to be like.
struct Wanted {
  std::string name;
  bpf_map_type type = BPF_MAP_TYPE_UNSPEC;
  uint32_t key_size = 0, value_size = 0, max_entries = 0, flags = 0;

  [[nodiscard]] bool same_layout(const bpf_map_info& info) const {
    return info.type == static_cast<__u32>(type) && info.key_size == key_size && info.value_size == value_size;
  }
  [[nodiscard]] bool fits(const bpf_map_info& info) const {
    return same_layout(info) && info.max_entries == max_entries && info.map_flags == flags;
  }
};

// Maps that lead to programs are an object's own.
bool shared(const bpf_map* map) {
  return !bpf_map__is_internal(map) && bpf_map__type(map) != BPF_MAP_TYPE_PROG_ARRAY;
}

size_t base_bytes(const MapSizes& sizes) {
  return size_t{sizes.tables.services} * sizeof(sluice_counters) + SLUICE_REASON_COUNT * sizeof(sluice_count);
}

std::vector<Wanted> wanted_maps(const std::vector<const bpf_object*>& objects, const MapSizes& sizes) {
  std::vector<Wanted> wanted;
  std::set<std::string> names;
  for (const bpf_object* object : objects) {
    const bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object) {
      if (shared(map) && names.insert(bpf_map__name(map)).second) {
        wanted.push_back({bpf_map__name(map), bpf_map__type(map), bpf_map__key_size(map), bpf_map__value_size(map),
                          bpf_map__max_entries(map), bpf_map__map_flags(map)});
      }
    }
  }
  wanted.push_back(
      {kBase, BPF_MAP_TYPE_ARRAY, sizeof(__u32), static_cast<uint32_t>(base_bytes(sizes)), 1, BPF_F_MMAPABLE});
  return wanted;
}

bool describe(int fd, bpf_map_info& info) {
  __u32 length = sizeof info;
  return bpf_obj_get_info_by_fd(fd, &info, &length) == 0;
}

struct Pinned {
  Fd fd;
  bpf_map_info info{};
  bool fits = false;
};

std::map<std::string, Pinned> find_pinned(const std::string& directory, const std::vector<Wanted>& wanted) {
  std::map<std::string, Pinned> found;
  for (const Wanted& map : wanted) {
    Pinned pinned;
    pinned.fd = Fd(bpf_obj_get((directory + "/" + map.name).c_str()));
    if (pinned.fd && describe(pinned.fd.get(), pinned.info)) {
      pinned.fits = map.fits(pinned.info);
      found.emplace(map.name, std::move(pinned));
    }
  }
  return found;
}

Result<Fd> make(const Wanted& map) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = map.flags);
  // The kernel keeps 15 characters.
  const std::string name = map.name.substr(0, BPF_OBJ_NAME_LEN - 1);
  Fd fd(bpf_map_create(map.type, name.c_str(), map.key_size, map.value_size, map.max_entries, &options));
  if (!fd) {
    return fail_errno(errno, "make map", map.name);
  }
  return fd;
}

// Those that `to` does not have; one that is there already is younger.
// `established`: where hints for flows of `to` are looked for.
template <typename Record>
void copy_flows(const Mapping& from, std::span<sluice_shares> shares, uint32_t sluice_shares::*share,
                program::FlowTable<Record> to, program::FlowTable<Record> established, const char* name) {
  const auto records = from.elements<Record>();
  if (records.empty() || !std::has_single_bit(records.size())) {
    return;
  }
  // Only looked through: neither its key nor its shares matter.
  const program::FlowTable<Record> older(records, shares, share, {});
  uint64_t lost = 0;
  bool hinted = false;
  older.for_each([&](uint32_t /*position*/, const Record& record) {
    if (!hinted && (record.head.control & SLUICE_FLOW_DISPLACED) != 0) {
      established.hint_everywhere(SLUICE_FLOW_HINTS);  // two passes find out which are needed
      hinted = true;
    }
    const auto stored = to.insert(record);
    lost += stored == program::StoredFlow::full || stored == program::StoredFlow::busy ? 1 : 0;
  });
  if (lost != 0) {
    spdlog::warn("{} flows have found no room in the new table {}", lost, name);
  }
}

}  // namespace

Result<Maps> Maps::open(const std::string& directory, const MapSizes& sizes) {
  const auto skeleton = open_skeleton(sizes, {});
  if (!skeleton) {
    return tl::unexpected(skeleton.error());
  }
  const auto stack = open_stack_skeleton(sizes);
  if (!stack) {
    return tl::unexpected(stack.error());
  }
  const std::vector<Wanted> wanted = wanted_maps({(*skeleton)->obj, (*stack)->obj}, sizes);
  Maps maps;
  maps.directory_ = layout_directory(directory) + "/maps";
  maps.sizes_ = sizes;
  auto pinned = find_pinned(maps.directory_, wanted);
  const auto all_fit = [&pinned](const std::set<std::string>& names) {
    return std::all_of(names.begin(), names.end(),
                       [&pinned](const std::string& name) { return pinned.contains(name) && pinned.at(name).fits; });
  };
  const bool tables_fit = all_fit(tables());
  const bool flows_fit = tables_fit && all_fit(flow_maps());
  maps.fresh_tables_ = !tables_fit;
  std::map<std::string, Fd> older;
  for (const Wanted& map : wanted) {
    const auto found = pinned.find(map.name);
    const bool group_fits =
        (tables_fit || !tables().contains(map.name)) && (flows_fit || !flow_maps().contains(map.name));
    if (found != pinned.end() && found->second.fits && group_fits) {
      maps.fds_.emplace(map.name, std::move(found->second.fd));
      continue;
    }
    auto made = make(map);
    if (!made) {
      return tl::unexpected(made.error());
    }
    maps.fds_.emplace(map.name, std::move(*made));
    maps.unpinned_.push_back(map.name);
    if (found != pinned.end()) {
      older.emplace(map.name, std::move(found->second.fd));
    }
  }
  const auto older_owned = older.find("owned_addresses");
  const int owned = older_owned == older.end() ? -1 : older_owned->second.get();
  if (Status mapped = maps.map_memory(); !mapped) {
    return tl::unexpected(mapped.error());
  }
  if (Status taken = maps.take_over_owned(owned); !taken) {
    return tl::unexpected(taken.error());
  }
  if (Status kept = maps.keep_older_flows(older); !kept) {
    return tl::unexpected(kept.error());
  }
  maps.take_over_flows();
  // Where nothing is replaced nothing that is attached uses other maps: pin at once, so that a crash loses nothing.
  if (std::none_of(maps.unpinned_.begin(), maps.unpinned_.end(),
                   [&pinned](const auto& name) { return pinned.contains(name); })) {
    if (Status done = maps.pin_all(); !done) {
      return tl::unexpected(done.error());
    }
  }
  return maps;
}

Status Maps::map_memory() {
  auto sizes = table_sizes(sizes_);
  std::vector<std::pair<std::string, size_t>> all = {{kBase, base_bytes(sizes_)}};
  for (const TableSize& table : sizes) {
    all.emplace_back(table.name, table.bytes());
  }
  for (const auto& [name, bytes] : all) {
    auto mapping = Mapping::of(fd(name), bytes, Access::write, name);
    if (!mapping) {
      return tl::unexpected(mapping.error());
    }
    memory_[name] = std::move(*mapping);
  }
  return {};
}

program::ImageView Maps::view() const {
  std::array<const void*, program::kMapCount> memory_of{};
  for (size_t i = 0; i < program::kMapCount; ++i) {
    memory_of.at(i) = memory(static_cast<MapId>(i));
  }
  return program::view_of(sizes_.tables, memory_of);
}

CounterBase Maps::counter_base() const {
  auto* data = static_cast<char*>(memory_.at(kBase).data());
  const size_t services = sizes_.tables.services;
  return {{reinterpret_cast<sluice_counters*>(data), services},
          {reinterpret_cast<sluice_count*>(data + services * sizeof(sluice_counters)), SLUICE_REASON_COUNT}};
}

std::span<const sluice_proof> Maps::proofs() const {
  return memory_.at("proofs").elements<const sluice_proof>();
}

FlowTables Maps::flow_tables() const {
  const auto& stored = view().config->flow_hash_key;
  const std::array<uint64_t, 2> key = {stored[0], stored[1]};
  const auto shares = memory_.at("shares").elements<sluice_shares>();
  return {{memory_.at("flows4").elements<sluice_flow4>(), shares, &sluice_shares::flows4, key},
          {memory_.at("half_open4").elements<sluice_flow4>(), shares, &sluice_shares::half_open4, key},
          {memory_.at("flows6").elements<sluice_flow6>(), shares, &sluice_shares::flows6, key},
          {memory_.at("half_open6").elements<sluice_flow6>(), shares, &sluice_shares::half_open6, key}};
}

// Keeps hold of the flow tables that others take the place of, for what is copied from them.
Status Maps::keep_older_flows(const std::map<std::string, Fd>& older) {
  for (const auto& [name, map] : older) {
    bpf_map_info info{};
    if ((name != "config" && !flow_maps().contains(name)) || name == "shares" || !describe(map.get(), info)) {
      continue;
    }
    auto mapping = Mapping::of(map.get(), info.value_size, Access::write, name);
    if (!mapping) {
      return tl::unexpected(mapping.error());
    }
    if (name == "config") {
      // Records lie where it says: those that are copied before the first plan are found after it.
      auto* now = static_cast<sluice_config*>(memory(MapId::config));
      const auto& then = mapping->elements<sluice_config>().front();
      std::copy(std::begin(then.flow_hash_key), std::end(then.flow_hash_key), std::begin(now->flow_hash_key));
    } else {
      older_flows_[name] = std::move(*mapping);
    }
  }
  return {};
}

void Maps::take_over_flows() const {
  if (older_flows_.empty()) {
    return;
  }
  const FlowTables now = flow_tables();
  const auto shares = memory_.at("shares").elements<sluice_shares>();
  for (const auto& [name, from] : older_flows_) {
    if (name == "flows4") {
      copy_flows(from, shares, &sluice_shares::flows4, now.flows4, now.flows4, "flows4");
    } else if (name == "half_open4") {
      copy_flows(from, shares, &sluice_shares::half_open4, now.half_open4, now.flows4, "half_open4");
    } else if (name == "flows6") {
      copy_flows(from, shares, &sluice_shares::flows6, now.flows6, now.flows6, "flows6");
    } else if (name == "half_open6") {
      copy_flows(from, shares, &sluice_shares::half_open6, now.half_open6, now.flows6, "half_open6");
    }
  }
}

Status Maps::share_with(bpf_object* object) const {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (!shared(map)) {
      continue;
    }
    if (const int error = bpf_map__reuse_fd(map, fd(bpf_map__name(map))); error != 0) {
      return fail_errno(-error, "share map", bpf_map__name(map));
    }
  }
  return {};
}

// What this node answers for is known by it: without it an agent that has restarted would have to wait to be told.
Status Maps::take_over_owned(int older) const {
  if (older < 0) {
    return {};
  }
  sluice_owned_key key{};
  sluice_owned owned{};
  const void* before = nullptr;
  while (bpf_map_get_next_key(older, before, &key) == 0) {
    before = &key;
    // A smaller map takes as many as fit.
    if (bpf_map_lookup_elem(older, &key, &owned) == 0 &&
        bpf_map_update_elem(fd("owned_addresses"), &key, &owned, BPF_ANY) != 0) {
      return errno == E2BIG ? Status() : fail_errno(errno, "copy an address to map", "owned_addresses");
    }
  }
  return errno == ENOENT ? Status() : fail_errno(errno, "read map", "owned_addresses");
}

Status Maps::pin_all() {
  // A map of another size comes last: should the process end in between, the pins do not fit together and all tables
  // are made anew.
  std::stable_sort(unpinned_.begin(), unpinned_.end(), [this](const std::string& a, const std::string& b) {
    const auto resized = [this](const std::string& name) {
      bpf_map_info before{};
      bpf_map_info now{};
      const Fd pinned(bpf_obj_get((directory_ + "/" + name).c_str()));
      return pinned && describe(pinned.get(), before) && describe(fd(name), now) &&
             (before.max_entries != now.max_entries || before.value_size != now.value_size);
    };
    return !resized(a) && resized(b);
  });
  for (const auto& name : unpinned_) {
    if (Status done = pin(fd(name), directory_ + "/" + name); !done) {
      return done;
    }
  }
  unpinned_.clear();
  older_flows_.clear();
  return {};
}

}  // namespace sluice::agent::dataplane
