/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flow records: one for both directions and both modes, keyed by the return tuple (sluice.h,
 * docs/design/architecture.md). */
#ifndef SLUICE_BPF_LIB_FLOW_H
#define SLUICE_BPF_LIB_FLOW_H

#include <linux/errno.h>

#include "bpf/lib/counters.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/service.h"
#include "bpf/lib/way.h"

#define NANOSECONDS 1000000000ULL
#define MILLISECONDS 1000000ULL

/* --- keys and records ------------------------------------------------------------------------------------------------
 */

/* Two 64-bit stores: field by field costs several nanoseconds more. */
union flow_key_words {
  struct sluice_flow_key key;
  __u64 words[2];
};

static __always_inline void set_flow_key(union flow_key_words* key, __be32 backend, __be32 source, __be16 backend_port,
                                         __be16 source_port, __u8 protocol) {
  key->words[0] = backend | ((__u64)source << 32);
  key->words[1] = backend_port | ((__u64)source_port << 16) | ((__u64)protocol << 32);
}

/* A flow as the client sees it; what a record is verified against. The protocol is in the key. */
struct flow_identity {
  __be32 client;
  __be32 address;
  __be16 client_port;
  __be16 port;
};

static __always_inline bool same_flow(const struct sluice_flow* flow, const struct flow_identity* identity,
                                      __u8 forwarding) {
  return flow->client == identity->client && flow->address == identity->address &&
         flow->client_port == identity->client_port && flow->port == identity->port && flow->forwarding == forwarding;
}

static __always_inline bool is_syn(__u8 tcp_flags) {
  return (tcp_flags & (SLUICE_TCP_SYN | SLUICE_TCP_ACK)) == SLUICE_TCP_SYN;
}

/* No packet for so long that another flow may have the record's tuple; `pressed`: it found no other. */
static __always_inline bool idle_too_long(const struct sluice_flow* flow, __u8 protocol, __u64 now, bool pressed) {
  __u64 idle = now - flow->last_seen, limit;
  bool replied = flow->state & SLUICE_FLOW_ESTABLISHED;

  if ((__s64)idle < 0) return false; /* written a tick ahead by another CPU */
  if (SLUICE_FLOW_CLOSED(flow->state))
    limit = pressed                                   ? SLUICE_IDLE_CLOSED_PRESSED
            : flow->state & SLUICE_FLOW_BACKEND_FIRST ? SLUICE_IDLE_BACKEND_CLOSED
                                                      : SLUICE_IDLE_CLOSED;
  else if (protocol == IPPROTO_UDP)
    limit = replied ? SLUICE_IDLE_UDP_ESTABLISHED : SLUICE_IDLE_UDP_NEW;
  else
    limit = replied ? SLUICE_IDLE_TCP_ESTABLISHED : SLUICE_IDLE_TCP_NEW;
  return idle > limit * NANOSECONDS;
}

/* The state's bits are set by both directions, on different CPUs: or-ed in, as part of the word they lie in. */
_Static_assert(__builtin_offsetof(struct sluice_flow, state) % 4 == 0, "state begins an aligned word");
static __always_inline void add_state(struct sluice_flow* flow, __u8 bits) {
  if ((flow->state & bits) != bits) __sync_fetch_and_or((__u32*)&flow->state, (__u32)bits);
}

static __always_inline void take_state(struct sluice_flow* flow, __u8 bits) {
  if (flow->state & bits) __sync_fetch_and_and((__u32*)&flow->state, ~(__u32)bits);
}

/* A reset that another packet follows was none: its sequence number was wrong, and whoever sent it only guessed. Where
 * it was one, the end that is closed answers that packet with another. */
static __always_inline void goes_on(struct sluice_flow* flow, __u8 tcp_flags) {
  if (!(tcp_flags & SLUICE_TCP_RST)) take_state(flow, SLUICE_FLOW_RESET);
}

