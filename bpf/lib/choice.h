/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a packet goes that the hot path has not settled: which candidates of its slot are asked for its flow, and in
 * which order (docs/design/packet-path.md). */
#ifndef SLUICE_BPF_LIB_CHOICE_H
#define SLUICE_BPF_LIB_CHOICE_H

#include "bpf/lib/flow.h"
#include "bpf/lib/pin.h"
#include "bpf/lib/tunnel.h"

static __always_inline const struct sluice_peer* peer_at(__u32 index) {
  return &peers_memory()[index & (SLUICE_MAX_PEERS - 1)];
}

/* The underlay address that a peer's template leads to, and its family. */
static __always_inline __u8 node_of_peer(const struct sluice_peer* peer, union sluice_address* node) {
  if (SLUICE_LOAD_ONCE(peer->state) & SLUICE_PEER_OUTER_IPV6) {
    node->words[0] = ((const __u64*)peer->outer)[3];
    node->words[1] = ((const __u64*)peer->outer)[4];
    return 6;
  }
  node->words[0] = ((const __u32*)peer->outer)[4];
  node->words[1] = 0;
  return 4;
}

/* This node's own underlay address of a family. False: it has none. */
static __always_inline bool own_node(union sluice_address* node, __u8 family) {
  const struct sluice_config* settings = config_memory();

  if (family == 6) {
    *node = settings->underlay6;
    return node->words[0] | node->words[1];
  }
  node->words[0] = settings->underlay4;
  node->words[1] = 0;
  return node->ipv4;
}

/* A client's new connection is led to where the client has been before. */
static __always_inline bool seeks_favourite(const struct flow_query* query) {
  return query->affinity && begins(query) && SLUICE_TABLE_EARLIER(query->table);
}

/* Appends the candidate of a plane to those that are asked, if it lies behind a tunnel. A peer that is not usable is
 * asked only with `any`. What begins, or has no connection to lose, does not ask backends that have left the choice. */
__noinline int ask_plane(struct xdp_md* ctx, const struct flow_query* query, __u32 plane, __u32 any) {
  struct flow_scratch* memory = flow_scratch();
  const struct sluice_peer* peer;
  struct asked* asked;
  union sluice_address node;
  __u8 family;

  if (!query || !memory || memory->asked_count >= SLUICE_TUNNEL_CANDIDATES) return 0;
  if (aim(ctx, query, &memory->target, plane)) return 0;
  if (begins(query) && memory->target.left) return 0;
  if (memory->target.forwarding == SLUICE_FORWARD_LOCAL) {
    /* What begins, and no earlier candidate knows, comes back to the newest, which is here. */
    if (plane || !begins(query) || !memory->asked_count) return 0;
    family = memory->node_family;
    if (!own_node(&node, family)) return 0;
    memory->target.peer = 0;
  } else if (memory->target.forwarding == SLUICE_FORWARD_TUNNEL) {
    peer = peer_at(memory->target.peer);
    if (!any && !(SLUICE_LOAD_ONCE(peer->state) & SLUICE_PEER_USABLE)) return 0;
    family = node_of_peer(peer, &node);
  } else {
    return 0;
  }
  if (memory->asked_count && family != memory->node_family) return 0;
  memory->node_family = family;
  asked = &memory->asked[memory->asked_count & (SLUICE_TUNNEL_CANDIDATES - 1)];
  asked->address = memory->target.address;
  asked->node = node;
  asked->port = memory->target.port;
  asked->peer = memory->target.peer;
  asked->backend = memory->target.backend;
  asked->plane = plane;
  memory->asked_count++;
  if (!plane) memory->asked_newest = 1;
  return 1;
}

/* The candidates of the plane on are not among those who are asked: whoever is asked last goes on with them. */
static __always_inline void more_from(struct flow_scratch* memory, __u32 plane) {
  memory->tunnel_flags = (memory->tunnel_flags & 0xf) | SLUICE_TUNNEL_MORE_FLAG(plane);
}

/* Whom to ask for a flow that no record here knows: for a connection under way from the newest, or the plane `first`,
 * to the oldest, for what begins from the oldest to the newest, who makes the flow. Returns how many there are. */
