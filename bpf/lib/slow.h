/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets to services that the hot path has not settled, and packets out of tunnels. */
#ifndef SLUICE_BPF_LIB_SLOW_H
#define SLUICE_BPF_LIB_SLOW_H

#include "bpf/lib/forward.h"

/* A packet that is to no service: to nat's source address, another of this machine, or to nobody here. Returns an XDP
 * action, counted. */
static __always_inline int not_a_service(struct xdp_md* ctx, const struct packet* packet, const bool v6) {
  struct key key = key_of(&packet->ends.destination, 0, 0, v6);
  const struct sluice_key_entry* entry = find_key(SLUICE_LOAD_ONCE(config_memory()->key_table), &key, v6);
  __u64 bytes = ip_length(packet->l3, v6) + ETH_HLEN;

  if (!entry) {
    count_reason(SLUICE_REASON_NOT_FOR_US, 1, bytes);
    return XDP_PASS;
  }
  if ((entry->value & (SLUICE_ADDRESS_NODE | SLUICE_ADDRESS_SERVICE)) == SLUICE_ADDRESS_SERVICE)
    return refuse(ctx, SLUICE_NO_SERVICE, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_NO_SERVICE, bytes, 0, v6);
  if (entry->value & SLUICE_ADDRESS_NODE && packet->protocol == IPPROTO_UDP && config_memory()->tunnel_port &&
      packet->ends.destination_port == config_memory()->tunnel_port) {
    count_reason(SLUICE_REASON_TUNNEL_DENIED, 1, bytes);
    return XDP_DROP;
  }
  if (entry->value & SLUICE_ADDRESS_NAT) return go_on(ctx, v6 ? STAGE_RETURN6 : STAGE_RETURN4);
  count_reason(SLUICE_REASON_OWN_TRAFFIC, 1, bytes);
  return XDP_PASS;
}

/* Fills the query for a packet to a service that has been read up to its length and service. */
static __always_inline void describe_query(const struct packet* packet, const struct sluice_service* service,
                                           struct flow_query* query, const bool v6) {
  const struct sluice_config* node = config_memory();
  __u64 settings = SLUICE_LOAD_ONCE(service->settings);
  bool affinity = SLUICE_SETTINGS_FLAGS(settings) & SLUICE_SERVICE_AFFINITY;
  __u64 by_flow = slot_hash_of(packet, node, false, v6), by_client = slot_hash_of(packet, node, true, v6);

  query->client = packet->ends.source;
  query->address = packet->ends.destination;
  query->client_port = packet->ends.source_port;
  query->port = packet->ends.destination_port;
  query->protocol = packet->protocol;
  query->tcp_flags = tcp_flags_of(packet->protocol, packet->ports, packet->end);
  query->acknowledged = 0;
  if (packet->protocol == IPPROTO_TCP && packet->ports && (void*)packet->ports + sizeof(struct tcphdr) <= packet->end)
    query->acknowledged = bpf_ntohl(((struct tcphdr*)packet->ports)->ack_seq);
  query->hops = hops_left(packet->l3, v6);
  query->length = packet->length;
  query->service = packet->service;
  query->client_way =
      SLUICE_NEXT_HOP_WORD(arrived_vlan() ? egress_of_arrival() : interface_egress, load_mac(packet->l3 - 8));
  query->table = SLUICE_LOAD_ONCE(service->table);
  query->hash = by_flow;
  query->slot_hash = affinity ? by_client : by_flow;
  query->other_hash = query->slot_hash;
  if (SLUICE_SETTINGS_FLAGS(settings) & SLUICE_SERVICE_AFFINITY_CHANGED)
    query->other_hash = affinity ? by_flow : by_client;
  query->affinity = affinity ? SLUICE_SETTINGS_AFFINITY(settings) : 0;
  query->v6 = v6;
  query->peek = 0;
  query->others = 0;
}

/* Asks stage FLOW, whose answer the stage `then` carries out. */
static __always_inline int ask(struct xdp_md* ctx, struct flow_scratch* memory, enum question question,
                               enum stage then) {
  memory->question = question;
  memory->then = then;
  memory->target.backend = SLUICE_NO_BACKEND_INDEX;
  memory->target.promotes = 0;
  if (question != QUESTION_INNER) memory->tunnel_fits = memory->tunnel_flags = 0;
  return go_on(ctx, STAGE_FLOW);
}

