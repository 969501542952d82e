/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* IP packets that have no ports to read, and questions for neighbours. */
#ifndef SLUICE_BPF_LIB_CONTROL_H
#define SLUICE_BPF_LIB_CONTROL_H

#include "bpf/lib/arp.h"
#include "bpf/lib/echo.h"
#include "bpf/lib/error.h"
#include "bpf/lib/forward.h"
#include "bpf/lib/ndp.h"
#include "bpf/lib/outer_error.h"
#include "bpf/lib/path_mtu.h"
#include "bpf/lib/service.h"

/* An IP packet that has no ports to read. Returns an XDP action, counted. */
static __always_inline int control(struct xdp_md* ctx, const bool v6) {
  void* l3 = (void*)(long)ctx->data + ETH_HLEN;
  void* end = (void*)(long)ctx->data_end;
  const struct sluice_key_entry* entry;
  union sluice_address to;
  struct key key;
  __u64 bytes;

  if (v6 ? l3 + sizeof(struct ipv6hdr) > end : l3 + sizeof(struct iphdr) > end) goto not_ours;
  bytes = ip_length(l3, v6) + ETH_HLEN;
  if (v6 && ((struct ipv6hdr*)l3)->nexthdr == IPPROTO_ICMPV6 && answer_solicitation(ctx, arrived_vlan())) {
    count_reason(SLUICE_REASON_NEIGHBOUR_REPLY, 1, bytes);
    return send_back();
  }
  l3 = (void*)(long)ctx->data + ETH_HLEN;
  end = (void*)(long)ctx->data_end;
  if (v6 ? l3 + sizeof(struct ipv6hdr) > end : l3 + sizeof(struct iphdr) > end) goto not_ours;
  load_destination(&to, l3, v6);
  key = key_of(&to, 0, 0, v6);
  entry = find_key(SLUICE_LOAD_ONCE(config_memory()->key_table), &key, v6);
  if (!entry) goto not_ours;
  if (entry->value & (SLUICE_ADDRESS_SERVICE | SLUICE_ADDRESS_NAT)) {
    struct flow_scratch* memory = flow_scratch();
    struct packet packet;
    if (!memory) goto not_ours;
    switch (read_any_packet(ctx, &packet, &memory->walked, v6)) {
      case READ_PORTS:
        return go_on(ctx, v6 ? STAGE_SERVICE6 : STAGE_SERVICE4);
      case READ_NO_FIRST:
        if (entry->value & (SLUICE_ADDRESS_NODE | SLUICE_ADDRESS_NAT)) break;
        count_reason(SLUICE_REASON_FRAGMENT, 1, bytes);
        return XDP_DROP;
      default:
        break;
    }
    if (!(entry->value & SLUICE_ADDRESS_NODE) && packet.protocol == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) &&
        !is_echo_request(l3, end, v6))
      return go_on(ctx, v6 ? STAGE_ERROR6 : STAGE_ERROR4);
  }
  if (entry->value & SLUICE_ADDRESS_NAT) {
    int action = error_from_backend(ctx, v6);
    if (action >= 0) return action;
  }
  if ((entry->value & (SLUICE_ADDRESS_SERVICE | SLUICE_ADDRESS_NODE)) == SLUICE_ADDRESS_SERVICE &&
      is_echo_request(l3, end, v6)) {
    if (!answer_echo(ctx, v6)) {
      count_reason(SLUICE_REASON_ANSWERS_LIMITED, 1, bytes);
      return XDP_DROP;
    }
    count_reason(SLUICE_REASON_ECHO_REPLY, 1, bytes);
    return send_back();
  }
  /* Of what else comes to an address that is only services', the machine would make a packet to be routed, and send it
   * back to whoever sent it here. */
  if ((entry->value & (SLUICE_ADDRESS_SERVICE | SLUICE_ADDRESS_NODE)) == SLUICE_ADDRESS_SERVICE)
    return drop(SLUICE_NO_SERVICE, SLUICE_NO_BACKEND_INDEX, SLUICE_REASON_NO_SERVICE, bytes);
  l3 = (void*)(long)ctx->data + ETH_HLEN;
  end = (void*)(long)ctx->data_end;
  if (quotes_ip_in_ip(l3, end, v6)) return go_on(ctx, v6 ? STAGE_OUTER_ERROR6 : STAGE_OUTER_ERROR4);
  hear_path_mtu(ctx, v6); /* the kernel may hear it, too */
  count_reason(SLUICE_REASON_OWN_TRAFFIC, 1, bytes);
  return XDP_PASS;
not_ours:
  count_reason(SLUICE_REASON_NOT_FOR_US, 1, end - l3 + ETH_HLEN);
  return XDP_PASS;
}

#endif
