/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Changing headers. Checksums are updated incrementally by RFC 1624, equation 3: HC' = ~(~HC + ~m + m'), so that a
 * packet that came damaged leaves damaged. */
#ifndef SLUICE_BPF_LIB_REWRITE_H
#define SLUICE_BPF_LIB_REWRITE_H

#include "bpf/lib/packet.h"

/* Who a packet is to be from and to. */
struct ends {
  union sluice_address source;
  union sluice_address destination;
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
static __always_inline __u64 change_of_u64(__u64 from, __u64 to) {
  return change_of_u32((__u32)from, (__u32)to) + change_of_u32((__u32)(from >> 32), (__u32)(to >> 32));
}
static __always_inline __u64 change_of_address(const union sluice_address* from, const union sluice_address* to,
                                               const bool v6) {
  return v6 ? change_of_u64(from->words[0], to->words[0]) + change_of_u64(from->words[1], to->words[1])
            : change_of_u32(from->ipv4, to->ipv4);
}

/* Takes one off the TTL or hop limit, which must be larger than 1. */
static __always_inline void take_hop(void* l3, const bool v6) {
  if (v6) {
    ((struct ipv6hdr*)l3)->hop_limit--;
  } else {
    struct iphdr* ip = l3;
    __u32 check = ip->check + bpf_htons(0x0100); /* RFC 1141, for a high byte that becomes one less */
    ip->check = (__u16)(check + (check >= 0xffff));
    ip->ttl--;
  }
}

/* Puts a new value into a TCP or UDP checksum. False: it does not lie below `end`, which the caller has ruled out. */
static __always_inline bool change_l4_checksum(__u8 protocol, struct ports* ports, const void* end, __u64 change) {
  __u8* l4 = (__u8*)ports;
  if (protocol == IPPROTO_TCP) {
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
  return true;
}

/* Gives the packet another destination, and source port. `from`: as the packet has them. The whole TCP or UDP header
 * lies below `end`; returns false only where the verifier must be told so. */
static __always_inline bool rewrite_destination(void* l3, const bool v6, __u8 protocol, struct ports* ports,
                                                const void* end, const struct ends* from, const struct ends* to) {
  __u64 address = change_of_address(&from->destination, &to->destination, v6);
  __u64 change = address + change_of_u16(from->source_port, to->source_port) +
                 change_of_u16(from->destination_port, to->destination_port);

  if (ports) { /* a later fragment has none */
    if (!change_l4_checksum(protocol, ports, end, change)) return false;
    ports->source = to->source_port;
    ports->destination = to->destination_port;
  }
  if (v6) {
    __u64* destination = (__u64*)&((struct ipv6hdr*)l3)->daddr;
    destination[0] = to->destination.words[0];
    destination[1] = to->destination.words[1];
  } else {
    struct iphdr* ip = l3;
    ip->check = update_checksum(ip->check, address);
    ip->daddr = to->destination.ipv4;
  }
  return true;
}

/* Gives the packet new ends and takes one off its TTL, which must be larger than 1. Otherwise as above. */
static __always_inline bool rewrite_ends(void* l3, const bool v6, __u8 protocol, struct ports* ports, const void* end,
                                         const struct ends* from, const struct ends* to) {
  __u64 addresses =
      change_of_address(&from->source, &to->source, v6) + change_of_address(&from->destination, &to->destination, v6);
  __u64 change = addresses + change_of_u16(from->source_port, to->source_port) +
                 change_of_u16(from->destination_port, to->destination_port);

  if (ports) { /* a later fragment has none */
    if (!change_l4_checksum(protocol, ports, end, change)) return false;
    ports->source = to->source_port;
    ports->destination = to->destination_port;
  }
  if (v6) {
    struct ipv6hdr* ip = l3;
    __u64* addresses_in_packet = (__u64*)&ip->saddr;
    addresses_in_packet[0] = to->source.words[0];
    addresses_in_packet[1] = to->source.words[1];
    addresses_in_packet[2] = to->destination.words[0];
    addresses_in_packet[3] = to->destination.words[1];
    ip->hop_limit--;
  } else {
    struct iphdr* ip = l3;
    ip->check = update_checksum(ip->check, addresses + change_of_u16(ip->ttl, (__u8)(ip->ttl - 1)));
    ip->ttl--;
    ip->saddr = to->source.ipv4;
    ip->daddr = to->destination.ipv4;
  }
  return true;
}

#endif
