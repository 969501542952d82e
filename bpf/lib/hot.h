/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The common case: a packet to a service, or a reply of nat's, whose flow is known or needs no record. */
#ifndef SLUICE_BPF_LIB_HOT_H
#define SLUICE_BPF_LIB_HOT_H

#include "bpf/lib/forward.h"

/* Whether a flow is known at `target`, under its first source port. False: ask further. `others`: it may be with
 * another candidate, if the one that is known here is over. */
static __always_inline bool known_flow(struct packet* packet, const struct target* target, bool others, const bool v6) {
  struct sluice_flow_head* head;
  struct flow_key key;
  __u8 tcp_flags = tcp_flags_of(packet->protocol, packet->ports, packet->end);
  __u32 position;
  __u64 before;
  bool nat = target->forwarding == SLUICE_FORWARD_NAT;

  /* A SYN may begin anew. */
  if (is_syn(tcp_flags)) return false;
  key.backend = target->address;
  key.source = nat ? target->source : packet->ends.source;
  key.tuple = SLUICE_FLOW_TUPLE(target->port, target->source_port, packet->protocol, flow_kind(target->forwarding));
  if (v6) {
    struct sluice_flow6* flow = find_flows6(&key, hash_flow_key(&key, v6), &position);
    if (!flow || !same_flow6(flow, &packet->ends.source, &packet->ends.destination, packet->ends.source_port,
                             packet->ends.destination_port))
      return false;
    head = &flow->head;
  } else {
    struct sluice_flow4* flow = find_flows4(&key, hash_flow_key(&key, v6), &position);
    if (!flow || !same_flow4(flow, &packet->ends.source, &packet->ends.destination, packet->ends.source_port,
                             packet->ends.destination_port))
      return false;
    head = &flow->head;
  }
  before = head->control;
  if (unlikely(SLUICE_FLOW_CLOSED(before)) && others) return false;
  goes_on(head, tcp_flags);
  add_state(head, state_from_client(tcp_flags));
  if (unlikely(!touched_lately(head))) {
    seen_now(head, before);
    head->service = packet->service;
    head->backend = target->backend;
  }
  return true;
}

/* A packet that could not be sent on for this reason; who could send a smaller one is told. Returns an XDP action. */
static __always_inline int not_sent(struct xdp_md* ctx, const struct packet* packet, const struct target* target,
                                    __u32 reason, const bool v6) {
  if (reason == SLUICE_REASON_TOO_BIG)
    return refuse(ctx, packet->service, target->backend, reason, packet->length + ETH_HLEN, mtu_to(target, v6), v6);
  return drop(packet->service, target->backend, reason, packet->length + ETH_HLEN);
}

/* A packet to a service: forwarded, or dropped for a reason. Never passed up as it is: the address is not the node's.
 */