/* The packet again that memory->query describes: FLOW has not touched it. False: the verifier must be told so. */
static __always_inline bool read_again(struct xdp_md* ctx, struct packet* packet, const struct flow_scratch* memory,
                                       const bool v6) {
  const struct flow_query* query = &memory->query;
  __u32 offset = memory->walked.offset;

  packet->l3 = (void*)(long)ctx->data + ETH_HLEN;
  packet->end = (void*)(long)ctx->data_end;
  if (packet->l3 + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) > packet->end) return false;
  packet->ends.source = query->client;
  packet->ends.destination = query->address;
  packet->ends.source_port = query->client_port;
  packet->ends.destination_port = query->port;
  packet->length = query->length;
  packet->service = query->service;
  packet->protocol = query->protocol;
  packet->ports = NULL;
  if (query->peek || memory->walked.part == PART_LATER) return true;
  if (offset > 1024) return false;
  packet->ports = packet->l3 + offset;
  return (void*)(packet->ports + 1) <= packet->end;
}

/* What the hot path does not settle; the packet is read again. Returns an XDP action, counted. */
static __always_inline int service_slowly(struct xdp_md* ctx, const bool v6) {
  struct flow_scratch* memory = flow_scratch();
  const struct sluice_key_entry* entry;
  const struct sluice_service* service;
  struct packet packet;
  struct key key = {};
  __u64 settings;

  if (!memory || read_any_packet(ctx, &packet, &memory->walked, v6) != READ_PORTS)
    return unread(ctx, SLUICE_REASON_FRAGMENT); /* pushed out between one stage and the next */
  packet.length = ip_length(packet.l3, v6);
  key = key_of(&packet.ends.destination, packet.ends.destination_port, packet.protocol, v6);
  entry = find_key(SLUICE_LOAD_ONCE(config_memory()->key_table), &key, v6);
  if (!entry) return not_a_service(ctx, &packet, v6);
  packet.print = key.word;
  packet.service = entry->value;
  service = &services_memory()[packet.service & services_mask];
  settings = SLUICE_LOAD_ONCE(service->settings);
  if (!any_lengths_add_up(ctx, &packet, memory->walked.part))
    return drop(packet.service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_MALFORMED, packet.length + ETH_HLEN);
  if (SLUICE_SETTINGS_SOURCES(settings) && !allowed_source(SLUICE_SETTINGS_SOURCES(settings), &packet.ends.source, v6))
    return drop(packet.service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_SOURCE_NOT_ALLOWED, packet.length + ETH_HLEN);
  expect_fragments(&packet, &memory->walked, v6);
  describe_query(&packet, service, &memory->query, v6);
  return ask(ctx, memory, QUESTION_SERVICE, v6 ? STAGE_SEND6 : STAGE_SEND4);
}

/* What FLOW has found for it. */
static __always_inline int send_slowly(struct xdp_md* ctx, const bool v6) {
  struct flow_scratch* memory = flow_scratch();
  struct packet packet;

  if (!memory || !read_again(ctx, &packet, memory, v6)) return unread(ctx, SLUICE_REASON_MALFORMED);
  if (memory->found)
    return refuse(ctx, packet.service, memory->target.backend, (__u32)memory->found, packet.length + ETH_HLEN,
                  memory->found == SLUICE_REASON_TOO_BIG ? mtu_to(&memory->target, v6) : 0, v6);
  return send_to_target(ctx, &packet, &memory->target, v6);
}

