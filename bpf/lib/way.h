/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which way a packet leaves: what the agent resolved, else the kernel's routes and neighbours. A way is a next-hop word
 * (bpf/layout/node.h). */
#ifndef SLUICE_BPF_LIB_WAY_H
#define SLUICE_BPF_LIB_WAY_H

#include "bpf/lib/context.h"
#include "bpf/lib/packet.h"

#ifndef AF_INET
#define AF_INET 2
#endif
#ifndef AF_INET6
#define AF_INET6 10
#endif

/* How a packet came in, and what becomes of it, where its frame had tags (tags.h). One packet at a time. */
struct frame_tags {
  __u32 tag[2]; /* as they lay in the frame: protocol, then the rest; network order */
  __u32 count;
  __u16 vlan;    /* host order: the one tag's id; 0: no tag; SLUICE_VLAN_TWO: two */
  __u8 answered; /* what is sent goes back where the packet came from: with its tags */
  __u8 handed;   /* what is passed up is for tc */
};
#define SLUICE_VLAN_TWO 0xffff
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct frame_tags);
} tags SEC(".maps");

static __always_inline struct frame_tags* frame_tags(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&tags, &zero);
}

static __always_inline __u16 arrived_vlan(void) {
  const struct frame_tags* here = frame_tags();
  return here ? here->vlan : 0;
}

/* What is sent answers the packet: back with the tags that it had. */
static __always_inline int send_back(void) {
  struct frame_tags* here = frame_tags();
  if (here) here->answered = 1;
  return XDP_TX;
}

/* The interface that a next-hop word names; NULL: none. */
static __always_inline const struct sluice_egress* find_egress(__u64 next_hop) {
  __u32 index = SLUICE_NEXT_HOP_EGRESS(next_hop), own = interface_egress;
  const struct sluice_egress* out = &egress_memory()[own & (SLUICE_MAX_EGRESS - 1)];

  /* Most leave by the interface that they came in by: its entry is fetched before it is known that this one does. */
  if (unlikely(index != own)) out = &egress_memory()[index & (SLUICE_MAX_EGRESS - 1)];
  return out->ifindex ? out : NULL; /* nobody is at index 0 */
}

/* The index of an interface in `egress`, 0 if it is not there. */
static __always_inline __u32 egress_of_interface(__u32 ifindex) {
#pragma clang loop unroll(disable)
  for (__u32 i = 1; i < SLUICE_MAX_EGRESS; i++) {
    if (egress_memory()[i].device == ifindex) return i;
  }
  return 0;
}

/* The same of the device that the packet at hand came in by: with a tag, it is a VLAN device. */
static __always_inline __u32 egress_of_arrival(void) {
  __u16 vlan = arrived_vlan();
  __be16 tag = bpf_htons(vlan);
  __u32 ifindex = vlan ? interface_index | SLUICE_EGRESS_NOT_PLAIN : interface_index;

#pragma clang loop unroll(disable)
  for (__u32 i = 1; i < SLUICE_MAX_EGRESS; i++) {
    if (egress_memory()[i].ifindex == ifindex && egress_memory()[i].vlan == tag) return i;
  }
  return 0;
}

/* Where a backend's packets go from here. A backend on this machine is one of nat's for clients on this machine: their
 * packets go back into its stack whence they came, from a source whose replies are routed here again. Passed up as they
 * are, with a source of this machine's own, the stack would drop them, and never bring us the replies. */
static __always_inline __u8 forwarding_here(__u64 what) {
  __u8 forwarding = SLUICE_BACKEND_FORWARDING(what);
  return interface_is_node_link && forwarding == SLUICE_FORWARD_LOCAL ? SLUICE_FORWARD_NAT : forwarding;
}
static __always_inline __u64 next_hop_here(const struct sluice_backend* backend, __u64 what) {
  /* Both ends of the node link have one MAC. */
  return interface_is_node_link && SLUICE_BACKEND_FORWARDING(what) == SLUICE_FORWARD_LOCAL
             ? SLUICE_NEXT_HOP_WORD(interface_egress, own_mac())
             : SLUICE_LOAD_ONCE(backend->next_hop);
}

/* Asks the kernel's routes as for a packet that came in here and is forwarded; needs net.ipv4.ip_forward or its like
 * for IPv6. The packet's length is not given: the kernel would say "too big" without saying for which interface.
 * Returns a next-hop word, 0 if there is no way. `former`: the way until now, or back whence a client's packets come,
 * 0: none. It stays where the kernel's is out of the same device but its neighbour is not known, and where the kernel
 * does not forward at all, or the way is the node link: the kernel would deliver where it does not forward. A function
 * of its own, off the hot path. */
