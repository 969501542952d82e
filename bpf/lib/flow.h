/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a flow record means to a packet: whose tuple is free, where a packet without record goes (bpf/layout/flows.h,
 * docs/design/packet-path.md). */
#ifndef SLUICE_BPF_LIB_FLOW_H
#define SLUICE_BPF_LIB_FLOW_H

#include "bpf/lib/flow_query.h"
#include "bpf/lib/flow_state.h"

/* --- what follows is not the common case: functions of their own, each verified once and apart from its callers. Their
 * bodies lie outside of the loops that call them, so that the verifier does not walk them once for each turn. Pointers
 * are never NULL but to the verifier. --------------------------------------------------------------------------------
 */

/* Sets all of `target` but its source port from a plane's candidate for the flow. Returns 0 or the reason why no flow
 * can go there. */
__noinline int aim(SLUICE_CONTEXT* ctx, const struct flow_query* query, struct target* target, __u32 plane) {
  const struct sluice_config* node = config_memory();
  const struct sluice_backend* backend;
  const struct sluice_egress* out;
  union sluice_address none = {};
  __u64 what;

  if (!query || !target) return SLUICE_REASON_STALE_TABLE;
  target->backend = query->table ? slot_backend(query->table, plane, query->slot_hash) : SLUICE_NO_BACKEND_INDEX;
  if (target->backend == SLUICE_NO_BACKEND_INDEX) return SLUICE_REASON_NO_BACKEND;
  backend = backend_at(target->backend);
  what = SLUICE_LOAD_ONCE(backend->what);
  if (SLUICE_BACKEND_SERVICE(what) != query->service) return SLUICE_REASON_STALE_TABLE;
  target->address = backend->address;
  target->port = SLUICE_BACKEND_PORT(what);
  target->peer = SLUICE_BACKEND_PEER(what);
  target->forwarding = forwarding_here(what);
  target->left = (SLUICE_BACKEND_FLAGS(what) & SLUICE_BACKEND_LEFT) != 0;
  target->strict = (SLUICE_BACKEND_FLAGS(what) & SLUICE_BACKEND_STRICT) != 0;
  target->next_hop = next_hop_here(backend, what);
  if (target->forwarding == SLUICE_FORWARD_LOCAL || target->forwarding == SLUICE_FORWARD_TUNNEL) return 0;
  out = find_egress(target->next_hop);
  if (!out) {
    target->next_hop = kernel_way(ctx, &none, &target->address, query->v6, 0);
    out = find_egress(target->next_hop);
    if (!out) return SLUICE_REASON_NO_NEXT_HOP;
  }
  if (target->forwarding != SLUICE_FORWARD_NAT) return 0;
  if (!nat_ports(node)) return SLUICE_REASON_PORTS_EXHAUSTED;
  return nat_source(out, query->v6, &target->source) ? 0 : SLUICE_REASON_NO_NEXT_HOP;
}

/* A SYN met the record of its tuple at an earlier candidate: whether the connection of the record is over. The client
 * may have gone without a word and have its port again, or its first SYN or the answer was lost. A backend that lives
 * refuses such a SYN with an ACK; one that has said nothing to the first SYN is left with the second. (Not with the
 * first: anybody can send one in a client's name.) */
static __always_inline bool leaves_with_syn(struct sluice_flow_head* head) {
  if (SLUICE_FLOW_CLOSED(head->control) || !(head->control & SLUICE_FLOW_REPLIED)) return true;
  if (head->control & SLUICE_FLOW_SYN_UNANSWERED)
    return (__s32)jiffies_since(head->seen) > (__s32)(jiffies_per_second * SLUICE_SYN_PATIENCE / 1000);
  SLUICE_STORE_ONCE(head->seen, (__u32)bpf_jiffies64()); /* from now on it waits */
  add_state(head, SLUICE_FLOW_SYN_UNANSWERED);
  return false;
}

/* Whether a packet shows that its sender has seen the reply to what made the record: whoever only guesses addresses has
 * not. */
