/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs of their own behind tail calls, each with a stack of its own: what is not the common case. The loader pins
 * the array beside the maps. */
#ifndef SLUICE_BPF_LIB_TURNS_H
#define SLUICE_BPF_LIB_TURNS_H

#include "bpf/lib/maps.h"

/* Each in four kinds: by family, and with or without an Ethernet header. */
enum turn {
  TURN_OUT,
  TURN_COUNT = TURN_OUT + 4,
};

static __always_inline __u32 turn_of(enum turn turn, const __u32 l3, const bool v6) {
  return turn + (l3 ? 0 : 2) + (v6 ? 1 : 0);
}

int sluice_out4(struct __sk_buff* skb);
int sluice_out6(struct __sk_buff* skb);
int sluice_out_bare4(struct __sk_buff* skb);
int sluice_out_bare6(struct __sk_buff* skb);
struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, TURN_COUNT);
  __uint(key_size, sizeof(__u32));
  __array(values, int(void*));
} turns SEC(".maps") = {
    .values =
        {
            [TURN_OUT] = (void*)&sluice_out4,
            [TURN_OUT + 1] = (void*)&sluice_out6,
            [TURN_OUT + 2] = (void*)&sluice_out_bare4,
            [TURN_OUT + 3] = (void*)&sluice_out_bare6,
        },
};

#endif
