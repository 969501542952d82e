/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs of their own behind tail calls, each with a stack of its own: what is not the common case. They read the
 * packet again. One array for each interface's programs: the loader pins it beside the link. */
#ifndef SLUICE_BPF_LIB_STAGES_H
#define SLUICE_BPF_LIB_STAGES_H

#include "bpf/lib/counters.h"
#include "bpf/lib/flow.h"

enum stage {
  STAGE_IPV6,
  STAGE_SERVICE4, /* what the hot path has not settled */
  STAGE_SERVICE6,
  STAGE_FLOW,  /* which flow, and where to: memory->question */
  STAGE_SEND4, /* what FLOW has found for SERVICE */
  STAGE_SEND6,
  STAGE_TUNNEL4, /* from another node, by the outer family */
  STAGE_TUNNEL6,
  STAGE_UNWRAP4, /* the same, what the stages before have not settled */
  STAGE_UNWRAP6,
  STAGE_INNER4, /* out of the tunnel, by the inner family */
  STAGE_INNER6,
  STAGE_DELIVER4, /* what FLOW has found for INNER */
  STAGE_DELIVER6,
  STAGE_ANSWER4, /* refused, and told so: memory->answer */
  STAGE_ANSWER6,
  STAGE_NEIGHBOUR, /* ARP, NDP */
  STAGE_CONTROL4,  /* IP without ports: pings, errors */
  STAGE_CONTROL6,
  STAGE_RETURN4, /* to nat's source address: fragments and extension headers */
  STAGE_RETURN6,
  STAGE_ERROR4, /* ICMP errors to a service's address */
  STAGE_ERROR6,
  STAGE_INNER_ERROR4, /* the same, out of a tunnel */
  STAGE_INNER_ERROR6,
  STAGE_SEND_ERROR4, /* what FLOW has found for either */
  STAGE_SEND_ERROR6,
  STAGE_OUTER_ERROR4, /* about IP in IP that we have sent */
  STAGE_OUTER_ERROR6,
  STAGE_TAGS,  /* a frame with VLAN tags */
  STAGE_START, /* the first program: again, without them */
  STAGE_COUNT
};
int sluice_ipv6(struct xdp_md* ctx);
int sluice_service4(struct xdp_md* ctx);
int sluice_service6(struct xdp_md* ctx);
int sluice_flow(struct xdp_md* ctx);
int sluice_send4(struct xdp_md* ctx);
int sluice_send6(struct xdp_md* ctx);
int sluice_tunnel4(struct xdp_md* ctx);
int sluice_tunnel6(struct xdp_md* ctx);
int sluice_unwrap4(struct xdp_md* ctx);
int sluice_unwrap6(struct xdp_md* ctx);
int sluice_inner4(struct xdp_md* ctx);
int sluice_inner6(struct xdp_md* ctx);
int sluice_deliver4(struct xdp_md* ctx);
int sluice_deliver6(struct xdp_md* ctx);
int sluice_answer4(struct xdp_md* ctx);
int sluice_answer6(struct xdp_md* ctx);
int sluice_neighbour(struct xdp_md* ctx);
int sluice_control4(struct xdp_md* ctx);
int sluice_control6(struct xdp_md* ctx);
int sluice_return4(struct xdp_md* ctx);
int sluice_return6(struct xdp_md* ctx);
int sluice_error4(struct xdp_md* ctx);
int sluice_error6(struct xdp_md* ctx);
int sluice_inner_error4(struct xdp_md* ctx);
int sluice_inner_error6(struct xdp_md* ctx);
int sluice_send_error4(struct xdp_md* ctx);
int sluice_send_error6(struct xdp_md* ctx);
int sluice_outer_error4(struct xdp_md* ctx);
int sluice_outer_error6(struct xdp_md* ctx);
int sluice_tags(struct xdp_md* ctx);
int sluice_xdp(struct xdp_md* ctx);
struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, STAGE_COUNT);
  __uint(key_size, sizeof(__u32));
  __array(values, int(void*));
} stages SEC(".maps") = {
    .values =
        {
            [STAGE_IPV6] = (void*)&sluice_ipv6,
            [STAGE_SERVICE4] = (void*)&sluice_service4,
            [STAGE_SERVICE6] = (void*)&sluice_service6,
            [STAGE_FLOW] = (void*)&sluice_flow,
            [STAGE_SEND4] = (void*)&sluice_send4,
            [STAGE_SEND6] = (void*)&sluice_send6,
            [STAGE_TUNNEL4] = (void*)&sluice_tunnel4,
            [STAGE_TUNNEL6] = (void*)&sluice_tunnel6,
            [STAGE_UNWRAP4] = (void*)&sluice_unwrap4,
            [STAGE_UNWRAP6] = (void*)&sluice_unwrap6,
            [STAGE_INNER4] = (void*)&sluice_inner4,
            [STAGE_INNER6] = (void*)&sluice_inner6,
            [STAGE_DELIVER4] = (void*)&sluice_deliver4,
            [STAGE_DELIVER6] = (void*)&sluice_deliver6,
            [STAGE_ANSWER4] = (void*)&sluice_answer4,
            [STAGE_ANSWER6] = (void*)&sluice_answer6,
            [STAGE_NEIGHBOUR] = (void*)&sluice_neighbour,
            [STAGE_CONTROL4] = (void*)&sluice_control4,
            [STAGE_CONTROL6] = (void*)&sluice_control6,
            [STAGE_RETURN4] = (void*)&sluice_return4,
            [STAGE_RETURN6] = (void*)&sluice_return6,
            [STAGE_ERROR4] = (void*)&sluice_error4,
            [STAGE_ERROR6] = (void*)&sluice_error6,
            [STAGE_INNER_ERROR4] = (void*)&sluice_inner_error4,
            [STAGE_INNER_ERROR6] = (void*)&sluice_inner_error6,
            [STAGE_SEND_ERROR4] = (void*)&sluice_send_error4,
            [STAGE_SEND_ERROR6] = (void*)&sluice_send_error6,
            [STAGE_OUTER_ERROR4] = (void*)&sluice_outer_error4,
            [STAGE_OUTER_ERROR6] = (void*)&sluice_outer_error6,
            [STAGE_TAGS] = (void*)&sluice_tags,
            [STAGE_START] = (void*)&sluice_xdp,
        },
};