static __always_inline bool promotes(const struct sluice_flow_head* head, const struct flow_query* query) {
  __u64 control = SLUICE_LOAD_ONCE(head->control);

  if (!(control & SLUICE_FLOW_REPLIED) || control & SLUICE_FLOW_RESET) return false;
  if (query->protocol != IPPROTO_TCP) return true;
  if ((query->tcp_flags & (SLUICE_TCP_ACK | SLUICE_TCP_SYN | SLUICE_TCP_RST)) != SLUICE_TCP_ACK) return false;
  return query->acknowledged - SLUICE_FLOW_ACK(control) < 0x10000;
}

enum attempt {
  ATTEMPT_TAKEN, /* by another flow */
  ATTEMPT_FREE,  /* a new record could have the tuple */
  ATTEMPT_FOUND, /* the flow's record */
  ATTEMPT_OVER,  /* the flow's record, of a connection that is over: a new one begins, or is with others */
};

struct found {
  struct sluice_flow_head* head; /* NULL: none */
  __u32 position;
  bool half_open;
  bool same; /* the same flow as the client sees it, not only the same tuple */
};

static __always_inline bool same_flow4(const struct sluice_flow4* flow, const union sluice_address* client,
                                       const union sluice_address* address, __be16 client_port, __be16 port) {
  return flow->client == client->ipv4 && flow->address == address->ipv4 && flow->client_port == client_port &&
         flow->port == port;
}
static __always_inline bool same_flow6(const struct sluice_flow6* flow, const union sluice_address* client,
                                       const union sluice_address* address, __be16 client_port, __be16 port) {
  return same_address(&flow->client, client, true) && same_address(&flow->address, address, true) &&
         flow->client_port == client_port && flow->port == port;
}

/* Where the live record of a key lies: its position, and SLUICE_AT_HALF_OPEN where it is half open; negative: nowhere.
 */
#define SLUICE_AT_HALF_OPEN 0x40000000
__noinline int locate4(const struct flow_key* key) {
  __u32 hash, position;

  if (!key) return -1;
  hash = hash_flow_key(key, false);
  if (find_flows4(key, hash, &position)) return (int)position;
  return find_half_open4(key, hash, &position) ? (int)(position | SLUICE_AT_HALF_OPEN) : -1;
}
__noinline int locate6(const struct flow_key* key) {
  __u32 hash, position;

  if (!key) return -1;
  hash = hash_flow_key(key, true);
  if (find_flows6(key, hash, &position)) return (int)position;
  return find_half_open6(key, hash, &position) ? (int)(position | SLUICE_AT_HALF_OPEN) : -1;
}

static __always_inline struct found find_record(const struct flow_query* query, const struct flow_key* key) {
  struct found found = {};
  int at = query->v6 ? locate6(key) : locate4(key);

  if (at < 0) return found;
  found.half_open = at & SLUICE_AT_HALF_OPEN;
  found.position = at & (SLUICE_AT_HALF_OPEN - 1);
  if (query->v6) {
    struct sluice_flow6* flow = found.half_open ? at_half_open6(found.position) : at_flows6(found.position);
    found.head = &flow->head;
    found.same = same_flow6(flow, &query->client, &query->address, query->client_port, query->port);
  } else {
    struct sluice_flow4* flow = found.half_open ? at_half_open4(found.position) : at_flows4(found.position);
    found.head = &flow->head;
    found.same = same_flow4(flow, &query->client, &query->address, query->client_port, query->port);
  }
  return found;
}

/* Removes a record as it was seen with `control`. */
__noinline int remove_at(__u32 position, __u32 half_open, __u32 v6, __u64 control) {
  if (v6 && half_open)
    remove_half_open6(at_half_open6(position), position, control);
  else if (v6)
    remove_flows6(at_flows6(position), position, control);
  else if (half_open)
    remove_half_open4(at_half_open4(position), position, control);
  else
    remove_flows4(at_flows4(position), position, control);
  return 0;
}

