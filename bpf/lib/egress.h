/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What leaves by a device: replies of local backends get their service's address. So do the errors that they, or
 * routers behind this node, send about what they got. */
#ifndef SLUICE_BPF_LIB_EGRESS_H
#define SLUICE_BPF_LIB_EGRESS_H

#include <linux/pkt_cls.h>

#include "bpf/lib/reply.h"
#include "bpf/lib/turns.h"

/* TC_ACT_UNSPEC, not TC_ACT_OK: classifiers of others behind this one still see the packet, whether we changed it or
 * not. */
#define LEAVE_TO_OTHERS TC_ACT_UNSPEC

/* IPv4 with all options, and TCP. */
#define LONGEST_HEADERS(l3) ((l3) + 60 + sizeof(struct tcphdr))
/* An ICMP error up to the checksum of what it quotes. */
#define LONGEST_ERROR(l3) ((l3) + sizeof(struct ipv6hdr) + ICMP_HEADER + 60 + SLUICE_TCP_CHECKSUM_OFFSET + 2)

static __always_inline int shot(const struct reply* reply, __u64 bytes) {
  count_drop(reply->service, reply->backend, SLUICE_REASON_NO_MEMORY, bytes);
  return TC_ACT_SHOT;
}

static __always_inline __u32 packets_in(const struct __sk_buff* skb) {
  return skb->gso_segs ? skb->gso_segs : 1;
}

/* An ICMP error about what a local backend was sent: the service's address takes the backend's place in what it quotes,
 * and as its sender; a router on the way keeps its own. */
static __always_inline int send_error(struct __sk_buff* skb, const __u32 l3, const bool v6) {
  struct flow_scratch* memory = flow_scratch();
  void *ip, *end;
  struct quoted quoted;
  struct reply reply;
  struct ends inner;
  union sluice_address from;

  if (!memory || !have_head(skb, LONGEST_ERROR(l3))) return LEAVE_TO_OTHERS;
  ip = (void*)(long)skb->data + l3;
  end = (void*)(long)skb->data_end;
  if (ip + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) > end || !read_error_at(ip, end, &quoted, v6))
    return LEAVE_TO_OTHERS;
  memory->key.backend = quoted.ends.destination;
  memory->key.source = quoted.ends.source;
  memory->key.tuple =
      SLUICE_FLOW_TUPLE(quoted.ends.destination_port, quoted.ends.source_port, quoted.protocol, SLUICE_FLOW_LOCAL);
  if (!locate_reply(&memory->key, &reply, v6)) return LEAVE_TO_OTHERS;
  load_source(&from, ip, v6);
  if (same_address(&from, &quoted.ends.destination, v6)) from = reply.to.source;
  inner.source = reply.to.destination;
  inner.source_port = reply.to.destination_port;
  inner.destination = reply.to.source;
  inner.destination_port = reply.to.source_port;
  if (!rewrite_error_at(ip, end, &quoted, &inner, &from, &reply.to.destination, v6)) return shot(&reply, skb->wire_len);
  count_reason(SLUICE_REASON_ERROR_FORWARDED, 1, skb->wire_len);
  return LEAVE_TO_OTHERS;
}

/* What has its ports elsewhere: fragments, which follow their first, and IPv6 with extension headers; and ICMP errors.
 * The kernel fragments before this: all of a reply's fragments pass here, the first one first. */
