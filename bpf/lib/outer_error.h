/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors about packets that we have put into IP to a backend: they come to us, who keep nothing of the flow. Where
 * they say that the packet was too big, its client is told so, as if we had found it out (RFC 2003, section 4). */
#ifndef SLUICE_BPF_LIB_OUTER_ERROR_H
#define SLUICE_BPF_LIB_OUTER_ERROR_H

#include "bpf/lib/answer.h"
#include "bpf/lib/path_mtu.h"
#include "bpf/lib/slow.h"

/* Whether an ICMP error says that IP in IP was too big. */
static __always_inline bool quotes_ip_in_ip(const void* l3, const void* end, const bool v6) {
  const __u32 header = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
  const void* outer = l3 + header + ICMP_HEADER;

  if (outer + header > end) return false;
  if (v6 ? ((const struct ipv6hdr*)outer)->version != 6 || ((const struct ipv6hdr*)outer)->nexthdr != IPPROTO_IPV6
         : ((const struct iphdr*)outer)->version != 4 || ((const struct iphdr*)outer)->ihl != 5 ||
               ((const struct iphdr*)outer)->protocol != IPPROTO_IPIP)
    return false;
  return read_too_big(l3, end, v6) != 0;
}

/* Whether packets of this flow are put into IP to this backend, now or in what history has. Whoever makes up errors
 * would have to know that. */
static __always_inline bool sent_in_ip(const struct packet* packet, const union sluice_address* real, const bool v6) {
  const struct sluice_service* service = &services_memory()[packet->service & services_mask];
  __u64 table = SLUICE_LOAD_ONCE(service->table), settings = SLUICE_LOAD_ONCE(service->settings);
  __u64 slot_hash =
      slot_hash_of(packet, config_memory(), SLUICE_SETTINGS_FLAGS(settings) & SLUICE_SERVICE_AFFINITY, v6);

  if (!table) return false;
#pragma clang loop unroll(disable)
  for (__u32 plane = 0; plane < SLUICE_MAX_PLANES; plane++) {
    const struct sluice_backend* backend;
    __u32 index;
    __u64 what;
    SLUICE_PIN(plane);
    if (plane > SLUICE_TABLE_EARLIER(table)) break;
    index = slot_backend(table, plane, slot_hash);
    if (index == SLUICE_NO_BACKEND_INDEX) continue;
    backend = backend_at(index);
    what = SLUICE_LOAD_ONCE(backend->what);
    if (SLUICE_BACKEND_SERVICE(what) == packet->service && SLUICE_BACKEND_FORWARDING(what) == SLUICE_FORWARD_IPIP &&
        same_address(&backend->address, real, v6))
      return true;
  }
  return false;
}

/* An error for which quotes_ip_in_ip() holds. Returns an XDP action, counted. */
static __always_inline int outer_error(struct xdp_md* ctx, const bool v6) {
  const __u32 header = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
  const __u32 inner_at = 2 * header + ICMP_HEADER; /* from the error's IP header on */
  void* l3 = (void*)(long)ctx->data + ETH_HLEN;
  void* end = (void*)(long)ctx->data_end;
  void* inner = l3 + inner_at;
  const struct sluice_key_entry* entry;
  const struct sluice_egress* out;
  union sluice_address real;
  struct packet packet;
  struct key key;
  __u64 next_hop, bytes;
  __u32 length, fits;
  int action;

  if (l3 + inner_at > end) return unread(ctx, SLUICE_REASON_MALFORMED); /* who sent us here has seen to it */
  length = ip_length(l3, v6);
  bytes = length + ETH_HLEN;
  if (length > bpf_xdp_get_buff_len(ctx) - ETH_HLEN || !read_packet(&packet, inner, end, v6) ||
      !quoted_up_to(l3, packet.ports + 1, end, v6) || !answerable(&packet.ends.source, v6))
    goto own;
  key = key_of(&packet.ends.destination, packet.ends.destination_port, packet.protocol, v6);
  entry = find_key(SLUICE_LOAD_ONCE(config_memory()->key_table), &key, v6);
  if (!entry) goto own;
  packet.print = key.word;
  packet.service = entry->value;
  load_destination(&real, l3 + header + ICMP_HEADER, v6);
  if (!sent_in_ip(&packet, &real, v6)) goto own;
  fits = read_too_big(l3, end, v6) - header;
  if (fits < (v6 ? SLUICE_MTU_LEAST6 : SLUICE_MTU_LEAST4)) fits = v6 ? SLUICE_MTU_LEAST6 : SLUICE_MTU_LEAST4;

  if (!may_answer(&packet.ends.source, v6))
    return drop(packet.service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_ANSWERS_LIMITED, bytes);
  next_hop = kernel_way(ctx, &packet.ends.destination, &packet.ends.source, v6,
                        SLUICE_NEXT_HOP_WORD(arrived_vlan() ? egress_of_arrival() : interface_egress,
                                             load_mac(l3 - ETH_HLEN + ETH_ALEN)));
  out = find_egress(next_hop);
  if (!out) return drop(packet.service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_NO_NEXT_HOP, bytes);
  if (!strip(ctx, inner_at, v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP)) ||
      (void*)(long)ctx->data + ETH_HLEN + header > (void*)(long)ctx->data_end ||
      !report_error(ctx, (void*)(long)ctx->data + ETH_HLEN, length - inner_at,
                    v6 ? ICMPV6_PKT_TOOBIG : ICMP_DEST_UNREACH, v6 ? 0 : ICMP_FRAG_NEEDED,
                    v6 ? bpf_htonl(fits) : (__u32)bpf_htons((__u16)fits) << 16, &packet.ends.destination,
                    &packet.ends.source, v6) ||
      (void*)(long)ctx->data + ETH_HLEN > (void*)(long)ctx->data_end)
    return drop(packet.service, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_NO_MEMORY, bytes);
  action = transmit(ctx, (void*)(long)ctx->data, out, next_hop, v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
  if (action < 0) return drop(packet.service, SLUICE_NO_BACKEND_INDEX, -action, bytes);
  count_reason(SLUICE_REASON_ERROR_FORWARDED, 1, bytes);
  return action;
own:
  count_reason(SLUICE_REASON_OWN_TRAFFIC, 1, bytes);
  return XDP_PASS;
}

#endif