/* Does not come back but for want of the stage, which the loader has ruled out. */
static __always_inline int go_on(struct xdp_md* ctx, enum stage stage) {
  bpf_tail_call_static(ctx, &stages, stage);
  count_reason(SLUICE_REASON_STALE_TABLE, 1, 0);
  return XDP_DROP;
}

/* The same, for a stage that is not known before. */
static __always_inline int go_on_then(struct xdp_md* ctx, __u32 stage) {
  bpf_tail_call(ctx, &stages, stage);
  count_reason(SLUICE_REASON_STALE_TABLE, 1, 0);
  return XDP_DROP;
}

static __always_inline int drop(__u32 service, __u32 backend, __u32 reason, __u64 bytes) {
  count_drop(service, backend, reason, bytes);
  return XDP_DROP;
}

/* The same for one that a stage cannot read again. That should not happen: the stage before has. */
static __always_inline int unread(struct xdp_md* ctx, __u32 reason) {
  count_reason(reason, 1, bpf_xdp_get_buff_len(ctx));
  return XDP_DROP;
}

/* Counts a packet that is refused, and lets the one who sent it know, where the reason is one to tell. Returns an XDP
 * action. */
static __always_inline int refuse(struct xdp_md* ctx, __u32 service, __u32 backend, __u32 reason, __u64 bytes,
                                  __u32 mtu, const bool v6) {
  struct flow_scratch* memory = flow_scratch();

  count_drop(service, backend, reason, bytes);
  if (!memory) return XDP_DROP;
  memory->answer = reason == SLUICE_REASON_NO_BACKEND || reason == SLUICE_REASON_NO_SERVICE ? ANSWER_REFUSE
                   : reason == SLUICE_REASON_TOO_BIG                                        ? ANSWER_TOO_BIG
                   : reason == SLUICE_REASON_TTL_EXCEEDED                                   ? ANSWER_TTL_EXCEEDED
                                                                                            : ANSWER_NONE;
  if (memory->answer == ANSWER_NONE) return XDP_DROP;
  memory->mtu = mtu;
  return go_on(ctx, v6 ? STAGE_ANSWER6 : STAGE_ANSWER4);
}

#endif
