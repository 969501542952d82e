/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flow records and the tables that hold them. Included by bpf/sluice.h only.
 *
 * One record serves both directions. Its key is the *return tuple*, what a reply carries: from {backend, backend_port}
 * to {source, source_port}. In local delivery `source` is the client and `source_port` the client's unless another flow
 * has that tuple; in nat it is an address of this node and an allocated port. Flows that are sent on without
 * translation and must stay where they are (SLUICE_FLOW_PIN) have the service's end in the place of the backend's.
 *
 * Maps `flows4`, `half_open4`, `flows6`, `half_open6` (memory-mapped, a power of two of records): hash tables with
 * open addressing. A record lies in one of the SLUICE_FLOW_WINDOW positions from its home (hash & mask) on, wrapping;
 * the home's `homes` says in which. So a look-up reads one cache line in most cases, and a second only where that names
 * it.
 *
 * Who may write what:
 *   claim    any CPU, by compare-and-exchange of `control` from FREE to BUSY; fills it in, makes it LIVE, then sets its
 * bit in the home's `homes`, whose lock it holds meanwhile: two CPUs never make one key twice. touch    any CPU:
 * `seen`, bits of `control` (atomic or, and). remove   the agent's sweeper, and the kernel side in the half-open
 * tables, by compare-and-exchange of `control` from what they have seen to DEAD (so that one that has come alive in
 * between stays), then the home's bit, then FREE. A reader that has used a record compares `control`'s generation again
 * before it acts on what it read.
 */
#ifndef SLUICE_BPF_LAYOUT_FLOWS_H
#define SLUICE_BPF_LAYOUT_FLOWS_H

#include "bpf/layout/base.h"

#define SLUICE_FLOW_WINDOW 16
#define SLUICE_FLOW_HOMES 0xffffu
#define SLUICE_FLOW_LOCK 0x10000u
/* Set at the established table's home of the tuple that a flow tried first and did not get (SLUICE_FLOW_DISPLACED):
 * where neither is set, a flow that is not under its first tuple is nowhere. Whoever makes such a record sets both,
 * before. The agent's passes over the tables set one and the other in turn for all the records that they see, half-open
 * ones first, and then take the other away. */
#define SLUICE_FLOW_HINTS 0x60000u
#define SLUICE_FLOW_HINT(pass) ((pass)&1 ? 0x20000u : 0x40000u)

/* Bits of sluice_flow_head.control: status (2) | state (14) | generation (16) | the acknowledgement that promotes (32).
 */
#define SLUICE_FLOW_FREE 0u
#define SLUICE_FLOW_BUSY 1u
#define SLUICE_FLOW_LIVE 2u
#define SLUICE_FLOW_DEAD 3u
#define SLUICE_FLOW_STATUS(control) ((__u32)((control)&3))
#define SLUICE_FLOW_GENERATION(control) ((__u32)(((control) >> 16) & 0xffff))
#define SLUICE_FLOW_ACK(control) ((__u32)((control) >> 32))
#define SLUICE_FLOW_CONTROL(status, state, generation, ack) \
  (((__u64)(ack) << 32) | (((__u64)(generation)&0xffff) << 16) | ((__u64)(state)&0xfffc) | ((__u64)(status)&3))
/* What makes a record the same record: status and generation. */
#define SLUICE_FLOW_SAME 0xffff0003ULL

/* state */
#define SLUICE_FLOW_REPLIED 0x4u        /* both ends have spoken */
#define SLUICE_FLOW_CLIENT_FIN 0x8u     /* the client has sent FIN */
#define SLUICE_FLOW_BACKEND_FIN 0x10u   /* the backend has sent FIN */
#define SLUICE_FLOW_RESET 0x20u         /* either has sent RST */
#define SLUICE_FLOW_BACKEND_FIRST 0x40u /* the backend's FIN came before the client's: it waits out its TIME_WAIT */
#define SLUICE_FLOW_SYN_UNANSWERED \
  0x80u                              /* a SYN has met it at an earlier candidate, and the backend was silent since */