__noinline int ask_planes(struct xdp_md* ctx, const struct flow_query* query, __u32 first) {
  struct flow_scratch* memory = flow_scratch();
  bool newest_first;
  __u32 earlier;

  if (!query || !memory) return 0;
  earlier = SLUICE_TABLE_EARLIER(query->table);
  newest_first = !begins(query);
  memory->asked_count = 0;
  memory->asked_newest = 0;
  more_from(memory, 0);
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < SLUICE_MAX_PLANES; i++) {
    SLUICE_PIN(i);
    if (i > earlier) break;
    if (newest_first && i < first) continue;
    if (newest_first && memory->asked_count >= SLUICE_TUNNEL_CANDIDATES) {
      more_from(memory, i);
      break;
    }
    ask_plane(ctx, query, newest_first ? i : earlier - i, 0);
  }
  return memory->asked_count;
}

/* Puts one who has a doubtful record behind all others who are asked: it takes the packet if none of them does. */
__noinline int ask_last(const struct asked* last) {
  struct flow_scratch* memory = flow_scratch();
  struct asked* asked;
  __u32 most = SLUICE_TUNNEL_CANDIDATES;

  if (!last || !memory || memory->asked_count < 1 || memory->asked_count > SLUICE_TUNNEL_CANDIDATES) return 0;
  if (memory->query.v6 && memory->node_family == 6) most--; /* what an option holds */
  memory->asked_count = memory->asked_count < most ? memory->asked_count + 1 : most;
  asked = &memory->asked[(memory->asked_count - 1) & (SLUICE_TUNNEL_CANDIDATES - 1)];
  *asked = *last;
  if (!own_node(&asked->node, memory->node_family)) {
    memory->asked_count--;
    return 0;
  }
  asked->peer = 0;
  memory->tunnel_flags |= SLUICE_TUNNEL_DOUBTED;
  return 1;
}

/* Falls back from a tunnel that is not usable to nat. Returns 0 with `target` aimed, or the reason why not. */
static __always_inline int by_nat(struct xdp_md* ctx, const struct flow_query* query, struct target* target) {
  const struct sluice_egress* out = find_egress(target->next_hop);
  union sluice_address none = {};

  target->forwarding = SLUICE_FORWARD_NAT;
  if (!out) {
    target->next_hop = kernel_way(ctx, &none, &target->address, query->v6, 0);
    out = find_egress(target->next_hop);
    if (!out) return SLUICE_REASON_NO_NEXT_HOP;
  }
  if (!nat_ports(config_memory())) return SLUICE_REASON_PORTS_EXHAUSTED;
  if (!nat_source(out, query->v6, &target->source)) return SLUICE_REASON_NO_NEXT_HOP;
  return refused_by_way(query, target);
}

/* Aims at an earlier candidate where the client has been before. Returns 0, or -1: none that a record here names. */
__noinline int aim_at_favourite(struct xdp_md* ctx, const struct flow_query* query, struct target* target) {
  if (!query || !target) return -1;
#pragma clang loop unroll(disable)
  for (__u32 plane = 1; plane < SLUICE_MAX_PLANES; plane++) {
    SLUICE_PIN(plane);
    if (plane > SLUICE_TABLE_EARLIER(query->table)) break;
    if (aim(ctx, query, target, plane) || target->left || !has_records(target->forwarding)) continue;
    if (is_favourite(query, target)) return 0;
  }
  return -1;
}

/* The packet goes into the tunnel to the first of memory->asked. Returns 0 or the reason to drop. */
static __always_inline int ask_others(const struct flow_query* query, struct target* target) {
  const struct flow_scratch* memory = flow_scratch();

  if (!memory) return SLUICE_REASON_STALE_TABLE;
  if (query->hops <= 1) return SLUICE_REASON_TTL_EXCEEDED;
  target->backend = memory->asked[0].backend;
  target->forwarding = SLUICE_FORWARD_TUNNEL;
  return 0;
}

/* Puts the candidate of the plane that memory->doubted says behind those who are asked. */
static __always_inline int doubt(struct xdp_md* ctx, const struct flow_query* query, struct target* target) {
  struct flow_scratch* memory = flow_scratch();
  struct asked last = {};

  if (!memory || aim(ctx, query, target, memory->doubted - 1)) return 0;
  last.address = target->address;
  last.port = target->port;
  last.backend = target->backend;
  return ask_last(&last);
}

/* The record is searched; where there is none, it is made at the newest candidate, or whoever may have it is asked. A
 * connection may have begun before the service's affinity was changed: its slot was another. There its record is
 * searched by the SYN of a later connection too, which ends it: or the later one's packets were taken for the earlier
 * one's. Returns 0 with `target` set and, where it says tunnel, memory->asked, or the reason to drop. */
