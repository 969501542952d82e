/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sluice's dataplane: `sluice_xdp` takes what comes in by an interface. What passes the node's own network stack is
 * stack.bpf.c's.
 *
 * Client -> service: XDP finds the service, chooses the flow's backend, and passes the packet up (local), or sends it
 * on: encapsulated to the backend's node (tunnel), as it is (direct), IP in IP, or with both ends rewritten (nat).
 * Backend -> client: in nat the reply comes in again by XDP; a local backend's leaves by tc egress; others leave their
 * node straight for the client. Every verdict is counted with its reason (bpf/layout/counters.h).
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>
#include "bpf/lib/control.h"
#include "bpf/lib/error.h"
#include "bpf/lib/hot.h"
#include "bpf/lib/return.h"
#include "bpf/lib/slow.h"
#include "bpf/lib/stages.h"
#include "bpf/lib/tags.h"
#include "bpf/lib/untunnel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* --- what comes in ---------------------------------------------------------------------------------------------------
 */

/* What comes in. Returns XDP_PASS (not ours, or rewritten to a local backend), XDP_TX, XDP_REDIRECT or XDP_DROP. */
SEC("xdp.frags")
int sluice_xdp(struct xdp_md* ctx) {
  void* data = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  struct ethhdr* eth = data;
  __u64 destination;

  if (data + ETH_HLEN + sizeof(struct iphdr) > end) goto not_ours;
  destination = *(const __u64*)data & SLUICE_MAC_MASK;
  /* In a flooded segment every node sees every frame: only the one it is addressed to acts. */
  if (likely(destination == own_mac())) {
    if (likely(eth->h_proto == bpf_htons(ETH_P_IP))) return receive_ip(ctx, data + ETH_HLEN, end, false);
    if (eth->h_proto == bpf_htons(ETH_P_IPV6)) return go_on(ctx, STAGE_IPV6);
  }
  if (eth->h_proto == bpf_htons(ETH_P_ARP) && (destination == own_mac() || destination == SLUICE_MAC_BROADCAST))
    return go_on(ctx, STAGE_NEIGHBOUR);
  /* Solicitations come to groups of their own, and now and then to us alone. */
  if (eth->h_proto == bpf_htons(ETH_P_IPV6) && (__u16)destination == 0x3333) return go_on(ctx, STAGE_NEIGHBOUR);
  if (unlikely(is_tag(eth->h_proto))) return go_on(ctx, STAGE_TAGS);
not_ours:
  count_reason(SLUICE_REASON_NOT_FOR_US, 1, end - data);
  return XDP_PASS;
}

SEC("xdp.frags")
int sluice_ipv6(struct xdp_md* ctx) {
  return receive_ip(ctx, (void*)(long)ctx->data + ETH_HLEN, (void*)(long)ctx->data_end, true);
}

SEC("xdp.frags")
int sluice_tunnel4(struct xdp_md* ctx) {
  return from_tunnel(ctx, false);
}

SEC("xdp.frags")
int sluice_tunnel6(struct xdp_md* ctx) {
  return from_tunnel(ctx, true);
}

SEC("xdp.frags")
int sluice_unwrap4(struct xdp_md* ctx) {
  return from_tunnel_slowly(ctx, false);
}

SEC("xdp.frags")
int sluice_unwrap6(struct xdp_md* ctx) {
  return from_tunnel_slowly(ctx, true);
}

SEC("xdp.frags")
int sluice_inner4(struct xdp_md* ctx) {
  return inner_slowly(ctx, false);
}

SEC("xdp.frags")
int sluice_inner6(struct xdp_md* ctx) {
  return inner_slowly(ctx, true);
}

SEC("xdp.frags")
int sluice_control4(struct xdp_md* ctx) {
  return control(ctx, false);
}

SEC("xdp.frags")
int sluice_control6(struct xdp_md* ctx) {
  return control(ctx, true);
}

SEC("xdp.frags")
int sluice_return4(struct xdp_md* ctx) {
  return return_slowly(ctx, false);
}

SEC("xdp.frags")
int sluice_return6(struct xdp_md* ctx) {
  return return_slowly(ctx, true);
}

SEC("xdp.frags")
int sluice_error4(struct xdp_md* ctx) {
  return error_slowly(ctx, QUESTION_ERROR, STAGE_SEND_ERROR4, false);
}

