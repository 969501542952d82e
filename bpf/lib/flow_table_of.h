/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The work on one flow table: find, claim, remove (bpf/layout/flows.h has the rules). Included by flow_table.h once for
 * each table, with SLUICE_TABLE     the map's name, which the functions' names end in SLUICE_MASK      its size less
 * one SLUICE_RECORD    struct sluice_flow4 or sluice_flow6 SLUICE_V6        false or true SLUICE_EVICTS    whether a
 * record may be taken out for another
 */
#define SLUICE_NAME_(verb, table) verb##_##table
#define SLUICE_NAME(verb, table) SLUICE_NAME_(verb, table)
#define SLUICE_OF(verb) SLUICE_NAME(verb, SLUICE_TABLE)
#define SLUICE_MEMORY SLUICE_NAME(SLUICE_TABLE, memory)

static __always_inline SLUICE_RECORD* SLUICE_OF(at)(__u32 position) {
  return &SLUICE_MEMORY()[position & SLUICE_MASK];
}

static __always_inline bool SLUICE_OF(has_key)(const SLUICE_RECORD* flow, const struct flow_key* key) {
#if SLUICE_V6
  return flow->tuple == key->tuple && same_address(&flow->backend, &key->backend, true) &&
         same_address(&flow->source, &key->source, true) && flow_lives(&flow->head);
#else
  return flow->tuple == key->tuple && flow->backend == key->backend.ipv4 && flow->source == key->source.ipv4 &&
         flow_lives(&flow->head);
#endif
}

/* The live record of a key, and its position. Most lie at home. */
static __always_inline SLUICE_RECORD* SLUICE_OF(find)(const struct flow_key* key, __u32 hash, __u32* position) {
  __u32 home = hash & SLUICE_MASK, homes;
  SLUICE_RECORD* flow;

  *position = home;
  flow = SLUICE_OF(at)(home);
  homes = SLUICE_LOAD_ONCE(flow->head.homes) & SLUICE_FLOW_HOMES;
  if (likely(homes & 1) && likely(SLUICE_OF(has_key)(flow, key))) return flow;
  homes >>= 1;
#pragma clang loop unroll(disable)
  for (__u32 i = 1; i < SLUICE_FLOW_WINDOW && homes; i++) {
    if (homes & 1) {
      *position = (home + i) & SLUICE_MASK;
      flow = SLUICE_OF(at)(*position);
      if (SLUICE_OF(has_key)(flow, key)) return flow;
    }
    homes >>= 1;
  }
  return NULL;
}

static __always_inline __u32 SLUICE_OF(hash)(const SLUICE_RECORD* flow) {
  const struct sluice_config* node = config_memory();
#if SLUICE_V6
  return sluice_flow6_hash(&flow->backend, &flow->source, flow->tuple, node->flow_hash_key[0], node->flow_hash_key[1]);
#else
  return sluice_flow4_hash(flow->backend, flow->source, flow->tuple, node->flow_hash_key[0], node->flow_hash_key[1]);
#endif
}

static __always_inline void SLUICE_OF(fill)(SLUICE_RECORD* to, const struct new_flow* from) {
#if SLUICE_V6
  to->backend = from->key.backend;
  to->source = from->key.source;
  to->client = from->client;
  to->address = from->address;
#else
  to->backend = from->key.backend.ipv4;
  to->source = from->key.source.ipv4;
  to->client = from->client.ipv4;
  to->address = from->address.ipv4;
#endif
  to->tuple = from->key.tuple;
  to->client_port = from->client_port;
  to->port = from->port;
  to->way_checked = (__u32)bpf_jiffies64() - SLUICE_WAY_MILLISECONDS * jiffies_per_second; /* long ago */
  to->head.seen = (__u32)bpf_jiffies64();
  to->head.next_hop = from->next_hop;
  to->head.service = from->service;
  to->head.backend = from->backend;
}

/* Counts one record more for a service, and for all. False, and nothing counted: the service has its share, and it is
 * not counted `whatever` it has. */
