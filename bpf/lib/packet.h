/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading frames: Ethernet without VLAN tag, IPv4, TCP and UDP. */
#ifndef SLUICE_BPF_LIB_PACKET_H
#define SLUICE_BPF_LIB_PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
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
  return load_mac(interface_mac);
}

/* --- IPv4 ------------------------------------------------------------------------------------------------------------
 */
#define SLUICE_IP_MORE_FRAGMENTS 0x2000
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

/* Finds the ports of a packet that may concern a service or a flow. NULL: not IPv4 TCP or UDP, cut off before the
 * ports, or a later fragment. Later fragments carry no ports, and other services or the node itself may live at the
 * same address: they belong to nobody here and pass, where the kernel discards them for want of the first, which is
 * dropped. */
static __always_inline struct ports* find_ports(struct iphdr* ip, void* end) {
  struct ports* ports;

  if ((void*)(ip + 1) > end || ip->version != 4 || ip->ihl < 5) return NULL;
  if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP) return NULL;
  if (ip->frag_off & bpf_htons(SLUICE_IP_OFFSET)) return NULL;
  ports = (void*)ip + ip->ihl * 4;
  if ((void*)(ports + 1) > end) return NULL;
  return ports;
}

static __always_inline bool first_fragment(const struct iphdr* ip) {
  return ip->frag_off & bpf_htons(SLUICE_IP_MORE_FRAGMENTS);
}

/* Whether the packet's own lengths add up within the frame: IP total length, TCP data offset, UDP length. What follows
 * the IP packet (Ethernet padding) is not looked at. True: a whole TCP or UDP header lies at `ports`, below `end`. */
static __always_inline bool lengths_add_up(const struct iphdr* ip, const struct ports* ports, const void* end) {
  __u32 total = bpf_ntohs(ip->tot_len);
  __u32 header = ip->ihl * 4;
  const __u8* l4 = (const __u8*)ports;

  if (total > (__u32)((const char*)end - (const char*)ip)) return false;
  if (ip->protocol == IPPROTO_TCP) {
    __u32 length;
    if (l4 + sizeof(struct tcphdr) > (const __u8*)end) return false;
    length = (l4[SLUICE_TCP_DATA_OFFSET] >> 4) * 4;
    return length >= sizeof(struct tcphdr) && header + length <= total;
  }
  if (l4 + sizeof(struct udphdr) > (const __u8*)end) return false;
  {
    __u32 length = bpf_ntohs(((const struct udphdr*)l4)->len);
    return length >= sizeof(struct udphdr) && header + length <= total;
  }
}

#endif
