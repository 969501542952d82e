/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors about flows: to the flow's backend or client, whichever sent the packet that is quoted. */
#ifndef SLUICE_BPF_LIB_ERROR_H
#define SLUICE_BPF_LIB_ERROR_H

#include "bpf/lib/quoted.h"
#include "bpf/lib/slow.h"

/* Fills the query for the flow of an error that came from the client's side: it quotes a reply. Returns false where no
 * service is there any more. */
static __always_inline bool describe_error(struct xdp_md* ctx, const struct quoted* quoted, struct packet* packet,
                                           struct flow_query* query, const bool v6) {
  const struct sluice_key_entry* entry;
  struct key key;

  packet->l3 = (void*)(long)ctx->data + ETH_HLEN;
  packet->end = (void*)(long)ctx->data_end;
  if (packet->l3 + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) > packet->end) return false;
  packet->ports = NULL;
  packet->protocol = quoted->protocol;
  packet->length = ip_length(packet->l3, v6);
  packet->ends.source = quoted->ends.destination;
  packet->ends.source_port = quoted->ends.destination_port;
  packet->ends.destination = quoted->ends.source;
  packet->ends.destination_port = quoted->ends.source_port;
  key = key_of(&packet->ends.destination, packet->ends.destination_port, packet->protocol, v6);
  entry = find_key(SLUICE_LOAD_ONCE(config_memory()->key_table), &key, v6);
  if (!entry) return false;
  packet->print = key.word;
  packet->service = entry->value;
  describe_query(packet, &services_memory()[packet->service & services_mask], query, v6);
  query->tcp_flags = quoted->protocol == IPPROTO_TCP ? SLUICE_TCP_ACK : 0;
  query->peek = 1;
  return true;
}

/* Rewrites the error for a backend that has sent the quoted reply: inside it stands as the backend sent it. */
static __always_inline bool error_for_backend(struct xdp_md* ctx, const struct quoted* quoted,
                                              const struct target* target, const bool v6) {
  void* l3 = (void*)(long)ctx->data + ETH_HLEN;
  struct ends inner;
  union sluice_address from;

  if (l3 + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) > (void*)(long)ctx->data_end) return false;
  load_source(&from, l3, v6);
  inner.source = target->address;
  inner.source_port = target->port;
  inner.destination = quoted->ends.destination;
  inner.destination_port = target->source_port;
  if (target->forwarding == SLUICE_FORWARD_NAT) {
    inner.destination = target->source;
    from = target->source; /* the backend's way back is by us */
  }
  return rewrite_error(ctx, quoted, &inner, &from, &target->address, v6);
}

/* Reads an ICMP error to a service's address and asks for the flow that it is about. Returns an XDP action, counted. */
static __always_inline int error_slowly(struct xdp_md* ctx, enum question question, enum stage then, const bool v6) {
  void* data = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  struct flow_scratch* memory = flow_scratch();
  struct quoted quoted;
  struct packet packet;

  if (!memory || data + ETH_HLEN + sizeof(struct ipv6hdr) > end || !read_error(data, end, &quoted, v6) ||
      !describe_error(ctx, &quoted, &packet, &memory->query, v6)) {
    count_reason(SLUICE_REASON_NO_FLOW, 1, (__u64)(end - data));
    return XDP_DROP;
  }
  return ask(ctx, memory, question, then);
}

