/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The state of a flow's record: how old it is, and what either end's packets say of it (bpf/layout/flows.h). */
#ifndef SLUICE_BPF_LIB_FLOW_STATE_H
#define SLUICE_BPF_LIB_FLOW_STATE_H

#include "bpf/lib/flow_table.h"

static __always_inline __u32 jiffies_since(__u32 then) {
  return (__u32)bpf_jiffies64() - then;
}

static __always_inline bool touched_lately(const struct sluice_flow_head* head) {
  return jiffies_since(head->seen) <= jiffies_per_second * SLUICE_TOUCH_MILLISECONDS / 1000;
}

/* No packet for so long that another flow may have the record's tuple; `pressed`: it found no other. */
static __always_inline bool idle_too_long(const struct sluice_flow_head* head, __u8 protocol, bool pressed) {
  __s32 idle = (__s32)jiffies_since(head->seen); /* negative: written a tick ahead by another CPU */
  bool replied = head->control & SLUICE_FLOW_REPLIED;
  __u32 limit;

  if (SLUICE_FLOW_CLOSED(head->control))
    limit = pressed                                     ? SLUICE_IDLE_CLOSED_PRESSED
            : head->control & SLUICE_FLOW_BACKEND_FIRST ? SLUICE_IDLE_BACKEND_CLOSED
                                                        : SLUICE_IDLE_CLOSED;
  else if (protocol == IPPROTO_UDP)
    limit = replied ? SLUICE_IDLE_UDP_ESTABLISHED : SLUICE_IDLE_UDP_NEW;
  else
    limit = replied ? SLUICE_IDLE_TCP_ESTABLISHED : SLUICE_IDLE_TCP_NEW;
  return idle > (__s32)(limit * jiffies_per_second);
}

/* The connection has been over for a while: the record may be an earlier one's, which had the same ports, and the one
 * at hand be with another candidate of its slot. */
static __always_inline bool doubtful(const struct sluice_flow_head* head) {
  return SLUICE_FLOW_CLOSED(head->control) &&
         (__s32)jiffies_since(head->seen) > (__s32)(jiffies_per_second * SLUICE_CLOSED_TRUST / 1000);
}

/* A packet of the record's flow. What comes when it is over does not keep the record: it may be another's.
 * `before`: the record's control. */
static __always_inline void seen_now(struct sluice_flow_head* head, __u64 before) {
  if (!SLUICE_FLOW_CLOSED(before) || !SLUICE_FLOW_CLOSED(head->control))
    SLUICE_STORE_ONCE(head->seen, (__u32)bpf_jiffies64());
}

/* A reset that another packet follows was none: its sequence number was wrong, and whoever sent it only guessed. Where
 * it was one, the end that is closed answers that packet with another. */
static __always_inline void goes_on(struct sluice_flow_head* head, __u8 tcp_flags) {
  if (!(tcp_flags & SLUICE_TCP_RST)) take_state(head, SLUICE_FLOW_RESET);
}

/* The backend has spoken. */
static __always_inline void answered(struct sluice_flow_head* head, __u8 tcp_flags) {
  __u64 bits = SLUICE_FLOW_REPLIED;

  goes_on(head, tcp_flags);
  take_state(head, SLUICE_FLOW_SYN_UNANSWERED);
  if (tcp_flags & SLUICE_TCP_FIN)
    bits |= SLUICE_FLOW_BACKEND_FIN | (head->control & SLUICE_FLOW_CLIENT_FIN ? 0 : SLUICE_FLOW_BACKEND_FIRST);
  if (tcp_flags & SLUICE_TCP_RST) bits |= SLUICE_FLOW_RESET;
  add_state(head, bits);
}

/* The same in a half-open record: which acknowledgement of the client's will show that it has seen this. */
static __always_inline void half_open_answered(struct sluice_flow_head* head, __u8 tcp_flags, __u32 sequence) {
  __u64 before, after;

  answered(head, tcp_flags);
  if (!tcp_flags || tcp_flags & SLUICE_TCP_RST) return;
  before = SLUICE_LOAD_ONCE(head->control);
  after = (before & 0xffffffffULL) | ((__u64)(sequence + (tcp_flags & SLUICE_TCP_SYN ? 1 : 0)) << 32);
  __sync_val_compare_and_swap(&head->control, before, after); /* lost: the next packet does it */
}

/* A way back that has just been asked for. */
static __always_inline void store_way(struct sluice_flow_head* head, __u64 next_hop, const bool v6) {
  SLUICE_STORE_ONCE(head->next_hop, next_hop);
  if (v6)
    ((struct sluice_flow6*)head)->way_checked = (__u32)bpf_jiffies64();
  else
    ((struct sluice_flow4*)head)->way_checked = (__u32)bpf_jiffies64();
}

static __always_inline __u64 state_from_client(__u8 tcp_flags) {
  return ((tcp_flags & SLUICE_TCP_FIN) ? SLUICE_FLOW_CLIENT_FIN : 0) |
         ((tcp_flags & SLUICE_TCP_RST) ? SLUICE_FLOW_RESET : 0);
}

#endif
