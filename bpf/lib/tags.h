/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Frames with VLAN tags, one (IEEE 802.1Q) or two (802.1ad). They are taken off, all programs work on what remains, and
 * what is passed up or answered gets them back; what is sent on has the tag of its way out (way.h). */
#ifndef SLUICE_BPF_LIB_TAGS_H
#define SLUICE_BPF_LIB_TAGS_H

#include "bpf/lib/stages.h"

#define SLUICE_TAG_BYTES 4
#define SLUICE_VLAN_ID 0x0fff

static __always_inline bool is_tag(__be16 protocol) {
  return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

/* Comes back: a tail call from a function ends that function. What it returns is hidden from the compiler, which sees
 * only the one return below, and would take its value for what every call returns. */
__noinline int run_without_tags(struct xdp_md* ctx) {
  int action = XDP_DROP;

  bpf_tail_call_static(ctx, &stages, STAGE_START);
  count_reason(SLUICE_REASON_STALE_TABLE, 1, 0);
  asm volatile("" : "+r"(action));
  return action;
}

/* Takes `count` tags off a frame that has them. */
static __always_inline bool take_tags(struct xdp_md* ctx, __u32 count) {
  void* data = (void*)(long)ctx->data;
  __u32 bytes = count * SLUICE_TAG_BYTES;
  __u64 destination, source;
  __be16 protocol;

  if (data + ETH_HLEN + 2 * SLUICE_TAG_BYTES > (void*)(long)ctx->data_end) return false;
  destination = load_mac(data);
  source = load_mac(data + ETH_ALEN);
  protocol = count == 2 ? *(const __be16*)(data + 20) : *(const __be16*)(data + 16);
  if (bpf_xdp_adjust_head(ctx, (int)bytes)) return false;
  data = (void*)(long)ctx->data;
  if (data + ETH_HLEN > (void*)(long)ctx->data_end) return false;
  store_ethernet(data, destination, source, protocol);
  return true;
}

/* Puts them back. */
static __always_inline bool put_tags(struct xdp_md* ctx, const struct frame_tags* here) {
  __u32 bytes = here->count == 2 ? 2 * SLUICE_TAG_BYTES : SLUICE_TAG_BYTES;
  __u64 destination, source;
  __be16 protocol;
  void *data, *end;

  if (bpf_xdp_adjust_head(ctx, -(int)bytes)) return false;
  data = (void*)(long)ctx->data;
  end = (void*)(long)ctx->data_end;
  if (data + ETH_HLEN + 2 * SLUICE_TAG_BYTES > end) return false;
  if (here->count == 2) {
    destination = load_mac(data + 8);
    source = load_mac(data + 14);
    protocol = *(const __be16*)(data + 20); /* stays where it is */
    *(__be16*)(data + 20) = protocol;
    *(__u32*)(data + 16) = here->tag[1];
  } else {
    destination = load_mac(data + 4);
    source = load_mac(data + 10);
  }
  *(__u32*)(data + 12) = here->tag[0];
  store_mac(data, destination);
  store_mac(data + ETH_ALEN, source);
  return true;
}

/* A frame whose Ethernet type says that a tag follows. Returns an XDP action. */
static __always_inline int with_tags(struct xdp_md* ctx) {
  void* data = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  struct frame_tags* here = frame_tags();
  __u32 first, second;
  __u16 inner;
  int action;

  if (!here || data + ETH_HLEN + 2 * SLUICE_TAG_BYTES > end) goto not_ours;
  first = *(const __u32*)(data + 12);
  second = *(const __u32*)(data + 16);
  here->count = is_tag((__be16)second) ? 2 : 1;
  inner = here->count == 2 ? *(const __be16*)(data + 20) : (__be16)second;
  if (is_tag(inner)) goto not_ours; /* three: nobody's */
  here->tag[0] = first;
  here->tag[1] = second;
  here->vlan = here->count == 2 ? SLUICE_VLAN_TWO : bpf_ntohs((__u16)(first >> 16)) & SLUICE_VLAN_ID;
  here->answered = 0;
  here->handed = 0;
  if (!take_tags(ctx, here->count)) {
    here->vlan = 0;
    goto not_ours;
  }
  action = run_without_tags(ctx);
  here->vlan = 0; /* frames without tags do not come by here */
  if ((action == XDP_PASS && !here->handed) || (action == XDP_TX && here->answered)) {
    /* There was room for them before; and the packet has been counted. The kernel traces it (xdp_exception). */
    if (!put_tags(ctx, here)) return XDP_ABORTED;
  }
  return action;
not_ours:
  count_reason(SLUICE_REASON_NOT_FOR_US, 1, (__u64)(end - data));
  return XDP_PASS;
}

#endif