__noinline int find_or_make_flow(struct xdp_md* ctx, struct flow_query* query, struct target* target) {
  struct flow_scratch* memory = flow_scratch();
  bool under_way;
  __u64 slot_hash;
  __u8 first_free;
  int refused;

  if (!query || !target || !memory) return SLUICE_REASON_STALE_TABLE;
  under_way = !begins(query);
  query->others = under_way && SLUICE_TABLE_EARLIER(query->table);
  if (search_planes(ctx, query, target)) return refused_by_way(query, target);
  first_free = target->first_free;
  query->others = 0;
  if (memory->doubted && (!ask_planes(ctx, query, 0) || !doubt(ctx, query, target))) {
    /* There is nobody else. */
    if (search_planes(ctx, query, target)) return refused_by_way(query, target);
  } else if (memory->doubted) {
    return ask_others(query, target);
  }
  if (query->protocol == IPPROTO_TCP && query->other_hash != query->slot_hash) {
    slot_hash = query->slot_hash;
    query->slot_hash = query->other_hash;
    if (search_planes(ctx, query, target)) return refused_by_way(query, target);
    query->slot_hash = slot_hash;
  }
  if (seeks_favourite(query) && !aim_at_favourite(ctx, query, target)) {
    refused = refused_by_way(query, target);
    target->first_free = 0;
    return refused ? refused : make_flow(query, target);
  }
  if ((!is_syn(query->tcp_flags) || seeks_favourite(query)) && ask_planes(ctx, query, 0) &&
      (!is_syn(query->tcp_flags) || memory->asked_newest))
    return ask_others(query, target);
  refused = aim(ctx, query, target, 0);
  target->first_free = first_free;
  if (refused == SLUICE_REASON_NO_BACKEND || (!refused && is_without_sluice(target))) return pinned(ctx, query, target);
  if (refused) return refused;
  if (target->forwarding == SLUICE_FORWARD_TUNNEL) {
    memory->asked_count = 0;
    if (query->hops <= 1) return SLUICE_REASON_TTL_EXCEEDED;
    /* A connection that is under way in a tunnel that fails has nowhere else to go. */
    if (ask_plane(ctx, query, 0, under_way || target->strict)) return 0;
    if (target->strict) return SLUICE_REASON_NO_NEXT_HOP;
    refused = by_nat(ctx, query, target);
    target->first_free = 0;
    return refused ? refused : make_flow(query, target);
  }
  refused = refused_by_way(query, target);
  return refused ? refused : make_flow(query, target);
}

/* Writes one who is asked into an option: where, and where its successor's node is (NULL: it is the last). Returns the
 * bytes written. `at` is below 256 - 64. */
static __always_inline __u32 write_asked(__u8* to, const struct asked* asked, const struct asked* next,
                                         __u8 node_family, const bool v6) {
  __u32 bytes = v6 ? SLUICE_TUNNEL_CANDIDATE6 : SLUICE_TUNNEL_CANDIDATE4;

  if (v6) {
    ((__u64*)to)[0] = asked->address.words[0];
    ((__u64*)to)[1] = asked->address.words[1];
    *(__u32*)(to + 16) = asked->port;
  } else {
    *(__u64*)to = asked->address.ipv4 | ((__u64)asked->port << 32);
  }
  if (!next) return bytes;
  if (node_family == 6) {
    *(__u64*)(to + bytes) = next->node.words[0];
    *(__u64*)(to + bytes + 8) = next->node.words[1];
    return bytes + 16;
  }
  *(__u32*)(to + bytes) = next->node.ipv4;
  return bytes + 4;
}

#define SLUICE_OPTION_MOST 124 /* bytes of an option's data: 31 words */

/* How many of those who are asked from `first` on go into one packet of `length` bytes to a peer: what the option
 * holds, and what fits. At least one. */
static __always_inline __u32 asked_that_fit(const struct flow_scratch* memory, __u32 first, __u32 length,
                                            __u32 fits_one, const bool v6) {
  __u32 each = (v6 ? SLUICE_TUNNEL_CANDIDATE6 : SLUICE_TUNNEL_CANDIDATE4) + (memory->node_family == 6 ? 16 : 4);
  __u32 count = memory->asked_count - first, more = 0;

#pragma clang loop unroll(disable)
  for (__u32 i = 1; i < SLUICE_TUNNEL_CANDIDATES; i++) {
    if (i >= count || 12 + each * (i + 1) > SLUICE_OPTION_MOST || length + each * i > fits_one) break;
    more = i;
  }
  return more + 1;
}

