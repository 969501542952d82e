/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The only header that the kernel side and C++ share: what stands in the maps, and the two hashes that both compute.
 * Byte order: fields named __be are in network order; everything else is the host's. A change of any layout here raises
 * SLUICE_LAYOUT_VERSION, which is part of the pin path.
 */
#ifndef SLUICE_BPF_SLUICE_H
#define SLUICE_BPF_SLUICE_H
/* C, in the kernel's style of naming.
 * NOLINTBEGIN(readability-identifier-naming,modernize-*) */

#include <linux/types.h>

#ifdef __cplusplus
#define SLUICE_INLINE inline
#else
#define SLUICE_INLINE static __always_inline
#endif

#define SLUICE_LAYOUT_VERSION 2

/* --- service table: a flat hash table with linear probing, built by the agent -------------------------------------
 *
 * Map `service_keys` (ARRAY, memory-mapped). Two or more generations of the table may lie in it; the word
 * sluice_config.service_table says which is in force. A reader starts at slot (hash & mask) and probes at most
 * SLUICE_MAX_PROBES entries, wrapping within the table; an empty key ends the search.
 */
#define SLUICE_MAX_PROBES 8
#define SLUICE_KEY_EMPTY 0ULL
#define SLUICE_KEY_DELETED 2ULL /* a tombstone: does not end the search */
#define SLUICE_KEY_IPV4 1ULL    /* low byte of an IPv4 key */

struct sluice_service_key_entry {
  __u64 key;     /* sluice_key_ipv4(), SLUICE_KEY_EMPTY or SLUICE_KEY_DELETED; written after `service` */
  __u32 service; /* index into `services` */
  __u32 reserved;
};

/* address, port: network order, as loaded from the packet. */
SLUICE_INLINE __u64 sluice_key_ipv4(__u32 address_be, __u16 port_be, __u8 protocol) {
  return ((__u64)address_be << 32) | ((__u64)port_be << 16) | ((__u64)protocol << 8) | SLUICE_KEY_IPV4;
}

/* Bits of sluice_config.service_table: offset in entries (24) | log2 of the table's size (8) | seed (32). One aligned
 * 64-bit store switches table and seed together. 0: no table. */
#define SLUICE_SERVICE_TABLE_OFFSET(word) ((__u32)((word)&0xffffff))
#define SLUICE_SERVICE_TABLE_LOG2(word) ((__u32)(((word) >> 24) & 0xff))
#define SLUICE_SERVICE_TABLE_SEED(word) ((__u32)((word) >> 32))
#define SLUICE_SERVICE_TABLE_WORD(offset, log2, seed) \
  (((__u64)(seed) << 32) | ((__u64)(log2) << 24) | ((__u64)(offset)&0xffffff))

/* Spreads sequential addresses too: a multiplication alone clusters on them. */
SLUICE_INLINE __u32 sluice_service_hash(__u64 key, __u32 seed) {
  __u64 h = (key ^ ((__u64)seed * 0x9e3779b97f4a7c15ULL)) * 0xff51afd7ed558ccdULL;
  h ^= h >> 32;
  h *= 0xc4ceb9fe1a85ec53ULL;
  return (__u32)(h >> 32);
}

/* --- services ------------------------------------------------------------------------------------------------------
 *
 * Map `services` (ARRAY, memory-mapped), index = the node-local service id. Everything that must change together is in
 * the one word `table`:
 *   bits  0..23  slot offset, in units of 8 slots of the arena
 *   bits 24..28  log2 of the number of slots
 *   bits 29..31  earlier planes (0..7): has history when not 0
 *   bits 32..38  generation, another with each switch
 *   bits 39..63  first backend record, in units of 1
 * Plane p of a slot lies at arena slot  offset * 8 + (p << log2) + (hash & (2^log2 - 1)).
 * 0: the service has no backends.
 */
struct sluice_service {
  __u64 table;
  __u32 flags; /* SLUICE_SERVICE_... */
  __u32 reserved;
};
#define SLUICE_SERVICE_VALID 1u
#define SLUICE_SERVICE_AFFINITY 2u /* choose by the client's address alone */