__noinline __u64 kernel_way(SLUICE_CONTEXT* ctx, const union sluice_address* from, const union sluice_address* to,
                            __u32 v6, __u64 former) {
  struct bpf_fib_lookup query = {};
  __u32 index;
  long result;

  if (!from || !to) return 0;
  if (egress_memory()[SLUICE_NEXT_HOP_EGRESS(former) & (SLUICE_MAX_EGRESS - 1)].flags & SLUICE_EGRESS_NODE_LINK)
    return former;
  query.ifindex = interface_index;
  if (v6) {
    query.family = AF_INET6;
    __builtin_memcpy(query.ipv6_src, from->bytes, 16);
    __builtin_memcpy(query.ipv6_dst, to->bytes, 16);
  } else {
    query.family = AF_INET;
    query.ipv4_src = from->ipv4;
    query.ipv4_dst = to->ipv4;
  }
  result = bpf_fib_lookup(ctx, &query, sizeof(query), 0);
  if (result == BPF_FIB_LKUP_RET_SUCCESS) {
    index = egress_of_interface(query.ifindex);
    return index ? SLUICE_NEXT_HOP_WORD(index, load_mac(query.dmac)) : 0;
  }
  if (result == BPF_FIB_LKUP_RET_FWD_DISABLED) return former;
  index = SLUICE_NEXT_HOP_EGRESS(former);
  return index && result == BPF_FIB_LKUP_RET_NO_NEIGH &&
                 query.ifindex == egress_memory()[index & (SLUICE_MAX_EGRESS - 1)].device
             ? former
             : 0;
}

/* Whether an IP packet fits. What came in by an interface fits it: longer frames there are put together by the
 * receiving side (GRO, seen in generic mode) and taken apart again on their way out. The kernel drops what exceeds
 * another interface's MTU without telling us: better to count it. */
static __always_inline bool fits(const struct sluice_egress* out, __u32 length) {
  return out->ifindex == interface_index || !out->mtu || length <= out->mtu;
}

/* Sends a frame that leaves with a tag, by another interface, or by the kernel's hand. Returns an XDP action or a
 * negative reason. A function of its own. */
__noinline int leave_elsewhere(struct xdp_md* ctx, __u32 index) {
  const struct sluice_egress* out = &egress_memory()[index & (SLUICE_MAX_EGRESS - 1)];
  __u32 ifindex = SLUICE_EGRESS_IFINDEX(out->ifindex);
  __be16 vlan = out->vlan;
  void *data, *end;

  if (out->flags & SLUICE_EGRESS_BY_KERNEL) {
    struct frame_tags* here = frame_tags();
    struct sluice_handover* handover;
    if (!here || bpf_xdp_adjust_meta(ctx, -(int)sizeof(*handover))) return -SLUICE_REASON_NO_NEXT_HOP;
    handover = (void*)(long)ctx->data_meta;
    if ((void*)(handover + 1) > (void*)(long)ctx->data) return -SLUICE_REASON_NO_NEXT_HOP;
    handover->magic = SLUICE_HANDOVER_MAGIC;
    handover->egress = index;
    here->handed = 1;
    return XDP_PASS;
  }
  if (vlan) {
    __u64 destination, source;
    __be16 protocol;
    if (bpf_xdp_adjust_head(ctx, -4)) return -SLUICE_REASON_NO_MEMORY;
    data = (void*)(long)ctx->data;
    end = (void*)(long)ctx->data_end;
    if (data + 4 + ETH_HLEN > end) return -SLUICE_REASON_NO_MEMORY;
    destination = load_mac(data + 4);
    source = load_mac(data + 4 + ETH_ALEN);
    protocol = *(const __be16*)(data + 4 + 2 * ETH_ALEN);
    store_ethernet(data, destination, source, bpf_htons(ETH_P_8021Q));
    *(__be16*)(data + ETH_HLEN) = vlan;
    *(__be16*)(data + ETH_HLEN + 2) = protocol;
  }
  return ifindex == interface_index ? XDP_TX : (int)bpf_redirect(ifindex, 0);
}

static __always_inline int leave(struct xdp_md* ctx, const struct sluice_egress* out, __u64 next_hop) {
  return likely(out->ifindex == interface_index) ? XDP_TX : leave_elsewhere(ctx, SLUICE_NEXT_HOP_EGRESS(next_hop));
}

/* Sends the frame that way. Returns an XDP action or a negative reason. The packet may not be looked at any more. */
static __always_inline int transmit(struct xdp_md* ctx, void* eth, const struct sluice_egress* out, __u64 next_hop,
                                    __be16 protocol) {
  store_ethernet(eth, SLUICE_NEXT_HOP_MAC(next_hop), *(const __u64*)out->mac & SLUICE_MAC_MASK, protocol);
  return leave(ctx, out, next_hop);
}

#endif