/* Sends the packet, whose hop has been taken, into the tunnel to the first of those who are asked from `first` on.
 * Returns an XDP action, or a negative reason. A function of its own. */
__noinline int send_asked(struct xdp_md* ctx, __u32 first, __u32 v6, __u32 length, __u32 class_and_hops) {
  struct flow_scratch* memory = flow_scratch();
  __u32 count, more, udp_bytes, option, at, outer_bytes, bytes;
  const struct sluice_egress* out;
  const struct sluice_peer* peer;
  __u64 state, next_hop;
  bool outer6;
  __u8* to;

  if (!memory || first >= SLUICE_TUNNEL_CANDIDATES || memory->asked_count > SLUICE_TUNNEL_CANDIDATES ||
      first >= memory->asked_count)
    return -SLUICE_REASON_STALE_TABLE;
  peer = peer_at(memory->asked[first].peer);
  state = SLUICE_LOAD_ONCE(peer->state);
  outer6 = state & SLUICE_PEER_OUTER_IPV6;
  next_hop = SLUICE_LOAD_ONCE(peer->next_hop);
  out = find_egress(next_hop);
  if (!out) return -SLUICE_REASON_NO_NEXT_HOP;
  if (length > (v6 ? SLUICE_PEER_FITS6(state) : SLUICE_PEER_FITS4(state))) return -SLUICE_REASON_TOO_BIG;
  count = asked_that_fit(memory, first, length, v6 ? SLUICE_PEER_FITS6(state) : SLUICE_PEER_FITS4(state), v6);

  more = memory->asked[(first + count) & (SLUICE_TUNNEL_CANDIDATES - 1)].plane;
  if (count < memory->asked_count - first && more && !begins(&memory->query)) more_from(memory, more);

  /* The option first: its length is part of what comes before it. */
  outer_bytes = ETH_HLEN + (outer6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + sizeof(struct udphdr);
  at = outer_bytes + SLUICE_GENEVE_BYTES + SLUICE_TUNNEL_OPTION;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < SLUICE_TUNNEL_CANDIDATES; i++) {
    __u32 here = (first + i) & (SLUICE_TUNNEL_CANDIDATES - 1);
    const struct asked* next = i + 1 < count ? &memory->asked[(here + 1) & (SLUICE_TUNNEL_CANDIDATES - 1)] : NULL;
    if (i >= count) break;
    if (at > sizeof(memory->header) - 64) return -SLUICE_REASON_NO_MEMORY;
    at += v6 ? write_asked(memory->header + at, &memory->asked[here], next, memory->node_family, true)
             : write_asked(memory->header + at, &memory->asked[here], next, memory->node_family, false);
  }
  option = (at - outer_bytes - SLUICE_GENEVE_BYTES - 4) / 4; /* words of data */
  udp_bytes = at - outer_bytes + sizeof(struct udphdr) + length;
  to = memory->header;
  store_ethernet(to, SLUICE_NEXT_HOP_MAC(next_hop), *(const __u64*)out->mac & SLUICE_MAC_MASK,
                 outer6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
  if (outer6)
    write_outer6(to + ETH_HLEN, peer, udp_bytes, (__u8)class_and_hops, tunnel_source_port(memory->query.hash));
  else
    write_outer4(to + ETH_HLEN, peer, udp_bytes, (__u8)class_and_hops, tunnel_source_port(memory->query.hash));
  to += outer_bytes;
  *(__u64*)to = (__u64)(option + 1) | ((__u64)SLUICE_GENEVE_CRITICAL << 8) |
                ((__u64)(v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP)) << 16);
  *(__u32*)(to + 8) = (__u32)bpf_htons(SLUICE_GENEVE_CLASS) | ((__u32)SLUICE_GENEVE_TYPE << 16) | (option << 24);
  *(__u64*)(to + 12) = peer->token;
  *(__u32*)(to + 20) = (class_and_hops >> 8 & 0xff) | count << 8 | (__u32)memory->tunnel_flags << 16 |
                       (count > 1 ? (__u32)memory->node_family << 24 : 0);

  bytes = at - ETH_HLEN;
  if (bpf_xdp_adjust_head(ctx, -(int)bytes)) return -SLUICE_REASON_NO_MEMORY;
  if (at < ETH_HLEN || at > sizeof(memory->header)) return -SLUICE_REASON_NO_MEMORY;
  if (bpf_xdp_store_bytes(ctx, 0, memory->header, at)) return -SLUICE_REASON_NO_MEMORY;
  return leave(ctx, out, next_hop);
}