static __always_inline void remove_found(const struct found* found, bool v6, __u64 control) {
  remove_at(found->position, found->half_open, v6, control);
}

static __always_inline void describe_flow(const struct flow_query* query, const struct target* target, __u64 state,
                                          struct new_flow* flow) {
  candidate_key(query, target, &flow->key);
  flow->client = query->client;
  flow->address = query->address;
  flow->next_hop = 0;
  flow->ack = 0;
  flow->state = state | state_from_client(query->tcp_flags);
  flow->service = query->service;
  flow->backend = target->backend;
  flow->client_port = query->client_port;
  flow->port = query->port;
}

/* --- a client's affinity: a record of its own, made when a flow of the client's is established ---------------------
 */

static __always_inline void affinity_key(const struct flow_query* query, struct flow_key* key) {
  key->backend = query->address;
  key->source = query->client;
  key->tuple = SLUICE_FLOW_TUPLE(query->port, 0, query->protocol, SLUICE_FLOW_AFFINITY);
}

struct favourite {
  struct sluice_flow_head* head; /* NULL: none */
  __u32 position;
  bool same; /* the target */
};

static __always_inline struct favourite find_favourite(const struct flow_query* query, const struct target* target,
                                                       const struct flow_key* key) {
  struct favourite favourite = {};
  int at = query->v6 ? locate6(key) : locate4(key);

  if (at < 0 || at & SLUICE_AT_HALF_OPEN) return favourite;
  favourite.position = at;
  if (query->v6) {
    struct sluice_flow6* record = at_flows6(at);
    favourite.head = &record->head;
    favourite.same = same_address(&record->client, &target->address, true) && record->client_port == target->port;
  } else {
    struct sluice_flow4* record = at_flows4(at);
    favourite.head = &record->head;
    favourite.same = record->client == target->address.ipv4 && record->client_port == target->port;
  }
  return favourite;
}

/* Whether the client has been at this backend, within its service's affinity. */
__noinline int is_favourite(const struct flow_query* query, const struct target* target) {
  struct flow_scratch* memory = flow_scratch();
  struct favourite favourite;

  if (!query || !target || !memory) return 0;
  affinity_key(query, &memory->key);
  favourite = find_favourite(query, target, &memory->key);
  return favourite.head && favourite.same &&
         jiffies_since(favourite.head->seen) <= (__u64)query->affinity * jiffies_per_second;
}

/* The client is at this backend. */
__noinline int keep_affinity(const struct flow_query* query, const struct target* target) {
  struct flow_scratch* memory = flow_scratch();
  struct favourite favourite;
  struct new_flow* flow;

  if (!query || !target || !memory) return 0;
  flow = &memory->flow;
  affinity_key(query, &flow->key);
  favourite = find_favourite(query, target, &flow->key);
  if (favourite.head && favourite.same) {
    SLUICE_STORE_ONCE(favourite.head->seen, (__u32)bpf_jiffies64());
    return 0;
  }
  if (favourite.head) remove_at(favourite.position, 0, query->v6, SLUICE_LOAD_ONCE(favourite.head->control));
  flow->client = target->address;
  flow->client_port = target->port;
  flow->address = query->address;
  flow->port = query->port;
  flow->next_hop = 0;
  flow->ack = 0;
  flow->state = SLUICE_FLOW_REPLIED;
  flow->service = query->service;
  flow->backend = target->backend;
  if (query->v6)
    store_flows6(flow);
  else
    store_flows4(flow);
  return 0;
}

