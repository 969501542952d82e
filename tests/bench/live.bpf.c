/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The two ends of a load test: `make` makes packets, as live frames of BPF_PROG_TEST_RUN, and sends them into a device;
 * `count` counts what comes back there, and drops it, all but ARP.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tests/bench/packet_make.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 device;    /* index */
const volatile __be32 expected; /* an address; */
const volatile __be32 prefix;   /* and the bits of it that count */

__u32 made;
__u64 arrived; /* to an expected address */
__u64 others;

SEC("xdp")
int make(struct xdp_md* ctx) {
  if (!write_headers((char*)(long)ctx->data, (const char*)(long)ctx->data_end, made++)) return XDP_ABORTED;
  return bpf_redirect(device, 0);
}

/* On one CPU at a time: the device has one queue. */
SEC("xdp")
int count(struct xdp_md* ctx) {
  const struct ethhdr* eth = (void*)(long)ctx->data;
  const struct iphdr* ip = (const void*)(eth + 1);

  if ((const void*)(eth + 1) > (const void*)(long)ctx->data_end) return XDP_DROP;
  if (eth->h_proto == bpf_htons(ETH_P_ARP)) return XDP_PASS;
  if ((const void*)(ip + 1) <= (const void*)(long)ctx->data_end && eth->h_proto == bpf_htons(ETH_P_IP) &&
      (ip->daddr & prefix) == expected)
    arrived++;
  else
    others++;
  return XDP_DROP;
}