#define SLUICE_SLOT_UNIT 8 /* slots per unit of offset; ranges are powers of two, at least this */
#define SLUICE_MAX_PLANES 8
#define SLUICE_TABLE_OFFSET(word) ((__u32)((word)&0xffffff) * SLUICE_SLOT_UNIT)
#define SLUICE_TABLE_LOG2(word) ((__u32)(((word) >> 24) & 0x1f))
#define SLUICE_TABLE_EARLIER(word) ((__u32)(((word) >> 29) & 7))
#define SLUICE_TABLE_GENERATION(word) ((__u32)(((word) >> 32) & 0x7f))
#define SLUICE_TABLE_BACKENDS(word) ((__u32)((word) >> 39))
#define SLUICE_TABLE_WORD(offset_slots, log2, earlier, generation, backends)                       \
  (((__u64)(backends) << 39) | (((__u64)(generation)&0x7f) << 32) | (((__u64)(earlier)&7) << 29) | \
   (((__u64)(log2)&0x1f) << 24) | (((__u64)(offset_slots) / SLUICE_SLOT_UNIT) & 0xffffff))

/* --- slot arena -----------------------------------------------------------------------------------------------------
 *
 * Map `slots` (ARRAY of __u64, memory-mapped): four slots of two bytes in each element, slot 0 in the low bits. A slot
 * is an index into the service's own range of backend records.
 */
#define SLUICE_NO_BACKEND 0xffff
#define SLUICE_SLOTS_PER_ELEMENT 4

/* --- backend records ------------------------------------------------------------------------------------------------
 *
 * Map `backends` (ARRAY, memory-mapped). A record is written before a slot leads to it and its identity (all but
 * `next_hop`) does not change while one does.
 */
struct sluice_backend {
  __u64 next_hop; /* SLUICE_NEXT_HOP_WORD: one aligned store changes it under traffic; 0: not resolved */
  __be32 address;
  __be16 port;
  __u8 forwarding; /* SLUICE_FORWARD_...; 0: record not in use */
  __u8 flags;
  __u32 service; /* index into `services`: whose record this is */
  __u32 reserved[3];
};
#define SLUICE_FORWARD_LOCAL 1 /* rewrite the destination, pass up */
#define SLUICE_FORWARD_NAT 2   /* rewrite both ends, transmit */

/* egress index (16 bits) | destination MAC (48 bits, first byte of the address in the lowest bits). Egress 0: none. */
#define SLUICE_NEXT_HOP_EGRESS(word) ((__u32)((word) >> 48))
#define SLUICE_NEXT_HOP_WORD(egress, mac48) (((__u64)(egress) << 48) | ((__u64)(mac48)&0xffffffffffffULL))

/* Map `egress` (ARRAY, memory-mapped), index 1..SLUICE_MAX_EGRESS-1: the interfaces that packets leave by. */
#define SLUICE_MAX_EGRESS 256
struct sluice_egress {
  __u32 ifindex; /* 0: not in use */
  __be32 source; /* nat's source address for packets that leave here */
  __u8 mac[6];
  __u16 mtu; /* largest IP packet that may leave here, bytes; 0: not checked */
};

/* --- flows: one record per flow, keyed by the return tuple ----------------------------------------------------------
 *
 * Map `flows` (LRU_HASH). The key is what a reply carries: from {backend, backend_port} to {source, source_port}. In
 * local delivery `source` is the client and `source_port` the client's unless another flow has that tuple; in nat it is
 * an address of this node and an allocated port. Inserting with BPF_NOEXIST is the lock between CPUs.
 */
struct sluice_flow_key {
  __be32 backend;
  __be32 source;
  __be16 backend_port;
  __be16 source_port;
  __u8 protocol;
  __u8 pad[3];
};

