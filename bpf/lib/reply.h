/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Replies that pass the node's own network stack: the flow that they belong to, and giving them the service's address.
 * For tc. `l3` is where the IP header begins, from skb->data on: behind an Ethernet header, or at 0 where the device
 * has none; a constant in each program. */
#ifndef SLUICE_BPF_LIB_REPLY_H
#define SLUICE_BPF_LIB_REPLY_H

#include "bpf/lib/flow.h"
#include "bpf/lib/quoted.h"
#include "bpf/lib/rewrite.h"

#define SLUICE_TCP_OPTION_END 0
#define SLUICE_TCP_OPTION_NONE 1
#define SLUICE_TCP_OPTION_MSS 2

/* What a record says of a reply. */
struct reply {
  struct ends to; /* all but the destination's address, which stays */
  struct sluice_flow_head* head;
  __u64 control;
  __u64 fits; /* of a tunnel that the flow came by: bytes of the largest packet; 0: it came by none */
  __u32 service;
  __u32 backend;
  bool half_open;
};

static __always_inline void reply_of4(struct sluice_flow4* flow, struct reply* reply) {
  reply->head = &flow->head;
  reply->control = SLUICE_LOAD_ONCE(flow->head.control);
  reply->to.source.words[0] = flow->address;
  reply->to.source.words[1] = 0;
  reply->to.destination.words[0] = flow->client;
  reply->to.destination.words[1] = 0;
  reply->to.source_port = flow->port;
  reply->to.destination_port = flow->client_port;
}
static __always_inline void reply_of6(struct sluice_flow6* flow, struct reply* reply) {
  reply->head = &flow->head;
  reply->control = SLUICE_LOAD_ONCE(flow->head.control);
  reply->to.source = flow->address;
  reply->to.destination = flow->client;
  reply->to.source_port = flow->port;
  reply->to.destination_port = flow->client_port;
}

/* Finishes what reply_of4() or reply_of6() has begun. False: the record has become another one meanwhile. */
static __always_inline bool reply_holds(struct reply* reply) {
  reply->fits = reply->head->next_hop;
  reply->service = reply->head->service;
  reply->backend = reply->head->backend;
  return same_record(reply->head, reply->control);
}

/* The record that a reply's own tuple leads to. False: there is none. */
static __always_inline bool find_reply(const struct flow_key* key, struct reply* reply, const bool v6) {
  __u32 position, hash = hash_flow_key(key, v6);

  reply->half_open = false;
  if (v6) {
    struct sluice_flow6* flow = find_flows6(key, hash, &position);
    if (!flow) {
      flow = find_half_open6(key, hash, &position);
      reply->half_open = true;
    }
    if (!flow) return false;
    reply_of6(flow, reply);
  } else {
    struct sluice_flow4* flow = find_flows4(key, hash, &position);
    if (!flow) {
      flow = find_half_open4(key, hash, &position);
      reply->half_open = true;
    }
    if (!flow) return false;
    reply_of4(flow, reply);
  }
  return reply_holds(reply);
}

/* The same where time matters less than the stack. */
static __always_inline bool locate_reply(const struct flow_key* key, struct reply* reply, const bool v6) {
  int at = v6 ? locate6(key) : locate4(key);

  if (at < 0) return false;
  reply->half_open = at & SLUICE_AT_HALF_OPEN;
  if (v6)
    reply_of6(reply->half_open ? at_half_open6(at) : at_flows6(at), reply);
  else
    reply_of4(reply->half_open ? at_half_open4(at) : at_flows4(at), reply);
  return reply_holds(reply);
}

/* The backend has spoken. `sequence`: TCP's, host order. */
static __always_inline void reply_seen(const struct reply* reply, __u8 tcp_flags, __u32 sequence) {
  __u64 before = reply->head->control;

  if (reply->half_open)
    half_open_answered(reply->head, tcp_flags, sequence);
  else
    answered(reply->head, tcp_flags);
  if (!touched_lately(reply->head)) seen_now(reply->head, before);
}

/* Replaces one of the packet's addresses and its share of the checksums: IPv4's header's, and TCP's or UDP's at
 * `checksum` (0: there is none, in a later fragment). The kernel's helpers know whether a checksum is complete or left
 * to the device (CHECKSUM_PARTIAL), which the packet does not tell. */
static __always_inline bool replace_address(struct __sk_buff* skb, const __u32 l3, __u32 at, __u32 checksum,
                                            __u64 flags, const union sluice_address* from,
                                            const union sluice_address* to, const bool v6) {
  if (v6) {
    const __u32* before = (const __u32*)from->bytes;
    const __u32* after = (const __u32*)to->bytes;
    if (checksum) {
      __s64 change = bpf_csum_diff((__be32*)before, 16, (__be32*)after, 16, 0);
      if (change < 0 || bpf_l4_csum_replace(skb, checksum, 0, change, flags | BPF_F_PSEUDO_HDR)) return false;
    }
    return !bpf_skb_store_bytes(skb, at, to->bytes, 16, 0);
  }
  if (checksum && bpf_l4_csum_replace(skb, checksum, from->ipv4, to->ipv4, flags | BPF_F_PSEUDO_HDR | 4)) return false;
  return !bpf_l3_csum_replace(skb, l3 + __builtin_offsetof(struct iphdr, check), from->ipv4, to->ipv4, 4) &&
         !bpf_skb_store_bytes(skb, at, &to->ipv4, 4, 0);
}

