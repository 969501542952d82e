/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What goes over the wire between two nodes: Geneve (RFC 8926) with one option of ours. Included by bpf/sluice.h only.
 *
 * Outer IP and UDP, then
 *   Geneve     8 bytes   version 0, no OAM, critical options present; protocol type of the inner packet: 0x0800 or
 * 0x86dd option     4         class SLUICE_GENEVE_CLASS, type SLUICE_GENEVE_TYPE (critical), length in words token 8
 * keyed, of {the sender's address, the receiver's}: node-agent/tunnel computes it meta       4         struct
 * sluice_tunnel_meta candidates           `count` times: {address (4 or 16), port (2), pad (2)}, and, but for the last,
 * {node (4 or 16)}: the underlay address of the node that the *next* candidate runs on the inner packet     IP, as the
 * client sent it, its TTL one less A probe has a nonce (8 bytes) and zeroes in the place of candidates and inner
 * packet. Who has no record of a TCP packet's flow hands it on to the next candidate; the last takes it up. The order
 * is the order of asking.
 */
#ifndef SLUICE_BPF_LAYOUT_TUNNEL_H
#define SLUICE_BPF_LAYOUT_TUNNEL_H

#include "bpf/layout/base.h"

#define SLUICE_GENEVE_CLASS 0xff53 /* host order; 0xff00..0xffff are for experiments (RFC 8926, section 7) */
#define SLUICE_GENEVE_TYPE 0x81    /* the first bit: a receiver that does not know it must drop the packet */
#define SLUICE_GENEVE_CRITICAL 0x40

struct sluice_tunnel_meta {
  __u8 hops; /* nodes that may still hand it on */
  __u8 count;
  __u8 flags;       /* SLUICE_TUNNEL_... */
  __u8 node_family; /* of the `node` fields: 4 or 6; 0: none are there */
};
#define SLUICE_TUNNEL_PROBE 1u  /* no inner packet: the receiver sends it back */
#define SLUICE_TUNNEL_ANSWER 2u /* the same, sent back */
/* The last candidate has been asked: it has a record, of a connection that is over, and takes what nobody else knows */
#define SLUICE_TUNNEL_DOUBTED 4u

/* Where not all candidates go into the packet: the plane of the slot with which whoever is asked last goes on, by its
 * own table. 0: all are there. */
#define SLUICE_TUNNEL_MORE(flags) ((flags) >> 4 & 0xf)
#define SLUICE_TUNNEL_MORE_FLAG(plane) ((__u8)((plane) << 4))

#define SLUICE_TUNNEL_HOPS 8
#define SLUICE_TUNNEL_CANDIDATES 4

#define SLUICE_TUNNEL_OPTION 16         /* option header, token, meta */
#define SLUICE_TUNNEL_TEMPLATE (40 + 8) /* the larger of the outer IP headers, and UDP's */
#define SLUICE_TUNNEL_CANDIDATE4 8
#define SLUICE_TUNNEL_CANDIDATE6 20
/* Bytes in front of the inner packet with one candidate, without Ethernet. */
#define SLUICE_TUNNEL_OVERHEAD(outer_ipv6, inner_ipv6)       \
  (((outer_ipv6) ? 40 : 20) + 8 + 8 + SLUICE_TUNNEL_OPTION + \
   ((inner_ipv6) ? SLUICE_TUNNEL_CANDIDATE6 : SLUICE_TUNNEL_CANDIDATE4))

#endif