static __always_inline bool SLUICE_OF(take_share)(__u32 service, bool whatever) {
  struct sluice_shares *total = shares_memory(), *own = share_of(service);
  __u32 most = SLUICE_FLOW_MOST(SLUICE_MASK + 1), there = SLUICE_LOAD_ONCE(total->SLUICE_TABLE);

  if (!whatever && (there >= most || SLUICE_LOAD_ONCE(own->SLUICE_TABLE) >= SLUICE_SHARE_FACTOR * (most - there)))
    return false;
  __sync_fetch_and_add(&total->SLUICE_TABLE, 1);
  __sync_fetch_and_add(&own->SLUICE_TABLE, 1);
  return true;
}

static __always_inline void SLUICE_OF(give_share)(__u32 service) {
  __sync_fetch_and_add(&shares_memory()->SLUICE_TABLE, -1);
  __sync_fetch_and_add(&share_of(service)->SLUICE_TABLE, -1);
}

/* Takes the bit of a record, which nobody finds any more, from its home, and its count from its service. */
static __always_inline void SLUICE_OF(unlink)(SLUICE_RECORD* flow, __u32 position) {
  __u32 home = SLUICE_OF(hash)(flow) & SLUICE_MASK;
  __u32 distance = (position - home) & SLUICE_MASK;

  if (distance < SLUICE_FLOW_WINDOW) __sync_fetch_and_and(&SLUICE_OF(at)(home)->head.homes, ~(1u << distance));
  SLUICE_OF(give_share)(flow->head.service);
}

/* Removes the record at a position as it was seen with `control`; one that has changed since stays. */
static __always_inline void SLUICE_OF(remove)(SLUICE_RECORD* flow, __u32 position, __u64 control) {
  __u64 dead = (control & ~3ULL) | SLUICE_FLOW_DEAD;

  if (__sync_val_compare_and_swap(&flow->head.control, control, dead) != control) return;
  SLUICE_OF(unlink)(flow, position);
  SLUICE_STORE_ONCE(flow->head.control, dead & ~3ULL);
}

/* Makes the position BUSY if its `control` still is what was seen. Returns the generation, 0 if not. */
static __always_inline __u32 SLUICE_OF(seize)(SLUICE_RECORD* flow, __u64 control) {
  __u32 generation = (SLUICE_FLOW_GENERATION(control) + 1) & 0xffff;
  __u64 busy;

  if (!generation) generation = 1;
  busy = SLUICE_FLOW_CONTROL(SLUICE_FLOW_BUSY, 0, generation, 0);
  return __sync_val_compare_and_swap(&flow->head.control, control, busy) == control ? generation : 0;
}

/* In what follows positions are told, not distances from home: the verifier knows nothing of a position, so it does not
 * walk what comes after once for each. SLUICE_NO_POSITION: none. */

/* A free position of the window from `home` on, made BUSY, and its generation. */
static __always_inline __u32 SLUICE_OF(claim_free)(__u32 home, __u32* generation) {
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < SLUICE_FLOW_WINDOW; i++) {
    __u32 position = (home + i) & SLUICE_MASK;
    SLUICE_RECORD* flow = SLUICE_OF(at)(position);
    __u64 control = SLUICE_LOAD_ONCE(flow->head.control);
    if (SLUICE_FLOW_STATUS(control) != SLUICE_FLOW_FREE) continue;
    *generation = SLUICE_OF(seize)(flow, control);
    if (*generation) return position;
  }
  return SLUICE_NO_POSITION;
}

#if SLUICE_EVICTS
/* The same at the cost of the record in the window that was seen the longest ago; `service`: of this service only, or,
 * with SLUICE_ANY_SERVICE, of any. */
