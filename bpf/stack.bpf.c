/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What passes the node's own network stack. Loaded once for the node, over the maps that the XDP programs share.
 *
 * `sluice_egress` stands on tc egress of every device that packets leave by; `sluice_egress_bare` where frames have no
 * Ethernet header (tun, WireGuard, IP tunnels).
 */
#define SLUICE_FOR_TC
#include "bpf/lib/egress.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int sluice_egress(struct __sk_buff* skb) {
  return send_frame(skb, ETH_HLEN);
}

SEC("tc")
int sluice_egress_bare(struct __sk_buff* skb) {
  return send_frame(skb, 0);
}

/* --- behind tail calls: what has its ports elsewhere, or none */

SEC("tc")
int sluice_out4(struct __sk_buff* skb) {
  return send_unusual(skb, ETH_HLEN, false);
}

SEC("tc")
int sluice_out6(struct __sk_buff* skb) {
  return send_unusual(skb, ETH_HLEN, true);
}

SEC("tc")
int sluice_out_bare4(struct __sk_buff* skb) {
  return send_unusual(skb, 0, false);
}

SEC("tc")
int sluice_out_bare6(struct __sk_buff* skb) {
  return send_unusual(skb, 0, true);
}
