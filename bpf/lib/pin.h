/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flows that are sent on untranslated to backends without Sluice, in slots that have had several: a record pins each to
 * the backend that it is at (SLUICE_FLOW_PIN). */
#ifndef SLUICE_BPF_LIB_PIN_H
#define SLUICE_BPF_LIB_PIN_H

#include "bpf/lib/flow.h"

/* Whether a slot of a table that has history has had other candidates. */
static __always_inline bool slot_moved(__u64 table, __u64 slot_hash) {
  return unlikely(SLUICE_TABLE_EARLIER(table)) && slot_backend(table, 1, slot_hash) != SLUICE_NO_BACKEND_INDEX;
}

static __always_inline bool is_without_sluice(const struct target* target) {
  return target->forwarding == SLUICE_FORWARD_DIRECT || target->forwarding == SLUICE_FORWARD_IPIP;
}

/* Aims at a plane's candidate, if it is one without Sluice. What begins, or has no connection to lose, does not go to
 * one that has left the choice. */
static __always_inline bool aim_without_sluice(struct xdp_md* ctx, const struct flow_query* query,
                                               struct target* target, __u32 plane) {
  return !aim(ctx, query, target, plane) && is_without_sluice(target) && !(target->left && begins(query));
}

/* What a client's packet says of its connection. Answers do not come by here: its FIN stands for both. Then the record
 * goes soon after the last packet. */
static __always_inline __u64 pin_state(__u8 tcp_flags) {
  __u64 state = state_from_client(tcp_flags);
  return state & SLUICE_FLOW_CLIENT_FIN ? state | SLUICE_FLOW_BACKEND_FIN | SLUICE_FLOW_BACKEND_FIRST : state;
}

/* Aims at the plane that a record names, and brings the record up to date. False: it names none of the table's, or none
 * that the packet may go to. A function of its own. */
__noinline int aim_at_pin(struct xdp_md* ctx, const struct flow_query* query, struct target* target, __u32 at) {
  struct sluice_flow_head* head;
  union sluice_address address = {};
  __u64 control;
  __be16 port;

  if (!query || !target) return 0;
  if (query->v6) {
    struct sluice_flow6* record = at_flows6(at);
    head = &record->head;
    control = SLUICE_LOAD_ONCE(head->control);
    address = record->client;
    port = record->client_port;
  } else {
    struct sluice_flow4* record = at_flows4(at);
    head = &record->head;
    control = SLUICE_LOAD_ONCE(head->control);
    address.words[0] = record->client;
    port = record->client_port;
  }
  if (is_syn(query->tcp_flags) && (SLUICE_FLOW_CLOSED(control) || idle_too_long(head, query->protocol, false)))
    return 0; /* a new connection */
#pragma clang loop unroll(disable)
  for (__u32 plane = 0; plane < SLUICE_MAX_PLANES; plane++) {
    SLUICE_PIN(plane);
    if (plane > SLUICE_TABLE_EARLIER(query->table)) break;
    if (!aim_without_sluice(ctx, query, target, plane) || !same_address(&address, &target->address, true) ||
        port != target->port)
      continue;
    if (query->peek) return 1;
    if (!same_record(head, control)) return 0;
    goes_on(head, query->tcp_flags);
    add_state(head, pin_state(query->tcp_flags));
    SLUICE_STORE_ONCE(head->seen, (__u32)bpf_jiffies64());
    head->service = query->service;
    head->backend = target->backend;
    return 1;
  }
  return 0;
}

/* Aims where a flow without record goes. A connection that is under way began before the slot moved: it goes to the
 * oldest candidate. A new one goes to the newest. Datagrams may be either, and so may with affinity a new connection's
 * client be one of before: they go to the oldest that is in the choice. Returns 0 or the reason to drop. */
static __always_inline int aim_unpinned(struct xdp_md* ctx, const struct flow_query* query, struct target* target) {
  __u32 chosen = 0;

#pragma clang loop unroll(disable)
  for (__u32 plane = 0; plane < SLUICE_MAX_PLANES; plane++) {
    SLUICE_PIN(plane);
    if (plane > SLUICE_TABLE_EARLIER(query->table)) break;
    if (!aim_without_sluice(ctx, query, target, plane)) continue;
    chosen = plane;
    if (is_syn(query->tcp_flags) && !query->affinity) break;
  }
  return aim(ctx, query, target, chosen);
}

/* Aims a flow of backends without Sluice, and pins it where its slot has moved. Returns 0 with `target` set, or the
 * reason to drop. */
__noinline int pinned(struct xdp_md* ctx, const struct flow_query* query, struct target* target) {
  struct flow_scratch* memory = flow_scratch();
  struct new_flow* flow;
  int at, refused;

  if (!query || !target || !memory) return SLUICE_REASON_STALE_TABLE;
  if (!slot_moved(query->table, query->slot_hash)) {
    refused = aim(ctx, query, target, 0);
    return refused ? refused : refused_by_way(query, target);
  }
  flow = &memory->flow;
  flow->key.backend = query->address;
  flow->key.source = query->client;
  flow->key.tuple = SLUICE_FLOW_TUPLE(query->port, query->client_port, query->protocol, SLUICE_FLOW_PIN);
  at = query->v6 ? locate6(&flow->key) : locate4(&flow->key);
  if (at >= 0 && !(at & SLUICE_AT_HALF_OPEN)) {
    __u64 control = SLUICE_LOAD_ONCE((query->v6 ? &at_flows6(at)->head : &at_flows4(at)->head)->control);
    if (aim_at_pin(ctx, query, target, (__u32)at)) return refused_by_way(query, target);
    if (!query->peek) remove_at((__u32)at, 0, query->v6, control);
    refused = aim(ctx, query, target, 0); /* its backend is gone, or its connection */
  } else {
    refused = aim_unpinned(ctx, query, target);
  }
  if (!refused) refused = refused_by_way(query, target);
  if (refused || query->peek) return refused;
  flow->client = target->address; /* whom it is pinned to */
  flow->client_port = target->port;
  flow->address = query->address;
  flow->port = query->port;
  flow->next_hop = 0;
  flow->ack = 0;
  flow->state = pin_state(query->tcp_flags);
  flow->service = query->service;
  flow->backend = target->backend;
  /* It is never answered here, so it never is promoted: it lives where nothing is evicted from the start. */
  if ((query->v6 ? store_flows6(flow) : store_flows4(flow)) == STORED) count_flow(target->backend);
  return 0;
}

#endif
