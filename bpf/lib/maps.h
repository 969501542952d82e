/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps, and what is fixed for one interface. Sizes are defaults: the loader sets its own before loading. Maps that
 * are "memory-mapped" are written by the agent with plain aligned stores. */
#ifndef SLUICE_BPF_LIB_MAPS_H
#define SLUICE_BPF_LIB_MAPS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "bpf/sluice.h"

/* Set by the loader, one copy of the programs for each interface. The MAC: first byte of the address first. */
const volatile __u32 interface_index = 0;
const volatile __u8 interface_mac[8] __attribute__((aligned(8))) = {};

#define SLUICE_MAPPED_ARRAY(name, element, entries) \
  struct {                                          \
    __uint(type, BPF_MAP_TYPE_ARRAY);               \
    __uint(map_flags, BPF_F_MMAPABLE);              \
    __uint(max_entries, entries);                   \
    __type(key, __u32);                             \
    __type(value, element);                         \
  } name SEC(".maps")

#define SLUICE_COUNTER_ARRAY(name, element, entries) \
  struct {                                           \
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);         \
    __uint(max_entries, entries);                    \
    __type(key, __u32);                              \
    __type(value, element);                          \
  } name SEC(".maps")

SLUICE_MAPPED_ARRAY(config, struct sluice_config, 1);
SLUICE_MAPPED_ARRAY(service_keys, struct sluice_service_key_entry, 1 << 17);
SLUICE_MAPPED_ARRAY(services, struct sluice_service, 1 << 14);
SLUICE_MAPPED_ARRAY(slots, __u64, 1 << 20);
SLUICE_MAPPED_ARRAY(backends, struct sluice_backend, 1 << 16);
SLUICE_MAPPED_ARRAY(egress, struct sluice_egress, SLUICE_MAX_EGRESS);

SLUICE_COUNTER_ARRAY(service_counters, struct sluice_counters, 1 << 14);
SLUICE_COUNTER_ARRAY(backend_counters, struct sluice_counters, 1 << 16);
SLUICE_COUNTER_ARRAY(reasons, struct sluice_reason_counters, SLUICE_REASON_COUNT);

/* Grows only as services drop packets, each for a few reasons. When it is full, `reasons` still counts. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1 << 15);
  __type(key, struct sluice_service_reason_key);
  __type(value, struct sluice_reason_counters);
} service_reasons SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 1 << 18);
  __type(key, struct sluice_flow_key);
  __type(value, struct sluice_flow);
} flows SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1 << 12);
  __type(key, struct sluice_owned_key);
  __type(value, struct sluice_owned);
} owned_addresses SEC(".maps");

/* The node-wide settings; never NULL but to the verifier. */
static __always_inline const struct sluice_config* node_config(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&config, &zero);
}

/* One load, whatever the compiler thinks of it: for words that are switched under traffic. */
#define SLUICE_LOAD_ONCE(lvalue) (*(const volatile __typeof__(lvalue)*)&(lvalue))

#endif
