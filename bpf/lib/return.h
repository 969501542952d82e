/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Replies of nat's backends whose ports do not lie where they usually do: fragments, and IPv6 with extension headers.
 */
#ifndef SLUICE_BPF_LIB_RETURN_H
#define SLUICE_BPF_LIB_RETURN_H

#include "bpf/lib/hot.h"

/* Whether a packet is a flow's reply to nat's source address. */
static __always_inline bool is_nat_reply(struct flow_key* key, const struct packet* packet, const bool v6) {
  const struct sluice_config* node = config_memory();
  __u16 port = bpf_ntohs(packet->ends.destination_port);

  if (port < node->nat_port_first || port > node->nat_port_last) return false;
  key->backend = packet->ends.source;
  key->source = packet->ends.destination;
  key->tuple =
      SLUICE_FLOW_TUPLE(packet->ends.source_port, packet->ends.destination_port, packet->protocol, SLUICE_FLOW_NAT);
  return (v6 ? locate6(key) : locate4(key)) >= 0;
}

/* A packet to one of nat's source addresses that the hot path has not read. What is no flow's is the node's own.
 * Returns an XDP action, counted. */
static __always_inline int return_slowly(struct xdp_md* ctx, const bool v6) {
  struct flow_scratch* memory = flow_scratch();
  struct packet packet;
  int action;

  if (memory && read_any_packet(ctx, &packet, &memory->walked, v6) == READ_PORTS &&
      is_nat_reply(&memory->key, &packet, v6)) {
    expect_fragments(&packet, &memory->walked, v6);
    action = from_nat_backend(ctx, &packet, memory->walked.part, v6);
    if (action >= 0) return action;
  }
  count_reason(SLUICE_REASON_OWN_TRAFFIC, 1, (__u64)bpf_xdp_get_buff_len(ctx));
  return XDP_PASS;
}

#endif
