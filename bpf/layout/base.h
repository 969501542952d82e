/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every part of the layout rests on. Included by bpf/sluice.h only. */
#ifndef SLUICE_BPF_LAYOUT_BASE_H
#define SLUICE_BPF_LAYOUT_BASE_H

#include <linux/types.h>

#ifdef __cplusplus
#define SLUICE_INLINE inline
#else
#define SLUICE_INLINE static __always_inline
#endif

#define SLUICE_LAYOUT_VERSION 3

/* An address of either family in network order, as it lies in a packet. IPv4: the first word; the rest is 0. Compared
 * as two 64-bit words. */
union sluice_address {
  __be32 ipv4;
  __u8 bytes[16];
  __u64 words[2];
};

/* A 64-bit finaliser: every bit of the input reaches every bit of the outcome. */
SLUICE_INLINE __u64 sluice_mix(__u64 h) {
  h ^= h >> 32;
  h *= 0xc4ceb9fe1a85ec53ULL;
  h ^= h >> 32;
  return h;
}

/* --- the flow hash --------------------------------------------------------------------------------------------------
 *
 * Keyed multiply and xorshift over the flow's tuple. The key belongs to the desired state: clients that do not know it
 * cannot aim at a slot, and every node finds the same slot. It is computed over the whole tuple for the source ports
 * that a flow tries; the slot is chosen by the same value or, with affinity, by the hash with ports and protocol 0 (a
 * client's flows must share the slot, but not the source ports).
 */
SLUICE_INLINE __u64 sluice_flow_hash(__u32 client_be, __u32 address_be, __u16 client_port_be, __u16 port_be,
                                     __u8 protocol, __u64 key0, __u64 key1) {
  __u64 a = (((__u64)client_be << 32) | address_be) ^ key0;
  __u64 b = (((__u64)client_port_be << 32) | ((__u64)port_be << 8) | protocol) ^ key1;
  a *= 0x9e3779b97f4a7c15ULL;
  a ^= a >> 32;
  a += b;
  a *= 0xff51afd7ed558ccdULL;
  a ^= a >> 29;
  a *= key1 | 1;
  a ^= a >> 32;
  return a;
}

/* The same for IPv6. Of the service's end only its print goes in (sluice_key_ipv6): whose whole address it stands for
 * has been compared, or, with affinity, is the print of {address, 0, 0}. */
SLUICE_INLINE __u64 sluice_flow_hash6(__u64 client0, __u64 client1, __u64 service_print, __u16 client_port_be,
                                      __u64 key0, __u64 key1) {
  __u64 a = client0 ^ key0;
  a *= 0x9e3779b97f4a7c15ULL;
  a ^= a >> 32;
  a += client1 ^ key1;
  a *= 0xff51afd7ed558ccdULL;
  a ^= a >> 29;
  a += service_print ^ client_port_be;
  a *= 0xc4ceb9fe1a85ec53ULL; /* or successive ports were as far from one another as the key says */
  a ^= a >> 32;
  a *= key1 | 1;
  a ^= a >> 32;
  return a;
}

#endif
