/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets that come by the tunnel's port: the common case inlined, the rest stripped and handed to slow.h. */
#ifndef SLUICE_BPF_LIB_UNTUNNEL_H
#define SLUICE_BPF_LIB_UNTUNNEL_H

#include "bpf/lib/choice.h"
#include "bpf/lib/hot.h"

/* Where a tunnel packet's headers lie, from the frame's beginning. */
static __always_inline __u32 geneve_offset(const bool outer6) {
  return ETH_HLEN + (outer6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + sizeof(struct udphdr);
}

/* Sends a probe back to the peer that it came from, or takes in the answer to one of ours. Returns an XDP action. */
static __always_inline int probed(struct xdp_md* ctx, const struct sluice_peer* peer, __u32 flags, const bool outer6) {
  void* eth = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  void* outer = eth + ETH_HLEN;
  void* geneve = eth + geneve_offset(outer6);
  struct udphdr* udp = geneve - sizeof(struct udphdr);
  __u64 source;

  if (geneve + SLUICE_GENEVE_BYTES + SLUICE_TUNNEL_OPTION + 8 > end) { /* the caller has seen to it */
    count_reason(SLUICE_REASON_TUNNEL_MALFORMED, 1, end - eth);
    return XDP_DROP;
  }
  if (flags & SLUICE_TUNNEL_ANSWER) {
    struct sluice_proof* proof =
        &proofs_memory()[((__u64)((const char*)peer - (const char*)peers_memory()) / sizeof(struct sluice_peer)) &
                         (SLUICE_MAX_PEERS - 1)];
    SLUICE_STORE_ONCE(proof->nonce, *(const __u64*)(geneve + SLUICE_GENEVE_BYTES + SLUICE_TUNNEL_OPTION));
    SLUICE_STORE_ONCE(proof->bytes, ip_length(outer, outer6));
    SLUICE_STORE_ONCE(proof->seen, (__u32)bpf_jiffies64());
    count_reason(SLUICE_REASON_PROBE_RETURNED, 1, ip_length(outer, outer6) + ETH_HLEN);
    return XDP_DROP;
  }
  source = load_mac(eth + ETH_ALEN);
  store_ethernet(eth, source, own_mac(), outer6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
  if (outer6) {
    __u64* addresses = (__u64*)&((struct ipv6hdr*)outer)->saddr;
    __u64 from0 = addresses[0], from1 = addresses[1];
    addresses[0] = addresses[2];
    addresses[1] = addresses[3];
    addresses[2] = from0;
    addresses[3] = from1;
  } else {
    struct iphdr* ip = outer; /* the sum of both addresses stays */
    __be32 from = ip->saddr;
    ip->saddr = ip->daddr;
    ip->daddr = from;
  }
  udp->source = udp->dest;
  udp->check = 0;
  *(__u64*)(geneve + 12) = SLUICE_LOAD_ONCE(peer->token);
  *(__u8*)(geneve + 22) = SLUICE_TUNNEL_PROBE | SLUICE_TUNNEL_ANSWER;
  count_reason(SLUICE_REASON_PROBE_ANSWERED, 1, ip_length(outer, outer6) + ETH_HLEN);
  return send_back();
}

/* Reads the candidates of an option, which lie at memory->header, `bytes` of them. False: they do not add up. */
static __always_inline bool read_asked(struct flow_scratch* memory, __u32 count, __u32 bytes, const bool v6) {
  __u32 each = v6 ? SLUICE_TUNNEL_CANDIDATE6 : SLUICE_TUNNEL_CANDIDATE4;
  __u32 node = memory->node_family == 6 ? 16 : 4, at = 0;

  if (bytes != count * each + (count - 1) * node) return false;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < SLUICE_TUNNEL_CANDIDATES; i++) {
    struct asked* asked = &memory->asked[i];
    const __u8* from = memory->header + (at & 127);
    if (i >= count) break;
    asked->peer = 0;
    asked->plane = 0;
    asked->address.words[0] = v6 ? ((const __u64*)from)[0] : *(const __u32*)from;
    asked->address.words[1] = v6 ? ((const __u64*)from)[1] : 0;
    asked->port = *(const __be16*)(from + each - 4);
    if (i + 1 < count) {
      struct asked* next = &memory->asked[(i + 1) & (SLUICE_TUNNEL_CANDIDATES - 1)];
      next->node.words[0] = node == 16 ? *(const __u64*)(from + each) : *(const __u32*)(from + each);
      next->node.words[1] = node == 16 ? *(const __u64*)(from + each + 8) : 0;
    }
    at += each + node;
  }
  return true;
}

enum unwrapped {
  UNWRAPPED_IPV4,
  UNWRAPPED_IPV6,
  UNWRAPPED_DONE,  /* memory->action says what becomes of it; it has been counted */
  UNWRAPPED_OTHER, /* no tunnel packet of ours */
};

/* Takes a packet out of a tunnel: it is stripped, and memory->asked holds its candidates. Returns an enum unwrapped. */
static __always_inline int unwrap(struct xdp_md* ctx, struct flow_scratch* memory, const bool outer6) {
  void* eth = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  void* outer = eth + ETH_HLEN;
  void* geneve = eth + geneve_offset(outer6);
  const struct sluice_peer* peer;
  __u32 option, words, bytes, meta, count, length;
  __be16 protocol;
  __u64 word;
  bool v6;

  if (geneve + SLUICE_GENEVE_BYTES + SLUICE_TUNNEL_OPTION + 8 > end ||
      (!outer6 && (((struct iphdr*)outer)->ihl != 5 ||
                   ((struct iphdr*)outer)->frag_off & bpf_htons(SLUICE_IP_MORE_FRAGMENTS | SLUICE_IP_OFFSET))))
    return UNWRAPPED_OTHER;
  peer = tunnel_peer(outer, *(const __u64*)(geneve + 12), outer6);
  if (!peer) return UNWRAPPED_OTHER;
  length = ip_length(outer, outer6);
  memory->action = XDP_DROP;
  word = *(const __u64*)geneve;
  option = *(const __u32*)(geneve + 8);
  meta = *(const __u32*)(geneve + 20);
  words = option >> 24 & 0x1f;
  protocol = (__be16)(word >> 16);
  v6 = protocol == bpf_htons(ETH_P_IPV6);
  if ((word & 0xff) != words + 1 || (option & 0xffffff) != (SLUICE_OPTION_WORD(false) & 0xffffff)) goto malformed;
  if (meta >> 16 & SLUICE_TUNNEL_PROBE) {
    memory->action = probed(ctx, peer, meta >> 16 & 0xff, outer6);
    return UNWRAPPED_DONE;
  }
  if (protocol != bpf_htons(ETH_P_IP) && !v6) goto malformed;
  count = meta >> 8 & 0xff;
  memory->node_family = meta >> 24;
  if (count < 1 || count > SLUICE_TUNNEL_CANDIDATES ||
      (count > 1 && memory->node_family != 4 && memory->node_family != 6) || words < 5)
    goto malformed;
  memory->asked_count = count;
  memory->hops = (__u8)meta;
  memory->outer_class = traffic_class(outer, outer6);
  memory->tunnel_flags = meta >> 16 & 0xff;
  memory->tunnel_fits =
      v6 ? SLUICE_PEER_FITS6(SLUICE_LOAD_ONCE(peer->state)) : SLUICE_PEER_FITS4(SLUICE_LOAD_ONCE(peer->state));
  bytes = words * 4 - 12;
  if (bytes < 8 || bytes > 112) goto malformed;
  if (bpf_xdp_load_bytes(ctx, geneve_offset(outer6) + SLUICE_GENEVE_BYTES + SLUICE_TUNNEL_OPTION, memory->header,
                         bytes))
    goto malformed;
  if (!(v6 ? read_asked(memory, count, bytes, true) : read_asked(memory, count, bytes, false))) goto malformed;
  if (!strip(ctx, geneve_offset(outer6) - ETH_HLEN + SLUICE_GENEVE_BYTES + SLUICE_TUNNEL_OPTION + bytes, protocol))
    goto malformed;
  return v6 ? UNWRAPPED_IPV6 : UNWRAPPED_IPV4;
malformed:
  count_reason(SLUICE_REASON_TUNNEL_MALFORMED, 1, length + ETH_HLEN);
  return UNWRAPPED_DONE;
}

/* The inner packet of a tunnel packet with one candidate: delivered to a backend on this node if its flow is known. The
 * outer headers have been checked. Returns an XDP action, counted, or -1: ask further, nothing is changed. */
static __always_inline int deliver_known(struct xdp_md* ctx, void* candidate, void* end, __u32 outer_bytes,
                                         __u8 outer_class, const bool v6) {
  const __u32 candidate_bytes = v6 ? SLUICE_TUNNEL_CANDIDATE6 : SLUICE_TUNNEL_CANDIDATE4;
  void* inner = candidate + candidate_bytes;
  const struct sluice_key_entry* entry;
  const struct sluice_service* service;
  struct packet packet;
  struct target target;
  struct key key;
  __u64 settings;

  if (inner > end || !read_packet(&packet, inner, end, v6)) return -1;
  packet.length = ip_length(inner, v6);
  if (!lengths_add_up(ctx, inner, packet.length, packet.protocol, packet.ports, end)) return -1;
  key = key_of(&packet.ends.destination, packet.ends.destination_port, packet.protocol, v6);
  entry = find_key(SLUICE_LOAD_ONCE(config_memory()->key_table), &key, v6);
  if (unlikely(!entry)) return -1;
  packet.service = entry->value;
  service = &services_memory()[packet.service & services_mask];
  settings = SLUICE_LOAD_ONCE(service->settings);
  if (unlikely(SLUICE_SETTINGS_SOURCES(settings))) return -1;
  load_address(&target.address, candidate, v6);
  target.port = *(const __be16*)(candidate + (v6 ? 16 : 4));
  target.source_port = packet.ends.source_port;
  target.forwarding = SLUICE_FORWARD_LOCAL;
  /* The record alone will not do: its backend may be gone, and its address another's. */
  target.backend = find_named(packet.service, &target.address, target.port);
  if (unlikely(target.backend == SLUICE_NO_BACKEND_INDEX)) return -1;
  if (unlikely(!known_flow(&packet, &target, false, v6))) return -1;
  if (unlikely(!keep_congestion(inner, outer_class, v6)) || pass_up_rewritten(&packet, &target, v6) < 0)
    return drop(packet.service, target.backend, SLUICE_REASON_TUNNEL_MALFORMED, packet.length + ETH_HLEN);
  if (unlikely(!strip(ctx, outer_bytes + candidate_bytes, v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP))))
    return drop(packet.service, target.backend, SLUICE_REASON_NO_MEMORY, packet.length + ETH_HLEN);
  count_forward(target.backend, true, packet.length + ETH_HLEN);
  return XDP_PASS;
}