static __always_inline int to_service(struct xdp_md* ctx, const struct sluice_config* node, struct packet* packet,
                                      const bool v6) {
  const struct sluice_service* service = &services_memory()[packet->service & services_mask];
  const struct sluice_backend* backend;
  struct target target;
  __u64 table, hash, slot_hash, what, settings;
  int action;

  packet->length = ip_length(packet->l3, v6);
  if (!lengths_add_up(ctx, packet->l3, packet->length, packet->protocol, packet->ports, packet->end))
    return drop(packet->service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_MALFORMED,
                (__u64)(packet->end - packet->l3) + ETH_HLEN); /* it may say any length */
  table = SLUICE_LOAD_ONCE(service->table);
  settings = SLUICE_LOAD_ONCE(service->settings);
  if (unlikely(SLUICE_SETTINGS_SOURCES(settings)) &&
      !allowed_source(SLUICE_SETTINGS_SOURCES(settings), &packet->ends.source, v6))
    return drop(packet->service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_SOURCE_NOT_ALLOWED, packet->length + ETH_HLEN);
  if (unlikely(!table))
    return refuse(ctx, packet->service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_NO_BACKEND, packet->length + ETH_HLEN, 0,
                  v6);

  hash = slot_hash_of(packet, node, false, v6);
  slot_hash =
      unlikely(SLUICE_SETTINGS_FLAGS(settings) & SLUICE_SERVICE_AFFINITY) ? slot_hash_of(packet, node, true, v6) : hash;
  target.backend = slot_backend(table, 0, slot_hash);
  if (unlikely(target.backend == SLUICE_NO_BACKEND_INDEX)) {
    /* Those who have left the choice keep the connections that they have. */
    if (SLUICE_TABLE_EARLIER(table)) return go_on(ctx, v6 ? STAGE_SERVICE6 : STAGE_SERVICE4);
    return refuse(ctx, packet->service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_NO_BACKEND, packet->length + ETH_HLEN, 0,
                  v6);
  }
  backend = backend_at(target.backend);
  what = SLUICE_LOAD_ONCE(backend->what);
  if (unlikely(SLUICE_BACKEND_SERVICE(what) != packet->service))
    return drop(packet->service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_STALE_TABLE, packet->length + ETH_HLEN);
  target.forwarding = forwarding_here(what);
  target.port = SLUICE_BACKEND_PORT(what);
  target.address = backend->address;

  if (target.forwarding == SLUICE_FORWARD_TUNNEL) {
    const struct sluice_peer* peer = &peers_memory()[SLUICE_BACKEND_PEER(what) & (SLUICE_MAX_PEERS - 1)];
    __u64 state = SLUICE_LOAD_ONCE(peer->state);
    if (likely(!slot_moved(table, slot_hash) &&
               (state & (SLUICE_PEER_USABLE | SLUICE_PEER_HAS_NAT)) == SLUICE_PEER_USABLE &&
               packet->length <= (v6 ? SLUICE_PEER_FITS6(state) : SLUICE_PEER_FITS4(state)) &&
               hops_left(packet->l3, v6) > 1)) {
      __u32 service_index = packet->service;
      action = send_tunnelled(ctx, packet, peer, &target.address, target.port, hash, v6);
      if (likely(action >= 0)) return forwarded(packet, target.backend, action);
      return drop(service_index, target.backend, -action, packet->length + ETH_HLEN);
    }
  } else if (target.forwarding == SLUICE_FORWARD_DIRECT) {
    if (likely(!slot_moved(table, slot_hash) && hops_left(packet->l3, v6) > 1)) {
      target.next_hop = SLUICE_LOAD_ONCE(backend->next_hop);
      action = send_direct(ctx, packet, target.next_hop, v6);
      if (likely(action >= 0)) return forwarded(packet, target.backend, action);
      return not_sent(ctx, packet, &target, -action, v6);
    }
  } else if (target.forwarding == SLUICE_FORWARD_IPIP) {
    if (likely(!slot_moved(table, slot_hash) && hops_left(packet->l3, v6) > 1)) {
      __u8 tos = traffic_class(packet->l3, v6);
      take_hop(packet->l3, v6);
      target.next_hop = SLUICE_LOAD_ONCE(backend->next_hop);
      action = encapsulate_ipip(ctx, &target.address, target.next_hop, packet->length, tos, v6);
      if (likely(action >= 0)) return forwarded(packet, target.backend, action);
      return not_sent(ctx, packet, &target, -action, v6);
    }
  } else if (target.forwarding == SLUICE_FORWARD_LOCAL) {
    target.source_port = packet->ends.source_port;
    if (likely(known_flow(packet, &target, SLUICE_TABLE_EARLIER(table), v6))) {
      action = pass_up_rewritten(packet, &target, v6);
      if (likely(action >= 0)) return forwarded(packet, target.backend, action);
    }
  } else if (target.forwarding == SLUICE_FORWARD_NAT) {
    const struct sluice_egress* out;
    target.next_hop = next_hop_here(backend, what);
    out = find_egress(target.next_hop);
    if (likely(out && nat_ports(node) && nat_source(out, v6, &target.source) && fits(out, packet->length) &&
               hops_left(packet->l3, v6) > 1)) {
      target.source_port = candidate_port(hash, packet->ends.source_port, SLUICE_FORWARD_NAT, 0, node);
      if (likely(known_flow(packet, &target, SLUICE_TABLE_EARLIER(table), v6))) {
        action = send_translated(ctx, packet, &target, v6);
        if (likely(action >= 0)) return forwarded(packet, target.backend, action);
      }
    }
  }
  return go_on(ctx, v6 ? STAGE_SERVICE6 : STAGE_SERVICE4);
}

/* A packet to one of nat's source addresses and ports: a backend's reply if there is a record, else the node's own.
 * `part`: an enum part. Returns an XDP action, counted, or -SLUICE_REASON_OWN_TRAFFIC. */
