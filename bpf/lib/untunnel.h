/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets that come by the tunnel's port: the common case inlined, the rest stripped and handed to slow.h. */
#ifndef SLUICE_BPF_LIB_UNTUNNEL_H
#define SLUICE_BPF_LIB_UNTUNNEL_H

#include "bpf/lib/choice.h"
#include "bpf/lib/hot.h"

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
  if (unlikely(!known_flow(&packet, &target, packet.service, v6))) return -1;
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
