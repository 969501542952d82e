/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Putting packets into tunnels and taking them out (bpf/layout/tunnel.h has the format). */
#ifndef SLUICE_BPF_LIB_TUNNEL_H
#define SLUICE_BPF_LIB_TUNNEL_H

#include "bpf/lib/rewrite.h"
#include "bpf/lib/service.h"
#include "bpf/lib/way.h"

#define SLUICE_GENEVE_BYTES 8
#define SLUICE_IPIP_TTL 64

/* Geneve's first eight bytes and the option's first four with one candidate, as words. */
#define SLUICE_OPTION_WORDS(v6) ((12 + ((v6) ? SLUICE_TUNNEL_CANDIDATE6 : SLUICE_TUNNEL_CANDIDATE4)) / 4)
#define SLUICE_GENEVE_WORD(v6)                                                   \
  ((__u64)(SLUICE_OPTION_WORDS(v6) + 1) | ((__u64)SLUICE_GENEVE_CRITICAL << 8) | \
   ((__u64)((v6) ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP)) << 16))
#define SLUICE_OPTION_WORD(v6) \
  ((__u32)bpf_htons(SLUICE_GENEVE_CLASS) | ((__u32)SLUICE_GENEVE_TYPE << 16) | ((__u32)SLUICE_OPTION_WORDS(v6) << 24))

/* The outer UDP source port: the flow's entropy, of the dynamic range (RFC 8926, section 3.3). Network order. */
static __always_inline __be16 tunnel_source_port(__u64 hash) {
  return bpf_htons(0xc000 | ((__u16)(hash >> 48) & 0x3fff));
}

/* Writes the outer headers from a peer's template at `to`, as words: `bytes` is what follows them, Geneve and UDP
 * included. Returns where they end: at the Geneve header. */
static __always_inline void* write_outer4(void* to, const struct sluice_peer* peer, __u32 udp_bytes, __u8 tos,
                                          __be16 source_port) {
  const __u64* from = (const __u64*)peer->outer;
  __u64* words = to;
  __u32 total = bpf_htons((__u16)(sizeof(struct iphdr) + udp_bytes));
  /* The template's checksum field holds the sum of its other fields, not folded into a checksum yet. */
  __u32 sum = (__u32)((from[1] >> 16) & 0xffff) + total + ((__u32)tos << 8);

  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  words[0] = from[0] | ((__u64)tos << 8) | ((__u64)total << 16);
  words[1] = (from[1] & ~0xffff0000ULL) | ((__u64)(__u16)~sum << 16);
  words[2] = from[2] | ((__u64)source_port << 32);
  ((__u32*)to)[6] = ((const __u32*)from)[6] | bpf_htons((__u16)udp_bytes);
  return to + sizeof(struct iphdr) + sizeof(struct udphdr);
}

static __always_inline void* write_outer6(void* to, const struct sluice_peer* peer, __u32 udp_bytes, __u8 tos,
                                          __be16 source_port) {
  const __u64* from = (const __u64*)peer->outer;
  __u64* words = to;

  words[0] = from[0] | bpf_htons((__u16)tos << 4) | ((__u64)bpf_htons((__u16)udp_bytes) << 32);
  words[1] = from[1];
  words[2] = from[2];
  words[3] = from[3];
  words[4] = from[4];
  words[5] = from[5] | source_port | ((__u64)bpf_htons((__u16)udp_bytes) << 32);
  return to + sizeof(struct ipv6hdr) + sizeof(struct udphdr);
}

/* Puts the packet, of which `v6` says the family, into the tunnel to a peer with one candidate, and sends it. Its own
 * hop has been taken. Returns an XDP action, or a negative reason. */
