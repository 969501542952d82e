/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading a packet up to its ports, and carrying out what has been decided for it. */
#ifndef SLUICE_BPF_LIB_FORWARD_H
#define SLUICE_BPF_LIB_FORWARD_H

#include "bpf/lib/choice.h"
#include "bpf/lib/fragment.h"
#include "bpf/lib/stages.h"
#include "bpf/lib/tunnel.h"

/* One packet, as far as it has been read. Pointers into it hold until its head is moved. */
struct packet {
  void* l3;
  void* end;
  struct ports* ports; /* NULL: a later fragment; its ports are the first's */
  struct ends ends;
  __u64 print;  /* the service's key */
  __u32 length; /* of the IP packet */
  __u32 service;
  __u8 protocol;
};

/* Reads an IP packet that begins at `l3` up to its ports. False: it is not one of TCP or UDP with ports. */
static __always_inline bool read_packet(struct packet* packet, void* l3, void* end, const bool v6) {
  packet->l3 = l3;
  packet->end = end;
  packet->ports = v6 ? find_ports6(l3, end) : find_ports4(l3, end);
  if (!packet->ports) return false;
  packet->protocol = v6 ? ((struct ipv6hdr*)l3)->nexthdr : ((struct iphdr*)l3)->protocol;
  load_source(&packet->ends.source, l3, v6);
  load_destination(&packet->ends.destination, l3, v6);
  packet->ends.source_port = packet->ports->source;
  packet->ends.destination_port = packet->ports->destination;
  return true;
}

enum reading {
  READ_PORTS,    /* a packet with ports, or a part of one */
  READ_NO_PORTS, /* another protocol, or none that can be read */
  READ_NO_FIRST, /* a later fragment whose first has not been seen */
};

/* The same of any packet: extension headers are walked, fragments know their first. `memory` is used for working.
 * Returns an enum reading; with READ_NO_PORTS and READ_NO_FIRST only addresses and protocol are set. */
static __always_inline enum reading read_any_packet(struct xdp_md* ctx, struct packet* packet, struct walked* walked,
                                                    const bool v6) {
  void* l3 = (void*)(long)ctx->data + ETH_HLEN;
  void* end = (void*)(long)ctx->data_end;
  struct fragment_key key;

  packet->protocol = 0;
  packet->ports = NULL;
  packet->l3 = l3;
  packet->end = end;
  if (v6) {
    if (l3 + sizeof(struct ipv6hdr) > end || walk_extensions(ctx, walked, ETH_HLEN)) return READ_NO_PORTS;
  } else {
    if (l3 + sizeof(struct iphdr) > end || !walk4(l3, end, walked)) return READ_NO_PORTS;
  }
  packet->protocol = walked->protocol;
  load_source(&packet->ends.source, l3, v6);
  load_destination(&packet->ends.destination, l3, v6);
  if (walked->part == PART_LATER) {
    const struct fragment_ports* first;
    fragment_key_of(&key, l3, walked, v6);
    first = recall_fragment(&key);
    if (!first) return READ_NO_FIRST;
    packet->protocol = first->protocol;
    packet->ends.source_port = first->source;
    packet->ends.destination_port = first->destination;
    return READ_PORTS;
  }
  if (walked->protocol != IPPROTO_TCP && walked->protocol != IPPROTO_UDP) return READ_NO_PORTS;
  if (walked->offset > 1024) return READ_NO_PORTS;
  packet->ports = l3 + walked->offset;
  if ((void*)(packet->ports + 1) > end) {
    packet->ports = NULL;
    return READ_NO_PORTS;
  }
  packet->ends.source_port = packet->ports->source;
  packet->ends.destination_port = packet->ports->destination;
  return READ_PORTS;
}

/* Remembers the ports of what read_any_packet() has read, if fragments will follow it. Of what concerns no flow of ours
 * none are: they would only push others out. */
static __always_inline void expect_fragments(const struct packet* packet, const struct walked* walked, const bool v6) {
  struct fragment_key key;

  if (walked->part != PART_FIRST || !packet->ports) return;
  fragment_key_of(&key, packet->l3, walked, v6);
  remember_fragment(&key, packet->ports, packet->protocol);
}

/* Whether the lengths of what read_any_packet() has read add up. Of a fragment only the IP packet's own can. */
static __always_inline bool any_lengths_add_up(struct xdp_md* ctx, const struct packet* packet, __u8 part) {
  __u32 there, least;

  if (part == PART_WHOLE && packet->ports)
    return lengths_add_up(ctx, packet->l3, packet->length, packet->protocol, packet->ports, packet->end);
  there = (__u32)bpf_xdp_get_buff_len(ctx) - ETH_HLEN;
  if (packet->length > there) return false;
  if (!packet->ports) return true; /* a later fragment */
  least = (__u32)((void*)packet->ports - packet->l3) +
          (packet->protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr));
  return least <= packet->length && packet->l3 + least <= packet->end;
}

static __always_inline int forwarded(const struct packet* packet, __u32 backend, int action) {
  count_forward(backend, false, packet->length + ETH_HLEN);
  return action;
}

