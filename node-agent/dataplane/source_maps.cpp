#include "node-agent/dataplane/source_maps.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <optional>

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kMap4 = "sources4";
constexpr const char* kMap6 = "sources6";
constexpr uint32_t kSetBits = 32;

using Prefixes = std::set<net::Prefix>;

net::Prefix prefix_of(const sluice_sources4_key& key) {
  return {net::IpAddress::from_ipv4(key.address), static_cast<uint8_t>(key.prefix_length - kSetBits)};
}
net::Prefix prefix_of(const sluice_sources6_key& key) {
  std::array<uint8_t, 16> bytes{};
  std::copy(std::begin(key.address), std::end(key.address), bytes.begin());
  return {net::IpAddress::from_ipv6(bytes), static_cast<uint8_t>(key.prefix_length - kSetBits)};
}

template <typename Key>
Status for_each_key(int map, const char* name, const std::function<void(const Key&)>& visit) {
  Key key{};
  const void* before = nullptr;
  while (bpf_map_get_next_key(map, before, &key) == 0) {
    before = &key;
    visit(key);
  }
  return errno == ENOENT ? Status() : fail_errno(errno, "read map", name);
}

template <typename Key>
Status remove_where(int map, const char* name, const std::function<bool(uint32_t set)>& unwanted) {
  std::vector<Key> keys;
  const Status read = for_each_key<Key>(map, name, [&](const Key& key) {
    if (unwanted(key.set)) {
      keys.push_back(key);
    }
  });
  if (!read) {
    return read;
  }
  for (const Key& one : keys) {
    if (bpf_map_delete_elem(map, &one) != 0 && errno != ENOENT) {
      return fail_errno(errno, "take allowed sources out of map", name);
    }
  }
  return {};
}

Status remove_where(const Maps& maps, const std::function<bool(uint32_t set)>& unwanted) {
  Status removed = remove_where<sluice_sources4_key>(maps.fd(kMap4), kMap4, unwanted);
  return removed ? remove_where<sluice_sources6_key>(maps.fd(kMap6), kMap6, unwanted) : removed;
}

int add(const Maps& maps, uint32_t set, const net::Prefix& prefix) {
  const uint32_t there = 1;
  if (prefix.address.is_ipv4()) {
    const sluice_sources4_key key{kSetBits + prefix.length, set, prefix.address.ipv4()};
    return bpf_map_update_elem(maps.fd(kMap4), &key, &there, BPF_ANY);
  }
  sluice_sources6_key key{kSetBits + prefix.length, set, {}};
  const auto& bytes = prefix.address.bytes();
  std::copy(bytes.begin(), bytes.end(), std::begin(key.address));
  return bpf_map_update_elem(maps.fd(kMap6), &key, &there, BPF_ANY);
}

Result<std::map<uint32_t, Prefixes>> read_sets(const Maps& maps) {
  std::map<uint32_t, Prefixes> sets;
  const auto take = [&sets](const auto& key) { sets[key.set].insert(prefix_of(key)); };
  if (Status read = for_each_key<sluice_sources4_key>(maps.fd(kMap4), kMap4, take); !read) {
    return tl::unexpected(read.error());
  }
  if (Status read = for_each_key<sluice_sources6_key>(maps.fd(kMap6), kMap6, take); !read) {
    return tl::unexpected(read.error());
  }
  return sets;
}

// What is wrong with a set of the map; empty: nothing.
std::string difference(const program::SourceSet& wanted, const Prefixes& there) {
  for (const net::Prefix& prefix : wanted.prefixes) {
    if (!there.contains(prefix)) {
      return "clients of " + prefix.to_string() + " are not let in";
    }
  }
  for (const net::Prefix& prefix : there) {
    if (!std::binary_search(wanted.prefixes.begin(), wanted.prefixes.end(), prefix)) {
      return "clients of " + prefix.to_string() + " are let in, and are not allowed";
    }
  }
  return {};
}

uint32_t set_of(const program::Programmed& service) {
  return SLUICE_SETTINGS_SOURCES(service.settings);
}

}  // namespace

void SourceKeeper::prepare(const Maps& maps, const program::Plan& plan) {
  for (const program::SourceSet& set : plan.source_sets_to_add) {
    former_.erase(set.id);
    fill(maps, unfinished_[set.id] = {set, {}});
  }
  for (const uint32_t id : plan.source_sets_to_remove) {
    former_.insert(id);
    unfinished_.erase(id);
  }
  std::erase_if(unfinished_, [](const auto& entry) { return entry.second.rest.prefixes.empty(); });
}

Status SourceKeeper::grace_over(const Maps& maps) {
  if (former_.empty()) {
    return {};
  }
  if (Status removed = remove_where(maps, [this](uint32_t set) { return former_.contains(set); }); !removed) {
    return removed;
  }
  former_.clear();
  fill(maps);
  return {};
}

Status SourceKeeper::keep_only(const Maps& maps, const std::vector<uint32_t>& sets) {
  unfinished_.clear();
  return remove_where(maps, [&sets](uint32_t set) { return !std::binary_search(sets.begin(), sets.end(), set); });
}

void SourceKeeper::fill(const Maps& maps) {
  for (auto& [id, set] : unfinished_) {
    fill(maps, set);
  }
  std::erase_if(unfinished_, [](const auto& entry) { return entry.second.rest.prefixes.empty(); });
}

void SourceKeeper::fill(const Maps& maps, Unfinished& set) {
  set.why.clear();
  std::erase_if(set.rest.prefixes, [&](const net::Prefix& prefix) {
    const bool added = add(maps, set.rest.id, prefix) == 0;
    if (!added && set.why.empty()) {
      set.why = fail_errno(errno, "let in clients of", prefix.to_string()).value().message();
    }
    return added;
  });
}

std::vector<ServiceFailure> SourceKeeper::failures(const program::Programmer& programmer) const {
  std::vector<ServiceFailure> failures;
  if (unfinished_.empty()) {
    return failures;
  }
  for (const auto& [id, service] : programmer.programmed()) {
    const auto found = unfinished_.find(set_of(service));
    if (found == unfinished_.end()) {
      continue;
    }
    const size_t others = found->second.rest.prefixes.size() - 1;
    failures.push_back(
        {id, "TableFull", found->second.why + (others == 0 ? "" : ", and of " + std::to_string(others) + " more")});
  }
  return failures;
}

Result<std::vector<ServiceFailure>> SourceKeeper::check(const Maps& maps, const program::Programmer& programmer,
                                                        const std::vector<ServiceFailure>& known) {
  const auto there = read_sets(maps);
  if (!there) {
    return tl::unexpected(there.error());
  }
  std::map<uint32_t, std::string> different;
  for (const program::SourceSet& wanted : programmer.source_set_contents()) {
    const auto found = there->find(wanted.id);
    std::string text = difference(wanted, found == there->end() ? Prefixes() : found->second);
    if (!text.empty()) {
      different.emplace(wanted.id, std::move(text));
    }
  }
  std::vector<ServiceFailure> failures;
  for (const auto& [id, service] : programmer.programmed()) {
    const auto found = different.find(set_of(service));
    if (found != different.end() && std::ranges::find(known, id, &ServiceFailure::service) == known.end()) {
      failures.push_back({id, "ReadBackDiffers", found->second});
    }
  }
  return failures;
}

}  // namespace sluice::agent::dataplane