/* Puts the flow of a half-open record among the established. Returns an enum stored. */
__noinline int promote(const struct flow_query* query, const struct target* target) {
  struct flow_scratch* memory = flow_scratch();
  struct new_flow* flow;
  struct found found;
  __u64 control;
  int result;

  if (!query || !target || !memory) return STORED_NOT_FULL;
  flow = &memory->flow;
  describe_flow(query, target, 0, flow);
  found = find_record(query, &flow->key);
  if (!found.head || !found.half_open || !found.same) return STORED;
  control = SLUICE_LOAD_ONCE(found.head->control);
  flow->state |= control & 0xfffc;
  flow->next_hop = found.head->next_hop;
  result = query->v6 ? store_flows6(flow) : store_flows4(flow);
  if (result == STORED)
    remove_found(&found, query->v6, control);
  else if (result == STORED_NOT_FULL)
    count_reason(SLUICE_REASON_NOT_ESTABLISHED, 1, 0);
  if (query->affinity) keep_affinity(query, target);
  return result;
}

/* Looks whether the flow's record stands under its i-th source port at `target`, and if so brings it up to date. Sets
 * target->source_port. Returns an enum attempt. */
__noinline int look_at_port(const struct flow_query* query, struct target* target, __u32 plane, __u32 i) {
  const struct sluice_config* node = config_memory();
  struct flow_scratch* memory = flow_scratch();
  struct found found;
  bool expired, syn;
  __u64 control;

  if (!query || !target || !memory || (target->forwarding == SLUICE_FORWARD_NAT && !nat_ports(node)))
    return ATTEMPT_TAKEN;
  target->source_port = candidate_port(query->hash, query->client_port, target->forwarding, i, node);
  candidate_key(query, target, &memory->key);
  found = find_record(query, &memory->key);
  if (!found.head) return ATTEMPT_FREE;
  control = SLUICE_LOAD_ONCE(found.head->control);
  expired = idle_too_long(found.head, query->protocol, false);
  if (!found.same) return expired ? ATTEMPT_FREE : ATTEMPT_TAKEN;
  target->promotes = 0;
  if (query->peek) return ATTEMPT_FOUND;
  /* Datagrams have no connection to lose: they move at once when their backend has left the choice. */
  if (plane && target->left && query->protocol != IPPROTO_TCP) {
    remove_found(&found, query->v6, control);
    return ATTEMPT_OVER;
  }
  if (query->others && target->forwarding == SLUICE_FORWARD_LOCAL && doubtful(found.head)) {
    target->doubted = 1;
    return ATTEMPT_OVER;
  }
  syn = is_syn(query->tcp_flags);
  if (plane && syn && (expired || leaves_with_syn(found.head))) {
    remove_found(&found, query->v6, control); /* or it were found again should its backend return */
    return ATTEMPT_OVER;
  }
  if (syn && (expired || SLUICE_FLOW_CLOSED(control))) {
    remove_found(&found, query->v6, control);
    return ATTEMPT_FREE; /* the new connection takes it */
  }
  goes_on(found.head, query->tcp_flags);
  add_state(found.head, state_from_client(query->tcp_flags));
  seen_now(found.head, control);
  found.head->service = query->service;
  found.head->backend = target->backend;
  target->promotes = found.half_open && promotes(found.head, query);
  return ATTEMPT_FOUND;
}

#define SLUICE_PORT_LOST (-1)

/* The word of hints for a flow whose first tuple this is. */
static __always_inline __u32* hints_of(const struct flow_key* key, const bool v6) {
  __u32 hash = hash_flow_key(key, v6);
  return v6 ? &at_flows6(hash)->head.homes : &at_flows4(hash)->head.homes;
}

/* Whether flows whose first tuple is at home where this one's is may lie under others. */
static __always_inline bool may_be_displaced(const struct flow_query* query, const struct flow_key* first) {
  return SLUICE_LOAD_ONCE(*(query->v6 ? hints_of(first, true) : hints_of(first, false))) & SLUICE_FLOW_HINTS;
}

/* Before a record is made under another tuple than the first: who searches it knows that it is to be searched. */
static __always_inline void hint_displaced(const struct flow_query* query, struct target* target,
                                           struct flow_key* first) {
  __be16 port = target->source_port;
  target->source_port = candidate_port(query->hash, query->client_port, target->forwarding, 0, config_memory());
  candidate_key(query, target, first);
  target->source_port = port;
  __sync_fetch_and_or(query->v6 ? hints_of(first, true) : hints_of(first, false), SLUICE_FLOW_HINTS);
}

