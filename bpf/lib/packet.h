/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading frames: Ethernet without tag, IPv4 and IPv6, TCP and UDP. Functions take the family as a constant: both share
 * their text and each has its own code. */
#ifndef SLUICE_BPF_LIB_PACKET_H
#define SLUICE_BPF_LIB_PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>

#include "bpf/lib/maps.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words over several packet fields are put together for little-endian machines"
#endif

/* --- Ethernet: addresses as words, the first byte of the address in the lowest bits ---------------------------------
 */
#define SLUICE_MAC_BROADCAST 0xffffffffffffULL
#define SLUICE_MAC_MASK 0xffffffffffffULL

/* In parts of two bytes: in frames and records addresses are aligned to no more. */
static __always_inline __u64 load_mac(const volatile void* from) {
  const volatile __u16* parts = from;
  return parts[0] | ((__u64)parts[1] << 16) | ((__u64)parts[2] << 32);
}

static __always_inline void store_mac(void* to, __u64 mac) {
  __u16* parts = to;
  parts[0] = (__u16)mac;
  parts[1] = (__u16)(mac >> 16);
  parts[2] = (__u16)(mac >> 32);
}

static __always_inline __u64 own_mac(void) {
  return interface_mac;
}

/* The fourteen bytes of an Ethernet header in two stores: they overlap by two bytes, which the second sets again. */
static __always_inline void store_ethernet(void* to, __u64 destination, __u64 source, __be16 protocol) {
  *(__u64*)to = destination | (source << 48);
  *(__u64*)(to + 6) = source | ((__u64)protocol << 48);
}

/* --- IP --------------------------------------------------------------------------------------------------------------
 */
#define SLUICE_IP_MORE_FRAGMENTS 0x2000
#define SLUICE_IP_DONT_FRAGMENT 0x4000
#define SLUICE_IP_OFFSET 0x1fff

#define SLUICE_TCP_FIN 0x01
#define SLUICE_TCP_SYN 0x02
#define SLUICE_TCP_RST 0x04
#define SLUICE_TCP_ACK 0x10
#define SLUICE_TCP_FLAGS_OFFSET 13
#define SLUICE_TCP_DATA_OFFSET 12
#define SLUICE_TCP_CHECKSUM_OFFSET 16
#define SLUICE_UDP_CHECKSUM_OFFSET 6

/* The two ports that begin both TCP and UDP. */
struct ports {
  __be16 source;
  __be16 destination;
};

/* Finds the ports of an IPv4 packet without options. NULL: not IPv4 TCP or UDP, with options, cut off before the ports,
 * or a fragment. */
static __always_inline struct ports* find_ports4(struct iphdr* ip, void* end) {
  struct ports* ports = (void*)(ip + 1);

  if ((void*)(ports + 1) > end || *(const __u8*)ip != 0x45) return NULL;
  if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP) return NULL;
  if (ip->frag_off & bpf_htons(SLUICE_IP_OFFSET | SLUICE_IP_MORE_FRAGMENTS)) return NULL;
  return ports;
}

/* The same with options or without. */
static __always_inline struct ports* find_ports4_anywhere(struct iphdr* ip, void* end) {
  struct ports* ports;

  if ((void*)(ip + 1) + sizeof(*ports) > end || ip->version != 4 || ip->ihl < 5) return NULL;
  if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP) return NULL;
  if (ip->frag_off & bpf_htons(SLUICE_IP_OFFSET | SLUICE_IP_MORE_FRAGMENTS)) return NULL;
  ports = (void*)ip + ip->ihl * 4;
  return (void*)(ports + 1) > end ? NULL : ports;
}

/* The same of an IPv6 packet without extension headers. */
static __always_inline struct ports* find_ports6(struct ipv6hdr* ip, void* end) {
  struct ports* ports = (void*)(ip + 1);

  if ((void*)(ports + 1) > end || ip->version != 6) return NULL;
  if (ip->nexthdr != IPPROTO_TCP && ip->nexthdr != IPPROTO_UDP) return NULL;
  return ports;
}