static __always_inline int send_unusual(struct __sk_buff* skb, const __u32 l3, const bool v6) {
  struct flow_scratch* memory = flow_scratch();
  struct fragment_key fragment;
  struct ports ports;
  struct reply reply;
  struct ends from;
  struct walked walked;
  void *ip, *end;
  __u8 header[14], flags = 0;
  __u32 sequence = 0, l4 = 0;

  ip = (void*)(long)skb->data + l3;
  end = (void*)(long)skb->data_end;
  if (!memory || ip + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) > end) return LEAVE_TO_OTHERS;
  if (v6) {
    if (walk_extensions(skb, &memory->walked, l3)) return LEAVE_TO_OTHERS;
  } else if (!walk4(ip, end, &memory->walked)) {
    return LEAVE_TO_OTHERS;
  }
  walked = memory->walked;
  if (walked.protocol == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) && walked.part == PART_WHOLE)
    return send_error(skb, l3, v6);
  if (walked.part != PART_LATER && walked.protocol != IPPROTO_TCP && walked.protocol != IPPROTO_UDP)
    return LEAVE_TO_OTHERS;
  load_source(&from.source, ip, v6);
  load_destination(&from.destination, ip, v6);
  if (walked.part != PART_WHOLE) fragment_key_of(&fragment, ip, &walked, v6);
  if (walked.part == PART_LATER) {
    const struct fragment_ports* first = recall_fragment(&fragment);
    if (!first) return LEAVE_TO_OTHERS; /* nobody's of ours, as a rule */
    ports.source = first->source;
    ports.destination = first->destination;
    walked.protocol = first->protocol;
  } else {
    l4 = l3 + walked.offset;
    if (walked.protocol == IPPROTO_TCP && l4 + sizeof(struct tcphdr) > skb->len) return LEAVE_TO_OTHERS;
    if (bpf_skb_load_bytes(skb, l4, header, sizeof(header))) {
      if (walked.protocol == IPPROTO_TCP || bpf_skb_load_bytes(skb, l4, header, sizeof(struct udphdr)))
        return LEAVE_TO_OTHERS;
      header[SLUICE_TCP_FLAGS_OFFSET] = 0;
    }
    __builtin_memcpy(&ports, header, sizeof(ports));
    if (walked.protocol == IPPROTO_TCP) {
      flags = header[SLUICE_TCP_FLAGS_OFFSET];
      __builtin_memcpy(&sequence, header + 4, 4);
      sequence = bpf_ntohl(sequence);
    }
  }
  from.source_port = ports.source;
  from.destination_port = ports.destination;
  memory->key.backend = from.source;
  memory->key.source = from.destination;
  memory->key.tuple = SLUICE_FLOW_TUPLE(ports.source, ports.destination, walked.protocol, SLUICE_FLOW_LOCAL);
  if (!locate_reply(&memory->key, &reply, v6)) return LEAVE_TO_OTHERS;
  if (walked.part == PART_FIRST) remember_fragment(&fragment, &ports, walked.protocol);
  if (walked.part != PART_LATER) reply_seen(&reply, flags, sequence);
  if (is_syn_ack(flags) && reply.fits) clamp_mss(skb, l4, (__u32)reply.fits, v6);
  if (!translate_reply(skb, l3, l4, walked.protocol, &from, &reply.to, v6)) return shot(&reply, skb->wire_len);
  count_return(reply.backend, packets_in(skb), skb->wire_len);
  return LEAVE_TO_OTHERS;
}

/* A reply of a local backend is translated; everything else leaves as it is. */
static __always_inline int send_ip(struct __sk_buff* skb, const __u32 l3, const bool v6) {
  void* ip = (void*)(long)skb->data + l3;
  void* end = (void*)(long)skb->data_end;
  struct ports* ports = v6 ? find_ports6(ip, end) : find_ports4(ip, end);
  struct flow_key key;
  struct reply reply;
  struct ends from;
  __u32 l4, sequence = 0;
  __u8 protocol, flags = 0;

  if (!ports) {
    bpf_tail_call_static(skb, &turns, turn_of(TURN_OUT, l3, v6));
    return LEAVE_TO_OTHERS;
  }
  protocol = v6 ? ((struct ipv6hdr*)ip)->nexthdr : ((struct iphdr*)ip)->protocol;
  load_source(&from.source, ip, v6);
  load_destination(&from.destination, ip, v6);
  from.source_port = ports->source;
  from.destination_port = ports->destination;
  l4 = l3 + (__u32)((void*)ports - ip);
  key.backend = from.source;
  key.source = from.destination;
  key.tuple = SLUICE_FLOW_TUPLE(from.source_port, from.destination_port, protocol, SLUICE_FLOW_LOCAL);
  if (!find_reply(&key, &reply, v6)) return LEAVE_TO_OTHERS;
  if (protocol == IPPROTO_TCP) {
    if ((void*)ports + sizeof(struct tcphdr) > end) return LEAVE_TO_OTHERS;
    flags = tcp_flags_of(protocol, ports, end);
    sequence = bpf_ntohl(((struct tcphdr*)ports)->seq);
  } else if ((void*)ports + sizeof(struct udphdr) > end) {
    return LEAVE_TO_OTHERS;
  }
  reply_seen(&reply, flags, sequence);
  if (is_syn_ack(flags) && reply.fits) clamp_mss(skb, l4, (__u32)reply.fits, v6);
  if (!translate_reply(skb, l3, l4, protocol, &from, &reply.to, v6)) return shot(&reply, skb->wire_len);
  count_return(reply.backend, packets_in(skb), skb->wire_len);
  return LEAVE_TO_OTHERS;
}

/* Whether there is anything to do, and the headers lie where they can be read. */
static __always_inline bool readable(struct __sk_buff* skb, const __u32 l3) {
  if ((skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6)) ||
      !SLUICE_LOAD_ONCE(config_memory()->key_table))
    return false;
  if ((void*)(long)skb->data + LONGEST_HEADERS(l3) > (void*)(long)skb->data_end &&
      (__u64)(skb->data_end - skb->data) < skb->len)
    return have_head(skb, LONGEST_HEADERS(l3)); /* they may lie in pages */
  return true;
}

static __always_inline int send_frame(struct __sk_buff* skb, const __u32 l3) {
  if (!readable(skb, l3)) return LEAVE_TO_OTHERS;
  return skb->protocol == bpf_htons(ETH_P_IP) ? send_ip(skb, l3, false) : send_ip(skb, l3, true);
}

#endif