static __always_inline int encapsulate(struct xdp_md* ctx, const struct sluice_peer* peer,
                                       const union sluice_address* backend, __be16 port, __u64 hash, __u32 length,
                                       __u8 tos, const bool v6, const bool outer6) {
  const __u32 candidate = v6 ? SLUICE_TUNNEL_CANDIDATE6 : SLUICE_TUNNEL_CANDIDATE4;
  const __u32 udp_header = sizeof(struct udphdr) + SLUICE_GENEVE_BYTES + SLUICE_TUNNEL_OPTION + candidate;
  const __u32 grows = (outer6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + udp_header;
  __u64 next_hop = SLUICE_LOAD_ONCE(peer->next_hop);
  const struct sluice_egress* out = find_egress(next_hop);
  void *eth, *to, *end;

  if (unlikely(!out)) return -SLUICE_REASON_NO_NEXT_HOP;
  if (unlikely(bpf_xdp_adjust_head(ctx, -(int)grows))) return -SLUICE_REASON_NO_MEMORY;
  eth = (void*)(long)ctx->data;
  end = (void*)(long)ctx->data_end;
  if (unlikely(eth + ETH_HLEN + grows > end)) return -SLUICE_REASON_NO_MEMORY;
  to = eth + ETH_HLEN;
  to = outer6 ? write_outer6(to, peer, udp_header + length, tos, tunnel_source_port(hash))
              : write_outer4(to, peer, udp_header + length, tos, tunnel_source_port(hash));
  *(__u64*)to = SLUICE_GENEVE_WORD(v6);
  *(__u32*)(to + 8) = SLUICE_OPTION_WORD(v6);
  *(__u64*)(to + 12) = SLUICE_LOAD_ONCE(peer->token);
  *(__u32*)(to + 20) = SLUICE_TUNNEL_HOPS | 1u << 8;
  if (v6) {
    *(__u64*)(to + 24) = backend->words[0];
    *(__u64*)(to + 32) = backend->words[1];
    *(__u32*)(to + 40) = port;
  } else {
    *(__u64*)(to + 24) = backend->ipv4 | ((__u64)port << 32);
  }
  return transmit(ctx, eth, out, next_hop, outer6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
}

/* Puts the packet into IP (RFC 2003, RFC 2473) to a backend, and sends it. Its own hop has been taken. The outer family
 * is the backend's, which is the service's. Returns an XDP action, or a negative reason. */
static __always_inline int encapsulate_ipip(struct xdp_md* ctx, const union sluice_address* backend, __u64 next_hop,
                                            __u32 length, __u8 tos, const bool v6) {
  const __u32 grows = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
  const struct sluice_egress* out = find_egress(next_hop);
  void *eth, *end;

  if (unlikely(!out || !(v6 ? out->source6.words[0] | out->source6.words[1] : out->source4)))
    return -SLUICE_REASON_NO_NEXT_HOP;
  if (unlikely(out->mtu && length + grows > out->mtu)) return -SLUICE_REASON_TOO_BIG;
  if (unlikely(bpf_xdp_adjust_head(ctx, -(int)grows))) return -SLUICE_REASON_NO_MEMORY;
  eth = (void*)(long)ctx->data;
  end = (void*)(long)ctx->data_end;
  if (unlikely(eth + ETH_HLEN + grows > end)) return -SLUICE_REASON_NO_MEMORY;
  if (v6) {
    __u64* ip = eth + ETH_HLEN;
    ip[0] = bpf_htonl(0x60000000 | (__u32)tos << 20) |
            ((__u64)(bpf_htons((__u16)length) | (__u32)IPPROTO_IPV6 << 16 | (__u32)SLUICE_IPIP_TTL << 24) << 32);
    ip[1] = out->source6.words[0];
    ip[2] = out->source6.words[1];
    ip[3] = backend->words[0];
    ip[4] = backend->words[1];
  } else {
    __u32* ip = eth + ETH_HLEN;
    __u64 sum;
    ip[0] = 0x45 | (__u32)tos << 8 | (__u32)bpf_htons((__u16)(length + grows)) << 16;
    ip[1] = (__u32)bpf_htons(SLUICE_IP_DONT_FRAGMENT) << 16;
    ip[2] = SLUICE_IPIP_TTL | (__u32)IPPROTO_IPIP << 8;
    ip[3] = out->source4;
    ip[4] = backend->ipv4;
    sum = (__u64)ip[0] + ip[1] + ip[2] + ip[3] + ip[4];
    ip[2] |= (__u32)(__u16)~fold_checksum(sum) << 16;
  }
  return transmit(ctx, eth, out, next_hop, v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
}

/* --- out of a tunnel
 * --------------------------------------------------------------------------------------------------
 */

/* Who sent a tunnel packet: its outer source is a node's, and the token is that node's. NULL: nobody whom we know. */
static __always_inline const struct sluice_peer* tunnel_peer(const void* outer, __u64 token, const bool outer6) {
  const struct sluice_key_entry* entry;
  const struct sluice_peer* peer;
  union sluice_address source;
  struct key key;

  load_source(&source, outer, outer6);
  key = key_of(&source, 0, 0, outer6);
  entry = find_key(SLUICE_LOAD_ONCE(config_memory()->key_table), &key, outer6);
  if (!entry || !(entry->value & SLUICE_ADDRESS_PEER)) return NULL;
  peer = &peers_memory()[SLUICE_ADDRESS_PEER_INDEX(entry->value) & (SLUICE_MAX_PEERS - 1)];
  if (!token || (token != SLUICE_LOAD_ONCE(peer->accepted[0]) && token != SLUICE_LOAD_ONCE(peer->accepted[1])))
    return NULL;
  return peer;
}

/* RFC 6040, section 4.2: congestion that the outer header has met is told to the inner one. False: the inner one's ends
 * do not listen to that, so the packet must be dropped instead. */
static __always_inline bool keep_congestion(void* inner, __u8 outer_class, const bool v6) {
  __u8 inner_class = traffic_class(inner, v6);

  if (likely((outer_class & 3) != 3) || (inner_class & 3) == 3) return true;
  if (!(inner_class & 3)) return false;
  if (v6) {
    *(__be16*)inner |= bpf_htons(3 << 4);
  } else {
    struct iphdr* ip = inner;
    ip->check = update_checksum(ip->check, change_of_u16(bpf_htons(ip->tos), bpf_htons(ip->tos | 3)));
    ip->tos |= 3;
  }
  return true;
}

/* Takes `bytes` off the packet behind its Ethernet header. False: the kernel refuses. */
static __always_inline bool strip(struct xdp_md* ctx, __u32 bytes, __be16 protocol) {
  void* data = (void*)(long)ctx->data;
  __u64 source, destination;

  if (data + ETH_HLEN > (void*)(long)ctx->data_end) return false;
  destination = *(const __u64*)data & SLUICE_MAC_MASK;
  source = load_mac(data + ETH_ALEN);
  if (bpf_xdp_adjust_head(ctx, (int)bytes)) return false;
  data = (void*)(long)ctx->data;
  if (data + ETH_HLEN + 2 > (void*)(long)ctx->data_end) return false;
  store_ethernet(data, destination, source, protocol);
  return true;
}

#endif
