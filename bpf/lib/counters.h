/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A reason for every verdict. All counters are per CPU: plain additions. */
#ifndef SLUICE_BPF_LIB_COUNTERS_H
#define SLUICE_BPF_LIB_COUNTERS_H

#include "bpf/lib/maps.h"

/* Counts a verdict or a note. */
static __always_inline void count_reason(__u32 reason, __u32 packets, __u64 bytes) {
  struct sluice_count* counters = bpf_map_lookup_elem(&reasons, &reason);
  if (!counters) return;
  counters->packets += packets;
  counters->bytes += bytes;
}

/* Counts a drop, by reason and by {service, backend, reason}. A function of its own: off the hot path. */
__noinline int count_drop(__u32 service, __u32 backend, __u32 reason, __u64 bytes) {
  struct sluice_service_reason_key key = {.service = service, .reason = reason, .backend = backend};
  struct sluice_count* counters;

  count_reason(reason, 1, bytes);
  counters = bpf_map_lookup_elem(&service_reasons, &key);
  if (!counters) {
    /* Refused when another CPU was first, or when the map is full: then only `reasons` knows. */
    struct sluice_count none = {};
    bpf_map_update_elem(&service_reasons, &key, &none, BPF_NOEXIST);
    counters = bpf_map_lookup_elem(&service_reasons, &key);
    if (!counters) return 0;
  }
  counters->packets += 1;
  counters->bytes += bytes;
  return 0;
}

static __always_inline void add_to(struct sluice_count* count, __u32 packets, __u64 bytes) {
  count->packets += packets;
  count->bytes += bytes;
}

/* `otherwise`: not in the way that the backend's record says. */
static __always_inline void count_forward(__u32 backend, bool otherwise, __u64 bytes) {
  struct sluice_counters* counters = bpf_map_lookup_elem(&backend_counters, &backend);
  if (counters) add_to(otherwise ? &counters->otherwise : &counters->forwarded, 1, bytes);
}

static __always_inline void count_return(__u32 backend, __u32 packets, __u64 bytes) {
  struct sluice_counters* counters = bpf_map_lookup_elem(&backend_counters, &backend);
  if (counters) add_to(&counters->returned, packets, bytes);
}

/* A record was made. */
static __always_inline void count_flow(__u32 backend) {
  struct sluice_counters* counters = bpf_map_lookup_elem(&backend_counters, &backend);
  if (counters) counters->flows += 1;
}

#endif
