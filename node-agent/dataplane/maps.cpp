#include "node-agent/dataplane/maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <set>

#include "bpf/sluice.skel.h"
#include "node-agent/dataplane/bpffs.h"
#include "node-agent/dataplane/causes.h"

namespace sluice::agent::dataplane {
namespace {

using program::MapId;

struct SkeletonDeleter {
  void operator()(sluice_bpf* skeleton) const { sluice_bpf__destroy(skeleton); }
};

// Indices in one of these mean something only together with the others.
const std::set<std::string>& tables() {
  static const std::set<std::string> names = {"service_keys",     "services",         "slots",
                                              "backends",         "egress",           "config",
                                              "service_counters", "backend_counters", "service_reasons"};
  return names;
}

std::vector<bpf_map*> maps_of(bpf_object* object) {
  std::vector<bpf_map*> maps;
  for (bpf_map* map = bpf_object__next_map(object, nullptr); map != nullptr; map = bpf_object__next_map(object, map)) {
    if (!bpf_map__is_internal(map)) {
      maps.push_back(map);
    }
  }
  return maps;
}

void set_sizes(sluice_bpf& skeleton, const MapSizes& sizes) {
  const auto set = [](bpf_map* map, uint32_t entries) { bpf_map__set_max_entries(map, entries); };
  set(skeleton.maps.service_keys, element_count(sizes.tables, MapId::service_keys));
  set(skeleton.maps.services, element_count(sizes.tables, MapId::services));
  set(skeleton.maps.slots, element_count(sizes.tables, MapId::slots));
  set(skeleton.maps.backends, element_count(sizes.tables, MapId::backends));
  set(skeleton.maps.service_counters, sizes.tables.services);
  set(skeleton.maps.backend_counters, sizes.tables.backends);
  set(skeleton.maps.flows, sizes.flows);
  set(skeleton.maps.owned_addresses, sizes.owned_addresses);
}

bool describe(int fd, bpf_map_info& info) {
  __u32 length = sizeof info;
  return bpf_obj_get_info_by_fd(fd, &info, &length) == 0;
}

bool same_layout(const bpf_map* wanted, const bpf_map_info& info) {
  return info.type == static_cast<__u32>(bpf_map__type(wanted)) && info.key_size == bpf_map__key_size(wanted) &&
         info.value_size == bpf_map__value_size(wanted);
}

bool fits(const bpf_map* wanted, const bpf_map_info& info) {
  return same_layout(wanted, info) && info.max_entries == bpf_map__max_entries(wanted) &&
         info.map_flags == bpf_map__map_flags(wanted);
}

struct Pinned {
  Fd fd;
  bpf_map_info info{};
  bool fits = false;
};

std::map<std::string, Pinned> find_pinned(const std::string& directory, const std::vector<bpf_map*>& wanted) {
  std::map<std::string, Pinned> found;
  for (const bpf_map* map : wanted) {
    Pinned pinned;
    pinned.fd = Fd(bpf_obj_get((directory + "/" + bpf_map__name(map)).c_str()));
    if (pinned.fd && describe(pinned.fd.get(), pinned.info)) {
      pinned.fits = fits(map, pinned.info);
      found.emplace(bpf_map__name(map), std::move(pinned));
    }
  }
  return found;
}

size_t mapped_bytes(const program::Sizes& sizes, MapId map) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t bytes = size_t{element_count(sizes, map)} * program::element_bytes(map);
  return (bytes + page - 1) / page * page;
}

}  // namespace

Maps::Maps(Maps&& other) noexcept
    : directory_(std::move(other.directory_)),
      sizes_(other.sizes_),
      fds_(std::move(other.fds_)),
      memory_(std::exchange(other.memory_, {})),
      fresh_tables_(other.fresh_tables_),
      unpinned_(std::move(other.unpinned_)),
      older_flows_(std::move(other.older_flows_)) {}

Maps::~Maps() {
  for (size_t map = 0; map < memory_.size(); ++map) {
    if (memory_.at(map) != nullptr) {
      munmap(memory_.at(map), mapped_bytes(sizes_.tables, static_cast<MapId>(map)));
    }
  }
}

