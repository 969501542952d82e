/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From an address to a service, and from a flow's hash to the backend records it may be at. */
#ifndef SLUICE_BPF_LIB_SERVICE_H
#define SLUICE_BPF_LIB_SERVICE_H

#include "bpf/lib/maps.h"

#define SLUICE_NO_SERVICE 0xffffffffu

/* The index into `services` of the service at this address, or SLUICE_NO_SERVICE. */
static __always_inline __u32 find_service(__u64 table, __be32 address, __be16 port, __u8 protocol) {
  __u64 key = sluice_key_ipv4(address, port, protocol);
  __u32 mask = (1u << (SLUICE_SERVICE_TABLE_LOG2(table) & 31)) - 1;
  __u32 position = sluice_service_hash(key, SLUICE_SERVICE_TABLE_SEED(table));

  if (!table) return SLUICE_NO_SERVICE;
#pragma clang loop unroll(disable)
  for (int probe = 0; probe < SLUICE_MAX_PROBES; probe++, position++) {
    __u32 index = SLUICE_SERVICE_TABLE_OFFSET(table) + (position & mask);
    const struct sluice_service_key_entry* entry = bpf_map_lookup_elem(&service_keys, &index);
    __u64 found;
    if (!entry) break;
    found = SLUICE_LOAD_ONCE(entry->key);
    if (found == key) return entry->service;
    if (found == SLUICE_KEY_EMPTY) break;
  }
  return SLUICE_NO_SERVICE;
}

enum candidate {
  CANDIDATE_FOUND,
  CANDIDATE_NONE,  /* the slot names no backend */
  CANDIDATE_STALE, /* the table leads nowhere: SLUICE_REASON_STALE_TABLE */
};

/* The backend record that a plane of the service's table names for a hash, and its index. */
static __always_inline enum candidate find_candidate(__u32 service, __u64 table, __u32 plane, __u64 slot_hash,
                                                     const struct sluice_backend** backend, __u32* index) {
  __u32 log2 = SLUICE_TABLE_LOG2(table);
  __u32 slot = SLUICE_TABLE_OFFSET(table) + (plane << log2) + ((__u32)slot_hash & ((1u << log2) - 1));
  __u32 element = slot / SLUICE_SLOTS_PER_ELEMENT;
  const __u64* slots_here = bpf_map_lookup_elem(&slots, &element);
  __u32 number;

  if (!slots_here) return CANDIDATE_STALE;
  number = (*slots_here >> (slot % SLUICE_SLOTS_PER_ELEMENT * 16)) & 0xffff;
  if (number == SLUICE_NO_BACKEND) return CANDIDATE_NONE;
  *index = SLUICE_TABLE_BACKENDS(table) + number;
  *backend = bpf_map_lookup_elem(&backends, index);
  if (!*backend || (*backend)->service != service ||
      ((*backend)->forwarding != SLUICE_FORWARD_LOCAL && (*backend)->forwarding != SLUICE_FORWARD_NAT))
    return CANDIDATE_STALE;
  return CANDIDATE_FOUND;
}

#endif
