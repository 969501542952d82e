/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a packet that cannot be forwarded is answered with: a TCP reset, or an ICMP error that quotes it. The packet is
 * turned into its answer and goes back the way that it came. */
#ifndef SLUICE_BPF_LIB_ANSWER_H
#define SLUICE_BPF_LIB_ANSWER_H

#include "bpf/lib/limit.h"
#include "bpf/lib/rewrite.h"

/* RFC 792, RFC 4443. (<linux/icmp.h> wants a C library for the target.) */
#define ICMP_DEST_UNREACH 3
#define ICMP_PORT_UNREACH 3
#define ICMP_FRAG_NEEDED 4
#define ICMP_TIME_EXCEEDED 11
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PORT_UNREACH 4
#define ICMPV6_PKT_TOOBIG 2
#define ICMPV6_TIME_EXCEED 3

/* The most of a packet that an error quotes: its headers, and then some. A multiple of 4. */
#define SLUICE_QUOTE 128
#define SLUICE_ANSWER_HOPS 64
#define SLUICE_MTU_LEAST4 576 /* no path's MTU is told to be less: RFC 1122, RFC 8200 */
#define SLUICE_MTU_LEAST6 1280

enum answer {
  ANSWER_NONE,
  ANSWER_REFUSE,  /* nobody is there: TCP reset, ICMP port unreachable */
  ANSWER_TOO_BIG, /* `mtu` is what fits */
  ANSWER_TTL_EXCEEDED,
};

/* The sum of `words` 32-bit words below `end`, which must not be fewer. */
static __always_inline __u64 sum_words(const void* from, const void* end, __u32 words) {
  __u64 sum = 0;
  SLUICE_PIN(words); /* or the compiler, who knows its bound, drops the loop's own, which Linux 6.1 needs */
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < (SLUICE_QUOTE + 40) / 4; i++) {
    const __u32* word = from + i * 4;
    if (i >= words || (const void*)(word + 1) > end) break;
    sum += *word;
  }
  return sum;
}

/* Whether somebody may be answered at this address: one host, not a group, not nobody (RFC 1122, section 3.2.2). */
static __always_inline bool answerable(const union sluice_address* address, const bool v6) {
  if (v6) /* neither a group, nor :: or ::1 */
    return address->bytes[0] != 0xff && (address->words[0] | (address->words[1] & ~bpf_cpu_to_be64(1)));
  return address->bytes[0] != 0 && address->bytes[0] != 127 && address->bytes[0] < 224;
}

static __always_inline void write_ip(void* l3, const union sluice_address* from, const union sluice_address* to,
                                     __u8 protocol, __u32 payload, const bool v6) {
  if (v6) {
    __u64* ip = l3;
    ip[0] = bpf_htonl(0x60000000) |
            ((__u64)(bpf_htons((__u16)payload) | (__u32)protocol << 16 | (__u32)SLUICE_ANSWER_HOPS << 24) << 32);
    ip[1] = from->words[0];
    ip[2] = from->words[1];
    ip[3] = to->words[0];
    ip[4] = to->words[1];
  } else {
    __u32* ip = l3;
    ip[0] = 0x45 | (__u32)bpf_htons((__u16)(payload + sizeof(struct iphdr))) << 16;
    ip[1] = (__u32)bpf_htons(SLUICE_IP_DONT_FRAGMENT) << 16;
    ip[2] = SLUICE_ANSWER_HOPS | (__u32)protocol << 8;
    ip[3] = from->ipv4;
    ip[4] = to->ipv4;
    ip[2] |= (__u32)(__u16)~fold_checksum((__u64)ip[0] + ip[1] + ip[2] + ip[3] + ip[4]) << 16;
  }
}

/* The pseudo-header's sum: addresses, length, protocol. */
static __always_inline __u64 pseudo_sum(const union sluice_address* a, const union sluice_address* b, __u8 protocol,
                                        __u32 length, const bool v6) {
  __u64 sum = (__u64)bpf_htons((__u16)length) + bpf_htons(protocol);
  if (!v6) return sum + a->ipv4 + b->ipv4;
  return sum + (__u32)a->words[0] + (a->words[0] >> 32) + (__u32)a->words[1] + (a->words[1] >> 32) +
         (__u32)b->words[0] + (b->words[0] >> 32) + (__u32)b->words[1] + (b->words[1] >> 32);
}

