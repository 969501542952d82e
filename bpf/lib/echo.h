/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Answers to pings (RFC 792, RFC 4443) of services' addresses, within bounds. */
#ifndef SLUICE_BPF_LIB_ECHO_H
#define SLUICE_BPF_LIB_ECHO_H

#include "bpf/lib/answer.h"

#define ICMP_ECHO_REQUEST 8
#define ICMP_ECHO_ANSWER 0
#define ICMPV6_ECHO_QUESTION 128
#define ICMPV6_ECHO_ANSWER 129

/* Whether an IP packet is an echo request, whole. */
static __always_inline bool is_echo_request(const void* l3, const void* end, const bool v6) {
  const struct ipv6hdr* ip6 = l3;
  const struct iphdr* ip4 = l3;
  const __u8* icmp;

  if (v6) {
    icmp = (const __u8*)(ip6 + 1);
    return (const void*)(icmp + 8) <= end && ip6->version == 6 && ip6->nexthdr == IPPROTO_ICMPV6 &&
           icmp[0] == ICMPV6_ECHO_QUESTION && icmp[1] == 0;
  }
  if ((const void*)(ip4 + 1) > end || ip4->version != 4 || ip4->ihl != 5 || ip4->protocol != IPPROTO_ICMP ||
      ip4->frag_off & bpf_htons(SLUICE_IP_MORE_FRAGMENTS | SLUICE_IP_OFFSET))
    return false;
  icmp = (const __u8*)(ip4 + 1);
  return (const void*)(icmp + 8) <= end && icmp[0] == ICMP_ECHO_REQUEST && icmp[1] == 0;
}

/* Turns an echo request into its reply. False: it may not be answered now. */
static __always_inline bool answer_echo(struct xdp_md* ctx, const bool v6) {
  void* data = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  void* l3 = data + ETH_HLEN;
  union sluice_address asker, address;
  __u16* check;
  __u8* icmp;

  if (l3 + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + 8 > end) return false;
  load_source(&asker, l3, v6);
  load_destination(&address, l3, v6);
  if (!answerable(&asker, v6) || !may_answer(&asker, v6)) return false;
  icmp = l3 + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
  check = (__u16*)(icmp + 2);
  *check = update_checksum(*check, v6 ? change_of_u16(ICMPV6_ECHO_QUESTION, ICMPV6_ECHO_ANSWER)
                                      : change_of_u16(ICMP_ECHO_REQUEST, ICMP_ECHO_ANSWER));
  icmp[0] = v6 ? ICMPV6_ECHO_ANSWER : ICMP_ECHO_ANSWER;
  if (v6) {
    struct ipv6hdr* ip = l3;
    __u64* addresses = (__u64*)&ip->saddr;
    addresses[0] = address.words[0];
    addresses[1] = address.words[1];
    addresses[2] = asker.words[0];
    addresses[3] = asker.words[1];
    ip->hop_limit = SLUICE_ANSWER_HOPS;
  } else {
    struct iphdr* ip = l3;
    ip->saddr = address.ipv4;
    ip->daddr = asker.ipv4;
    ip->check = update_checksum(ip->check, change_of_u16(ip->ttl, SLUICE_ANSWER_HOPS));
    ip->ttl = SLUICE_ANSWER_HOPS;
  }
  store_ethernet(data, load_mac(data + ETH_ALEN), own_mac(), v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
  return true;
}

#endif