static __always_inline __u32 SLUICE_OF(claim_oldest)(__u32 home, __u32 service, __u32* generation) {
  __u32 now = (__u32)bpf_jiffies64(), oldest = SLUICE_NO_POSITION, age = 0;
  SLUICE_RECORD* flow;
  __u64 control;

#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < SLUICE_FLOW_WINDOW; i++) {
    __u32 here = (home + i) & SLUICE_MASK, idle;
    flow = SLUICE_OF(at)(here);
    if (!flow_lives(&flow->head) || (service != SLUICE_ANY_SERVICE && flow->head.service != service)) continue;
    idle = now - flow->head.seen + 1;
    if (idle <= age) continue;
    oldest = here;
    age = idle;
  }
  if (!age) return SLUICE_NO_POSITION;
  flow = SLUICE_OF(at)(oldest);
  control = SLUICE_LOAD_ONCE(flow->head.control);
  if (SLUICE_FLOW_STATUS(control) != SLUICE_FLOW_LIVE) return SLUICE_NO_POSITION;
  *generation = SLUICE_OF(seize)(flow, control);
  if (!*generation) return SLUICE_NO_POSITION;
  SLUICE_OF(unlink)(flow, oldest);
  count_reason(SLUICE_REASON_HALF_OPEN_EVICTED, 1, 0);
  return oldest;
}
#endif

/* Finds a position for a record of this service, makes it BUSY, and counts it. SLUICE_NO_POSITION: there is no room, or
 * not for this service. */
static __always_inline __u32 SLUICE_OF(claim)(__u32 home, __u32 service, __u32* generation) {
  __u32 position;
#if SLUICE_EVICTS
  bool share = SLUICE_OF(take_share)(service, false);
  position = share ? SLUICE_OF(claim_free)(home, generation) : SLUICE_NO_POSITION;
  if (position == SLUICE_NO_POSITION) /* a service that has its share makes room among its own */
    position = SLUICE_OF(claim_oldest)(home, share ? SLUICE_ANY_SERVICE : service, generation);
  if (!share && position != SLUICE_NO_POSITION) SLUICE_OF(take_share)(service, true);
  if (share && position == SLUICE_NO_POSITION) SLUICE_OF(give_share)(service);
#else
  if (!SLUICE_OF(take_share)(service, false)) return SLUICE_NO_POSITION;
  position = SLUICE_OF(claim_free)(home, generation);
  if (position == SLUICE_NO_POSITION) SLUICE_OF(give_share)(service);
#endif
  return position;
}

/* Makes a record. Returns an enum stored. */
__noinline int SLUICE_OF(store)(const struct new_flow* from) {
  __u32 home, position, generation = 0;
  SLUICE_RECORD *at_home, *flow;
  int result = STORED_NOT_FULL;

  if (!from) return STORED_NOT_FULL;
  home = hash_flow_key(&from->key, SLUICE_V6) & SLUICE_MASK;
  at_home = SLUICE_OF(at)(home);
  if (!lock_home(&at_home->head.homes)) return STORED_NOT_BUSY;
  if (SLUICE_OF(find)(&from->key, home, &position)) {
    result = STORED_BY_ANOTHER;
    goto out;
  }
  position = SLUICE_OF(claim)(home, from->service, &generation);
  if (position == SLUICE_NO_POSITION) goto out;
  flow = SLUICE_OF(at)(position);
  SLUICE_OF(fill)(flow, from);
  SLUICE_STORE_ONCE(flow->head.control, SLUICE_FLOW_CONTROL(SLUICE_FLOW_LIVE, from->state, generation, from->ack));
  __sync_fetch_and_or(&at_home->head.homes, 1u << ((position - home) & SLUICE_MASK & (SLUICE_FLOW_WINDOW - 1)));
  result = STORED;
out:
  unlock_home(&at_home->head.homes);
  return result;
}

#undef SLUICE_NAME_
#undef SLUICE_NAME
#undef SLUICE_OF
#undef SLUICE_MEMORY
#undef SLUICE_TABLE
#undef SLUICE_MASK
#undef SLUICE_RECORD
#undef SLUICE_V6
#undef SLUICE_EVICTS
