/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is the node's as a whole: its settings, the ways out, the other nodes, what it answers for. Included by
 * bpf/sluice.h only. */
#ifndef SLUICE_BPF_LAYOUT_NODE_H
#define SLUICE_BPF_LAYOUT_NODE_H

#include "bpf/layout/base.h"

/* --- ways out -------------------------------------------------------------------------------------------------------
 *
 * A next hop is one word, so that one aligned store changes it under traffic: egress index (16 bits) | destination MAC
 * (48 bits, first byte of the address in the lowest bits). Egress 0: none.
 */
#define SLUICE_NEXT_HOP_EGRESS(word) ((__u32)((word) >> 48))
#define SLUICE_NEXT_HOP_MAC(word) ((word)&0xffffffffffffULL)
#define SLUICE_NEXT_HOP_WORD(egress, mac48) (((__u64)(egress) << 48) | ((__u64)(mac48)&0xffffffffffffULL))

/* Map `egress` (memory-mapped), index 1..SLUICE_MAX_EGRESS-1: the interfaces that packets leave by. */
#define SLUICE_MAX_EGRESS 256
struct sluice_egress {
  __u32
      ifindex; /* SLUICE_EGRESS_IFINDEX: of the device that transmits: below a VLAN device, its parent; 0: not in use */
  __u16 mtu;   /* largest IP packet that may leave here, bytes; 0: not checked */
  __be16 vlan; /* tag that frames leave with; 0: none */
  __u8 mac[6];
  __u16 flags;                  /* SLUICE_EGRESS_... */
  __be32 source4;               /* nat's source address for packets that leave here; 0: none of this family */
  __u32 device;                 /* as routes name it: of the VLAN device itself; else `ifindex` */
  union sluice_address source6; /* none where the first word is 0, which is written last */
  __u64 pad[3];
};
#define SLUICE_EGRESS_BY_KERNEL 1u /* XDP cannot transmit here: the kernel does, from tc, and finds the neighbour */
/* What leaves here comes back to this machine's stack: the way to its own clients */
#define SLUICE_EGRESS_NODE_LINK 2u
/* Set in `ifindex` where a frame does not leave as it is: with a tag, or by the kernel. So one comparison with the
 * interface at hand tells the common case. */
#define SLUICE_EGRESS_NOT_PLAIN 0x80000000u
#define SLUICE_EGRESS_IFINDEX(ifindex) ((ifindex) & ~SLUICE_EGRESS_NOT_PLAIN)

/* What XDP leaves in front of a packet (metadata) that the kernel is to send: tc ingress takes it up. */
#define SLUICE_HANDOVER_MAGIC 0x51c3a70dU
struct sluice_handover {
  __u32 magic;
  __u32 egress; /* index */
};

/* --- tunnels to other nodes ------------------------------------------------------------------------------------------
 *
 * Map `peers` (memory-mapped), index 1..: the other nodes. The outer IP (20 or 40 bytes) and UDP headers (8) are a
 * template, in network order, with 0 for what is put in for each packet: lengths, TOS or traffic class, the UDP source
 * port. IPv4's checksum field holds the one's complement sum of the header's other fields, folded to 16 bits and not
 * complemented. While anything leads to a peer its template stays, and the one flag of `state` that goes with it; every
 * other word changes by a store of its own.
 */
#define SLUICE_MAX_PEERS 8192
#define SLUICE_PEER_USABLE 1u     /* proved: new flows may go there */
#define SLUICE_PEER_HAS_NAT 2u    /* it was not usable for a while: flows made then are in the flow table, by nat */
#define SLUICE_PEER_OUTER_IPV6 4u /* the template's family */
struct sluice_peer {
  __u64 next_hop; /* to the node's underlay address */
  __u64 state;    /* SLUICE_PEER_WORD */
  __u64 token;    /* what our packets to it carry, as it lies in the packet */
  __u8 outer[SLUICE_TUNNEL_TEMPLATE];
  __u64 accepted[2]; /* tokens that its packets may carry; 0: none */
  __u64 pad[5];
};
/* Bits of sluice_peer.state: flags (16) | largest inner packet with one candidate of IPv4 (16) | the same of IPv6 (16).
 */
#define SLUICE_PEER_FLAGS(word) ((__u32)((word)&0xffff))
#define SLUICE_PEER_FITS4(word) ((__u32)(((word) >> 16) & 0xffff))
#define SLUICE_PEER_FITS6(word) ((__u32)(((word) >> 32) & 0xffff))
#define SLUICE_PEER_WORD(flags, fits4, fits6) \
  ((__u64)((flags)&0xffff) | ((__u64)(__u16)(fits4) << 16) | ((__u64)(__u16)(fits6) << 32))

/* --- addresses this node answers ARP and NDP for --------------------------------------------------------------------
 * Map `owned_addresses` (HASH). The agent renews the deadline; past it the node stops answering by itself. */
struct sluice_owned_key {
  union sluice_address address;
  __u32 ifindex; /* that frames come in by: below a VLAN device, its parent's */
  __u16 vlan;    /* host order, the id alone; 0: frames without tag */
  __u8 family;   /* 4 or 6 */
  __u8 pad;
};
struct sluice_owned {
  __u64 deadline; /* ns, CLOCK_MONOTONIC */
};

/* --- node-wide settings: map `config` (memory-mapped) -------------------------------------------------- */
struct sluice_config {
  __u64 key_table;        /* SLUICE_KEY_TABLE_WORD */
  __u64 flow_hash_key[2]; /* set once per cluster id, before the first service */
  __u16 nat_port_first;   /* host order, inclusive */
  __u16 nat_port_last;
  __be16 tunnel_port; /* 0: no tunnels */
  __u16 reserved;
  __be32 underlay4; /* this node's address in tunnels; 0: none of this family */
  __u32 pad;
  union sluice_address underlay6;
  __u64 pad8;
};

/* Map `proofs` (memory-mapped), same index as `peers`: the last probe of ours that came back through the tunnel.
 * Written by the kernel side alone. */
struct sluice_proof {
  __u64 nonce; /* of that probe */
  __u32 seen;  /* jiffies, low 32 bits */
  __u32 bytes; /* of the outer IP packet */
  /* The last ICMP error on the way that quoted a packet of ours, token included: what fits there. */
  __u32 told_mtu;  /* of the outer IP packet; 0: never */
  __u32 told_seen; /* jiffies */
  __u64 pad;
};

#endif