static __always_inline bool turn_ethernet(struct xdp_md* ctx, __u64 client, const bool v6) {
  void* eth = (void*)(long)ctx->data;
  if (eth + ETH_HLEN + 2 > (void*)(long)ctx->data_end) return false;
  store_ethernet(eth, client, own_mac(), v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
  return true;
}

/* Makes a packet `length` bytes long, Ethernet header included, from its end. */
static __always_inline bool set_length(struct xdp_md* ctx, __u32 length) {
  long now = bpf_xdp_get_buff_len(ctx);
  return bpf_xdp_adjust_tail(ctx, (int)((long)length - now)) == 0;
}

/* Turns a TCP segment into the reset that refuses it (RFC 9293, section 3.10.7.1). False: the kernel refuses. */
static __always_inline bool reset_connection(struct xdp_md* ctx, void* l3, __u32 length, const struct tcphdr* tcp,
                                             const union sluice_address* from, const union sluice_address* to,
                                             const bool v6) {
  const __u32 header = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
  __u32 l4 = (__u32)((const char*)tcp - (const char*)l3), data, words[5];
  __u64 client = load_mac(l3 - 8), sum;
  __u8 offset_and_flags[2];
  void* end;

  __builtin_memcpy(offset_and_flags, (const char*)tcp + SLUICE_TCP_DATA_OFFSET, 2);
  data = length - l4 - (offset_and_flags[0] >> 4) * 4;
  words[0] = (__u32)tcp->dest | (__u32)tcp->source << 16;
  if (offset_and_flags[1] & SLUICE_TCP_ACK) {
    words[1] = tcp->ack_seq;
    words[2] = 0;
    words[3] = 0x50 | (__u32)SLUICE_TCP_RST << 8;
  } else {
    data += (offset_and_flags[1] & SLUICE_TCP_SYN ? 1 : 0) + (offset_and_flags[1] & SLUICE_TCP_FIN ? 1 : 0);
    words[1] = 0;
    words[2] = bpf_htonl(bpf_ntohl(tcp->seq) + data);
    words[3] = 0x50 | (__u32)(SLUICE_TCP_RST | SLUICE_TCP_ACK) << 8;
  }
  words[4] = 0;
  sum = pseudo_sum(from, to, IPPROTO_TCP, sizeof(struct tcphdr), v6) + words[0] + words[1] + words[2] + words[3];
  words[4] = (__u16)~fold_checksum(sum);

  if (!set_length(ctx, ETH_HLEN + header + sizeof(struct tcphdr))) return false;
  l3 = (void*)(long)ctx->data + ETH_HLEN;
  end = (void*)(long)ctx->data_end;
  if (l3 + header + sizeof(struct tcphdr) > end) return false;
  write_ip(l3, from, to, IPPROTO_TCP, sizeof(struct tcphdr), v6);
  __builtin_memcpy(l3 + header, words, sizeof(words));
  return turn_ethernet(ctx, client, v6);
}

/* Turns a packet into an ICMP error that quotes its beginning. `rest`: the header's second word, network order. */
static __always_inline bool report_error(struct xdp_md* ctx, void* l3, __u32 length, __u8 type, __u8 code, __u32 rest,
                                         const union sluice_address* from, const union sluice_address* to,
                                         const bool v6) {
  const __u32 header = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
  const __u8 protocol = v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
  __u32 quote = (length > SLUICE_QUOTE ? SLUICE_QUOTE : length) & ~3u;
  __u64 client = load_mac(l3 - 8), sum;
  __u32* icmp;
  void* end;

  if (!set_length(ctx, ETH_HLEN + quote)) return false;
  if (bpf_xdp_adjust_head(ctx, -(int)(header + 8))) return false;
  l3 = (void*)(long)ctx->data + ETH_HLEN;
  end = (void*)(long)ctx->data_end;
  icmp = l3 + header;
  if ((void*)(icmp + 2) > end) return false;
  write_ip(l3, from, to, protocol, 8 + quote, v6);
  icmp[0] = type | (__u32)code << 8;
  icmp[1] = rest;
  sum = sum_words(icmp, end, (8 + quote) / 4);
  if (v6) sum += pseudo_sum(from, to, protocol, 8 + quote, true);
  icmp[0] |= (__u32)(__u16)~fold_checksum(sum) << 16;
  return turn_ethernet(ctx, client, v6);
}

/* Answers an IP packet behind an Ethernet header. `at`: where TCP or UDP begins in the IP packet, 0: nowhere. Returns
 * XDP_TX, or XDP_DROP where it is not to be answered, or may not be now. */
static __always_inline int answer_packet(struct xdp_md* ctx, __u32 kind, __u32 mtu, const bool v6) {
  void* l3 = (void*)(long)ctx->data + ETH_HLEN;
  void* end = (void*)(long)ctx->data_end;
  struct ports* ports = v6 ? find_ports6(l3, end) : find_ports4_anywhere(l3, end);
  union sluice_address client, address;
  __u32 length;
  __u8 protocol;

  if (!ports) return XDP_DROP; /* nor is a fragment answered */
  protocol = v6 ? ((struct ipv6hdr*)l3)->nexthdr : ((struct iphdr*)l3)->protocol;
  length = ip_length(l3, v6);
  if (!lengths_add_up(ctx, l3, length, protocol, ports, end)) return XDP_DROP;
  load_source(&client, l3, v6);
  load_destination(&address, l3, v6);
  if (!answerable(&client, v6) || !answerable(&address, v6)) return XDP_DROP;
  /* RFC 1191: without DF a router would fragment; we hold nothing and do not. Nor is a reset answered. */
  if (kind == ANSWER_TOO_BIG && !v6 && !(((struct iphdr*)l3)->frag_off & bpf_htons(SLUICE_IP_DONT_FRAGMENT)))
    return XDP_DROP;
  if (kind == ANSWER_REFUSE && tcp_flags_of(protocol, ports, end) & SLUICE_TCP_RST) return XDP_DROP;
  if (!may_answer(&client, v6)) return XDP_DROP;
  if (kind == ANSWER_REFUSE && protocol == IPPROTO_TCP) {
    if ((void*)ports + sizeof(struct tcphdr) > end) return XDP_DROP;
    return reset_connection(ctx, l3, length, (struct tcphdr*)ports, &address, &client, v6) ? XDP_TX : XDP_DROP;
  }
  if (kind == ANSWER_REFUSE)
    return report_error(ctx, l3, length, v6 ? ICMPV6_DEST_UNREACH : ICMP_DEST_UNREACH,
                        v6 ? ICMPV6_PORT_UNREACH : ICMP_PORT_UNREACH, 0, &address, &client, v6)
               ? XDP_TX
               : XDP_DROP;
  if (kind == ANSWER_TTL_EXCEEDED)
    return report_error(ctx, l3, length, v6 ? ICMPV6_TIME_EXCEED : ICMP_TIME_EXCEEDED, 0, 0, &address, &client, v6)
               ? XDP_TX
               : XDP_DROP;
  if (kind != ANSWER_TOO_BIG) return XDP_DROP;
  if (v6) {
    mtu = mtu < SLUICE_MTU_LEAST6 ? SLUICE_MTU_LEAST6 : mtu;
    return report_error(ctx, l3, length, ICMPV6_PKT_TOOBIG, 0, bpf_htonl(mtu), &address, &client, v6) ? XDP_TX
                                                                                                      : XDP_DROP;
  }
  mtu = mtu < SLUICE_MTU_LEAST4 ? SLUICE_MTU_LEAST4 : mtu;
  return report_error(ctx, l3, length, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, (__u32)bpf_htons((__u16)mtu) << 16,
                      &address, &client, v6)
             ? XDP_TX
             : XDP_DROP;
}

#endif