/* The backend has spoken. */
static __always_inline void answered(struct sluice_flow* flow, __u8 tcp_flags) {
  __u8 bits = SLUICE_FLOW_ESTABLISHED;

  goes_on(flow, tcp_flags);
  take_state(flow, SLUICE_FLOW_SYN_UNANSWERED);
  if (tcp_flags & SLUICE_TCP_FIN)
    bits |= SLUICE_FLOW_BACKEND_FIN | (flow->state & SLUICE_FLOW_CLIENT_FIN ? 0 : SLUICE_FLOW_BACKEND_FIRST);
  if (tcp_flags & SLUICE_TCP_RST) bits |= SLUICE_FLOW_RESET;
  add_state(flow, bits);
}

static __always_inline __u8 state_from_client(__u8 tcp_flags) {
  return ((tcp_flags & SLUICE_TCP_FIN) ? SLUICE_FLOW_CLIENT_FIN : 0) |
         ((tcp_flags & SLUICE_TCP_RST) ? SLUICE_FLOW_RESET : 0);
}

/* jiffies cost nothing to read, the clock 15 ns: it is asked only when the record is some jiffies old. */
static __always_inline bool touched_lately(const struct sluice_flow* flow) {
  return (__u32)bpf_jiffies64() - flow->touched < SLUICE_TOUCH_JIFFIES;
}

static __always_inline void touch(struct sluice_flow* flow) {
  flow->touched = (__u32)bpf_jiffies64();
  flow->last_seen = bpf_ktime_get_coarse_ns();
}

/* --- one packet's flow: found or made --------------------------------------------------------------------------------
 */

/* Given by the caller. */
struct flow_query {
  struct flow_identity identity;
  __u8 protocol;
  __u8 tcp_flags; /* 0 for UDP */
  __u8 tos;
  __u8 ttl;
  __u32 service;
  __u32 length; /* of the IP packet */
  __u64 client_mac;
  __u64 table; /* the service's, read once */
  __u64 slot_hash;
  __u64 hash; /* over the whole tuple: source ports */
};

/* Where the packet goes. */
struct target {
  struct way way; /* nat */
  __u32 backend;  /* index */
  __be32 address;
  __be16 port;
  __be16 source_port;
  __u8 forwarding;
  __u8 first_free; /* the first try whose tuple a new record could have; port_tries() if there is none */
  __u8 pad[2];
};

/* Whether the packet may go there: the reason to drop it, or 0. */
static __always_inline int refused_by_way(const struct flow_query* query, const struct target* target) {
  if (target->forwarding == SLUICE_FORWARD_LOCAL) return 0;
  if (query->ttl <= 1) return SLUICE_REASON_TTL_EXCEEDED;
  return fits(&target->way, query->length) ? 0 : SLUICE_REASON_TOO_BIG;
}

static __always_inline __u32 port_tries(__u8 forwarding) {
  return forwarding == SLUICE_FORWARD_LOCAL ? SLUICE_PORT_TRIES_LOCAL : SLUICE_PORT_TRIES_NAT;
}

/* How many ports nat has; 0: none are configured. */
static __always_inline __u32 nat_ports(const struct sluice_config* node) {
  return node->nat_port_first && node->nat_port_last >= node->nat_port_first
             ? node->nat_port_last - node->nat_port_first + 1
             : 0;
}

/* The i-th source port that the flow tries. In nat there is at least one. */
static __always_inline __be16 candidate_port(const struct flow_query* query, __u8 forwarding, __u32 i,
                                             const struct sluice_config* node) {
  if (forwarding == SLUICE_FORWARD_LOCAL)
    return bpf_htons(sluice_local_port(query->hash, i, bpf_ntohs(query->identity.client_port)));
  return bpf_htons(sluice_source_port(query->hash, i, node->nat_port_first, nat_ports(node)));
}

static __always_inline void candidate_key(const struct flow_query* query, const struct target* target,
                                          union flow_key_words* key) {
  bool local = target->forwarding == SLUICE_FORWARD_LOCAL;
  set_flow_key(key, target->address, local ? query->identity.client : target->way.source, target->port,
               target->source_port, query->protocol);
}

