/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors about our own tunnel packets: what fits the way to another node (RFC 1191, RFC 8201). */
#ifndef SLUICE_BPF_LIB_PATH_MTU_H
#define SLUICE_BPF_LIB_PATH_MTU_H

#include "bpf/lib/answer.h"
#include "bpf/lib/quoted.h"
#include "bpf/lib/tunnel.h"

/* Reads an ICMP error that says that a packet of ours was too big. What it quotes begins at icmp + ICMP_HEADER and may
 * be read up to what the error's own length says (quoted_up_to()). Returns what fits, bytes of IP packet, no less than
 * a path's least; 0: it is none. */
static __always_inline __u32 read_too_big(const void* l3, const void* end, const bool v6) {
  const __u32 header = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
  const __u8* icmp = l3 + header;
  __u32 mtu;

  if ((const void*)icmp + ICMP_HEADER > end) return 0;
  if (v6) {
    const struct ipv6hdr* ip = l3;
    if (ip->nexthdr != IPPROTO_ICMPV6 || icmp[0] != ICMPV6_PKT_TOOBIG) return 0;
    mtu = bpf_ntohl(*(const __be32*)(icmp + 4));
    if (mtu > 0xffff) return 0;
    return mtu < SLUICE_MTU_LEAST6 ? SLUICE_MTU_LEAST6 : mtu;
  } else {
    const struct iphdr* ip = l3;
    if (ip->ihl != 5 || ip->protocol != IPPROTO_ICMP ||
        ip->frag_off & bpf_htons(SLUICE_IP_MORE_FRAGMENTS | SLUICE_IP_OFFSET) || icmp[0] != ICMP_DEST_UNREACH ||
        icmp[1] != ICMP_FRAG_NEEDED)
      return 0;
    mtu = bpf_ntohs(*(const __be16*)(icmp + 6));
    return mtu < SLUICE_MTU_LEAST4 ? SLUICE_MTU_LEAST4 : mtu;
  }
}

/* Whether what an ICMP error quotes reaches up to here: within the frame, and within the error's own length. */
static __always_inline bool quoted_up_to(const void* l3, const void* to, const void* end, const bool v6) {
  return to <= end && (__u32)((const char*)to - (const char*)l3) <= ip_length(l3, v6);
}

/* Lowers what goes into the tunnel to a peer. The agent, which is told, proves the way anew; until then it may write
 * the word from before, and the next error lowers it again. */
static __always_inline void lower_peer(struct sluice_peer* peer, __u32 mtu, const bool outer6) {
  __u64 before = SLUICE_LOAD_ONCE(peer->state);
  __u32 fits4 = mtu - SLUICE_TUNNEL_OVERHEAD(outer6, 0), fits6 = mtu - SLUICE_TUNNEL_OVERHEAD(outer6, 1);

  if (fits4 > SLUICE_PEER_FITS4(before)) fits4 = SLUICE_PEER_FITS4(before);
  if (fits6 > SLUICE_PEER_FITS6(before)) fits6 = SLUICE_PEER_FITS6(before);
  __sync_val_compare_and_swap(&peer->state, before, SLUICE_PEER_WORD(SLUICE_PEER_FLAGS(before), fits4, fits6));
}

/* Takes in an error that says that a tunnel packet of ours was too big. Only whoever has seen our packets knows their
 * token: a quotation too short to hold it (RFC 792 asks for 8 bytes) is not believed. */
static __always_inline void hear_path_mtu(struct xdp_md* ctx, const bool v6) {
  const __u32 header = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
  const void* l3 = (void*)(long)ctx->data + ETH_HLEN;
  const void* end = (void*)(long)ctx->data_end;
  const void* inner = l3 + header + ICMP_HEADER;
  const struct udphdr* udp = inner + header;
  const void* geneve = udp + 1;
  const struct sluice_config* node = config_memory();
  const struct sluice_key_entry* entry;
  union sluice_address to;
  struct sluice_proof* proof;
  struct sluice_peer* peer;
  struct key key;
  __u32 mtu, index;

  if (!node->tunnel_port || !quoted_up_to(l3, geneve + SLUICE_GENEVE_BYTES + SLUICE_TUNNEL_OPTION, end, v6)) return;
  mtu = read_too_big(l3, end, v6);
  if (!mtu) return;
  if (v6) {
    const struct ipv6hdr* in = inner;
    if (in->version != 6 || in->nexthdr != IPPROTO_UDP) return;
  } else {
    const struct iphdr* in = inner;
    if (in->version != 4 || in->ihl != 5 || in->protocol != IPPROTO_UDP) return;
  }
  if (udp->dest != node->tunnel_port ||
      (*(const __u32*)(geneve + 8) & 0xffffff) != (SLUICE_OPTION_WORD(false) & 0xffffff))
    return;
  load_destination(&to, inner, v6);
  key = key_of(&to, 0, 0, v6);
  entry = find_key(SLUICE_LOAD_ONCE(node->key_table), &key, v6);
  if (!entry || !(entry->value & SLUICE_ADDRESS_PEER)) return;
  index = SLUICE_ADDRESS_PEER_INDEX(entry->value) & (SLUICE_MAX_PEERS - 1);
  peer = &peers_memory()[index];
  if (*(const __u64*)(geneve + 12) != SLUICE_LOAD_ONCE(peer->token) || !peer->token) return;
  proof = &proofs_memory()[index];
  SLUICE_STORE_ONCE(proof->told_mtu, mtu);
  SLUICE_STORE_ONCE(proof->told_seen, (__u32)bpf_jiffies64());
  lower_peer(peer, mtu, v6);
  count_reason(SLUICE_REASON_PATH_MTU, 1, 0);
}

#endif