/* The backend on this node that a tunnel packet names; SLUICE_NO_BACKEND_INDEX: none that we know. One that has left
 * the choice is found as long as history has it. */
static __always_inline __u32 find_named(__u32 service, const union sluice_address* address, __be16 port) {
  __u64 table = SLUICE_LOAD_ONCE(config_memory()->key_table);
  __u32 mask = (1u << (SLUICE_KEY_TABLE_LOG2(table) & 31)) - 1, position;
  __u64 word;

  if (!table) return SLUICE_NO_BACKEND_INDEX;
  word = sluice_key_backend(service, address->words[0], address->words[1], port);
  position = sluice_key_hash(word, SLUICE_KEY_TABLE_SEED(table));
#pragma clang loop unroll(disable)
  for (int probe = 0; probe < SLUICE_MAX_PROBES; probe++, position++) {
    const struct sluice_key_entry* entry =
        &keys_memory()[(SLUICE_KEY_TABLE_OFFSET(table) + (position & mask)) & keys_mask];
    __u64 found = SLUICE_LOAD_ONCE(entry->key);
    if (found == word) {
      const struct sluice_backend* backend = backend_at(entry->value);
      __u64 what = SLUICE_LOAD_ONCE(backend->what);
      if (SLUICE_BACKEND_SERVICE(what) == service && SLUICE_BACKEND_PORT(what) == port &&
          SLUICE_BACKEND_FORWARDING(what) == SLUICE_FORWARD_LOCAL && same_address(&backend->address, address, true))
        return entry->value;
    }
    if (found == SLUICE_KEY_EMPTY) break;
  }
  return SLUICE_NO_BACKEND_INDEX;
}

/* The same of a candidate. A function of its own. */
__noinline __u32 named_backend(__u32 service, const struct asked* asked) {
  return asked ? find_named(service, &asked->address, asked->port) : SLUICE_NO_BACKEND_INDEX;
}

/* Aims at the i-th candidate of a tunnel packet, if it is a backend on this node. */
static __always_inline bool aim_named(const struct flow_query* query, struct target* target,
                                      struct flow_scratch* memory, __u32 i) {
  const struct asked* asked = &memory->asked[i & (SLUICE_TUNNEL_CANDIDATES - 1)];

  target->backend = named_backend(query->service, asked);
  if (target->backend == SLUICE_NO_BACKEND_INDEX) return false;
  target->address = asked->address;
  target->port = asked->port;
  target->forwarding = SLUICE_FORWARD_LOCAL;
  target->left = (SLUICE_BACKEND_FLAGS(backend_at(target->backend)->what) & SLUICE_BACKEND_LEFT) != 0;
  return true;
}

static __always_inline bool own_underlay(const union sluice_address* node, __u8 family) {
  union sluice_address own;
  return own_node(&own, family) && same_address(node, &own, family == 6);
}

/* Goes on with the candidates that were not named, by the planes of this node's own table: here, and who is asked next.
 * Returns FOUND_TARGET, FOUND_NEXT, SLUICE_REASON_NO_FLOW if there is nobody, or the reason to drop. */
__noinline int ask_more(struct xdp_md* ctx, const struct flow_query* query, struct target* target, __u32 first) {
  struct flow_scratch* memory = flow_scratch();

  if (!query || !target || !memory) return SLUICE_REASON_STALE_TABLE;
#pragma clang loop unroll(disable)
  for (__u32 plane = 0; plane < SLUICE_MAX_PLANES; plane++) {
    SLUICE_PIN(plane);
    if (plane > SLUICE_TABLE_EARLIER(query->table)) break;
    if (plane < first || aim(ctx, query, target, plane) || target->forwarding != SLUICE_FORWARD_LOCAL) continue;
    if (search_candidate(query, target, plane)) return FOUND_TARGET;
  }
  memory->node_family = 0;
  if (!ask_planes(ctx, query, first)) return SLUICE_REASON_NO_FLOW;
  memory->next = 0;
  return memory->hops ? FOUND_NEXT : SLUICE_REASON_TUNNEL_HOPS;
}