struct sluice_flow {
  __u64 last_seen; /* ns, CLOCK_MONOTONIC (coarse) */
  __be32 client;
  __be32 address; /* the service's: what the reply's source becomes */
  __be16 client_port;
  __be16 port;
  __u8 state;         /* SLUICE_FLOW_... */
  __u8 forwarding;    /* SLUICE_FORWARD_... */
  __u8 client_mac[6]; /* the forward packet's Ethernet source: the way back when the kernel knows no neighbour */
  __u32 ifindex;      /* where the forward packet came in */
  __u32 service;      /* indices at creation: counters, and the agent's count of old flows */
  __u32 backend;
  __u32 hash;    /* the flow hash, low 32 bits: which slot the flow belongs to */
  __u32 touched; /* the kernel's own: low bits of jiffies when last_seen was written. Write 0, do not read. */
};
#define SLUICE_FLOW_NEW 0         /* client has spoken; no reply seen */
#define SLUICE_FLOW_ESTABLISHED 1 /* both have spoken */
#define SLUICE_FLOW_CLIENT_FIN 2  /* bit: the client has sent FIN */
#define SLUICE_FLOW_BACKEND_FIN 4 /* bit: the backend has sent FIN */
#define SLUICE_FLOW_RESET 8       /* bit: either has sent RST */
/* Bit: a SYN has met the record at an earlier candidate, at last_seen or before, and the backend has not spoken since.
 */
#define SLUICE_FLOW_SYN_UNANSWERED 16
#define SLUICE_FLOW_BACKEND_FIRST 32 /* bit: the backend's FIN came before the client's: it waits out its TIME_WAIT */
#define SLUICE_FLOW_CLOSED(state)                                                                   \
  (((state)&SLUICE_FLOW_RESET) || ((state) & (SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN)) == \
                                      (SLUICE_FLOW_CLIENT_FIN | SLUICE_FLOW_BACKEND_FIN))

/* For so long a SYN waits for an earlier candidate's answer: shorter than the second after which clients send another.
 */
#define SLUICE_SYN_PATIENCE 500 /* milliseconds */

/* A record is refreshed (last_seen, and what may have moved: client_mac, ifindex, hash, service, backend) when it is
 * this many jiffies old: 0.26 s at 1000 Hz, 2.6 s at 100 Hz. What is idle is idle give or take that. */
#define SLUICE_TOUCH_JIFFIES 256

/* Seconds without a packet after which the dataplane itself lets another flow take over a record whose tuple it needs,
 * so that ports do not run out while no agent sweeps. */
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

/* --- the flow hash --------------------------------------------------------------------------------------------------
 *
 * Keyed multiply and xorshift over the tuple as one or two words. The key belongs to the desired state: clients that do
 * not know it cannot aim at a slot, and every node finds the same slot. It is computed over the whole tuple for the
 * source ports that a flow tries; the slot is chosen by the same value or, with affinity, by the hash with ports and
 * protocol 0 (a client's flows must share the slot, but not the source ports).
 */
SLUICE_INLINE __u64 sluice_flow_hash(__u32 client_be, __u32 address_be, __u16 client_port_be, __u16 port_be,
                                     __u8 protocol, __u64 key0, __u64 key1) {
  __u64 a = (((__u64)client_be << 32) | address_be) ^ key0;
  __u64 b = (((__u64)client_port_be << 32) | ((__u64)port_be << 8) | protocol) ^ key1;
  a *= 0x9e3779b97f4a7c15ULL;
  a ^= a >> 32;
  a += b;
  a *= 0xff51afd7ed558ccdULL;
  a ^= a >> 29;
  a *= key1 | 1;
  a ^= a >> 32;
  return a;
}

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

/* --- addresses this node answers ARP for ----------------------------------------------------------------------------
 * Map `owned_addresses` (HASH). The agent renews the deadline; past it the node stops answering by itself. */
struct sluice_owned_key {
  __be32 address;
  __u32 ifindex;
};
struct sluice_owned {
  __u64 deadline; /* ns, CLOCK_MONOTONIC */
};

