#include "node-agent/program/flow_tables.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <type_traits>
#include <utility>

namespace sluice::agent::program {
namespace {

constexpr int kLockAttempts = 4096;
constexpr int kLooksAtALock = 4096;

template <typename T>
T load(const T& word) {
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
}

template <typename T>
void store(T& word, std::type_identity_t<T> value) {
  __atomic_store_n(&word, value, __ATOMIC_RELEASE);
}

// One that no earlier compare-and-exchange has seen: false where the word is not `before` any more.
template <typename T>
bool exchange(T& word, std::type_identity_t<T> before, std::type_identity_t<T> now) {
  return __atomic_compare_exchange_n(&word, &before, now, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

bool same_key(const sluice_flow4& a, const sluice_flow4& b) {
  return a.tuple == b.tuple && a.backend == b.backend && a.source == b.source;
}

bool same_key(const sluice_flow6& a, const sluice_flow6& b) {
  return a.tuple == b.tuple && std::memcmp(&a.backend, &b.backend, sizeof a.backend) == 0 &&
         std::memcmp(&a.source, &b.source, sizeof a.source) == 0;
}

uint32_t hash(const sluice_flow4& flow, const std::array<uint64_t, 2>& key) {
  return sluice_flow4_hash(flow.backend, flow.source, flow.tuple, key[0], key[1]);
}

uint32_t hash(const sluice_flow6& flow, const std::array<uint64_t, 2>& key) {
  return sluice_flow6_hash(&flow.backend, &flow.source, flow.tuple, key[0], key[1]);
}

// All but what is of the position (homes) and of its use (control).
template <typename Record>
void fill(Record& to, const Record& from) {
  to.head.seen = from.head.seen;
  to.head.next_hop = from.head.next_hop;
  to.head.service = from.head.service;
  to.head.backend = from.head.backend;
  constexpr size_t kHead = sizeof(sluice_flow_head);
  std::memcpy(reinterpret_cast<char*>(&to) + kHead, reinterpret_cast<const char*>(&from) + kHead,
              sizeof(Record) - kHead);
}

// The tuple with the first of the source ports that its flow tries.
uint64_t first_port(uint64_t tuple, uint16_t client_port_be, uint64_t hash, uint16_t first, uint32_t count) {
  const bool local = SLUICE_FLOW_KIND(tuple) == SLUICE_FLOW_LOCAL;
  const uint16_t port =
      local ? client_port_be : __builtin_bswap16(sluice_source_port(hash, 0, first, count == 0 ? 1 : count));
  return SLUICE_FLOW_TUPLE(SLUICE_FLOW_BACKEND_PORT(tuple), port, SLUICE_FLOW_PROTOCOL(tuple), SLUICE_FLOW_KIND(tuple));
}

bool unfinished(uint64_t control) {
  const uint32_t status = SLUICE_FLOW_STATUS(control);
  return status == SLUICE_FLOW_BUSY || status == SLUICE_FLOW_DEAD;
}

constexpr uint64_t kStatus = 3;

}  // namespace

template <typename Record>
FlowTable<Record>::FlowTable(std::span<Record> records, std::span<sluice_shares> shares, uint32_t sluice_shares::*share,
                             std::array<uint64_t, 2> key)
    : records_(records), shares_(shares), share_(share), key_(key) {
  assert(std::has_single_bit(records.size()) && !shares.empty());
}

template <typename Record>
uint32_t FlowTable<Record>::home_of(const Record& record) const {
  return hash(record, key_) & (size() - 1);
}

template <typename Record>
std::optional<uint32_t> FlowTable<Record>::find_position(const Record& like) const {
  const uint32_t home = home_of(like);
  const uint32_t homes = load(records_[home].head.homes) & SLUICE_FLOW_HOMES;
  for (uint32_t i = 0; i < SLUICE_FLOW_WINDOW; ++i) {
    const uint32_t position = (home + i) & (size() - 1);
    if ((homes >> i & 1) != 0 && same_key(records_[position], like) &&
        SLUICE_FLOW_STATUS(load(records_[position].head.control)) == SLUICE_FLOW_LIVE) {
      return position;
    }
  }
  return std::nullopt;
}

template <typename Record>
Record* FlowTable<Record>::find(const Record& like) const {
  const auto position = find_position(like);
  return position ? &records_[*position] : nullptr;
}

template <typename Record>
bool FlowTable<Record>::lock(uint32_t home) {
  for (int attempt = 0; attempt < kLockAttempts; ++attempt) {
    const uint32_t before = load(records_[home].head.homes);
    if ((before & SLUICE_FLOW_LOCK) == 0 && exchange(records_[home].head.homes, before, before | SLUICE_FLOW_LOCK)) {
      return true;
    }
  }
  return false;
}

template <typename Record>
void FlowTable<Record>::unlock(uint32_t home) {
  __atomic_fetch_and(&records_[home].head.homes, ~SLUICE_FLOW_LOCK, __ATOMIC_RELEASE);
}

// Counts one record more for a service, and for all. False, and nothing is counted: the service has its share.
template <typename Record>
bool FlowTable<Record>::take_share(uint32_t service) {
  if (service >= shares_.size() - 1) {
    return false;
  }
  uint32_t& total = shares_[0].*share_;
  uint32_t& own = shares_[service + 1].*share_;
  const uint32_t most = SLUICE_FLOW_MOST(size());
  const uint32_t there = load(total);
  if (there >= most || load(own) >= SLUICE_SHARE_FACTOR * (most - there)) {
    return false;
  }
  __atomic_fetch_add(&total, 1, __ATOMIC_RELAXED);
  __atomic_fetch_add(&own, 1, __ATOMIC_RELAXED);
  return true;
}

template <typename Record>
void FlowTable<Record>::give_share(uint32_t service) {
  __atomic_fetch_sub(&(shares_[0].*share_), 1, __ATOMIC_RELAXED);
  if (service < shares_.size() - 1) {
    __atomic_fetch_sub(&(shares_[service + 1].*share_), 1, __ATOMIC_RELAXED);
  }
}

// A free position of the window from `home` on, made BUSY, and its generation.
template <typename Record>
std::optional<uint32_t> FlowTable<Record>::claim(uint32_t home, uint32_t& generation) {
  for (uint32_t i = 0; i < SLUICE_FLOW_WINDOW && i < size(); ++i) {
    const uint32_t position = (home + i) & (size() - 1);
    const uint64_t control = load(records_[position].head.control);
    if (SLUICE_FLOW_STATUS(control) != SLUICE_FLOW_FREE) {
      continue;
    }
    generation = (SLUICE_FLOW_GENERATION(control) + 1) & 0xffff;
    generation = generation == 0 ? 1 : generation;
    if (exchange(records_[position].head.control, control,
                 uint64_t{SLUICE_FLOW_CONTROL(SLUICE_FLOW_BUSY, 0, generation, 0)})) {
      return position;
    }
  }
  return std::nullopt;
}

template <typename Record>
StoredFlow FlowTable<Record>::insert(const Record& record) {
  const uint32_t home = home_of(record);
  if (!lock(home)) {
    return StoredFlow::busy;
  }
  StoredFlow result = StoredFlow::full;
  uint32_t generation = 0;
  if (find_position(record)) {
    result = StoredFlow::there_already;
  } else if (take_share(record.head.service)) {
    if (const auto position = claim(home, generation)) {
      Record& there = records_[*position];
      fill(there, record);
      store(there.head.control, uint64_t{SLUICE_FLOW_CONTROL(SLUICE_FLOW_LIVE, record.head.control & 0xfffc, generation,
                                                             SLUICE_FLOW_ACK(record.head.control))});
      const uint32_t distance = (*position - home) & (size() - 1);
      __atomic_fetch_or(&records_[home].head.homes, 1U << distance, __ATOMIC_RELEASE);
      result = StoredFlow::stored;
    } else {
      give_share(record.head.service);
    }
  }
  unlock(home);
  return result;
}

template <typename Record>
void FlowTable<Record>::for_each(const std::function<void(uint32_t, const Record&)>& visit, uint32_t first,
                                 uint32_t count) const {
  const auto end = static_cast<uint32_t>(std::min<uint64_t>(uint64_t{first} + count, size()));
  for (uint32_t position = first; position < end; ++position) {
    const uint64_t control = load(records_[position].head.control);
    if (SLUICE_FLOW_STATUS(control) != SLUICE_FLOW_LIVE) {
      continue;
    }
    Record copy = records_[position];
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (((load(records_[position].head.control) ^ control) & SLUICE_FLOW_SAME) == 0) {
      copy.head.control = control;
      visit(position, copy);
    }
  }
}

// Takes the bit of a record, which nobody finds any more, from its home. True where it was there.
template <typename Record>
bool FlowTable<Record>::clear_bit(uint32_t position) {
  const uint32_t home = home_of(records_[position]);
  const uint32_t distance = (position - home) & (size() - 1);
  if (distance >= SLUICE_FLOW_WINDOW) {
    return false;
  }
  const uint32_t bit = 1U << distance;
  return (__atomic_fetch_and(&records_[home].head.homes, ~bit, __ATOMIC_ACQ_REL) & bit) != 0;
}

template <typename Record>
bool FlowTable<Record>::remove(uint32_t position, uint64_t control) {
  Record& record = records_[position];
  const uint64_t dead = (control & ~kStatus) | SLUICE_FLOW_DEAD;
  if (SLUICE_FLOW_STATUS(control) != SLUICE_FLOW_LIVE || !exchange(record.head.control, control, dead)) {
    return false;
  }
  clear_bit(position);
  give_share(load(record.head.service));
  store(record.head.control, dead & ~kStatus);
  return true;
}

template <typename Record>
bool FlowTable<Record>::remove(uint32_t position, const Record& shown) {
  return load(records_[position].head.seen) == shown.head.seen && remove(position, shown.head.control);
}

template <typename Record>
bool FlowTable<Record>::stays_locked(uint32_t home) const {
  for (int look = 0; look < kLooksAtALock; ++look) {
    if ((load(records_[home].head.homes) & SLUICE_FLOW_LOCK) == 0) {
      return false;
    }
  }
  return true;
}

template <typename Record>
void FlowTable<Record>::hint(const Record& first, uint32_t hints) {
  uint32_t& homes = records_[home_of(first)].head.homes;
  if ((load(homes) & hints) != hints) __atomic_fetch_or(&homes, hints, __ATOMIC_RELAXED);
}

template <typename Record>
void FlowTable<Record>::hint_everywhere(uint32_t hints) {
  for (Record& record : records_) __atomic_fetch_or(&record.head.homes, hints, __ATOMIC_RELAXED);
}

template <typename Record>
void FlowTable<Record>::take_hints(uint32_t hints) {
  for (Record& record : records_) {
    if ((load(record.head.homes) & hints) != 0) __atomic_fetch_and(&record.head.homes, ~hints, __ATOMIC_RELAXED);
  }
}

template <typename Record>
size_t FlowTable<Record>::reclaim(Leftovers& seen) {
  Leftovers now;
  size_t reclaimed = 0;
  for (uint32_t position = 0; position < size(); ++position) {
    sluice_flow_head& head = records_[position].head;
    const uint64_t control = load(head.control);
    const auto before = seen.records.find(position);
    if (!unfinished(control)) {
      // Nothing to do.
    } else if (before == seen.records.end() || before->second != control) {
      now.records[position] = control;
    } else {
      // What was being removed and still has its bit has its share, too. Otherwise nobody knows; mend_shares() does.
      if (SLUICE_FLOW_STATUS(control) == SLUICE_FLOW_DEAD && clear_bit(position)) {
        give_share(load(head.service));
      }
      store(head.control, control & ~kStatus);
      ++reclaimed;
    }
    if ((load(head.homes) & SLUICE_FLOW_LOCK) == 0) {
      continue;
    }
    if (!seen.homes.contains(position) || !stays_locked(position)) {
      now.homes.insert(position);
    } else {
      unlock(position);
      ++reclaimed;
    }
  }
  seen = std::move(now);
  return reclaimed;
}

template <typename Record>
size_t FlowTable<Record>::mend_shares(ShareDrift& seen) {
  std::vector<int64_t> records(shares_.size());
  for (uint32_t position = 0; position < size(); ++position) {
    const sluice_flow_head& head = records_[position].head;
    if (SLUICE_FLOW_STATUS(load(head.control)) != SLUICE_FLOW_LIVE) {
      continue;
    }
    ++records[0];
    const uint32_t service = load(head.service);
    if (service < records.size() - 1) {
      ++records[service + 1];
    }
  }
  ShareDrift now(shares_.size());
  size_t mended = 0;
  for (size_t i = 0; i < shares_.size(); ++i) {
    // One that was counted down too often is negative.
    now[i] = static_cast<int32_t>(load(shares_[i].*share_)) - records[i];
    if (now[i] != 0 && seen.size() == now.size() && seen[i] == now[i]) {
      __atomic_fetch_sub(&(shares_[i].*share_), static_cast<uint32_t>(now[i]), __ATOMIC_RELAXED);
      now[i] = 0;
      ++mended;
    }
  }
  seen = std::move(now);
  return mended;
}

sluice_flow4 first_tuple(const sluice_flow4& flow, std::array<uint64_t, 2> key, uint16_t first, uint32_t count) {
  sluice_flow4 out{};
  out.backend = flow.backend;
  out.source = flow.source;
  out.tuple = first_port(flow.tuple, flow.client_port,
                         sluice_flow_hash(flow.client, flow.address, flow.client_port, flow.port,
                                          SLUICE_FLOW_PROTOCOL(flow.tuple), key[0], key[1]),
                         first, count);
  return out;
}

sluice_flow6 first_tuple(const sluice_flow6& flow, std::array<uint64_t, 2> key, uint16_t first, uint32_t count) {
  sluice_flow6 out{};
  out.backend = flow.backend;
  out.source = flow.source;
  const uint64_t print =
      sluice_key_ipv6(flow.address.words[0], flow.address.words[1], flow.port, SLUICE_FLOW_PROTOCOL(flow.tuple));
  out.tuple =
      first_port(flow.tuple, flow.client_port,
                 sluice_flow_hash6(flow.client.words[0], flow.client.words[1], print, flow.client_port, key[0], key[1]),
                 first, count);
  return out;
}

template class FlowTable<sluice_flow4>;
template class FlowTable<sluice_flow6>;

}  // namespace sluice::agent::program
