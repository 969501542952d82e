/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sluice's dataplane: `sluice_xdp` takes what comes in by an interface, `sluice_egress` what leaves by it.
 *
 * Client -> service: XDP finds the service, chooses the flow's backend, and sends the packet on (nat) or passes it up
 * with the backend as its destination (local). Backend -> client: in nat the reply comes in again by XDP; a local
 * backend's leaves by tc egress. Every verdict is counted with its reason (sluice.h).
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/arp.h"
#include "bpf/lib/counters.h"
#include "bpf/lib/flow.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/rewrite.h"
#include "bpf/lib/service.h"
#include "bpf/lib/way.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* What becomes of a frame. The reason decides; the rest is set where the reason needs it. */
struct verdict {
  __u32 reason;
  __u32 service;        /* all reasons but NOT_FOR_US and ARP_REPLY */
  struct target target; /* backend: FORWARDED_... and RETURNED_NAT; way: FORWARDED_NAT and RETURNED_NAT */
};

/* Counts the verdict and carries it out. Returns the XDP action. */
static __always_inline int carry_out(const struct verdict* verdict, struct ethhdr* eth, __u64 bytes) {
  switch (verdict->reason) {
    case SLUICE_REASON_NOT_FOR_US:
      count_reason(verdict->reason, 1, bytes);
      return XDP_PASS;
    case SLUICE_REASON_ARP_REPLY:
      count_reason(verdict->reason, 1, bytes);
      return XDP_TX;
    case SLUICE_REASON_FORWARDED_LOCAL:
      count_reason(verdict->reason, 1, bytes);
      count_forward(verdict->service, verdict->target.backend, bytes);
      return XDP_PASS;
    case SLUICE_REASON_FORWARDED_NAT:
      count_reason(verdict->reason, 1, bytes);
      count_forward(verdict->service, verdict->target.backend, bytes);
      return transmit(eth, &verdict->target.way);
    case SLUICE_REASON_RETURNED_NAT:
      count_reason(verdict->reason, 1, bytes);
      count_return(verdict->service, verdict->target.backend, 1, bytes);
      return transmit(eth, &verdict->target.way);
    default:
      count_drop(verdict->service, verdict->reason, bytes);
      return XDP_DROP;
  }
}

/* 0 where the packet is not TCP (or ends before the flags, which the caller has ruled out). */
static __always_inline __u8 tcp_flags_of(const struct iphdr* ip, const struct ports* ports, const void* end) {
  const __u8* flags = (const __u8*)ports + SLUICE_TCP_FLAGS_OFFSET;
  if (ip->protocol != IPPROTO_TCP || (const void*)(flags + 1) > end) return 0;
  return *flags;
}

/* A packet to a service: forwarded, or dropped for a reason. Never passed up as it is: the address is not the node's.
 */
static __always_inline __u32 to_service(struct xdp_md* ctx, const struct sluice_config* node, struct ethhdr* eth,
                                        struct ports* ports, const void* end, struct verdict* verdict) {
  struct iphdr* ip = (struct iphdr*)(eth + 1);
  const struct sluice_service* service = bpf_map_lookup_elem(&services, &verdict->service);
  struct flow_query query = {};
  struct target* target = &verdict->target;
  struct ends to;
  bool local;
  int reason;

  if (first_fragment(ip)) return SLUICE_REASON_FRAGMENT;
  if (!lengths_add_up(ip, ports, end)) return SLUICE_REASON_MALFORMED;
  if (!service || !(service->flags & SLUICE_SERVICE_VALID)) return SLUICE_REASON_STALE_TABLE;
  query.table = SLUICE_LOAD_ONCE(service->table);
  if (!query.table) return SLUICE_REASON_NO_BACKEND;

  query.identity.client = ip->saddr;
  query.identity.address = ip->daddr;
  query.identity.client_port = ports->source;
  query.identity.port = ports->destination;
  query.protocol = ip->protocol;
  query.tcp_flags = tcp_flags_of(ip, ports, end);
  query.tos = ip->tos;
  query.ttl = ip->ttl;
  query.length = bpf_ntohs(ip->tot_len);
  query.service = verdict->service;
  query.client_mac = load_mac(eth->h_source);
  query.hash = sluice_flow_hash(ip->saddr, ip->daddr, ports->source, ports->destination, ip->protocol,
                                node->flow_hash_key[0], node->flow_hash_key[1]);
  query.slot_hash =
      service->flags & SLUICE_SERVICE_AFFINITY
          ? sluice_flow_hash(ip->saddr, ip->daddr, 0, 0, 0, node->flow_hash_key[0], node->flow_hash_key[1])
          : query.hash;

  if (!find_known_flow(&query, node, target)) {
    reason = find_or_make_flow(ctx, &query, target);
    if (reason) return reason;
  }
  reason = refused_by_way(&query, target);
  if (reason) return reason;

  local = target->forwarding == SLUICE_FORWARD_LOCAL;
  to.source = local ? ip->saddr : target->way.source;
  to.source_port = target->source_port;
  to.destination = target->address;
  to.destination_port = target->port;
  if (!rewrite_ends(ip, ports, end, &to, local ? 0 : 1)) return SLUICE_REASON_MALFORMED;
  return local ? SLUICE_REASON_FORWARDED_LOCAL : SLUICE_REASON_FORWARDED_NAT;
}

