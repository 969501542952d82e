/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps, and what is fixed when the programs are loaded. Sizes are defaults: the loader sets its own before loading.
 * Maps that are "memory-mapped" are written by the agent with plain aligned stores. */
#ifndef SLUICE_BPF_LIB_MAPS_H
#define SLUICE_BPF_LIB_MAPS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "bpf/sluice.h"

/* Where the loader keeps what it puts into the programs' text. */
const volatile __u64 constants[SLUICE_CONSTANT_COUNT] = {};

#define SLUICE_CONSTANT(number)                                                                                   \
  ({                                                                                                              \
    __u64 value;                                                                                                  \
    asm("%0 = %1 ll" : "=r"(value) : "i"((__u64)SLUICE_CONSTANT_MARK << 32 | (__u64)(SLUICE_CONSTANT_##number))); \
    value;                                                                                                        \
  })
#define interface_index ((__u32)SLUICE_CONSTANT(INTERFACE_INDEX))
#define interface_egress ((__u32)SLUICE_CONSTANT(INTERFACE_EGRESS))
#define interface_mac SLUICE_CONSTANT(INTERFACE_MAC)
#define interface_is_node_link SLUICE_CONSTANT(INTERFACE_IS_NODE_LINK)
#define keys_mask ((__u32)SLUICE_CONSTANT(KEYS_MASK))
#define keys6_mask ((__u32)SLUICE_CONSTANT(KEYS6_MASK))
#define services_mask ((__u32)SLUICE_CONSTANT(SERVICES_MASK))
#define slots_mask ((__u32)SLUICE_CONSTANT(SLOTS_MASK))
#define backends_mask ((__u32)SLUICE_CONSTANT(BACKENDS_MASK))
#define flows4_mask ((__u32)SLUICE_CONSTANT(FLOWS4_MASK))
#define half_open4_mask ((__u32)SLUICE_CONSTANT(HALF_OPEN4_MASK))
#define flows6_mask ((__u32)SLUICE_CONSTANT(FLOWS6_MASK))
#define half_open6_mask ((__u32)SLUICE_CONSTANT(HALF_OPEN6_MASK))
#define jiffies_per_second ((__u32)SLUICE_CONSTANT(JIFFIES_PER_SECOND))

/* A table in memory that the agent maps: one array element that holds all of it. The loader sets its size, and makes
 * the load of the map into the load of its memory (BPF_PSEUDO_MAP_VALUE), so that a look-up is an addition: no index on
 * the stack, no comparison, no NULL. An index is masked, whatever it is; the verifier knows the mask. */
#define SLUICE_TABLE_MAP(name, element)                 \
  struct {                                              \
    __uint(type, BPF_MAP_TYPE_ARRAY);                   \
    __uint(map_flags, BPF_F_MMAPABLE);                  \
    __uint(max_entries, 1);                             \
    __uint(key_size, sizeof(__u32));                    \
    __uint(value_size, sizeof(element));                \
  } name SEC(".maps");                                  \
  static __always_inline element* name##_memory(void) { \
    element* memory;                                    \
    asm("%0 = %1 ll" : "=r"(memory) : "i"(&name));      \
    return memory;                                      \
  }

#define SLUICE_COUNTER_ARRAY(name, element, entries) \
  struct {                                           \
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);         \
    __uint(max_entries, entries);                    \
    __type(key, __u32);                              \
    __type(value, element);                          \
  } name SEC(".maps")

SLUICE_TABLE_MAP(config, struct sluice_config)
SLUICE_TABLE_MAP(keys, struct sluice_key_entry)
SLUICE_TABLE_MAP(keys6, struct sluice_key6)
SLUICE_TABLE_MAP(services, struct sluice_service)
SLUICE_TABLE_MAP(slots, __u16)
SLUICE_TABLE_MAP(backends, struct sluice_backend)
SLUICE_TABLE_MAP(egress, struct sluice_egress)
SLUICE_TABLE_MAP(peers, struct sluice_peer)
SLUICE_TABLE_MAP(proofs, struct sluice_proof)
SLUICE_TABLE_MAP(flows4, struct sluice_flow4)
SLUICE_TABLE_MAP(half_open4, struct sluice_flow4)
SLUICE_TABLE_MAP(flows6, struct sluice_flow6)
SLUICE_TABLE_MAP(half_open6, struct sluice_flow6)
SLUICE_TABLE_MAP(shares, struct sluice_shares)

SLUICE_COUNTER_ARRAY(backend_counters, struct sluice_counters, 1 << 10);
SLUICE_COUNTER_ARRAY(reasons, struct sluice_count, SLUICE_REASON_COUNT);

/* Grows only as services drop packets, each for a few reasons. When it is full, `reasons` still counts. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1 << 15);
  __type(key, struct sluice_service_reason_key);
  __type(value, struct sluice_count);
} service_reasons SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1 << 17);
  __type(key, struct sluice_sources4_key);
  __type(value, __u32);
} sources4 SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1 << 17);
  __type(key, struct sluice_sources6_key);
  __type(value, __u32);
} sources6 SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1 << 12);
  __type(key, struct sluice_owned_key);
  __type(value, struct sluice_owned);
} owned_addresses SEC(".maps");

/* One load, whatever the compiler thinks of it: for words that are switched under traffic. */
#define SLUICE_LOAD_ONCE(lvalue) (*(const volatile __typeof__(lvalue)*)&(lvalue))
/* One store, which the compiler does not move. */
#define SLUICE_STORE_ONCE(lvalue, value) (*(volatile __typeof__(lvalue)*)&(lvalue) = (value))
/* Keeps the compiler from turning a loop's counter into another form, in which older verifiers do not see its end. */
#define SLUICE_PIN(variable) asm volatile("" : "+r"(variable))
#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

#endif