#define SLUICE_FLOW_ADOPTED 0x100u   /* taken up in the middle: no SYN was seen */
#define SLUICE_FLOW_DISPLACED 0x200u /* not under the first of its source ports: another flow had the tuple */
#define SLUICE_FLOW_CLOSED(control)                                                                     \
  (((control)&SLUICE_FLOW_RESET) || ((control) & (SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN)) == \
                                        (SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN))

struct sluice_flow_head {
  __u32 homes; /* of this position as a home, whatever record lies in it: which positions, and the lock */
  __u32 seen;  /* jiffies of the last packet, low 32 bits */
  __u64 control;
  __u64 next_hop; /* back to the client; local: bytes of packet that the tunnel carries that it came by, 0: none */
  __u32 service;  /* index when it was last touched */
  __u32 backend;  /* the same; SLUICE_FLOW_PIN: where the flow is pinned to */
};

/* The last word of a key: backend port (16) | source port (16), both in network order | protocol (8) | kind (8). */
#define SLUICE_FLOW_LOCAL 1u
#define SLUICE_FLOW_NAT 2u
#define SLUICE_FLOW_PIN 3u      /* forwarded untranslated to where `backend` says */
#define SLUICE_FLOW_AFFINITY 4u /* a client's, towards a service with affinity: ports of the client 0 */
#define SLUICE_FLOW_KERNEL 5u   /* the tuple is in use by this machine itself: no flow may take it */
#define SLUICE_FLOW_TUPLE(backend_port_be, source_port_be, protocol, kind)                                      \
  ((__u64)(__u16)(backend_port_be) | ((__u64)(__u16)(source_port_be) << 16) | ((__u64)(__u8)(protocol) << 32) | \
   ((__u64)(kind) << 40))
#define SLUICE_FLOW_BACKEND_PORT(tuple) ((__u16)(tuple))
#define SLUICE_FLOW_SOURCE_PORT(tuple) ((__u16)((tuple) >> 16))
#define SLUICE_FLOW_PROTOCOL(tuple) ((__u8)((tuple) >> 32))
#define SLUICE_FLOW_KIND(tuple) ((__u8)((tuple) >> 40))

struct sluice_flow4 {
  struct sluice_flow_head head;
  __be32 backend;
  __be32 source;
  __u64 tuple;
  __be32 client;
  __be32 address; /* the service's: what the reply's source becomes */
  __be16 client_port;
  __be16 port;
  __u32 way_checked; /* jiffies when next_hop was asked for, low 32 bits */
};

struct sluice_flow6 {
  struct sluice_flow_head head;
  union sluice_address backend;
  union sluice_address source;
  __u64 tuple;
  __be16 client_port;
  __be16 port;
  __u32 way_checked;
  union sluice_address client;
  union sluice_address address;
};

/* Where a key's home is: keyed, so that nobody fills one window on purpose. */
SLUICE_INLINE __u32 sluice_flow4_hash(__be32 backend, __be32 source, __u64 tuple, __u64 key0, __u64 key1) {
  __u64 h = ((((__u64)source << 32) | backend) ^ key1) * 0x9e3779b97f4a7c15ULL;
  h = ((h ^ (h >> 32)) + (tuple ^ key0)) * 0xff51afd7ed558ccdULL;
  return (__u32)(h >> 32);
}
SLUICE_INLINE __u32 sluice_flow6_hash(const union sluice_address* backend, const union sluice_address* source,
                                      __u64 tuple, __u64 key0, __u64 key1) {
  __u64 h = (source->words[0] ^ key1) * 0x9e3779b97f4a7c15ULL;
  h = ((h ^ (h >> 32)) + (source->words[1] ^ backend->words[0])) * 0xff51afd7ed558ccdULL;
  h = ((h ^ (h >> 32)) + (tuple ^ key0 ^ backend->words[1])) * 0xc4ceb9fe1a85ec53ULL;
  return (__u32)(h >> 32);
}

/* Map `shares` (memory-mapped), index = the service's + 1, 0 counts all: how many records there are. A
 * service may have no more than SLUICE_SHARE_FACTOR times what is left: one that is flooded never starves the others.
 */
