/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From an address to a service, a slot and a backend. Included by bpf/sluice.h only. */
#ifndef SLUICE_BPF_LAYOUT_SERVICES_H
#define SLUICE_BPF_LAYOUT_SERVICES_H

#include "bpf/layout/base.h"

/* --- key table: a flat hash table with linear probing, built by the agent -------------------------------------------
 *
 * Map `keys` (memory-mapped). Two or more generations of the table may lie in it; the word sluice_config.key_table
 * says which is in force. A reader starts at position (hash & mask) and probes at most SLUICE_MAX_PROBES entries,
 * wrapping within the table; an empty key ends the search.
 *
 * What a key is follows from its low byte:
 *   SLUICE_KEY_IPV4      {address, port, protocol}: a service; {address, 0, 0}: an address, whatever comes to it
 *   SLUICE_KEY_IPV6      a print (56 bits) of the same in IPv6. The entry's `extra` is the index into `keys6` of the
 * whole key, which is compared. SLUICE_KEY_BACKEND   a print of {service, address, port} of a backend on this node,
 * which tunnelled packets name. The record that `value` leads to is compared.
 */
#define SLUICE_MAX_PROBES 8
#define SLUICE_KEY_EMPTY 0ULL
#define SLUICE_KEY_DELETED 2ULL /* a tombstone: does not end the search */
#define SLUICE_KEY_IPV4 1ULL
#define SLUICE_KEY_IPV6 3ULL
#define SLUICE_KEY_BACKEND 5ULL
#define SLUICE_KEY_KIND(key) ((key)&0xff)

struct sluice_key_entry {
  __u64 key;   /* written after the rest */
  __u32 value; /* service: index into `services`; address: SLUICE_ADDRESS_...; backend: index into `backends` */
  __u32 extra; /* IPv6: index into `keys6` */
};

/* What an address is to this node. */
#define SLUICE_ADDRESS_SERVICE 0x80000000u /* services live there */
#define SLUICE_ADDRESS_NODE 0x40000000u    /* configured on this machine */
#define SLUICE_ADDRESS_NAT 0x20000000u     /* nat's source address: replies come to it */
#define SLUICE_ADDRESS_PEER 0x10000000u    /* another node's */
#define SLUICE_ADDRESS_PEER_INDEX(value) ((value)&0xffffu)

/* Map `keys6` (memory-mapped): IPv6 keys in full. */
struct sluice_key6 {
  __u64 address[2];
  __be16 port;
  __u8 protocol;
  __u8 pad[5];
};

/* address, port: network order, as loaded from the packet. */
SLUICE_INLINE __u64 sluice_key_ipv4(__u32 address_be, __u16 port_be, __u8 protocol) {
  return ((__u64)address_be << 32) | ((__u64)port_be << 16) | ((__u64)protocol << 8) | SLUICE_KEY_IPV4;
}

/* A print that every node finds alike: it is part of the flow hash. */
SLUICE_INLINE __u64 sluice_key_ipv6(__u64 address0, __u64 address1, __u16 port_be, __u8 protocol) {
  __u64 h = (address0 ^ ((__u64)port_be << 8 | protocol)) * 0x9e3779b97f4a7c15ULL;
  h = (h ^ (h >> 32) ^ address1) * 0xff51afd7ed558ccdULL;
  h ^= h >> 32;
  h *= 0xc4ceb9fe1a85ec53ULL;
  return (h & ~0xffULL) | SLUICE_KEY_IPV6;
}

SLUICE_INLINE __u64 sluice_key_backend(__u32 service, __u64 address0, __u64 address1, __u16 port_be) {
  __u64 h = (address0 ^ ((__u64)service << 16 | port_be)) * 0x9e3779b97f4a7c15ULL;
  h = (h ^ (h >> 32) ^ address1) * 0xff51afd7ed558ccdULL;
  h ^= h >> 32;
  h *= 0xc4ceb9fe1a85ec53ULL;
  return (h & ~0xffULL) | SLUICE_KEY_BACKEND;
}

/* Bits of sluice_config.key_table: offset in entries (24) | log2 of the table's size (8) | seed (32). One aligned
 * 64-bit store switches table and seed together. 0: no table. */
#define SLUICE_KEY_TABLE_OFFSET(word) ((__u32)((word)&0xffffff))
#define SLUICE_KEY_TABLE_LOG2(word) ((__u32)(((word) >> 24) & 0xff))
#define SLUICE_KEY_TABLE_SEED(word) ((__u32)((word) >> 32))
#define SLUICE_KEY_TABLE_WORD(offset, log2, seed) \
  (((__u64)(seed) << 32) | ((__u64)(log2) << 24) | ((__u64)(offset)&0xffffff))

/* One multiplication, of which the high bits are taken: those all bits of the key reach. The agent sees to it that
 * every key lies near its home, by the seed. */
