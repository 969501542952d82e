/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A reason for every verdict. All counters are per CPU: plain additions. */
#ifndef SLUICE_BPF_LIB_COUNTERS_H
#define SLUICE_BPF_LIB_COUNTERS_H

#include "bpf/lib/maps.h"

/* Counts a verdict or a note. */
static __always_inline void count_reason(__u32 reason, __u32 packets, __u64 bytes) {
  struct sluice_reason_counters* counters = bpf_map_lookup_elem(&reasons, &reason);
  if (!counters) return;
  counters->packets += packets;
  counters->bytes += bytes;
}

/* Counts a drop, by reason and by {service, reason}. */
static __always_inline void count_drop(__u32 service, __u32 reason, __u64 bytes) {
  struct sluice_service_reason_key key = {.service = service, .reason = reason};
  struct sluice_reason_counters* counters;

  count_reason(reason, 1, bytes);
  counters = bpf_map_lookup_elem(&service_reasons, &key);
  if (!counters) {
    /* Refused when another CPU was first, or when the map is full: then only `reasons` knows. */
    struct sluice_reason_counters none = {};
    bpf_map_update_elem(&service_reasons, &key, &none, BPF_NOEXIST);
    counters = bpf_map_lookup_elem(&service_reasons, &key);
    if (!counters) return;
  }
  counters->packets += 1;
  counters->bytes += bytes;
}

static __always_inline void count_forward(__u32 service, __u32 backend, __u64 bytes) {
  struct sluice_counters* counters = bpf_map_lookup_elem(&service_counters, &service);
  if (counters) {
    counters->packets += 1;
    counters->bytes += bytes;
  }
  counters = bpf_map_lookup_elem(&backend_counters, &backend);
  if (counters) {
    counters->packets += 1;
    counters->bytes += bytes;
  }
}

static __always_inline void count_return(__u32 service, __u32 backend, __u32 packets, __u64 bytes) {
  struct sluice_counters* counters = bpf_map_lookup_elem(&service_counters, &service);
  if (counters) {
    counters->return_packets += packets;
    counters->return_bytes += bytes;
  }
  counters = bpf_map_lookup_elem(&backend_counters, &backend);
  if (counters) {
    counters->return_packets += packets;
    counters->return_bytes += bytes;
  }
}

/* A record was created (or begun anew by a SYN). */
static __always_inline void count_flow(__u32 service, __u32 backend) {
  struct sluice_counters* counters = bpf_map_lookup_elem(&service_counters, &service);
  if (counters) counters->flows += 1;
  counters = bpf_map_lookup_elem(&backend_counters, &backend);
  if (counters) counters->flows += 1;
}

#endif