/* Carries out what FLOW has found for an error. Returns an XDP action, counted. */
static __always_inline int send_error(struct xdp_md* ctx, const bool v6) {
  struct flow_scratch* memory = flow_scratch();
  const struct sluice_egress* out;
  struct quoted quoted;
  struct target* target;
  struct packet packet;
  void* data;
  __u64 bytes;
  int action;

  if (!memory || !read_again(ctx, &packet, memory, v6)) return unread(ctx, SLUICE_REASON_MALFORMED);
  target = &memory->target;
  bytes = packet.length + ETH_HLEN;
  if (memory->found > 0) return drop(packet.service, target->backend, (__u32)memory->found, bytes);
  if (memory->found == FOUND_NEXT) return hand_on(ctx, memory, packet.length, traffic_class(packet.l3, v6), v6);
  if (has_records(target->forwarding)) {
    if (!read_error(packet.l3 - ETH_HLEN, packet.end, &quoted, v6) || !error_for_backend(ctx, &quoted, target, v6))
      return drop(packet.service, target->backend, SLUICE_REASON_MALFORMED, bytes);
    if (target->forwarding == SLUICE_FORWARD_LOCAL) {
      action = XDP_PASS;
    } else {
      out = find_egress(target->next_hop);
      data = (void*)(long)ctx->data;
      if (!out || data + ETH_HLEN + sizeof(struct ipv6hdr) > (void*)(long)ctx->data_end)
        return drop(packet.service, target->backend, SLUICE_REASON_NO_NEXT_HOP, bytes);
      if (hops_left(data + ETH_HLEN, v6) <= 1)
        return drop(packet.service, target->backend, SLUICE_REASON_TTL_EXCEEDED, bytes);
      take_hop(data + ETH_HLEN, v6);
      action = transmit(ctx, data, out, target->next_hop, v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
    }
  } else {
    action = send_whole(ctx, &packet, target, v6);
  }
  if (action < 0) return drop(packet.service, target->backend, -action, bytes);
  count_reason(SLUICE_REASON_ERROR_FORWARDED, 1, bytes);
  return action;
}

/* An error to one of nat's source addresses, about a packet that was sent on from there. Returns an XDP action,
 * counted, or -1: about none of ours. */
static __always_inline int error_from_backend(struct xdp_md* ctx, const bool v6) {
  void* data = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  const struct sluice_egress* out;
  struct sluice_flow_head* head;
  union sluice_address from;
  struct flow_key key = {};
  struct quoted quoted;
  struct ends inner;
  __u64 control, next_hop;
  __u32 length, service, backend;
  int at, action;

  if (data + ETH_HLEN + sizeof(struct ipv6hdr) > end || !read_error(data, end, &quoted, v6)) return -1;
  length = ip_length(data + ETH_HLEN, v6);
  key.backend = quoted.ends.destination;
  key.source = quoted.ends.source;
  key.tuple =
      SLUICE_FLOW_TUPLE(quoted.ends.destination_port, quoted.ends.source_port, quoted.protocol, SLUICE_FLOW_NAT);
  at = v6 ? locate6(&key) : locate4(&key);
  if (at < 0) return -1;
  if (v6) {
    struct sluice_flow6* flow = at & SLUICE_AT_HALF_OPEN ? at_half_open6(at) : at_flows6(at);
    head = &flow->head;
    control = SLUICE_LOAD_ONCE(head->control);
    inner.source = flow->client;
    inner.destination = flow->address;
    inner.source_port = flow->client_port;
    inner.destination_port = flow->port;
  } else {
    struct sluice_flow4* flow = at & SLUICE_AT_HALF_OPEN ? at_half_open4(at) : at_flows4(at);
    head = &flow->head;
    control = SLUICE_LOAD_ONCE(head->control);
    inner.source.words[0] = flow->client;
    inner.source.words[1] = 0;
    inner.destination.words[0] = flow->address;
    inner.destination.words[1] = 0;
    inner.source_port = flow->client_port;
    inner.destination_port = flow->port;
  }
  next_hop = head->next_hop;
  service = head->service;
  backend = head->backend;
  if (!same_record(head, control)) return -1;
  out = find_egress(next_hop);
  if (!out) return drop(service, backend, SLUICE_REASON_NO_NEXT_HOP, length + ETH_HLEN);
  if (hops_left(data + ETH_HLEN, v6) <= 1) return drop(service, backend, SLUICE_REASON_TTL_EXCEEDED, length + ETH_HLEN);
  /* What the backend itself says, the service's address says; a router on the way keeps its own. */
  load_source(&from, data + ETH_HLEN, v6);
  if (same_address(&from, &key.backend, v6)) from = inner.destination;
  if (!rewrite_error(ctx, &quoted, &inner, &from, &inner.source, v6))
    return drop(service, backend, SLUICE_REASON_MALFORMED, length + ETH_HLEN);
  data = (void*)(long)ctx->data;
  if (data + ETH_HLEN + sizeof(struct ipv6hdr) > (void*)(long)ctx->data_end)
    return drop(service, backend, SLUICE_REASON_MALFORMED, length + ETH_HLEN);
  take_hop(data + ETH_HLEN, v6);
  action = transmit(ctx, data, out, next_hop, v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
  if (action < 0) return drop(service, backend, -action, length + ETH_HLEN);
  count_reason(SLUICE_REASON_ERROR_FORWARDED, 1, length + ETH_HLEN);
  return action;
}

#endif
