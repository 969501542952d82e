/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets whose ports do not lie where they usually do: IPv6 extension headers, and fragments. The first fragment
 * carries the ports and is remembered where it concerns a flow of ours; later ones follow it. XDP can hold no packet
 * back: a later one that comes first is dropped and counted. */
#ifndef SLUICE_BPF_LIB_FRAGMENT_H
#define SLUICE_BPF_LIB_FRAGMENT_H

#include "bpf/lib/context.h"
#include "bpf/lib/packet.h"

/* So long the fragments of one packet may take: what Linux waits for them (RFC 791: at least 15 s). */
#define SLUICE_FRAGMENT_SECONDS 30
#define SLUICE_EXTENSION_HEADERS 6

struct fragment_key {
  union sluice_address source;
  union sluice_address destination;
  __u32 id;
  __u8 protocol; /* IPv4 (RFC 791); in IPv6 it is none of what tells packets apart (RFC 8200, section 4.5): 0 */
  __u8 family;
  __u8 pad[2];
};
struct fragment_ports {
  __be16 source;
  __be16 destination;
  __u32 seen; /* jiffies, low 32 bits */
  __u8 protocol;
  __u8 pad[3];
};
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 1 << 13);
  __type(key, struct fragment_key);
  __type(value, struct fragment_ports);
} fragments SEC(".maps");

enum part { PART_WHOLE, PART_FIRST, PART_LATER };

/* What lies behind an IP header. */
struct walked {
  __u32 offset; /* of TCP, UDP or ICMP, from the IP header on */
  __u32 id;     /* of a fragment */
  __u8 protocol;
  __u8 part; /* enum part */
  __u8 pad[2];
};

/* Walks IPv6's extension headers. Returns 0, or -1: too many, or they do not end within the packet. A function of its
 * own. `at`: where the IP header begins. */
__noinline int walk_extensions(SLUICE_CONTEXT* ctx, struct walked* walked, __u32 at) {
  __u8 header[8];
  __u32 offset = sizeof(struct ipv6hdr);

  if (!walked || sluice_load_bytes(ctx, at, header, sizeof(header)) || header[0] >> 4 != 6) return -1;
  walked->protocol = header[__builtin_offsetof(struct ipv6hdr, nexthdr)];
  walked->part = PART_WHOLE;
#pragma clang loop unroll(disable)
  for (int i = 0; i < SLUICE_EXTENSION_HEADERS; i++) {
    __u8 here = walked->protocol;
    if (here != IPPROTO_HOPOPTS && here != IPPROTO_ROUTING && here != IPPROTO_DSTOPTS && here != IPPROTO_AH &&
        here != IPPROTO_FRAGMENT) {
      walked->offset = offset;
      return 0;
    }
    if (sluice_load_bytes(ctx, at + offset, header, sizeof(header))) return -1;
    walked->protocol = header[0];
    if (here == IPPROTO_FRAGMENT) {
      __u32 position = (__u32)header[2] << 8 | (header[3] & 0xf8);
      __builtin_memcpy(&walked->id, header + 4, 4);
      offset += 8;
      if (position) {
        walked->part = PART_LATER;
        walked->offset = offset;
        return 0;
      }
      if (header[3] & 1) walked->part = PART_FIRST;
    } else {
      offset += here == IPPROTO_AH ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
    }
  }
  return -1;
}

/* The same for IPv4. False: it is none. */
static __always_inline bool walk4(const struct iphdr* ip, const void* end, struct walked* walked) {
  __u16 position;

  if ((const void*)(ip + 1) > end || ip->version != 4 || ip->ihl < 5) return false;
  position = bpf_ntohs(ip->frag_off);
  walked->offset = ip->ihl * 4;
  walked->id = ip->id;
  walked->protocol = ip->protocol;
  walked->part = position & SLUICE_IP_OFFSET           ? PART_LATER
                 : position & SLUICE_IP_MORE_FRAGMENTS ? PART_FIRST
                                                       : PART_WHOLE;
  return true;
}

static __always_inline void fragment_key_of(struct fragment_key* key, const void* l3, const struct walked* walked,
                                            const bool v6) {
  load_source(&key->source, l3, v6);
  load_destination(&key->destination, l3, v6);
  key->id = walked->id;
  key->protocol = v6 ? 0 : walked->protocol;
  key->family = v6 ? 6 : 4;
  key->pad[0] = key->pad[1] = 0;
}

static __always_inline void remember_fragment(const struct fragment_key* key, const struct ports* ports,
                                              __u8 protocol) {
  struct fragment_ports value = {.source = ports->source, .destination = ports->destination, .protocol = protocol};
  value.seen = (__u32)bpf_jiffies64();
  bpf_map_update_elem(&fragments, key, &value, BPF_ANY);
}

static __always_inline const struct fragment_ports* recall_fragment(const struct fragment_key* key) {
  const struct fragment_ports* first = bpf_map_lookup_elem(&fragments, key);
  return first && (__u32)bpf_jiffies64() - first->seen <= SLUICE_FRAGMENT_SECONDS * jiffies_per_second ? first : NULL;
}

#endif