/* --- node-wide settings: map `config` (ARRAY of one, memory-mapped)
 * --------------------------------------------------- */
#define SLUICE_MAX_NAT_SOURCES 4
struct sluice_config {
  __u64 service_table;                        /* SLUICE_SERVICE_TABLE_WORD */
  __u64 flow_hash_key[2];                     /* set once per cluster id, before the first service */
  __be32 nat_sources[SLUICE_MAX_NAT_SOURCES]; /* addresses whose packets may be replies to nat; 0: none */
  __u16 nat_port_first;                       /* host order, inclusive */
  __u16 nat_port_last;
  __u32 reserved;
};

/* --- counters -------------------------------------------------------------------------------------------------------
 * Maps `service_counters`, `backend_counters` (PERCPU_ARRAY, same indices as `services`, `backends`), `reasons`
 * (PERCPU_ARRAY, index enum sluice_reason) and `service_reasons` (PERCPU_HASH by sluice_service_reason_key, drops
 * only). */
struct sluice_counters {
  __u64 packets; /* forward direction */
  __u64 bytes;   /* Ethernet frames, forward direction */
  __u64 flows;   /* records created */
  __u64 return_packets;
  __u64 return_bytes;
};
struct sluice_reason_counters {
  __u64 packets;
  __u64 bytes;
};
struct sluice_service_reason_key {
  __u32 service;
  __u32 reason;
};

/* X(NAME, text, kind): kind is forward, pass, drop or note. A note is counted beside the packet's verdict. */
#define SLUICE_REASONS(X)                                                                                       \
  X(FORWARDED_LOCAL, "forwarded_local", forward) /* rewritten and passed up to a backend on this node */        \
  X(FORWARDED_NAT, "forwarded_nat", forward)     /* both ends rewritten and transmitted */                      \
  X(RETURNED_NAT, "returned_nat", forward)       /* a reply translated back and transmitted */                  \
  X(RETURNED_LOCAL, "returned_local", forward)   /* a reply translated back on its way out (tc) */              \
  X(ARP_REPLY, "arp_reply", forward)             /* an ARP request for an owned address answered */             \
  X(NOT_FOR_US, "not_for_us", pass)              /* another host's MAC, not IPv4 TCP/UDP, or no such service */ \
  X(NO_BACKEND, "no_backend", drop)              /* the service has no backend in the choice */                 \
  X(MALFORMED, "malformed", drop)                /* to a service's address, with lengths that do not add up */  \
  X(FRAGMENT, "fragment", drop)                  /* the first IP fragment of a packet of a service */           \
  X(TTL_EXCEEDED, "ttl_exceeded", drop)          /* TTL would reach 0 */                                        \
  X(NO_NEXT_HOP, "no_next_hop", drop)            /* the way to the backend or client is not known */            \
  X(PORTS_EXHAUSTED, "ports_exhausted", drop)    /* every source port this flow may try is taken */             \
  X(FLOW_TABLE_FULL, "flow_table_full", drop)    /* no record could be made */                                  \
  X(TOO_BIG, "too_big", drop)                    /* does not fit the interface it would leave by */             \
  X(NO_MEMORY, "no_memory", drop)                /* the kernel could not make the packet writable (tc) */       \
  X(STALE_TABLE, "stale_table", drop)            /* a slot or record outside its table: should never happen */  \
  X(TAKEN_UP, "taken_up", note)                  /* a TCP packet without SYN and without record, adopted */     \
  X(FROM_HISTORY, "from_history", note)          /* an earlier candidate of the slot had the record */          \
  X(PORT_CHANGED, "port_changed", note)          /* two flows met in one tuple: the later got another port */

enum sluice_reason {
#define SLUICE_REASON_ENUM(name, text, kind) SLUICE_REASON_##name,
  SLUICE_REASONS(SLUICE_REASON_ENUM)
#undef SLUICE_REASON_ENUM
      SLUICE_REASON_COUNT
};

/* NOLINTEND(readability-identifier-naming,modernize-*) */
#endif