static __always_inline __u64 slot_hash_of(const struct packet* packet, const struct sluice_config* node, bool by_client,
                                          const bool v6) {
  const struct ends* ends = &packet->ends;
  if (v6) {
    __u64 print =
        by_client ? sluice_key_ipv6(ends->destination.words[0], ends->destination.words[1], 0, 0) : packet->print;
    return sluice_flow_hash6(ends->source.words[0], ends->source.words[1], print, by_client ? 0 : ends->source_port,
                             node->flow_hash_key[0], node->flow_hash_key[1]);
  }
  return sluice_flow_hash(ends->source.ipv4, ends->destination.ipv4, by_client ? 0 : ends->source_port,
                          by_client ? 0 : ends->destination_port, by_client ? 0 : packet->protocol,
                          node->flow_hash_key[0], node->flow_hash_key[1]);
}

/* Forwards by nat: both ends are rewritten. */
static __always_inline int send_translated(struct xdp_md* ctx, struct packet* packet, const struct target* target,
                                           const bool v6) {
  const struct sluice_egress* out = find_egress(target->next_hop);
  struct ends to;

  if (unlikely(!out)) return -SLUICE_REASON_NO_NEXT_HOP;
  to.source = target->source;
  to.source_port = target->source_port;
  to.destination = target->address;
  to.destination_port = target->port;
  if (!rewrite_ends(packet->l3, v6, packet->protocol, packet->ports, packet->end, &packet->ends, &to))
    return -SLUICE_REASON_MALFORMED;
  return transmit(ctx, packet->l3 - ETH_HLEN, out, target->next_hop, v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
}

static __always_inline int pass_up_rewritten(struct packet* packet, const struct target* target, const bool v6) {
  struct ends to;

  to.source_port = target->source_port;
  to.destination = target->address;
  to.destination_port = target->port;
  return rewrite_destination(packet->l3, v6, packet->protocol, packet->ports, packet->end, &packet->ends, &to)
             ? XDP_PASS
             : -SLUICE_REASON_MALFORMED;
}

/* Sends into the tunnel to the backend's node, with one candidate. */
static __always_inline int send_tunnelled(struct xdp_md* ctx, struct packet* packet, const struct sluice_peer* peer,
                                          const union sluice_address* backend, __be16 port, __u64 hash, const bool v6) {
  __u8 tos = traffic_class(packet->l3, v6);

  take_hop(packet->l3, v6);
  return SLUICE_LOAD_ONCE(peer->state) & SLUICE_PEER_OUTER_IPV6
             ? encapsulate(ctx, peer, backend, port, hash, packet->length, tos, v6, true)
             : encapsulate(ctx, peer, backend, port, hash, packet->length, tos, v6, false);
}

static __always_inline int send_direct(struct xdp_md* ctx, struct packet* packet, __u64 next_hop, const bool v6) {
  const struct sluice_egress* out = find_egress(next_hop);

  if (unlikely(!out)) return -SLUICE_REASON_NO_NEXT_HOP;
  if (unlikely(!fits(out, packet->length))) return -SLUICE_REASON_TOO_BIG;
  take_hop(packet->l3, v6);
  return transmit(ctx, packet->l3 - ETH_HLEN, out, next_hop, v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
}

/* The largest packet that fits the way to a target. */
static __always_inline __u32 mtu_to(const struct target* target, const bool v6) {
  const struct sluice_egress* out;

  if (target->forwarding == SLUICE_FORWARD_TUNNEL) {
    __u64 state = SLUICE_LOAD_ONCE(peer_at(target->peer)->state);
    return v6 ? SLUICE_PEER_FITS6(state) : SLUICE_PEER_FITS4(state);
  }
  out = find_egress(target->next_hop);
  if (!out) return 0;
  return out->mtu - (target->forwarding != SLUICE_FORWARD_IPIP ? 0
                     : v6                                      ? sizeof(struct ipv6hdr)
                                                               : sizeof(struct iphdr));
}

/* Sends the packet on as it is, in whatever: towards a backend without Sluice, or into the tunnel to memory->asked.
 * Returns an XDP action, or a negative reason. */
static __always_inline int send_whole(struct xdp_md* ctx, struct packet* packet, const struct target* target,
                                      const bool v6) {
  __u8 tos = traffic_class(packet->l3, v6);

  switch (target->forwarding) {
    case SLUICE_FORWARD_DIRECT:
      return send_direct(ctx, packet, target->next_hop, v6);
    case SLUICE_FORWARD_IPIP:
      take_hop(packet->l3, v6);
      return encapsulate_ipip(ctx, &target->address, target->next_hop, packet->length, tos, v6);
    case SLUICE_FORWARD_TUNNEL:
      take_hop(packet->l3, v6);
      return send_asked(ctx, 0, v6, packet->length, tos | SLUICE_TUNNEL_HOPS << 8);
    default:
      return -SLUICE_REASON_STALE_TABLE;
  }
}

/* Carries out what was found for a packet. Returns an XDP action, counted. */
static __always_inline int send_to_target(struct xdp_md* ctx, struct packet* packet, const struct target* target,
                                          const bool v6) {
  bool otherwise = false;
  int action;

  if (target->forwarding == SLUICE_FORWARD_LOCAL) {
    action = pass_up_rewritten(packet, target, v6);
  } else if (target->forwarding == SLUICE_FORWARD_NAT) {
    otherwise = forwarding_here(backend_at(target->backend)->what) != SLUICE_FORWARD_NAT;
    action = send_translated(ctx, packet, target, v6);
  } else {
    action = send_whole(ctx, packet, target, v6);
  }
  if (action < 0)
    return refuse(ctx, packet->service, target->backend, -action, packet->length + ETH_HLEN,
                  action == -SLUICE_REASON_TOO_BIG ? mtu_to(target, v6) : 0, v6);
  count_forward(target->backend, otherwise, packet->length + ETH_HLEN);
  return action;
}

#endif
