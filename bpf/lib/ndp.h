/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Answers to neighbour solicitations (RFC 4861) for the IPv6 addresses that this node owns. */
#ifndef SLUICE_BPF_LIB_NDP_H
#define SLUICE_BPF_LIB_NDP_H

#include "bpf/lib/answer.h"
#include "bpf/lib/arp.h"

#define SLUICE_NDP_SOLICITATION 135
#define SLUICE_NDP_ADVERTISEMENT 136
#define SLUICE_NDP_HOPS 255 /* nobody beyond this link could have sent it: RFC 4861, section 7.1.1 */
#define SLUICE_NDP_SOLICITED 0x40
#define SLUICE_NDP_OVERRIDE 0x20
#define SLUICE_NDP_TARGET_MAC 2 /* option */
#define SLUICE_NDP_LONGEST 64   /* bytes of a solicitation that we look at: 24, and its options */

struct solicitation {
  __u8 type;
  __u8 code;
  __u16 check;
  __u32 flags;
  union sluice_address target;
};
/* With the one option that it has: 32 bytes. */
struct advertisement {
  struct solicitation head;
  __u8 option;
  __u8 option_length; /* in units of 8 bytes */
  __u8 mac[6];
};

/* Turns a solicitation for an owned address into its advertisement. True: transmit it. False: untouched. A sender that
 * asks from :: is about to take the address (RFC 4862, section 5.4): everybody is told that it is taken. */
static __always_inline bool answer_solicitation(struct xdp_md* ctx, __u16 vlan) {
  void* data = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  struct ipv6hdr* ip = data + ETH_HLEN;
  struct solicitation* asked = (void*)(ip + 1);
  struct advertisement* told;
  struct sluice_owned_key key = {};
  const struct sluice_owned* owned;
  union sluice_address asker, all_nodes;
  __u64 mac = own_mac(), asker_mac, sum;
  __u32 length;
  bool unspecified;

  if ((void*)(asked + 1) > end) return false;
  if (ip->nexthdr != IPPROTO_ICMPV6 || asked->type != SLUICE_NDP_SOLICITATION || asked->code ||
      ip->hop_limit != SLUICE_NDP_HOPS)
    return false;
  length = bpf_ntohs(ip->payload_len);
  if (length < sizeof(*asked) || length > SLUICE_NDP_LONGEST || length & 3) return false;
  SLUICE_PIN(length); /* older verifiers know no bound behind a byte swap */
  length &= 2 * SLUICE_NDP_LONGEST - 1;
  if ((void*)asked + length > end) return false;
  if (asked->target.bytes[0] == 0xff) return false;
  load_source(&asker, ip, true);
  unspecified = !(asker.words[0] | asker.words[1]);
  if (asker.bytes[0] == 0xff) return false;
  asker_mac = load_mac(data + ETH_ALEN);
  if (!asker_mac || asker_mac & 1) return false;
  {
    union sluice_address to;
    load_destination(&to, ip, true);
    sum = pseudo_sum(&asker, &to, IPPROTO_ICMPV6, length, true) + sum_words(asked, end, length / 4);
  }
  if (fold_checksum(sum) != 0xffff) return false;

  key.address = asked->target;
  key.ifindex = interface_index;
  key.vlan = vlan;
  key.family = 6;
  owned = bpf_map_lookup_elem(&owned_addresses, &key);
  if (!owned || SLUICE_LOAD_ONCE(owned->deadline) <= bpf_ktime_get_coarse_ns()) return false;

  if (!set_length(ctx, ETH_HLEN + sizeof(*ip) + sizeof(*told))) return false;
  data = (void*)(long)ctx->data;
  end = (void*)(long)ctx->data_end;
  ip = data + ETH_HLEN;
  told = (void*)(ip + 1);
  if ((void*)(told + 1) > end) return false;
  all_nodes.words[0] = bpf_cpu_to_be64(0xff02000000000000ULL);
  all_nodes.words[1] = bpf_cpu_to_be64(1);
  if (unspecified) asker = all_nodes;
  write_ip(ip, &key.address, &asker, IPPROTO_ICMPV6, sizeof(*told), true);
  ip->hop_limit = SLUICE_NDP_HOPS;
  told->head.type = SLUICE_NDP_ADVERTISEMENT;
  told->head.code = 0;
  told->head.check = 0;
  told->head.flags = SLUICE_NDP_OVERRIDE | (unspecified ? 0 : SLUICE_NDP_SOLICITED);
  told->head.target = key.address;
  told->option = SLUICE_NDP_TARGET_MAC;
  told->option_length = 1;
  store_mac(told->mac, mac);
  sum = pseudo_sum(&key.address, &asker, IPPROTO_ICMPV6, sizeof(*told), true) + sum_words(told, end, sizeof(*told) / 4);
  told->head.check = (__u16)~fold_checksum(sum);
  store_ethernet(data, unspecified ? 0x010000003333ULL : asker_mac, mac, bpf_htons(ETH_P_IPV6));
  return true;
}

#endif
