/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors (RFC 792, RFC 4443): the packet that they quote, read and rewritten with all checksums. */
#ifndef SLUICE_BPF_LIB_QUOTED_H
#define SLUICE_BPF_LIB_QUOTED_H

#include "bpf/lib/answer.h"
#include "bpf/lib/context.h"
#include "bpf/lib/rewrite.h"

#define ICMP_SOURCE_QUENCH 4
#define ICMP_PARAMETER_PROBLEM 12
#define ICMP_HEADER 8

/* What an error quotes: a packet of TCP or UDP, as its sender sent it. */
struct quoted {
  struct ends ends;
  __u32 inner; /* where it begins, from the error's IP header on */
  __u32 l4;    /* where its TCP or UDP header begins, alike */
  __u8 protocol;
  __u8 pad[3];
};

/* Reads an ICMP error. False: it is none, or quotes nothing that has ports. */
static __always_inline bool read_error_at(const void* l3, const void* end, struct quoted* quoted, const bool v6) {
  const __u8* icmp = l3 + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
  const void* inner = icmp + ICMP_HEADER;
  const struct ports* ports;

  if (inner + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + sizeof(*ports) > end) return false;
  quoted->inner = (const char*)inner - (const char*)l3;
  if (v6) {
    const struct ipv6hdr *ip = l3, *in = inner;
    if (ip->nexthdr != IPPROTO_ICMPV6 || icmp[0] < ICMPV6_DEST_UNREACH || icmp[0] > 4 || in->version != 6) return false;
    quoted->protocol = in->nexthdr;
    quoted->l4 = quoted->inner + sizeof(struct ipv6hdr);
    ports = inner + sizeof(struct ipv6hdr);
  } else {
    const struct iphdr *ip = l3, *in = inner;
    if (ip->ihl != 5 || ip->protocol != IPPROTO_ICMP ||
        ip->frag_off & bpf_htons(SLUICE_IP_MORE_FRAGMENTS | SLUICE_IP_OFFSET))
      return false;
    if (icmp[0] != ICMP_DEST_UNREACH && icmp[0] != ICMP_TIME_EXCEEDED && icmp[0] != ICMP_PARAMETER_PROBLEM &&
        icmp[0] != ICMP_SOURCE_QUENCH)
      return false;
    if (in->version != 4 || in->ihl < 5 || in->frag_off & bpf_htons(SLUICE_IP_OFFSET)) return false;
    quoted->protocol = in->protocol;
    quoted->l4 = quoted->inner + in->ihl * 4;
    ports = inner + in->ihl * 4;
  }
  if (quoted->protocol != IPPROTO_TCP && quoted->protocol != IPPROTO_UDP) return false;
  /* What lies behind the IP packet, Ethernet's padding, is not quoted. */
  if ((const void*)(ports + 1) > end || quoted->l4 + sizeof(*ports) > ip_length(l3, v6)) return false;
  load_source(&quoted->ends.source, inner, v6);
  load_destination(&quoted->ends.destination, inner, v6);
  quoted->ends.source_port = ports->source;
  quoted->ends.destination_port = ports->destination;
  return true;
}

/* The same behind an Ethernet header. */
static __always_inline bool read_error(const void* data, const void* end, struct quoted* quoted, const bool v6) {
  return read_error_at(data + ETH_HLEN, end, quoted, v6);
}

/* Gives the quoted packet other ends and the error, which begins at `l3`, other addresses, checksums included: of the
 * quoted TCP header as far as it is quoted. False: the packet is not what it was when it was read. */
static __always_inline bool rewrite_error_at(void* l3, void* end, const struct quoted* quoted,
                                             const struct ends* inner_to, const union sluice_address* from,
                                             const union sluice_address* to, const bool v6) {
  void* inner = l3 + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + ICMP_HEADER;
  __u16* icmp_check = inner - ICMP_HEADER + 2;
  __u32 l4_offset = quoted->l4 - quoted->inner;
  struct ports* ports;
  __u16* l4_check;
  union sluice_address before_from, before_to;
  __u64 addresses, ports_change, icmp_change;

  if (l4_offset > 60) return false;
  if (inner + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) > end) return false;
  ports = inner + l4_offset;
  if ((void*)(ports + 1) > end) return false;
  addresses = change_of_address(&quoted->ends.source, &inner_to->source, v6) +
              change_of_address(&quoted->ends.destination, &inner_to->destination, v6);
  ports_change = change_of_u16(quoted->ends.source_port, inner_to->source_port) +
                 change_of_u16(quoted->ends.destination_port, inner_to->destination_port);
  icmp_change = addresses + ports_change;
  ports->source = inner_to->source_port;
  ports->destination = inner_to->destination_port;
  l4_check = (void*)ports + (quoted->protocol == IPPROTO_TCP ? SLUICE_TCP_CHECKSUM_OFFSET : SLUICE_UDP_CHECKSUM_OFFSET);
  if ((void*)(l4_check + 1) <= end && (__u32)((void*)(l4_check + 1) - l3) <= ip_length(l3, v6) &&
      (*l4_check || quoted->protocol == IPPROTO_TCP)) {
    __u16 before = *l4_check, after = update_checksum(before, addresses + ports_change);
    if (!after && quoted->protocol == IPPROTO_UDP) after = 0xffff;
    *l4_check = after;
    icmp_change += change_of_u16(before, after);
  }
  load_source(&before_from, l3, v6);
  load_destination(&before_to, l3, v6);
  if (v6) {
    __u64* in = (__u64*)&((struct ipv6hdr*)inner)->saddr;
    __u64* out = (__u64*)&((struct ipv6hdr*)l3)->saddr;
    in[0] = inner_to->source.words[0];
    in[1] = inner_to->source.words[1];
    in[2] = inner_to->destination.words[0];
    in[3] = inner_to->destination.words[1];
    icmp_change += change_of_address(&before_from, from, true) + change_of_address(&before_to, to, true);
    out[0] = from->words[0];
    out[1] = from->words[1];
    out[2] = to->words[0];
    out[3] = to->words[1];
  } else {
    struct iphdr *in = inner, *ip = l3;
    __u16 before = in->check;
    in->check = update_checksum(before, addresses);
    icmp_change += change_of_u16(before, in->check);
    in->saddr = inner_to->source.ipv4;
    in->daddr = inner_to->destination.ipv4;
    ip->check = update_checksum(ip->check,
                                change_of_u32(before_from.ipv4, from->ipv4) + change_of_u32(before_to.ipv4, to->ipv4));
    ip->saddr = from->ipv4;
    ip->daddr = to->ipv4;
  }
  *icmp_check = update_checksum(*icmp_check, icmp_change);
  return true;
}

/* The same behind an Ethernet header. */
static __always_inline bool rewrite_error(SLUICE_CONTEXT* ctx, const struct quoted* quoted, const struct ends* inner_to,
                                          const union sluice_address* from, const union sluice_address* to,
                                          const bool v6) {
  return rewrite_error_at((void*)(long)ctx->data + ETH_HLEN, (void*)(long)ctx->data_end, quoted, inner_to, from, to,
                          v6);
}

#endif
