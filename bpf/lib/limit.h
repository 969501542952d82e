/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How often we answer: what anybody can make us send is bounded, on each CPU and for each prefix that asks (RFC 4443,
 * section 2.4 f; RFC 1812, section 4.3.2.8). */
#ifndef SLUICE_BPF_LIB_LIMIT_H
#define SLUICE_BPF_LIB_LIMIT_H

#include "bpf/lib/packet.h"

/* A token bucket: `tokens` in units of 1/jiffies_per_second of an answer, so that a jiffy brings `rate` of them. */
struct bucket {
  __u32 tokens;
  __u32 filled; /* jiffies, low 32 bits */
};

struct prefix {
  __u64 network; /* IPv4 /24, IPv6 /64, in network order */
  __u32 family;
  __u32 pad;
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct bucket);
} answer_bucket SEC(".maps");

/* Whoever asks from many prefixes pushes buckets out, and is held by the CPU's own. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
  __uint(max_entries, 1 << 12);
  __type(key, struct prefix);
  __type(value, struct bucket);
} prefix_buckets SEC(".maps");

/* Answers a second, and how many at once, on one CPU. */
#define SLUICE_ANSWERS_ALL 10000
#define SLUICE_ANSWERS_ALL_BURST 1000
#define SLUICE_ANSWERS_PREFIX 100
#define SLUICE_ANSWERS_PREFIX_BURST 50

static __always_inline bool take_token(struct bucket* bucket, __u32 rate, __u32 burst) {
  __u32 now = (__u32)bpf_jiffies64(), full = burst * jiffies_per_second, one = jiffies_per_second;
  __u64 tokens = bucket->tokens + (__u64)(now - bucket->filled) * rate;

  bucket->filled = now;
  if (tokens > full) tokens = full;
  bucket->tokens = (__u32)tokens;
  if (tokens < one) return false;
  bucket->tokens -= one;
  return true;
}

/* Whether one more answer may go to this address; takes it from the buckets. A function of its own. */
__noinline int may_answer(const union sluice_address* to, __u32 v6) {
  struct prefix prefix = {};
  struct bucket *all, *own;
  __u32 zero = 0;

  if (!to) return 0;
  all = bpf_map_lookup_elem(&answer_bucket, &zero);
  if (!all) return 0;
  prefix.network = v6 ? to->words[0] : to->ipv4 & bpf_htonl(0xffffff00);
  prefix.family = v6 ? 6 : 4;
  own = bpf_map_lookup_elem(&prefix_buckets, &prefix);
  if (!own) {
    struct bucket full = {.tokens = SLUICE_ANSWERS_PREFIX_BURST * jiffies_per_second};
    full.filled = (__u32)bpf_jiffies64();
    bpf_map_update_elem(&prefix_buckets, &prefix, &full, BPF_NOEXIST);
    own = bpf_map_lookup_elem(&prefix_buckets, &prefix);
    if (!own) return 0;
  }
  return take_token(own, SLUICE_ANSWERS_PREFIX, SLUICE_ANSWERS_PREFIX_BURST) &&
         take_token(all, SLUICE_ANSWERS_ALL, SLUICE_ANSWERS_ALL_BURST);
}

#endif