static __always_inline bool may_be_nat_reply(const struct sluice_config* node, __be32 address, __be16 port_be) {
  __u16 port = bpf_ntohs(port_be);
  if (port < node->nat_port_first || port > node->nat_port_last || !address) return false;
  return address == node->nat_sources[0] || address == node->nat_sources[1] || address == node->nat_sources[2] ||
         address == node->nat_sources[3];
}

/* A packet to one of nat's source addresses and ports: a backend's reply if there is a record, else the node's own. */
static __always_inline __u32 from_nat_backend(struct xdp_md* ctx, struct iphdr* ip, struct ports* ports,
                                              const void* end, struct verdict* verdict) {
  union flow_key_words key;
  struct sluice_flow* flow;
  struct ends to;

  set_flow_key(&key, ip->saddr, ip->daddr, ports->source, ports->destination, ip->protocol);
  flow = bpf_map_lookup_elem(&flows, &key.key);
  if (!flow || flow->forwarding != SLUICE_FORWARD_NAT) return SLUICE_REASON_NOT_FOR_US;
  verdict->service = flow->service;
  verdict->target.backend = flow->backend;
  if (first_fragment(ip)) return SLUICE_REASON_FRAGMENT;
  if (!lengths_add_up(ip, ports, end)) return SLUICE_REASON_MALFORMED;
  if (ip->ttl <= 1) return SLUICE_REASON_TTL_EXCEEDED;

  answered(flow, tcp_flags_of(ip, ports, end));
  if (!touched_lately(flow)) touch(flow);
  if (!way_to_client(ctx, flow, ip->tos, ip->protocol, &verdict->target.way)) return SLUICE_REASON_NO_NEXT_HOP;
  if (!fits(&verdict->target.way, bpf_ntohs(ip->tot_len))) return SLUICE_REASON_TOO_BIG;

  to.source = flow->address;
  to.source_port = flow->port;
  to.destination = flow->client;
  to.destination_port = flow->client_port;
  return rewrite_ends(ip, ports, end, &to, 1) ? SLUICE_REASON_RETURNED_NAT : SLUICE_REASON_MALFORMED;
}

/* Sets all of the verdict. What is changed in the frame is changed here, but for the Ethernet header. */
static __always_inline void decide(struct xdp_md* ctx, struct ethhdr* eth, void* end, struct verdict* verdict) {
  const struct sluice_config* node = node_config();
  struct ports* ports;
  struct iphdr* ip = (struct iphdr*)(eth + 1);
  __u64 destination;

  verdict->reason = SLUICE_REASON_NOT_FOR_US;
  if ((void*)(eth + 1) > end || !node) return;
  destination = load_mac(eth->h_dest);
  if (eth->h_proto == bpf_htons(ETH_P_ARP)) {
    if ((destination == own_mac() || destination == SLUICE_MAC_BROADCAST) && answer_arp(eth, end))
      verdict->reason = SLUICE_REASON_ARP_REPLY;
    return;
  }
  /* In a flooded segment every node sees every frame: only the one it is addressed to acts. */
  if (eth->h_proto != bpf_htons(ETH_P_IP) || destination != own_mac()) return;

  ports = find_ports(ip, end);
  if (!ports) return;
  verdict->service = find_service(SLUICE_LOAD_ONCE(node->service_table), ip->daddr, ports->destination, ip->protocol);
  if (verdict->service != SLUICE_NO_SERVICE)
    verdict->reason = to_service(ctx, node, eth, ports, end, verdict);
  else if (may_be_nat_reply(node, ip->daddr, ports->destination))
    verdict->reason = from_nat_backend(ctx, ip, ports, end, verdict);
}

/* What comes in. Returns XDP_PASS (not ours, or rewritten to a local backend), XDP_TX, XDP_REDIRECT or XDP_DROP. */
SEC("xdp")
int sluice_xdp(struct xdp_md* ctx) {
  void* data = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  struct verdict verdict = {};

  decide(ctx, data, end, &verdict);
  return carry_out(&verdict, data, end - data);
}

/* --- what leaves
 * ------------------------------------------------------------------------------------------------------ */

/* TC_ACT_UNSPEC, not TC_ACT_OK: classifiers of others behind this one still see the packet, whether we changed it or
 * not. */
#define LEAVE_TO_OTHERS TC_ACT_UNSPEC

