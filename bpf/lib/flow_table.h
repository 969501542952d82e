/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The flow tables. What a flow means is flow.h's. */
#ifndef SLUICE_BPF_LIB_FLOW_TABLE_H
#define SLUICE_BPF_LIB_FLOW_TABLE_H

#include "bpf/lib/counters.h"
#include "bpf/lib/packet.h"

/* A return tuple. */
struct flow_key {
  union sluice_address backend;
  union sluice_address source;
  __u64 tuple; /* SLUICE_FLOW_TUPLE */
};

/* A record to be made. */
struct new_flow {
  struct flow_key key;
  union sluice_address client;
  union sluice_address address;
  __u64 next_hop;
  __u64 state; /* bits of control */
  __u32 ack;   /* of control */
  __u32 service;
  __u32 backend;
  __be16 client_port;
  __be16 port;
};

enum stored {
  STORED,
  STORED_BY_ANOTHER, /* a live record has the key */
  STORED_NOT_FULL,   /* not: no position is to be had in the window, or the service has its share */
  STORED_NOT_BUSY,   /* not: another CPU has the home for too long */
};

#define SLUICE_ANY_SERVICE 0xffffffffu
#define SLUICE_NO_POSITION 0xffffffffu
#define SLUICE_LOCK_ATTEMPTS 16384

static __always_inline struct sluice_shares* share_of(__u32 service) {
  return &shares_memory()[(service & services_mask) + 1];
}

static __always_inline __u32 hash_flow_key(const struct flow_key* key, const bool v6) {
  const struct sluice_config* node = config_memory();
  return v6 ? sluice_flow6_hash(&key->backend, &key->source, key->tuple, node->flow_hash_key[0], node->flow_hash_key[1])
            : sluice_flow4_hash(key->backend.ipv4, key->source.ipv4, key->tuple, node->flow_hash_key[0],
                                node->flow_hash_key[1]);
}

static __always_inline bool flow_lives(const struct sluice_flow_head* head) {
  return SLUICE_FLOW_STATUS(SLUICE_LOAD_ONCE(head->control)) == SLUICE_FLOW_LIVE;
}

/* Whether a record is still the one that it was when `control` was read: what was read of it in between holds. */
static __always_inline bool same_record(const struct sluice_flow_head* head, __u64 control) {
  return !((SLUICE_LOAD_ONCE(head->control) ^ control) & SLUICE_FLOW_SAME);
}

/* The state's bits are set by both directions, on different CPUs. */
static __always_inline void add_state(struct sluice_flow_head* head, __u64 bits) {
  if ((head->control & bits) != bits) __sync_fetch_and_or(&head->control, bits);
}
static __always_inline void take_state(struct sluice_flow_head* head, __u64 bits) {
  if (head->control & bits) __sync_fetch_and_and(&head->control, ~bits);
}

static __always_inline bool try_lock(__u32* homes) {
  __u32 before = SLUICE_LOAD_ONCE(*homes);
  return !(before & SLUICE_FLOW_LOCK) &&
         __sync_val_compare_and_swap(homes, before, before | SLUICE_FLOW_LOCK) == before;
}

struct locking {
  __u32* homes;
  bool locked;
};
static long try_again(__u32 attempt __attribute__((unused)), struct locking* locking) {
  locking->locked = try_lock(locking->homes);
  return locking->locked;
}

/* Held for a fraction of a microsecond, but where the hypervisor takes the holder's CPU away. */
static __always_inline bool lock_home(__u32* homes) {
  struct locking locking = {.homes = homes};

  if (likely(try_lock(homes))) return true;
  bpf_loop(SLUICE_LOCK_ATTEMPTS, try_again, &locking, 0);
  return locking.locked;
}

static __always_inline void unlock_home(__u32* homes) {
  __sync_fetch_and_and(homes, ~SLUICE_FLOW_LOCK);
}

#define SLUICE_TABLE flows4
#define SLUICE_MASK flows4_mask
#define SLUICE_RECORD struct sluice_flow4
#define SLUICE_V6 0
#define SLUICE_EVICTS 0
#include "bpf/lib/flow_table_of.h"

#define SLUICE_TABLE half_open4
#define SLUICE_MASK half_open4_mask
#define SLUICE_RECORD struct sluice_flow4
#define SLUICE_V6 0
#define SLUICE_EVICTS 1
#include "bpf/lib/flow_table_of.h"

#define SLUICE_TABLE flows6
#define SLUICE_MASK flows6_mask
#define SLUICE_RECORD struct sluice_flow6
#define SLUICE_V6 1
#define SLUICE_EVICTS 0
#include "bpf/lib/flow_table_of.h"

#define SLUICE_TABLE half_open6
#define SLUICE_MASK half_open6_mask
#define SLUICE_RECORD struct sluice_flow6
#define SLUICE_V6 1
#define SLUICE_EVICTS 1
#include "bpf/lib/flow_table_of.h"

#endif