static __always_inline int from_nat_backend(struct xdp_md* ctx, struct packet* packet, __u8 part, const bool v6) {
  __u8 tcp_flags = tcp_flags_of(packet->protocol, packet->ports, packet->end);
  struct sluice_flow_head* head;
  struct flow_key key;
  struct ends to;
  __u64 next_hop, control, bytes;
  __u32 position, hash, service, backend, checked;
  const struct sluice_egress* out;
  bool half_open = false;
  int action;

  key.backend = packet->ends.source;
  key.source = packet->ends.destination;
  key.tuple =
      SLUICE_FLOW_TUPLE(packet->ends.source_port, packet->ends.destination_port, packet->protocol, SLUICE_FLOW_NAT);
  hash = hash_flow_key(&key, v6);
  if (v6) {
    struct sluice_flow6* flow = find_flows6(&key, hash, &position);
    if (!flow) {
      flow = find_half_open6(&key, hash, &position);
      half_open = true;
    }
    if (!flow) return -SLUICE_REASON_OWN_TRAFFIC;
    head = &flow->head;
    control = SLUICE_LOAD_ONCE(head->control);
    to.source = flow->address;
    to.destination = flow->client;
    to.source_port = flow->port;
    to.destination_port = flow->client_port;
    checked = flow->way_checked;
  } else {
    struct sluice_flow4* flow = find_flows4(&key, hash, &position);
    if (!flow) {
      flow = find_half_open4(&key, hash, &position);
      half_open = true;
    }
    if (!flow) return -SLUICE_REASON_OWN_TRAFFIC;
    head = &flow->head;
    control = SLUICE_LOAD_ONCE(head->control);
    to.source.words[0] = flow->address;
    to.source.words[1] = 0;
    to.destination.words[0] = flow->client;
    to.destination.words[1] = 0;
    to.source_port = flow->port;
    to.destination_port = flow->client_port;
    checked = flow->way_checked;
  }
  service = head->service;
  backend = head->backend;
  next_hop = head->next_hop;
  if (!same_record(head, control)) return -SLUICE_REASON_OWN_TRAFFIC;

  packet->length = ip_length(packet->l3, v6);
  bytes = packet->length + ETH_HLEN;
  if (!any_lengths_add_up(ctx, packet, part)) return drop(service, backend, SLUICE_REASON_MALFORMED, bytes);
  if (hops_left(packet->l3, v6) <= 1) return drop(service, backend, SLUICE_REASON_TTL_EXCEEDED, bytes);
  if (half_open) {
    __u32 sequence = 0;
    if (packet->protocol == IPPROTO_TCP && packet->ports && (void*)packet->ports + sizeof(struct tcphdr) <= packet->end)
      sequence = bpf_ntohl(((struct tcphdr*)packet->ports)->seq);
    half_open_answered(head, tcp_flags, sequence);
  } else {
    answered(head, tcp_flags);
  }
  if (unlikely(!touched_lately(head))) SLUICE_STORE_ONCE(head->seen, (__u32)bpf_jiffies64());
  if (unlikely(jiffies_since(checked) > jiffies_per_second * SLUICE_WAY_MILLISECONDS / 1000)) {
    next_hop = kernel_way(ctx, &to.source, &to.destination, v6, next_hop);
    store_way(head, next_hop, v6);
  }
  out = find_egress(next_hop);
  if (!out) return drop(service, backend, SLUICE_REASON_NO_NEXT_HOP, bytes);
  if (!fits(out, packet->length)) return drop(service, backend, SLUICE_REASON_TOO_BIG, bytes);
  if (!rewrite_ends(packet->l3, v6, packet->protocol, packet->ports, packet->end, &packet->ends, &to))
    return drop(service, backend, SLUICE_REASON_MALFORMED, bytes);
  action = transmit(ctx, packet->l3 - ETH_HLEN, out, next_hop, v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
  if (unlikely(action < 0)) return drop(service, backend, -action, bytes);
  count_return(backend, 1, bytes);
  return action;
}

/* An IP packet to this interface's MAC. Returns an XDP action, counted. */
static __always_inline int receive_ip(struct xdp_md* ctx, void* l3, void* end, const bool v6) {
  const struct sluice_config* node = config_memory();
  const struct sluice_key_entry* entry;
  struct packet packet;
  struct key key;
  __u64 table;
  int action;

  if (unlikely(!read_packet(&packet, l3, end, v6))) return go_on(ctx, v6 ? STAGE_CONTROL6 : STAGE_CONTROL4);
  if (unlikely(packet.protocol == IPPROTO_UDP && packet.ends.destination_port == node->tunnel_port))
    return go_on(ctx, v6 ? STAGE_TUNNEL6 : STAGE_TUNNEL4);

  table = SLUICE_LOAD_ONCE(node->key_table);
  key = key_of(&packet.ends.destination, packet.ends.destination_port, packet.protocol, v6);
  entry = find_key(table, &key, v6);
  if (likely(entry)) {
    packet.print = key.word;
    packet.service = entry->value;
    return to_service(ctx, node, &packet, v6);
  }
  key = key_of(&packet.ends.destination, 0, 0, v6);
  entry = find_key(table, &key, v6);
  if (!entry) goto not_ours;
  if (entry->value & SLUICE_ADDRESS_NAT) {
    __u16 port = bpf_ntohs(packet.ends.destination_port);
    if (port >= node->nat_port_first && port <= node->nat_port_last) {
      action = from_nat_backend(ctx, &packet, PART_WHOLE, v6);
      if (action >= 0) return action;
    }
  }
  if (unlikely((entry->value & (SLUICE_ADDRESS_NODE | SLUICE_ADDRESS_SERVICE)) == SLUICE_ADDRESS_SERVICE))
    return refuse(ctx, SLUICE_NO_SERVICE, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_NO_SERVICE,
                  ip_length(l3, v6) + ETH_HLEN, 0, v6);
  count_reason(SLUICE_REASON_OWN_TRAFFIC, 1, end - l3 + ETH_HLEN);
  return XDP_PASS;
not_ours:
  count_reason(SLUICE_REASON_NOT_FOR_US, 1, end - l3 + ETH_HLEN);
  return XDP_PASS;
}

#endif