static __always_inline __u32 source_at(const __u32 l3, const bool v6) {
  return l3 + (v6 ? __builtin_offsetof(struct ipv6hdr, saddr) : __builtin_offsetof(struct iphdr, saddr));
}
static __always_inline __u32 destination_at(const __u32 l3, const bool v6) {
  return l3 + (v6 ? __builtin_offsetof(struct ipv6hdr, daddr) : __builtin_offsetof(struct iphdr, daddr));
}

static __always_inline __u32 l4_checksum_at(__u32 l4, __u8 protocol) {
  return l4 + (protocol == IPPROTO_TCP ? SLUICE_TCP_CHECKSUM_OFFSET : SLUICE_UDP_CHECKSUM_OFFSET);
}

static __always_inline bool replace_ports(struct __sk_buff* skb, __u32 l4, __u8 protocol, const struct ends* from,
                                          const struct ends* to) {
  __u32 checksum = l4_checksum_at(l4, protocol);
  __u64 zero_rule = protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
  struct ports ports = {.source = to->source_port, .destination = to->destination_port};

  return (from->source_port == to->source_port ||
          !bpf_l4_csum_replace(skb, checksum, from->source_port, to->source_port, zero_rule | 2)) &&
         (from->destination_port == to->destination_port ||
          !bpf_l4_csum_replace(skb, checksum, from->destination_port, to->destination_port, zero_rule | 2)) &&
         !bpf_skb_store_bytes(skb, l4, &ports, sizeof(ports), 0);
}

/* Gives a reply the service's address and the client's port. `l4`: where TCP or UDP begins, 0: nowhere, in a later
 * fragment. False: not changed as it should be. */
static __always_inline bool translate_reply(struct __sk_buff* skb, const __u32 l3, __u32 l4, __u8 protocol,
                                            const struct ends* from, const struct ends* to, const bool v6) {
  __u64 zero_rule = protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;

  return replace_address(skb, l3, source_at(l3, v6), l4 ? l4_checksum_at(l4, protocol) : 0, zero_rule, &from->source,
                         &to->source, v6) &&
         (!l4 || replace_ports(skb, l4, protocol, from, to));
}

/* Lowers the maximum segment size that a SYN or its answer offers, so that what the other end sends fits `fits` bytes
 * of IP packet. A function of its own. */
__noinline int clamp_mss(struct __sk_buff* skb, __u32 l4, __u32 fits, __u32 v6) {
  __u32 headers = sizeof(struct tcphdr) + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)), at, end;
  __u8 option[4];

  if (fits <= headers || bpf_skb_load_bytes(skb, l4 + SLUICE_TCP_DATA_OFFSET, option, 1)) return 0;
  at = l4 + sizeof(struct tcphdr);
  end = l4 + (option[0] >> 4) * 4;
#pragma clang loop unroll(disable)
  for (int i = 0; i < 40; i++) {
    __u16 before, after = bpf_htons((__u16)(fits - headers)), *mss = (__u16*)(option + 2);
    SLUICE_PIN(i);
    if (at + 2 > end || bpf_skb_load_bytes(skb, at, option, 2) || option[0] == SLUICE_TCP_OPTION_END) return 0;
    if (option[0] == SLUICE_TCP_OPTION_NONE) {
      at++;
      continue;
    }
    if (option[0] != SLUICE_TCP_OPTION_MSS) {
      if (option[1] < 2) return 0;
      at += option[1];
      continue;
    }
    if (at + 4 > end || bpf_skb_load_bytes(skb, at, option, 4) || option[1] != 4) return 0;
    before = *mss;
    if (bpf_ntohs(before) <= fits - headers) return 0;
    /* At an odd place its bytes stand in two of the checksum's words. */
    if ((at - l4) & 1)
      bpf_l4_csum_replace(skb, l4 + SLUICE_TCP_CHECKSUM_OFFSET, __builtin_bswap16(before), __builtin_bswap16(after), 2);
    else
      bpf_l4_csum_replace(skb, l4 + SLUICE_TCP_CHECKSUM_OFFSET, before, after, 2);
    bpf_skb_store_bytes(skb, at + 2, &after, 2, 0);
    return 1;
  }
  return 0;
}

static __always_inline bool is_syn_ack(__u8 tcp_flags) {
  return (tcp_flags & (SLUICE_TCP_SYN | SLUICE_TCP_ACK)) == (SLUICE_TCP_SYN | SLUICE_TCP_ACK);
}

/* Makes the first `bytes` of the packet, or all of it, lie in one piece that may be written. False: not to be had. */
static __always_inline bool have_head(struct __sk_buff* skb, __u32 bytes) {
  return !bpf_skb_pull_data(skb, skb->len < bytes ? skb->len : bytes);
}

#endif
