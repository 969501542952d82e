/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From an address to a service, and from a flow's hash to the backend records it may be at. */
#ifndef SLUICE_BPF_LIB_SERVICE_H
#define SLUICE_BPF_LIB_SERVICE_H

#include "bpf/lib/packet.h"

/* A key, and for IPv6 what its print stands for. */
struct key {
  __u64 word;
  const union sluice_address* address;
  __be16 port;
  __u8 protocol;
};

static __always_inline struct key key_of(const union sluice_address* address, __be16 port, __u8 protocol,
                                         const bool v6) {
  struct key key = {.address = address, .port = port, .protocol = protocol};
  key.word = v6 ? sluice_key_ipv6(address->words[0], address->words[1], port, protocol)
                : sluice_key_ipv4(address->ipv4, port, protocol);
  return key;
}

static __always_inline bool same_key6(__u32 index, const struct key* key) {
  const struct sluice_key6* whole = &keys6_memory()[index & keys6_mask];
  return whole->address[0] == key->address->words[0] && whole->address[1] == key->address->words[1] &&
         whole->port == key->port && whole->protocol == key->protocol;
}

/* The entry of a key in the table that is in force; NULL: not there. */
static __always_inline const struct sluice_key_entry* find_key(__u64 table, const struct key* key, const bool v6) {
  __u32 mask = (1u << (SLUICE_KEY_TABLE_LOG2(table) & 31)) - 1;
  __u32 position = sluice_key_hash(key->word, SLUICE_KEY_TABLE_SEED(table));

  if (unlikely(!table)) return NULL;
#pragma clang loop unroll(disable)
  for (int probe = 0; probe < SLUICE_MAX_PROBES; probe++, position++) {
    const struct sluice_key_entry* entry =
        &keys_memory()[(SLUICE_KEY_TABLE_OFFSET(table) + (position & mask)) & keys_mask];
    __u64 found = SLUICE_LOAD_ONCE(entry->key);
    if (found == key->word && (!v6 || same_key6(entry->extra, key))) return entry;
    if (found == SLUICE_KEY_EMPTY) break;
  }
  return NULL;
}

/* The index into `backends` that a plane of a service's table names for a hash; SLUICE_NO_BACKEND_INDEX: none. */
static __always_inline __u32 slot_backend(__u64 table, __u32 plane, __u64 slot_hash) {
  __u32 log2 = SLUICE_TABLE_LOG2(table);
  __u32 slot = SLUICE_TABLE_OFFSET(table) + (plane << log2) + ((__u32)slot_hash & ((1u << log2) - 1));
  __u32 number = slots_memory()[slot & slots_mask];

  return number == SLUICE_NO_BACKEND ? SLUICE_NO_BACKEND_INDEX : SLUICE_TABLE_BACKENDS(table) + number;
}

static __always_inline const struct sluice_backend* backend_at(__u32 index) {
  return &backends_memory()[index & backends_mask];
}

/* Whether a client is in a set of allowed sources. */
static __always_inline bool allowed_source(__u32 set, const union sluice_address* client, const bool v6) {
  if (v6) {
    struct sluice_sources6_key key = {.prefix_length = 32 + 128, .set = set};
    __builtin_memcpy(key.address, client->bytes, sizeof(key.address));
    return bpf_map_lookup_elem(&sources6, &key) != NULL;
  } else {
    struct sluice_sources4_key key = {.prefix_length = 32 + 32, .set = set, .address = client->ipv4};
    return bpf_map_lookup_elem(&sources4, &key) != NULL;
  }
}

#endif