/* A packet of a known flow: what its flags say, and when it was seen. */
static __always_inline void flow_seen(struct sluice_flow* flow, const struct flow_query* query, __u32 backend) {
  __u8 bits = state_from_client(query->tcp_flags);

  goes_on(flow, query->tcp_flags);
  if (bits) add_state(flow, bits);
  if (touched_lately(flow)) return;
  touch(flow);
  flow->hash = (__u32)query->slot_hash;
  flow->service = query->service;
  flow->backend = backend;
  flow->ifindex = interface_index;
  store_mac(flow->client_mac, query->client_mac);
}

/* The common case, without further functions: the newest candidate and the first source port have the flow's record.
 * False: ask find_or_make_flow(). */
static __always_inline bool find_known_flow(const struct flow_query* query, const struct sluice_config* node,
                                            struct target* target) {
  const struct sluice_backend* backend;
  struct sluice_flow* flow;
  union flow_key_words key;

  if (find_candidate(query->service, query->table, 0, query->slot_hash, &backend, &target->backend) != CANDIDATE_FOUND)
    return false;
  target->address = backend->address;
  target->port = backend->port;
  target->forwarding = backend->forwarding;
  if (target->forwarding == SLUICE_FORWARD_LOCAL) {
    target->source_port = query->identity.client_port;
  } else {
    if (!resolved_way(SLUICE_LOAD_ONCE(backend->next_hop), &target->way)) return false;
    if (!nat_ports(node)) return false;
    target->source_port = candidate_port(query, SLUICE_FORWARD_NAT, 0, node);
  }
  candidate_key(query, target, &key);
  flow = bpf_map_lookup_elem(&flows, &key.key);
  if (!flow || !same_flow(flow, &query->identity, target->forwarding)) return false;
  if (is_syn(query->tcp_flags)) return false; /* may begin anew */
  flow_seen(flow, query, target->backend);
  return true;
}

static __always_inline void new_record(const struct flow_query* query, const struct target* target,
                                       struct sluice_flow* flow) {
  flow->last_seen = bpf_ktime_get_coarse_ns();
  flow->client = query->identity.client;
  flow->address = query->identity.address;
  flow->client_port = query->identity.client_port;
  flow->port = query->identity.port;
  flow->state = SLUICE_FLOW_NEW | state_from_client(query->tcp_flags);
  flow->forwarding = target->forwarding;
  store_mac(flow->client_mac, query->client_mac);
  flow->ifindex = interface_index;
  flow->service = query->service;
  flow->backend = target->backend;
  flow->hash = (__u32)query->slot_hash;
  flow->touched = (__u32)bpf_jiffies64();
}

/* What follows is not the common case: functions of their own, each verified once and apart from its callers. Their
 * bodies lie outside of the loops that call them, so that the verifier does not walk them once for each turn. Pointers
 * are never NULL but to the verifier. */

/* Sets all of `target` but its source port from a plane's candidate for the flow. Returns 0 or the reason why no flow
 * can go there. */
__noinline int aim(struct xdp_md* ctx, const struct flow_query* query, struct target* target, __u32 plane) {
  const struct sluice_config* node = node_config();
  const struct sluice_backend* backend;
  enum candidate found;
  __u32 index; /* on the stack: before Linux 6.2 a map's key may not lie in memory of the caller's */

  if (!query || !target || !node) return SLUICE_REASON_STALE_TABLE;
  found = find_candidate(query->service, query->table, plane, query->slot_hash, &backend, &index);
  if (found != CANDIDATE_FOUND) return found == CANDIDATE_NONE ? SLUICE_REASON_NO_BACKEND : SLUICE_REASON_STALE_TABLE;
  target->backend = index;
  target->address = backend->address;
  target->port = backend->port;
  target->forwarding = backend->forwarding;
  if (target->forwarding == SLUICE_FORWARD_LOCAL) return 0;
  if (!nat_ports(node)) return SLUICE_REASON_PORTS_EXHAUSTED;
  if (resolved_way(SLUICE_LOAD_ONCE(backend->next_hop), &target->way)) return 0;
  return unresolved_way(ctx, target->address, query->tos, query->protocol, &target->way) ? 0
                                                                                         : SLUICE_REASON_NO_NEXT_HOP;
}

/* A SYN met the record of its tuple at an earlier candidate: whether the connection of the record is over. The client
 * may have gone without a word and have its port again, or its first SYN or the answer was lost. A backend that lives
 * refuses such a SYN with an ACK; one that has said nothing to the first SYN is left with the second. (Not with the
 * first: anybody can send one in a client's name.) */
