/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* In front of the program that is measured: BPF_PROG_TEST_RUN with `repeat` gives a program its own output as the next
 * input. Each run first makes the packet anew, of another flow, and then tail-calls the program. How long that takes
 * is measured with a program behind it that only returns. The same twice: for XDP and for classifiers (tc).
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "tests/bench/packet_make.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

__u32 packets[BENCH_LANES]; /* made so far */

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, BENCH_LANES);
  __type(key, __u32);
  __type(value, __u32);
} programs SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, BENCH_LANES);
  __type(key, __u32);
  __type(value, __u32);
} classifiers SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, 8); /* set by the loader: shape.words words */
} rows SEC(".maps");

/* Where the last run has grown or shrunk the packet. Done also where it has not, so that the time it takes is the same
 * for every program. */
static __always_inline bool restore_length(struct xdp_md* ctx) {
  long length = (long)ctx->data_end - (long)ctx->data;
  asm volatile("" : "+r"(length)); /* or clang makes it a difference of 32 bits, which the verifier forbids */
  return bpf_xdp_adjust_head(ctx, (int)(length - (long)shape.length)) == 0;
}

static __always_inline bool write_row(char* data, const char* end, __u32 number) {
  __u32 words = shape.words;
  __u32 index = number & flows.mask;
  const __u64* row = bpf_map_lookup_elem(&rows, &index);

  if (!row || words > BENCH_MAX_WORDS || data + words * 8 > end) return false;
  copy_words(data, row, words);
  return true;
}

static __always_inline bool write_packet(char* data, const char* end, __u32 lane) {
  __u32 number = packets[lane]++;
  return shape.from_rows ? write_row(data, end, number) : write_headers(data, end, number);
}

static __always_inline bool make_packet(struct xdp_md* ctx, __u32 lane) {
  return restore_length(ctx) && write_packet((char*)(long)ctx->data, (const char*)(long)ctx->data_end, lane);
}

SEC("xdp")
int before_floor(struct xdp_md* ctx) {
  if (make_packet(ctx, BENCH_FLOOR)) bpf_tail_call_static(ctx, &programs, BENCH_FLOOR);
  return BENCH_FAILED;
}

SEC("xdp")
int before_program(struct xdp_md* ctx) {
  if (make_packet(ctx, BENCH_PROGRAM)) bpf_tail_call_static(ctx, &programs, BENCH_PROGRAM);
  return BENCH_FAILED;
}

SEC("xdp")
int only_return(struct xdp_md* ctx __attribute__((unused))) {
  return XDP_TX;
}

/* A classifier behind these leaves a packet's length as it is. */
SEC("tc")
int classifier_before_floor(struct __sk_buff* skb) {
  if (write_packet((char*)(long)skb->data, (const char*)(long)skb->data_end, BENCH_FLOOR))
    bpf_tail_call_static(skb, &classifiers, BENCH_FLOOR);
  return BENCH_FAILED;
}

SEC("tc")
int classifier_before_program(struct __sk_buff* skb) {
  if (write_packet((char*)(long)skb->data, (const char*)(long)skb->data_end, BENCH_PROGRAM))
    bpf_tail_call_static(skb, &classifiers, BENCH_PROGRAM);
  return BENCH_FAILED;
}

SEC("tc")
int classifier_only_return(struct __sk_buff* skb __attribute__((unused))) {
  return TC_ACT_UNSPEC;
}
