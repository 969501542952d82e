#include "node-agent/dataplane/owned_keeper.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

#include "bpf/sluice.h"
#include "node-agent/program/keys.h"

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kMap = "owned_addresses";

uint64_t monotonic_now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(time.tv_nsec);
}

sluice_owned_key key_of(const OwnedAddress& one) {
  sluice_owned_key key{};
  key.address = program::to_element(one.address);
  key.ifindex = one.ifindex;
  key.vlan = one.vlan;
  key.family = static_cast<uint8_t>(one.address.family());
  return key;
}

std::optional<OwnedAddress> owned_of(const sluice_owned_key& key) {
  const auto address = program::from_element(key.address, static_cast<net::Family>(key.family));
  return address ? std::optional(OwnedAddress{*address, key.ifindex, key.vlan}) : std::nullopt;
}

}  // namespace

// What an earlier process has left in the map.
Status OwnedKeeper::find(const Maps& maps) {
  if (there_) {
    return {};
  }
  std::set<OwnedAddress> found;
  sluice_owned_key key{};
  const void* before = nullptr;
  while (bpf_map_get_next_key(maps.fd(kMap), before, &key) == 0) {
    before = &key;
    if (const auto one = owned_of(key)) {
      found.insert(*one);
    }
  }
  if (errno != ENOENT) {
    return fail_errno(errno, "read map", kMap);
  }
  there_ = std::move(found);
  return {};
}

OwnedOutcome OwnedKeeper::set(const Maps& maps, const std::set<OwnedAddress>& wanted,
                              std::chrono::nanoseconds valid_for) {
  if (Status found = find(maps); !found) {
    return {{}, found.error()};
  }
  const int fd = maps.fd(kMap);
  std::set<OwnedAddress>& there = *there_;
  OwnedOutcome outcome;
  const auto note = [&outcome](const tl::unexpected<Error>& failed) {
    if (!outcome.trouble) {
      outcome.trouble = failed.value();
    }
  };
  const sluice_owned value{monotonic_now() + static_cast<uint64_t>(std::max<int64_t>(valid_for.count(), 0))};
  const auto answer = [&](const OwnedAddress& one) {
    if (const auto key = key_of(one); bpf_map_update_elem(fd, &key, &value, BPF_ANY) != 0) {
      note(fail_errno(errno, "answer for", one.address.to_string()));
    } else {
      outcome.answered.push_back(one);
    }
  };
  // Those that go make the room that those that come may need.
  for (auto one = there.begin(); one != there.end();) {
    const auto key = key_of(*one);
    if (wanted.contains(*one)) {
      answer(*one++);
    } else if (bpf_map_delete_elem(fd, &key) != 0 && errno != ENOENT) {
      note(fail_errno(errno, "stop answering for", one->address.to_string()));
      ++one;
    } else {
      one = there.erase(one);
    }
  }
  for (const OwnedAddress& one : wanted) {
    if (!there.contains(one)) {
      answer(one);
    }
  }
  there.insert(outcome.answered.begin(), outcome.answered.end());
  std::sort(outcome.answered.begin(), outcome.answered.end());
  return outcome;
}

Result<std::vector<OwnedAddress>> OwnedKeeper::answered(const Maps& maps) {
  std::vector<OwnedAddress> found;
  const int fd = maps.fd(kMap);
  const uint64_t now = monotonic_now();
  sluice_owned_key key{};
  sluice_owned value{};
  const void* before = nullptr;
  while (bpf_map_get_next_key(fd, before, &key) == 0) {
    before = &key;
    const auto one = owned_of(key);
    if (one && bpf_map_lookup_elem(fd, &key, &value) == 0 && value.deadline > now) {
      found.push_back(*one);
    }
  }
  if (errno != ENOENT) {
    return fail_errno(errno, "read map", kMap);
  }
  return found;
}

}  // namespace sluice::agent::dataplane