/* Bytes of the IP packet, by its own account. */
static __always_inline __u32 ip_length(const void* l3, const bool v6) {
  return v6 ? sizeof(struct ipv6hdr) + bpf_ntohs(((const struct ipv6hdr*)l3)->payload_len)
            : bpf_ntohs(((const struct iphdr*)l3)->tot_len);
}

/* Whether the packet's own lengths add up within the frame: IP length, TCP data offset, UDP length. What follows the IP
 * packet (Ethernet padding) is not looked at. True: a whole TCP or UDP header lies at `ports`, below `end`. */
static __always_inline bool lengths_add_up(struct xdp_md* ctx, const void* l3, __u32 total, __u8 protocol,
                                           const struct ports* ports, const void* end) {
  __u32 header = (const char*)ports - (const char*)l3;
  const __u8* l4 = (const __u8*)ports;
  __u32 length;

  /* Of a jumbo frame only the beginning lies below `end`; its whole length is asked for when it matters. */
  if (unlikely(total > (__u32)((const char*)end - (const char*)l3)) &&
      total > bpf_xdp_get_buff_len(ctx) - ((__u32)(long)l3 - ctx->data))
    return false;
  if (protocol == IPPROTO_TCP) {
    if (l4 + sizeof(struct tcphdr) > (const __u8*)end) return false;
    length = (l4[SLUICE_TCP_DATA_OFFSET] >> 4) * 4;
    return length >= sizeof(struct tcphdr) && header + length <= total;
  }
  if (l4 + sizeof(struct udphdr) > (const __u8*)end) return false;
  length = bpf_ntohs(((const struct udphdr*)l4)->len);
  return length >= sizeof(struct udphdr) && header + length <= total;
}

/* 0 where the packet is not TCP, or does not hold its header. */
static __always_inline __u8 tcp_flags_of(__u8 protocol, const struct ports* ports, const void* end) {
  const __u8* flags = (const __u8*)ports + SLUICE_TCP_FLAGS_OFFSET;
  if (protocol != IPPROTO_TCP || !ports || (const void*)(flags + 1) > end) return 0;
  return *flags;
}

static __always_inline bool is_syn(__u8 tcp_flags) {
  return (tcp_flags & (SLUICE_TCP_SYN | SLUICE_TCP_ACK)) == SLUICE_TCP_SYN;
}

static __always_inline __u8 traffic_class(const void* l3, const bool v6) {
  return v6 ? (__u8)(bpf_ntohs(*(const __be16*)l3) >> 4) : ((const struct iphdr*)l3)->tos;
}

static __always_inline __u8 hops_left(const void* l3, const bool v6) {
  return v6 ? ((const struct ipv6hdr*)l3)->hop_limit : ((const struct iphdr*)l3)->ttl;
}

static __always_inline void load_address(union sluice_address* to, const void* from, const bool v6) {
  if (v6) {
    to->words[0] = ((const __u64*)from)[0];
    to->words[1] = ((const __u64*)from)[1];
  } else {
    to->words[0] = *(const __be32*)from;
    to->words[1] = 0;
  }
}
static __always_inline void load_source(union sluice_address* to, const void* l3, const bool v6) {
  load_address(to, l3 + (v6 ? __builtin_offsetof(struct ipv6hdr, saddr) : __builtin_offsetof(struct iphdr, saddr)), v6);
}
static __always_inline void load_destination(union sluice_address* to, const void* l3, const bool v6) {
  load_address(to, l3 + (v6 ? __builtin_offsetof(struct ipv6hdr, daddr) : __builtin_offsetof(struct iphdr, daddr)), v6);
}
static __always_inline bool same_address(const union sluice_address* a, const union sluice_address* b, const bool v6) {
  return v6 ? a->words[0] == b->words[0] && a->words[1] == b->words[1] : a->ipv4 == b->ipv4;
}

#endif