SEC("xdp.frags")
int sluice_inner_error4(struct xdp_md* ctx) {
  return error_slowly(ctx, QUESTION_INNER, STAGE_SEND_ERROR4, false);
}

SEC("xdp.frags")
int sluice_send_error4(struct xdp_md* ctx) {
  return send_error(ctx, false);
}

SEC("xdp.frags")
int sluice_deliver4(struct xdp_md* ctx) {
  return deliver_slowly(ctx, false);
}

SEC("xdp.frags")
int sluice_send4(struct xdp_md* ctx) {
  return send_slowly(ctx, false);
}

SEC("xdp.frags")
int sluice_error6(struct xdp_md* ctx) {
  return error_slowly(ctx, QUESTION_ERROR, STAGE_SEND_ERROR6, true);
}

SEC("xdp.frags")
int sluice_inner_error6(struct xdp_md* ctx) {
  return error_slowly(ctx, QUESTION_INNER, STAGE_SEND_ERROR6, true);
}

SEC("xdp.frags")
int sluice_send_error6(struct xdp_md* ctx) {
  return send_error(ctx, true);
}

SEC("xdp.frags")
int sluice_outer_error4(struct xdp_md* ctx) {
  return outer_error(ctx, false);
}

SEC("xdp.frags")
int sluice_outer_error6(struct xdp_md* ctx) {
  return outer_error(ctx, true);
}

SEC("xdp.frags")
int sluice_deliver6(struct xdp_md* ctx) {
  return deliver_slowly(ctx, true);
}

SEC("xdp.frags")
int sluice_send6(struct xdp_md* ctx) {
  return send_slowly(ctx, true);
}

/* Where a packet goes that memory->query describes: the one place where flows are found and made, for both families. */
SEC("xdp.frags")
int sluice_flow(struct xdp_md* ctx) {
  struct flow_scratch* memory = flow_scratch();

  if (!memory) return unread(ctx, SLUICE_REASON_STALE_TABLE);
  if (memory->question == QUESTION_INNER)
    memory->found = ask_here(ctx, &memory->query, &memory->target);
  else if (memory->question == QUESTION_ERROR)
    memory->found = find_flow_of_error(ctx, &memory->query, &memory->target);
  else
    memory->found = find_or_make_flow(ctx, &memory->query, &memory->target);
  if (memory->target.promotes) promote(&memory->query, &memory->target);
  return go_on_then(ctx, memory->then);
}

SEC("xdp.frags")
int sluice_tags(struct xdp_md* ctx) {
  return with_tags(ctx);
}

SEC("xdp.frags")
int sluice_neighbour(struct xdp_md* ctx) {
  void* data = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  struct ethhdr* eth = data;
  __u64 bytes = end - data;

  if (data + ETH_HLEN > end) return XDP_PASS;
  if (eth->h_proto == bpf_htons(ETH_P_ARP) ? answer_arp(eth, end, arrived_vlan())
                                           : answer_solicitation(ctx, arrived_vlan())) {
    count_reason(SLUICE_REASON_NEIGHBOUR_REPLY, 1, bytes);
    return send_back();
  }
  count_reason(SLUICE_REASON_NOT_FOR_US, 1, bytes);
  return XDP_PASS;
}

static __always_inline int answer_stage(struct xdp_md* ctx, const bool v6) {
  struct flow_scratch* memory = flow_scratch();
  int action = memory ? answer_packet(ctx, memory->answer, memory->mtu, v6) : XDP_DROP;

  if (action != XDP_TX) return action;
  count_reason(SLUICE_REASON_REFUSAL_TOLD, 1, 0);
  return send_back();
}

SEC("xdp.frags")
int sluice_answer4(struct xdp_md* ctx) {
  return answer_stage(ctx, false);
}

SEC("xdp.frags")
int sluice_answer6(struct xdp_md* ctx) {
  return answer_stage(ctx, true);
}

SEC("xdp.frags")
int sluice_service4(struct xdp_md* ctx) {
  return service_slowly(ctx, false);
}

SEC("xdp.frags")
int sluice_service6(struct xdp_md* ctx) {
  return service_slowly(ctx, true);
}

/* How late it is, on the clock that flow records are stamped with. Run by the agent (BPF_PROG_TEST_RUN). */
SEC("syscall")
int sluice_clock(struct sluice_clock* clock) {
  clock->jiffies = (__u32)bpf_jiffies64();
  return 0;
}