Result<Maps> Maps::open(const std::string& directory, const MapSizes& sizes) {
  const std::unique_ptr<sluice_bpf, SkeletonDeleter> skeleton(sluice_bpf__open());
  if (skeleton == nullptr) {
    return fail_errno(errno, "open the BPF object", "");
  }
  set_sizes(*skeleton, sizes);
  // Only its maps are wanted; programs are loaded for each interface.
  bpf_program__set_autoload(skeleton->progs.sluice_xdp, false);
  bpf_program__set_autoload(skeleton->progs.sluice_egress, false);
  const std::vector<bpf_map*> wanted = maps_of(skeleton->obj);

  Maps maps;
  maps.directory_ = layout_directory(directory) + "/maps";
  maps.sizes_ = sizes;
  auto pinned = find_pinned(maps.directory_, wanted);
  const bool tables_fit = std::all_of(tables().begin(), tables().end(), [&pinned](const std::string& name) {
    return pinned.contains(name) && pinned.at(name).fits;
  });
  maps.fresh_tables_ = !tables_fit;
  Fd older_owned;
  for (bpf_map* map : wanted) {
    const std::string name = bpf_map__name(map);
    const auto found = pinned.find(name);
    if (found != pinned.end() && found->second.fits && (tables_fit || !tables().contains(name))) {
      if (const int error = bpf_map__reuse_fd(map, found->second.fd.get()); error != 0) {
        return fail_errno(-error, "take over map", name);
      }
      continue;
    }
    maps.unpinned_.push_back(name);
    if (name == "flows" && found != pinned.end() && same_layout(map, found->second.info)) {
      maps.older_flows_ = std::move(found->second.fd);
    } else if (name == "owned_addresses" && found != pinned.end() && same_layout(map, found->second.info)) {
      older_owned = std::move(found->second.fd);
    }
  }
  if (const int error = sluice_bpf__load(skeleton.get()); error != 0) {
    auto failed = fail_errno(-error, "make maps", "");
    // The capabilities were there when the machine was looked at.
    return failed.value().kind == ErrorKind::denied ? because(cause::kBpfRefused, failed) : failed;
  }
  for (const bpf_map* map : wanted) {
    Fd copy(fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 3));
    if (!copy) {
      return fail_errno(errno, "hold map", bpf_map__name(map));
    }
    maps.fds_.emplace(bpf_map__name(map), std::move(copy));
  }
  if (Status mapped = maps.map_memory(); !mapped) {
    return tl::unexpected(mapped.error());
  }
  for (const Status& copied : {maps.take_over_flows(), maps.take_over_owned(older_owned.get())}) {
    if (!copied) {
      return tl::unexpected(copied.error());
    }
  }
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
  for (size_t i = 0; i < program::kMapCount; ++i) {
    const auto map = static_cast<MapId>(i);
    void* memory = mmap(nullptr, mapped_bytes(sizes_.tables, map), PROT_READ | PROT_WRITE, MAP_SHARED, fd(map), 0);
    if (memory == MAP_FAILED) {
      return fail_errno(errno, "map into memory", program::map_name(map));
    }
    memory_.at(i) = memory;
  }
  return {};
}

program::ImageView Maps::view() const {
  std::array<const void*, program::kMapCount> memory{};
  std::copy(memory_.begin(), memory_.end(), memory.begin());
  return program::view_of(sizes_.tables, memory);
}

Status Maps::share_with(bpf_object* object) const {
  for (bpf_map* map : maps_of(object)) {
    if (const int error = bpf_map__reuse_fd(map, fd(bpf_map__name(map))); error != 0) {
      return fail_errno(-error, "share map", bpf_map__name(map));
    }
  }
  return {};
}

Status Maps::take_over_flows() const {
  if (!older_flows_) {
    return {};
  }
  constexpr __u32 kBatch = 8192;
  std::vector<sluice_flow_key> keys(kBatch);
  std::vector<sluice_flow> flows(kBatch);
  __u32 position = 0;
  bool first = true;
  for (bool last = false; !last; first = false) {
    __u32 count = kBatch;
    if (bpf_map_lookup_batch(older_flows_.get(), first ? nullptr : &position, &position, keys.data(), flows.data(),
                             &count, nullptr) != 0) {
      if (errno != ENOENT) {
        return fail_errno(errno, "read map", "flows");
      }
      last = true;
    }
    for (__u32 i = 0; i < count; ++i) {
      // One that is there already is younger.
      if (bpf_map_update_elem(fd("flows"), &keys[i], &flows[i], BPF_NOEXIST) != 0 && errno != EEXIST) {
        return fail_errno(errno, "copy a flow to map", "flows");
      }
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
             before.max_entries != now.max_entries;
    };
    return !resized(a) && resized(b);
  });
  for (const auto& name : unpinned_) {
    if (Status done = pin(fd(name), directory_ + "/" + name); !done) {
      return done;
    }
  }
  unpinned_.clear();
  older_flows_ = Fd();
  return {};
}

}  // namespace sluice::agent::dataplane