static __always_inline bool leaves_with_syn(struct sluice_flow* flow, __u64 now) {
  __s64 waited = now - flow->last_seen;

  if (SLUICE_FLOW_CLOSED(flow->state) || !(flow->state & SLUICE_FLOW_ESTABLISHED)) return true;
  if (flow->state & SLUICE_FLOW_SYN_UNANSWERED) return waited > (__s64)(SLUICE_SYN_PATIENCE * MILLISECONDS);
  touch(flow); /* from now on it waits */
  add_state(flow, SLUICE_FLOW_SYN_UNANSWERED);
  return false;
}

enum attempt {
  ATTEMPT_TAKEN, /* by another flow */
  ATTEMPT_FREE,  /* a new record could have the tuple */
  ATTEMPT_FOUND, /* the flow's record */
  ATTEMPT_OVER,  /* the flow's record, of a connection that is over; a new one begins, at the newest candidate */
};

/* Looks whether the flow's record stands under its i-th source port at `target`, and if so brings it up to date. Sets
 * target->source_port. Returns an enum attempt. */
__noinline int look_at_port(const struct flow_query* query, struct target* target, __u32 plane, __u32 i) {
  const struct sluice_config* node = node_config();
  union flow_key_words key;
  struct sluice_flow* flow;
  bool expired, syn;
  __u64 now;

  if (!query || !target || !node || (target->forwarding == SLUICE_FORWARD_NAT && !nat_ports(node)))
    return ATTEMPT_TAKEN;
  target->source_port = candidate_port(query, target->forwarding, i, node);
  candidate_key(query, target, &key);
  flow = bpf_map_lookup_elem(&flows, &key.key);
  if (!flow) return ATTEMPT_FREE;
  now = bpf_ktime_get_coarse_ns();
  expired = idle_too_long(flow, query->protocol, now, false);
  if (!same_flow(flow, &query->identity, target->forwarding)) return expired ? ATTEMPT_FREE : ATTEMPT_TAKEN;
  syn = is_syn(query->tcp_flags);
  if (plane && syn && (expired || leaves_with_syn(flow, now))) {
    bpf_map_delete_elem(&flows, &key.key); /* or it were found again should its backend return */
    return ATTEMPT_OVER;
  }
  if (syn && (expired || SLUICE_FLOW_CLOSED(flow->state))) {
    new_record(query, target, flow); /* it has the tuple already */
    count_flow(query->service, target->backend);
  } else {
    flow_seen(flow, query, target->backend);
  }
  return ATTEMPT_FOUND;
}

#define SLUICE_PORT_LOST (-1)

/* Makes the flow's record under its i-th source port at `target`. Sets target->source_port. Returns 0, SLUICE_PORT_LOST
 * if another flow has the tuple, or SLUICE_REASON_FLOW_TABLE_FULL. `pressed`: as for idle_too_long(). */
__noinline int take_port(const struct flow_query* query, struct target* target, __u32 i, __u32 pressed) {
  const struct sluice_config* node = node_config();
  struct sluice_flow record = {};
  union flow_key_words key;
  int error; /* before Linux 6.4 a map's update leaves no more than 32 bits */

  if (!query || !target || !node || (target->forwarding == SLUICE_FORWARD_NAT && !nat_ports(node)))
    return SLUICE_PORT_LOST;
  target->source_port = candidate_port(query, target->forwarding, i, node);
  candidate_key(query, target, &key);
  new_record(query, target, &record);
  error = bpf_map_update_elem(&flows, &key.key, &record, BPF_NOEXIST);
  if (error == -EEXIST) {
    struct sluice_flow* flow = bpf_map_lookup_elem(&flows, &key.key);
    __u64 seen;
    if (!flow) return SLUICE_PORT_LOST;
    if (same_flow(flow, &query->identity, target->forwarding)) return 0; /* made by another CPU just now */
    seen = flow->last_seen;
    if (!idle_too_long(flow, query->protocol, record.last_seen, pressed)) return SLUICE_PORT_LOST;
    /* Whoever moves the clock of an expired record owns it: two flows cannot both take it over. */
    if (__sync_val_compare_and_swap(&flow->last_seen, seen, record.last_seen) != seen) return SLUICE_PORT_LOST;
    error = bpf_map_update_elem(&flows, &key.key, &record, BPF_ANY);
  }
  if (error) return SLUICE_REASON_FLOW_TABLE_FULL;
  count_flow(query->service, target->backend);
  if (i) count_reason(SLUICE_REASON_PORT_CHANGED, 1, 0);
  if (query->protocol == IPPROTO_TCP && !is_syn(query->tcp_flags)) count_reason(SLUICE_REASON_TAKEN_UP, 1, 0);
  return 0;
}

