/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Changing headers. Checksums are updated incrementally by RFC 1624, equation 3: HC' = ~(~HC + ~m + m'), so that a
 * packet that came damaged leaves damaged. */
#ifndef SLUICE_BPF_LIB_REWRITE_H
#define SLUICE_BPF_LIB_REWRITE_H

#include "bpf/lib/packet.h"

/* Who a packet is to be from and to. */
struct ends {
  __be32 source;
  __be32 destination;
  __be16 source_port;
  __be16 destination_port;
};

static __always_inline __u16 fold_checksum(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (__u16)sum;
}

/* Adds a change (a sum of ~m + m') to a checksum field. */
static __always_inline __u16 update_checksum(__u16 checksum, __u64 change) {
  return ~fold_checksum((__u16)~checksum + change);
}

static __always_inline __u64 change_of_u32(__u32 from, __u32 to) {
  return (__u64)(__u32)~from + to;
}
static __always_inline __u64 change_of_u16(__u16 from, __u16 to) {
  return (__u64)(__u16)~from + to;
}

/* Gives the packet new ends and takes `hops` off its TTL, which must be larger. The whole TCP or UDP header lies below
 * `end`; returns false only where the verifier must be told so. */
static __always_inline bool rewrite_ends(struct iphdr* ip, struct ports* ports, const void* end, const struct ends* to,
                                         __u8 hops) {
  __u64 addresses = change_of_u32(ip->saddr, to->source) + change_of_u32(ip->daddr, to->destination);
  __u64 change = addresses + change_of_u16(ports->source, to->source_port) +
                 change_of_u16(ports->destination, to->destination_port);
  __u8* l4 = (__u8*)ports;

  if (ip->protocol == IPPROTO_TCP) {
    __u16* checksum = (__u16*)(l4 + SLUICE_TCP_CHECKSUM_OFFSET);
    if ((const void*)(checksum + 1) > end) return false;
    *checksum = update_checksum(*checksum, change);
  } else {
    __u16* checksum = (__u16*)(l4 + SLUICE_UDP_CHECKSUM_OFFSET);
    if ((const void*)(checksum + 1) > end) return false;
    if (*checksum) { /* RFC 768: zero means that the sender computed none, and a computed zero is sent as all ones */
      __u16 updated = update_checksum(*checksum, change);
      *checksum = updated ? updated : 0xffff;
    }
  }
  ports->source = to->source_port;
  ports->destination = to->destination_port;

  ip->check = update_checksum(ip->check, addresses + change_of_u16(ip->ttl, (__u8)(ip->ttl - hops)));
  ip->ttl -= hops;
  ip->saddr = to->source;
  ip->daddr = to->destination;
  return true;
}

#endif