/* A UDP packet to the tunnel's port. */
static __always_inline int from_tunnel(struct xdp_md* ctx, const bool outer6) {
  const __u32 header = outer6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
  const __u32 outer_bytes = header + sizeof(struct udphdr) + SLUICE_GENEVE_BYTES + SLUICE_TUNNEL_OPTION;
  void* outer = (void*)(long)ctx->data + ETH_HLEN;
  void* end = (void*)(long)ctx->data_end;
  void* geneve = outer + header + sizeof(struct udphdr);
  __u64 word;
  __u32 option;
  int action = -1;

  if (outer + outer_bytes > end || (!outer6 && ((struct iphdr*)outer)->ihl != 5))
    return go_on(ctx, outer6 ? STAGE_SERVICE6 : STAGE_SERVICE4);
  if (!tunnel_peer(outer, *(const __u64*)(geneve + 12), outer6))
    return go_on(ctx, outer6 ? STAGE_SERVICE6 : STAGE_SERVICE4);
  word = *(const __u64*)geneve;
  option = *(const __u32*)(geneve + 8);
  if ((*(const __u32*)(geneve + 20) & 0x00ffff00) == 1u << 8) { /* one candidate, no flags */
    if (likely(word == SLUICE_GENEVE_WORD(false) && option == SLUICE_OPTION_WORD(false)))
      action = deliver_known(ctx, outer + outer_bytes, end, outer_bytes, traffic_class(outer, outer6), false);
    else if (word == SLUICE_GENEVE_WORD(true) && option == SLUICE_OPTION_WORD(true))
      action = deliver_known(ctx, outer + outer_bytes, end, outer_bytes, traffic_class(outer, outer6), true);
  }
  if (likely(action >= 0)) return action;
  return go_on(ctx, outer6 ? STAGE_UNWRAP6 : STAGE_UNWRAP4);
}

/* What from_tunnel() does not settle. */
static __always_inline int from_tunnel_slowly(struct xdp_md* ctx, const bool outer6) {
  struct flow_scratch* memory = flow_scratch();

  if (!memory) return unread(ctx, SLUICE_REASON_STALE_TABLE);
  switch (unwrap(ctx, memory, outer6)) {
    case UNWRAPPED_IPV4:
      return go_on(ctx, STAGE_INNER4);
    case UNWRAPPED_IPV6:
      return go_on(ctx, STAGE_INNER6);
    case UNWRAPPED_DONE:
      return (int)memory->action;
    default:
      return go_on(ctx, outer6 ? STAGE_SERVICE6 : STAGE_SERVICE4);
  }
}

#endif
