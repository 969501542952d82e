/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which way a packet leaves: what the agent resolved, else the kernel's routes and neighbours. */
#ifndef SLUICE_BPF_LIB_WAY_H
#define SLUICE_BPF_LIB_WAY_H

#include "bpf/lib/packet.h"

#ifndef AF_INET
#define AF_INET 2
#endif

struct way {
  __u64 destination_mac;
  __u64 source_mac;
  __u32 ifindex;
  __u32 mtu;     /* largest IP packet, bytes; 0: not known */
  __be32 source; /* nat's source address; only where a backend is asked for */
};

/* The way that a backend record's next-hop word names. False: not resolved. */
static __always_inline bool resolved_way(__u64 next_hop, struct way* way) {
  __u32 index = SLUICE_NEXT_HOP_EGRESS(next_hop);
  const struct sluice_egress* out;

  if (!index) return false;
  out = bpf_map_lookup_elem(&egress, &index);
  if (!out || !out->ifindex || !out->source) return false;
  way->destination_mac = next_hop & 0xffffffffffffULL;
  way->source_mac = load_mac(out->mac);
  way->ifindex = out->ifindex;
  way->mtu = out->mtu;
  way->source = out->source;
  return true;
}

/* The index of an interface in `egress`, 0 if it is not there. A function of its own, verified once: off the hot path.
 */
__noinline int find_egress(__u32 ifindex) {
#pragma clang loop unroll(disable)
  for (__u32 i = 1; i < SLUICE_MAX_EGRESS; i++) {
    __u32 index = i;
    const struct sluice_egress* out = bpf_map_lookup_elem(&egress, &index);
    if (!out) break;
    if (out->ifindex == ifindex) return (int)i;
  }
  return 0;
}

/* Asks the kernel's routes as for a packet that came in here and is forwarded; needs net.ipv4.ip_forward. Returns a
 * BPF_FIB_LKUP_RET_... code or a negative errno. The packet's length is not given: the kernel would say "too big"
 * without saying for which interface. With SUCCESS all of `way` but source is set, with NO_NEIGH its ifindex. */
static __always_inline long kernel_way(void* ctx, __be32 from, __be32 to, __u8 tos, __u8 protocol, struct way* way) {
  struct bpf_fib_lookup query = {};
  long result;

  query.family = AF_INET;
  query.ifindex = interface_index;
  query.ipv4_src = from;
  query.ipv4_dst = to;
  query.tos = tos;
  query.l4_protocol = protocol;
  result = bpf_fib_lookup(ctx, &query, sizeof(query), 0);
  way->ifindex = query.ifindex;
  if (result != BPF_FIB_LKUP_RET_SUCCESS) return result;
  way->destination_mac = load_mac(query.dmac);
  way->source_mac = load_mac(query.smac);
  way->mtu = query.mtu_result;
  return result;
}

/* The way to a backend that the agent has not resolved, and the source address for it: that of the interface in
 * `egress`, else the node's first nat source. Returns 1, or 0 if there is none. A function of its own: off the hot
 * path. */
__noinline int unresolved_way(struct xdp_md* ctx, __be32 backend, __u32 tos, __u32 protocol, struct way* way) {
  const struct sluice_config* node = node_config();
  const struct sluice_egress* out;
  __u32 index;

  if (!way || !node) return 0;
  if (kernel_way(ctx, node->nat_sources[0], backend, tos, protocol, way) != BPF_FIB_LKUP_RET_SUCCESS) return 0;
  index = find_egress(way->ifindex);
  out = index ? bpf_map_lookup_elem(&egress, &index) : NULL;
  way->source = out && out->source ? out->source : node->nat_sources[0];
  return way->source != 0;
}

/* The way back to a client: the kernel's routes; where they lead out of the interface that the client's packets come in
 * by, but the neighbour is not known, or where the kernel does not forward at all, back to the MAC that the client's
 * packets came from. False: none. */
static __always_inline bool way_to_client(void* ctx, const struct sluice_flow* flow, __u8 tos, __u8 protocol,
                                          struct way* way) {
  const struct sluice_egress* out;
  long result = kernel_way(ctx, flow->address, flow->client, tos, protocol, way);
  __u32 index;

  if (result == BPF_FIB_LKUP_RET_SUCCESS) return true;
  if (result == BPF_FIB_LKUP_RET_FWD_DISABLED)
    way->ifindex = flow->ifindex;
  else if (result != BPF_FIB_LKUP_RET_NO_NEIGH || way->ifindex != flow->ifindex)
    return false;
  way->destination_mac = load_mac(flow->client_mac);
  way->mtu = 0;
  if (way->ifindex == interface_index) {
    way->source_mac = own_mac();
    return true;
  }
  index = find_egress(way->ifindex);
  out = index ? bpf_map_lookup_elem(&egress, &index) : NULL;
  if (!out) return false;
  way->source_mac = load_mac(out->mac);
  return true;
}

/* Whether an IP packet fits. What came in by an interface fits it: longer frames there are put together by the
 * receiving side (GRO, seen in generic mode) and taken apart again on their way out. The kernel drops what exceeds
 * another interface's MTU without telling us: better to count it. */
static __always_inline bool fits(const struct way* way, __u32 length) {
  return way->ifindex == interface_index || !way->mtu || length <= way->mtu;
}

/* Sends the frame that way. Returns XDP_TX or XDP_REDIRECT. */
static __always_inline int transmit(struct ethhdr* eth, const struct way* way) {
  store_mac(eth->h_dest, way->destination_mac);
  store_mac(eth->h_source, way->source_mac);
  return way->ifindex == interface_index ? XDP_TX : bpf_redirect(way->ifindex, 0);
}

#endif