SLUICE_INLINE __u32 sluice_key_hash(__u64 key, __u32 seed) {
  __u64 h = (key ^ ((__u64)seed * 0x9e3779b97f4a7c15ULL)) * 0xff51afd7ed558ccdULL;
  return (__u32)__builtin_bswap64(h);
}

/* --- services ------------------------------------------------------------------------------------------------------
 *
 * Map `services` (memory-mapped), index = the node-local service id. A service has one family. Everything that must
 * change together is in the one word `table`:
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
  __u64 settings; /* SLUICE_SETTINGS_WORD: one store changes them together */
};

/* Bits of sluice_service.settings: flags (8) | affinity, seconds (24) | the set of allowed sources (32; 0: all may). */
#define SLUICE_SERVICE_VALID 1u    /* told apart from an element not in use */
#define SLUICE_SERVICE_AFFINITY 2u /* choose by the client's address alone */
#define SLUICE_SERVICE_IPV6 4u
#define SLUICE_SERVICE_AFFINITY_CHANGED 8u /* it had the other affinity: flows of that time have other slots */
#define SLUICE_SETTINGS_FLAGS(word) ((__u32)((word)&0xff))
#define SLUICE_SETTINGS_AFFINITY(word) ((__u32)(((word) >> 8) & 0xffffff))
#define SLUICE_SETTINGS_SOURCES(word) ((__u32)((word) >> 32))
#define SLUICE_SETTINGS_WORD(flags, affinity, sources) \
  (((__u64)(sources) << 32) | (((__u64)(affinity)&0xffffff) << 8) | ((__u64)(flags)&0xff))

/* Maps `sources4`, `sources6` (LPM_TRIE): who is in a set of allowed sources. The first 32 bits of the prefix are the
 * set. */
struct sluice_sources4_key {
  __u32 prefix_length; /* 32 + the prefix's own */
  __u32 set;
  __be32 address;
};
struct sluice_sources6_key {
  __u32 prefix_length;
  __u32 set;
  __u8 address[16];
};

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
 * Map `slots` (__u16, memory-mapped). A slot is an index into the service's own range of backend records. Written as
 * 64-bit words: four slots in each, slot 0 in the low bits.
 */
#define SLUICE_NO_BACKEND 0xffff
#define SLUICE_SLOTS_PER_WORD 4

/* --- backend records ------------------------------------------------------------------------------------------------
 *
 * Map `backends` (memory-mapped). A record is written before a slot or a SLUICE_KEY_BACKEND leads to it. Its identity
 * (address, port, service, forwarding) does not change while one does; `next_hop` does, and the peer and the flags of
 * `what`, each word by one aligned store. A backend that has not joined yet has a record where it has a
 * SLUICE_KEY_BACKEND, in its service's range.
 */
struct sluice_backend {
  __u64 next_hop; /* SLUICE_NEXT_HOP_WORD towards the backend's own address; 0: not resolved */
  union sluice_address address;
  __u64 what; /* SLUICE_BACKEND_WORD */
};

/* Bits of sluice_backend.what: port, network order (16) | peer (16) | service (24) | forwarding (4) | flags (4). */
#define SLUICE_FORWARD_LOCAL 1   /* rewrite the destination, pass up */
#define SLUICE_FORWARD_NAT 2     /* rewrite both ends, transmit */
#define SLUICE_FORWARD_TUNNEL 3  /* Geneve to the node that the backend runs on: `peer` */
#define SLUICE_FORWARD_DIRECT 4  /* as it is, to the backend's MAC */
#define SLUICE_FORWARD_IPIP 5    /* IP in IP (RFC 2003, RFC 2473) to the backend's own address */
#define SLUICE_BACKEND_LEFT 1u   /* flag: no table in force names it; only history does */
#define SLUICE_BACKEND_STRICT 2u /* flag: a tunnel asked for by name: nat does not stand in for it */
#define SLUICE_BACKEND_PORT(word) ((__u16)(word))
#define SLUICE_BACKEND_PEER(word) ((__u32)(((word) >> 16) & 0xffff))
#define SLUICE_BACKEND_SERVICE(word) ((__u32)(((word) >> 32) & 0xffffff))
#define SLUICE_BACKEND_FORWARDING(word) ((__u32)(((word) >> 56) & 0xf))
#define SLUICE_BACKEND_FLAGS(word) ((__u32)((word) >> 60))
#define SLUICE_BACKEND_WORD(port_be, peer, service, forwarding, flags)                            \
  ((__u64)(__u16)(port_be) | ((__u64)(__u16)(peer) << 16) | (((__u64)(service)&0xffffff) << 32) | \
   (((__u64)(forwarding)&0xf) << 56) | ((__u64)(flags) << 60))
#define SLUICE_MAX_SERVICES (1u << 24)

#endif