struct sluice_shares {
  __u32 flows4;
  __u32 half_open4;
  __u32 flows6;
  __u32 half_open6;
};
#define SLUICE_SHARE_FACTOR 2
/* Records that a table of this size takes at most: beyond, windows fill up. */
#define SLUICE_FLOW_MOST(size) ((size) / 4 * 3)

/* What the program `sluice_clock` (SYSCALL) fills in. */
struct sluice_clock {
  __u32 jiffies; /* low 32 bits */
  __u32 pad;
};

/* For so long a SYN waits for an earlier candidate's answer: shorter than the second after which clients send another.
 */
#define SLUICE_SYN_PATIENCE 500 /* milliseconds */

/* For so long after its end a connection's record is taken for that of every packet under its ports: the last ones of
 * the two ends. Then a packet may be a later connection's, and is shown to other candidates first. */
#define SLUICE_CLOSED_TRUST 1000 /* milliseconds */

/* A record is refreshed (seen, and what may have moved: service, backend) when it is older than this: what is
 * idle is idle give or take that. */
#define SLUICE_TOUCH_MILLISECONDS 250
/* So often the kernel is asked for the way back to a flow's client. */
#define SLUICE_WAY_MILLISECONDS 1000

/* Seconds without a packet after which the kernel side itself lets another flow take over a record whose tuple it
 * needs, so that ports do not run out while no agent sweeps. */
#define SLUICE_IDLE_CLOSED 30
/* Where the backend closed first it keeps the tuple in TIME_WAIT (Linux: 60 s), and answers another client's SYN there
 * with an ACK if sequence number and timestamp are not newer: that client begins again after a second. */
#define SLUICE_IDLE_BACKEND_CLOSED 65
/* Of a closed flow, where a new one finds all its source ports taken: better that second than no connection. */
#define SLUICE_IDLE_CLOSED_PRESSED 5
#define SLUICE_IDLE_TCP_NEW 60
#define SLUICE_IDLE_TCP_ESTABLISHED 7440 /* RFC 5382 REQ-5: at least 2 h 4 min */
#define SLUICE_IDLE_UDP_NEW 60
#define SLUICE_IDLE_UDP_ESTABLISHED 180 /* RFC 4787 REQ-5: at least 2 min */

/* How many source ports a flow may try before it is refused (counted as ports_exhausted). */
#define SLUICE_PORT_TRIES_LOCAL 4
#define SLUICE_PORT_TRIES_NAT 16

/* The source port (host order) that a flow tries as its i-th in nat, from its hash over the whole tuple; i from 0 to
 * SLUICE_PORT_TRIES_NAT - 1, `count` ports from `first` on, count at least 1. No port comes twice where the range has
 * that many: the steps, which differ from flow to flow so that crowded stretches are left, add up to less than the
 * range. */
SLUICE_INLINE __u16 sluice_source_port(__u64 hash, __u32 i, __u16 first, __u32 count) {
  __u32 start = (__u32)(((hash >> 32) * count) >> 32);
  __u32 step = 1 + ((((__u32)(hash >> 16) & 0xffff) * (count / SLUICE_PORT_TRIES_NAT)) >> 16);
  __u32 position = start + i * step;
  if (count > SLUICE_PORT_TRIES_NAT) return (__u16)(first + (position >= count ? position - count : position));
  return (__u16)(first + position % count);
}

/* The same for local delivery: the client's own port (host order) first, then any that is not well known. */
#define SLUICE_LOCAL_PORT_FIRST 1024
#define SLUICE_LOCAL_PORT_COUNT (65536 - SLUICE_LOCAL_PORT_FIRST)
SLUICE_INLINE __u16 sluice_local_port(__u64 hash, __u32 i, __u16 client_port) {
  return i == 0 ? client_port : sluice_source_port(hash, i - 1, SLUICE_LOCAL_PORT_FIRST, SLUICE_LOCAL_PORT_COUNT);
}

#endif
