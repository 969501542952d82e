/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The packets of benchmarks, made in the kernel: a template, and what varies from flow to flow. */
#ifndef SLUICE_TESTS_BENCH_PACKET_MAKE_H
#define SLUICE_TESTS_BENCH_PACKET_MAKE_H

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tests/bench/packet_shared.h"

const volatile struct bench_shape shape;

struct bench_template headers;
struct bench_flows flows;

static __always_inline __u16 folded(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (__u16)(sum + (sum >> 16));
}

/* What varies, as it stands in a packet. */
struct tuple {
  __be32 source;
  __be32 destination;
  __be32 ports; /* source, destination */
};

/* The clients of flows that are numbered together lie together: 2^17 addresses, then the next port. */
static __always_inline void make_tuple(__u32 number, struct tuple* tuple) {
  __u32 flow = ((number * BENCH_ODD) & flows.mask);
  __u32 service = ((__u64)(flow * BENCH_ODD) * flows.services) >> 32;
  tuple->source = bpf_htonl(flows.client + (flow & 0x1ffff));
  tuple->destination = bpf_htonl(flows.service + service);
  tuple->ports = bpf_htonl(((__u32)flows.first_client_port + (flow >> 17)) << 16 | flows.service_port);
}

/* The caller has seen that the packet has so many. */
static __always_inline void copy_words(void* data, const __u64* from, __u32 words) {
#pragma clang loop unroll(full)
  for (__u32 i = 0; i < BENCH_MAX_WORDS; i++) {
    if (i < words) ((__u64*)data)[i] = from[i];
  }
}

/* The n-th packet, by the template. False: it is shorter than that. */
static __always_inline bool write_headers(char* data, const char* end, __u32 number) {
  __u32 words = shape.words;
  struct tuple tuple;
  __u64 addresses;

  if (words > BENCH_MAX_WORDS || data + words * 8 > end) return false;
  make_tuple(number, &tuple);
  addresses = (__u64)tuple.source + tuple.destination;
  copy_words(data, headers.words, words);
  *(__be32*)(data + shape.source) = tuple.source;
  *(__be32*)(data + shape.destination) = tuple.destination;
  *(__be32*)(data + shape.ports) = tuple.ports;
  *(__u16*)(data + shape.l4_check) = (__u16)~folded(headers.l4_sum + addresses + tuple.ports);
  if (shape.ip_check) *(__u16*)(data + shape.ip_check) = (__u16)~folded(headers.ip_sum + addresses);
  return true;
}

#endif