/* Makes the flow's record under its i-th source port at `target`. Sets target->source_port. Returns 0, SLUICE_PORT_LOST
 * if another flow has the tuple, or the reason why there is no record. `pressed`: as for idle_too_long(). */
__noinline int take_port(const struct flow_query* query, struct target* target, __u32 i, __u32 pressed) {
  const struct sluice_config* node = config_memory();
  struct flow_scratch* memory = flow_scratch();
  struct new_flow* flow;
  struct found found;
  int result;

  if (!query || !target || !memory || (target->forwarding == SLUICE_FORWARD_NAT && !nat_ports(node)))
    return SLUICE_PORT_LOST;
  target->source_port = candidate_port(query->hash, query->client_port, target->forwarding, i, node);
  flow = &memory->flow;
  describe_flow(query, target, query->protocol == IPPROTO_TCP && !is_syn(query->tcp_flags) ? SLUICE_FLOW_ADOPTED : 0,
                flow);
  found = find_record(query, &flow->key);
  if (found.head) {
    __u64 control = SLUICE_LOAD_ONCE(found.head->control);
    if (found.same) return 0; /* made by another CPU just now */
    if (!idle_too_long(found.head, query->protocol, pressed)) return SLUICE_PORT_LOST;
    remove_found(&found, query->v6, control);
  }
  /* Until it is asked for, with the first reply. */
  flow->next_hop = target->forwarding == SLUICE_FORWARD_NAT ? query->client_way : memory->tunnel_fits;
  if (i) {
    flow->state |= SLUICE_FLOW_DISPLACED;
    hint_displaced(query, target, &memory->key);
  }
  result = query->v6 ? store_half_open6(flow) : store_half_open4(flow);
  if (result == STORED_BY_ANOTHER) {
    found = find_record(query, &flow->key);
    return found.head && found.same ? 0 : SLUICE_PORT_LOST;
  }
  if (result != STORED)
    return result == STORED_NOT_BUSY ? SLUICE_REASON_FLOW_TABLE_BUSY : SLUICE_REASON_FLOW_TABLE_FULL;
  count_flow(target->backend);
  if (i) count_reason(SLUICE_REASON_PORT_CHANGED, 1, 0);
  if (flow->state & SLUICE_FLOW_ADOPTED) count_reason(SLUICE_REASON_TAKEN_UP, 1, 0);
  return 0;
}

/* Searches the record at one candidate backend, by every source port that the flow may have there: a sweep may have
 * deleted the record of another flow that stood in the way when this one came. Returns 1 if it is found, else 0. At
 * the newest candidate target->first_free is set (in memory: there the verifier does not tell its values apart). */
__noinline int search_candidate(const struct flow_query* query, struct target* target, __u32 plane) {
  struct flow_scratch* memory = flow_scratch();
  __u32 tries;

  if (!query || !target || !memory) return 0;
  tries = port_tries(target->forwarding);
  if (plane == 0) target->first_free = tries;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < SLUICE_PORT_TRIES_NAT; i++) {
    int attempt;
    if (i >= tries) break;
    attempt = look_at_port(query, target, plane, i);
    if (attempt == ATTEMPT_FOUND) return 1;
    if (attempt == ATTEMPT_OVER) break;
    if (attempt == ATTEMPT_FREE && plane == 0 && target->first_free == tries) target->first_free = i;
    if (!i && !may_be_displaced(query, &memory->key)) {
      if (plane == 0 && attempt == ATTEMPT_TAKEN) target->first_free = 1;
      break;
    }
  }
  return 0;
}

/* Makes the flow's record at `target`, under the first source port from `first` on that is to be had. Returns 0,
 * SLUICE_PORT_LOST or the reason why there is no record. */