/* Sends a packet that came out of a tunnel on to the candidate that is asked next. Returns an XDP action, counted. */
static __always_inline int hand_on(struct xdp_md* ctx, struct flow_scratch* memory, __u32 length,
                                   __u8 traffic_class_of_it, const bool v6) {
  __u32 service = memory->query.service, next = memory->next & (SLUICE_TUNNEL_CANDIDATES - 1);
  int action;

  memory->asked[next].peer = (__u16)(memory->node_family == 6 ? peer_of_node(&memory->asked[next].node, true)
                                                              : peer_of_node(&memory->asked[next].node, false));
  if (!memory->asked[next].peer)
    return drop(service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_TUNNEL_STRAY, length + ETH_HLEN);
  action = send_asked(ctx, next, v6, length, traffic_class_of_it | (__u32)(memory->hops - 1) << 8);
  if (action < 0) return drop(service, SLUICE_NO_BACKEND_INDEX, -action, length + ETH_HLEN);
  count_reason(SLUICE_REASON_HANDED_ON, 1, length + ETH_HLEN);
  return action;
}

/* A packet that has been taken out of a tunnel; memory->asked names its candidates. Returns an XDP action, counted. */
static __always_inline int inner_slowly(struct xdp_md* ctx, const bool v6) {
  struct flow_scratch* memory = flow_scratch();
  const struct sluice_key_entry* entry;
  const struct sluice_service* service;
  struct packet packet;
  struct key key = {};
  __u64 bytes, settings;
  int answer;

  if (!memory) return unread(ctx, SLUICE_REASON_STALE_TABLE);
  answer = read_any_packet(ctx, &packet, &memory->walked, v6);
  if (answer == READ_NO_PORTS && packet.protocol == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
    return go_on(ctx, v6 ? STAGE_INNER_ERROR6 : STAGE_INNER_ERROR4);
  if (answer != READ_PORTS) {
    count_reason(answer == READ_NO_FIRST ? SLUICE_REASON_FRAGMENT : SLUICE_REASON_TUNNEL_MALFORMED, 1,
                 (__u64)(packet.end - packet.l3) + ETH_HLEN);
    return XDP_DROP;
  }
  packet.length = ip_length(packet.l3, v6);
  bytes = packet.length + ETH_HLEN;
  key = key_of(&packet.ends.destination, packet.ends.destination_port, packet.protocol, v6);
  entry = find_key(SLUICE_LOAD_ONCE(config_memory()->key_table), &key, v6);
  if (!entry) {
    count_reason(SLUICE_REASON_TUNNEL_STRAY, 1, bytes);
    return XDP_DROP;
  }
  packet.print = key.word;
  packet.service = entry->value;
  service = &services_memory()[packet.service & services_mask];
  if (!any_lengths_add_up(ctx, &packet, memory->walked.part))
    return drop(packet.service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_MALFORMED, bytes);
  settings = SLUICE_LOAD_ONCE(service->settings);
  if (SLUICE_SETTINGS_SOURCES(settings) && !allowed_source(SLUICE_SETTINGS_SOURCES(settings), &packet.ends.source, v6))
    return drop(packet.service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_SOURCE_NOT_ALLOWED, bytes);
  expect_fragments(&packet, &memory->walked, v6);
  describe_query(&packet, service, &memory->query, v6);
  return ask(ctx, memory, QUESTION_INNER, v6 ? STAGE_DELIVER6 : STAGE_DELIVER4);
}

/* What FLOW has found for it. */
static __always_inline int deliver_slowly(struct xdp_md* ctx, const bool v6) {
  struct flow_scratch* memory = flow_scratch();
  struct packet packet;
  __u64 bytes;

  if (!memory || !read_again(ctx, &packet, memory, v6)) return unread(ctx, SLUICE_REASON_MALFORMED);
  bytes = packet.length + ETH_HLEN;
  if (memory->found > 0) return drop(packet.service, memory->target.backend, (__u32)memory->found, bytes);
  if (!keep_congestion(packet.l3, memory->outer_class, v6))
    return drop(packet.service, memory->target.backend, SLUICE_REASON_TUNNEL_MALFORMED, bytes);
  if (memory->found == FOUND_NEXT) return hand_on(ctx, memory, packet.length, traffic_class(packet.l3, v6), v6);
  if (pass_up_rewritten(&packet, &memory->target, v6) < 0)
    return drop(packet.service, memory->target.backend, SLUICE_REASON_MALFORMED, bytes);
  count_forward(memory->target.backend, true, bytes);
  return XDP_PASS;
}

#endif