#define LONGEST_HEADERS (ETH_HLEN + 60 + sizeof(struct tcphdr)) /* IPv4 with all options */

/* Gives a local backend's reply the service's address and the client's port. The kernel's helpers know whether the
 * checksum is complete or left to the device (CHECKSUM_PARTIAL), which the packet does not tell. False: not changed as
 * it should be. */
static __always_inline bool translate_reply(struct __sk_buff* skb, __u32 l4, __u8 protocol, const struct ends* from,
                                            const struct ends* to) {
  __u32 checksum = l4 + (protocol == IPPROTO_TCP ? SLUICE_TCP_CHECKSUM_OFFSET : SLUICE_UDP_CHECKSUM_OFFSET);
  __u64 zero_rule = protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
  struct ports ports = {.source = to->source_port, .destination = to->destination_port};

  return !bpf_l4_csum_replace(skb, checksum, from->source, to->source, zero_rule | BPF_F_PSEUDO_HDR | 4) &&
         !bpf_l4_csum_replace(skb, checksum, from->source_port, to->source_port, zero_rule | 2) &&
         !bpf_l4_csum_replace(skb, checksum, from->destination_port, to->destination_port, zero_rule | 2) &&
         !bpf_l3_csum_replace(skb, ETH_HLEN + __builtin_offsetof(struct iphdr, check), from->source, to->source, 4) &&
         !bpf_skb_store_bytes(skb, ETH_HLEN + __builtin_offsetof(struct iphdr, saddr), &to->source, 4, 0) &&
         !bpf_skb_store_bytes(skb, l4, &ports, sizeof(ports), 0);
}

static __always_inline int drop_reply(__u32 service, __u32 reason, __u64 bytes) {
  count_drop(service, reason, bytes);
  return TC_ACT_SHOT;
}

/* A reply of a local backend is translated; everything else leaves as it is. The kernel fragments before this: of a
 * reply in fragments only the first has ports, so it is dropped rather than sent without its rest. */
SEC("tc")
int sluice_egress(struct __sk_buff* skb) {
  const struct sluice_config* node = node_config();
  void *data, *end;
  struct iphdr* ip;
  struct ports* ports;
  union flow_key_words key;
  struct sluice_flow* flow;
  struct ends from, to;
  __u32 service, backend, l4, packets;
  __u64 bytes = skb->wire_len;
  __u8 protocol, flags = 0;

  if (skb->protocol != bpf_htons(ETH_P_IP) || !node || !SLUICE_LOAD_ONCE(node->service_table)) return LEAVE_TO_OTHERS;
  data = (void*)(long)skb->data;
  end = (void*)(long)skb->data_end;
  if (data + LONGEST_HEADERS > end && (__u64)(end - data) < skb->len) { /* headers may lie in pages */
    if (bpf_skb_pull_data(skb, skb->len < LONGEST_HEADERS ? skb->len : LONGEST_HEADERS)) return LEAVE_TO_OTHERS;
    data = (void*)(long)skb->data;
    end = (void*)(long)skb->data_end;
  }
  if (data + ETH_HLEN > end) return LEAVE_TO_OTHERS;
  ip = data + ETH_HLEN;
  ports = find_ports(ip, end);
  if (!ports) return LEAVE_TO_OTHERS;

  set_flow_key(&key, ip->saddr, ip->daddr, ports->source, ports->destination, ip->protocol);
  flow = bpf_map_lookup_elem(&flows, &key.key);
  if (!flow || flow->forwarding != SLUICE_FORWARD_LOCAL) return LEAVE_TO_OTHERS;

  service = flow->service;
  backend = flow->backend;
  protocol = ip->protocol;
  if (first_fragment(ip)) return drop_reply(service, SLUICE_REASON_FRAGMENT, bytes);
  if (protocol == IPPROTO_TCP) {
    if ((void*)ports + sizeof(struct tcphdr) > end) return LEAVE_TO_OTHERS;
    flags = tcp_flags_of(ip, ports, end);
  }
  answered(flow, flags);
  if (!touched_lately(flow)) touch(flow);

  from.source = ip->saddr;
  from.source_port = ports->source;
  from.destination = ip->daddr;
  from.destination_port = ports->destination;
  to.source = flow->address;
  to.source_port = flow->port;
  to.destination = flow->client;
  to.destination_port = flow->client_port;
  l4 = ETH_HLEN + ip->ihl * 4;
  packets = skb->gso_segs ? skb->gso_segs : 1;
  if (!translate_reply(skb, l4, protocol, &from, &to)) return drop_reply(service, SLUICE_REASON_NO_MEMORY, bytes);
  count_return(service, backend, packets, bytes);
  count_reason(SLUICE_REASON_RETURNED_LOCAL, packets, bytes);
  return LEAVE_TO_OTHERS;
}