__noinline int take_any_port(const struct flow_query* query, struct target* target, __u32 first, __u32 pressed) {
  if (!query || !target) return SLUICE_PORT_LOST;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < SLUICE_PORT_TRIES_NAT; i++) {
    int result;
    if (i < first) continue;
    if (i >= port_tries(target->forwarding)) break;
    result = take_port(query, target, i, pressed);
    if (result != SLUICE_PORT_LOST) return result;
  }
  return SLUICE_PORT_LOST;
}

/* Whether the service may have no more established flows: then none is begun. */
static __always_inline bool established_full(const struct flow_query* query) {
  __u32 most = SLUICE_FLOW_MOST((query->v6 ? flows6_mask : flows4_mask) + 1), there, has;
  const struct sluice_shares *total = shares_memory(), *own = share_of(query->service);

  there = query->v6 ? SLUICE_LOAD_ONCE(total->flows6) : SLUICE_LOAD_ONCE(total->flows4);
  has = query->v6 ? SLUICE_LOAD_ONCE(own->flows6) : SLUICE_LOAD_ONCE(own->flows4);
  return there >= most || has >= SLUICE_SHARE_FACTOR * (most - there);
}

/* Makes the flow's record at `target`. Returns 0 or the reason to drop. */
__noinline int make_flow(const struct flow_query* query, struct target* target) {
  int result;

  if (!query || !target) return SLUICE_REASON_PORTS_EXHAUSTED;
  if (established_full(query)) return SLUICE_REASON_FLOW_TABLE_FULL;
  result = take_any_port(query, target, target->first_free, 0);
  if (result == SLUICE_PORT_LOST) result = take_any_port(query, target, 0, 1);
  return result == SLUICE_PORT_LOST ? SLUICE_REASON_PORTS_EXHAUSTED : result;
}

static __always_inline bool has_records(__u8 forwarding) {
  return forwarding == SLUICE_FORWARD_LOCAL || forwarding == SLUICE_FORWARD_NAT;
}

static __always_inline bool had_nat(__u32 peer) {
  return (SLUICE_LOAD_ONCE(peers_memory()[peer & (SLUICE_MAX_PEERS - 1)].state) &
          (SLUICE_PEER_USABLE | SLUICE_PEER_HAS_NAT)) != SLUICE_PEER_USABLE;
}

/* Aims at a backend behind a tunnel as if it were forwarded to by nat, where there is a way. */
static __always_inline void aim_nat(const struct flow_query* query, struct target* target) {
  const struct sluice_egress* out = find_egress(target->next_hop);
  if (out && nat_ports(config_memory()) && nat_source(out, query->v6, &target->source))
    target->forwarding = SLUICE_FORWARD_NAT;
}

/* Searches the record at the candidates of each plane, newest first. Returns 1 with all of `target` set if it is found,
 * else 0; then memory->doubted says where there is a doubtful one. */
__noinline int search_planes(SLUICE_CONTEXT* ctx, const struct flow_query* query, struct target* target) {
  struct flow_scratch* memory = flow_scratch();

  if (!query || !target || !memory) return 0;
  memory->doubted = 0;
#pragma clang loop unroll(disable)
  for (__u32 plane = 0; plane < SLUICE_MAX_PLANES; plane++) {
    if (plane > SLUICE_TABLE_EARLIER(query->table)) break;
    if (aim(ctx, query, target, plane)) continue;
    /* While a tunnel was not usable its flows were begun by nat. */
    if (target->forwarding == SLUICE_FORWARD_TUNNEL && had_nat(target->peer)) aim_nat(query, target);
    if (!has_records(target->forwarding)) continue;
    target->doubted = 0;
    if (!search_candidate(query, target, plane)) {
      if (target->doubted && !memory->doubted) memory->doubted = plane + 1;
      continue;
    }
    if (plane) count_reason(SLUICE_REASON_FROM_HISTORY, 1, 0);
    return 1;
  }
  return 0;
}

#endif