/* Nobody else has the flow: it is the doubtful record's. */
static __always_inline int take_doubted(struct flow_query* query, struct target* target) {
  struct flow_scratch* memory = flow_scratch();

  query->others = 0;
  return memory && aim_named(query, target, memory, memory->doubted - 1) && search_candidate(query, target, 1)
             ? FOUND_TARGET
             : SLUICE_REASON_TUNNEL_STRAY;
}

/* A packet out of a tunnel: who of its candidates on this node has its flow, or takes it. With FOUND_NEXT memory->next
 * is the candidate on another node that is asked next. */
__noinline int ask_here(struct xdp_md* ctx, struct flow_query* query, struct target* target) {
  struct flow_scratch* memory = flow_scratch();
  int result;

  if (!query || !target || !memory) return SLUICE_REASON_STALE_TABLE;
  memory->doubted = 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < SLUICE_TUNNEL_CANDIDATES; i++) {
    bool last, here;
    SLUICE_PIN(i);
    if (i >= memory->asked_count) break;
    last = i + 1 >= memory->asked_count;
    here = aim_named(query, target, memory, i);
    query->others = !last && !begins(query);
    target->doubted = 0;
    if (here && search_candidate(query, target, last ? 0 : 1)) return FOUND_TARGET;
    if (target->doubted && !memory->doubted && !(memory->tunnel_flags & SLUICE_TUNNEL_DOUBTED)) memory->doubted = i + 1;
    if (here && !last && query->affinity && begins(query) && !target->left && is_favourite(query, target)) {
      target->first_free = 0;
      return make_flow(query, target);
    }
    if (last && query->peek) return SLUICE_REASON_NO_FLOW;
    if (last && memory->doubted) return take_doubted(query, target);
    if (last) {
      if (SLUICE_TUNNEL_MORE(memory->tunnel_flags) && !begins(query)) {
        result = ask_more(ctx, query, target, SLUICE_TUNNEL_MORE(memory->tunnel_flags));
        if (result != SLUICE_REASON_NO_FLOW) return result;
        here = aim_named(query, target, memory, i);
      }
      return here ? make_flow(query, target) : SLUICE_REASON_TUNNEL_STRAY;
    }
    if (own_underlay(&memory->asked[(i + 1) & (SLUICE_TUNNEL_CANDIDATES - 1)].node, memory->node_family)) continue;
    memory->next = i + 1;
    if (memory->doubted) ask_last(&memory->asked[(memory->doubted - 1) & (SLUICE_TUNNEL_CANDIDATES - 1)]);
    return memory->hops ? FOUND_NEXT : SLUICE_REASON_TUNNEL_HOPS;
  }
  return SLUICE_REASON_TUNNEL_STRAY;
}

/* An ICMP error about a flow that a client sees: its record is searched, who may have it is asked, or it goes the way
 * that the flow's packets go. Returns 0 with `target` set (and, where it says tunnel, memory->asked) or the reason to
 * drop. */
__noinline int find_flow_of_error(struct xdp_md* ctx, struct flow_query* query, struct target* target) {
  int refused;

  if (!query || !target) return SLUICE_REASON_STALE_TABLE;
  if (search_planes(ctx, query, target)) return 0;
  if (query->hops <= 1) return SLUICE_REASON_TTL_EXCEEDED;
  if (ask_planes(ctx, query, 0)) {
    target->forwarding = SLUICE_FORWARD_TUNNEL;
    return 0;
  }
  refused = aim(ctx, query, target, 0);
  if (refused == SLUICE_REASON_NO_BACKEND || (!refused && is_without_sluice(target))) return pinned(ctx, query, target);
  return refused ? refused : SLUICE_REASON_NO_FLOW;
}

/* The peer at an underlay address; 0: none. */
static __always_inline __u32 peer_of_node(const union sluice_address* node, const bool v6) {
  struct key key = key_of(node, 0, 0, v6);
  const struct sluice_key_entry* entry = find_key(SLUICE_LOAD_ONCE(config_memory()->key_table), &key, v6);
  return entry && entry->value & SLUICE_ADDRESS_PEER ? SLUICE_ADDRESS_PEER_INDEX(entry->value) : 0;
}

#endif