/* Searches the record at one candidate backend, by every source port that the flow may have there: a sweep may have
 * deleted the record of another flow that stood in the way when this one came. Returns 1 if it is found, else 0. At
 * the newest candidate target->first_free is set (in memory: there the verifier does not tell its values apart). */
__noinline int search_candidate(const struct flow_query* query, struct target* target, __u32 plane) {
  __u32 tries;

  if (!query || !target) return 0;
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
  }
  return 0;
}

/* Makes the flow's record at `target`, under the first source port from `first` on that is to be had. Returns 0,
 * SLUICE_PORT_LOST or SLUICE_REASON_FLOW_TABLE_FULL. */
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

/* Makes the flow's record at `target`. Returns 0 or the reason to drop. */
__noinline int make_flow(const struct flow_query* query, struct target* target) {
  int result;

  if (!query || !target) return SLUICE_REASON_PORTS_EXHAUSTED;
  result = take_any_port(query, target, target->first_free, 0);
  if (result == SLUICE_PORT_LOST) result = take_any_port(query, target, 0, 1);
  return result == SLUICE_PORT_LOST ? SLUICE_REASON_PORTS_EXHAUSTED : result;
}

/* Searches the record at the candidates of each plane, newest first. Returns 1 with all of `target` set if it is found,
 * else 0. */
__noinline int search_planes(struct xdp_md* ctx, const struct flow_query* query, struct target* target) {
  if (!query || !target) return 0;
#pragma clang loop unroll(disable)
  for (__u32 plane = 0; plane < SLUICE_MAX_PLANES; plane++) {
    if (plane > SLUICE_TABLE_EARLIER(query->table)) break;
    if (aim(ctx, query, target, plane)) continue;
    if (!search_candidate(query, target, plane)) continue;
    if (plane) count_reason(SLUICE_REASON_FROM_HISTORY, 1, 0);
    return 1;
  }
  return 0;
}

/* The other of the two ways to choose a slot: by the client alone, or by the whole flow. */
static __always_inline __u64 other_slot_hash(const struct flow_query* query, const struct sluice_config* node) {
  return query->slot_hash != query->hash ? query->hash
                                         : sluice_flow_hash(query->identity.client, query->identity.address, 0, 0, 0,
                                                            node->flow_hash_key[0], node->flow_hash_key[1]);
}

/* The record is searched; where there is none, it is made at the newest candidate. A connection that is under way may
 * have begun before the service's affinity was changed: its slot was another. Returns 0 with all of `target` set, or
 * the reason to drop. */
__noinline int find_or_make_flow(struct xdp_md* ctx, struct flow_query* query, struct target* target) {
  const struct sluice_config* node = node_config();
  __u64 slot_hash;
  __u8 first_free;
  int refused;

  if (!query || !target || !node) return SLUICE_REASON_STALE_TABLE;
  if (search_planes(ctx, query, target)) return 0;
  if (query->protocol == IPPROTO_TCP && !is_syn(query->tcp_flags)) {
    slot_hash = query->slot_hash;
    first_free = target->first_free;
    query->slot_hash = other_slot_hash(query, node);
    if (search_planes(ctx, query, target)) return 0;
    query->slot_hash = slot_hash;
    target->first_free = first_free;
  }
  refused = aim(ctx, query, target, 0);
  if (!refused) refused = refused_by_way(query, target);
  return refused ? refused : make_flow(query, target);
}

#endif
