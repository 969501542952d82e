/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What packet.bpf.c and packet_harness.cpp share. Offsets are bytes from the start of the frame. */
#ifndef SLUICE_TESTS_BENCH_PACKET_SHARED_H
#define SLUICE_TESTS_BENCH_PACKET_SHARED_H
/* C, in the kernel's style of naming.
 * NOLINTBEGIN(readability-identifier-naming,modernize-*) */

#include <linux/types.h>

#define BENCH_MAX_WORDS 24
#define BENCH_ODD 0x9e3779b1u

/* Fixed while the programs are loaded: the verifier takes out what it decides. */
struct bench_shape {
  __u32 length;      /* of the frame */
  __u32 words;       /* 64-bit words of headers that are restored; all offsets below lie in them */
  __u32 source;      /* the last four bytes of the source address */
  __u32 destination; /* the same of the destination */
  __u32 ports;       /* source port, destination port */
  __u32 ip_check;    /* 0: none */
  __u32 l4_check;
  __u32 from_rows; /* the headers come from `rows`, one after the other: of this only `length` and `words` count */
};

/* The headers with 0 for all that varies, and the sums of their 16-bit words as they stand in memory. */
struct bench_template {
  __u64 words[BENCH_MAX_WORDS];
  __u32 ip_sum;
  __u32 l4_sum; /* with the pseudo-header */
};

/* How it varies: the n-th packet is of flow (n * odd) & flow_mask, one after the other all of them, in no order that a
 * cache could guess. A flow has its own client and, of `services`, its own. */
struct bench_flows {
  __u32 mask;
  __u32 services;          /* addresses, one after the other */
  __u32 client;            /* host order; the flow's number goes into 17 bits of the address and into the port */
  __u32 service;           /* host order */
  __u16 service_port;      /* host order */
  __u16 first_client_port; /* host order */
};

#define BENCH_LANES 2
#define BENCH_FLOOR 0
#define BENCH_PROGRAM 1
#define BENCH_FAILED 0x5b /* no verdict of XDP or tc: the packet could not be made, or nothing is behind */

/* NOLINTEND(readability-identifier-naming,modernize-*) */
#endif
