/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is asked for about one packet's flow, and what is found: the working memory that stages share. */
#ifndef SLUICE_BPF_LIB_FLOW_QUERY_H
#define SLUICE_BPF_LIB_FLOW_QUERY_H

#include "bpf/lib/flow_table.h"
#include "bpf/lib/fragment.h"
#include "bpf/lib/service.h"
#include "bpf/lib/way.h"

/* What is asked for; given by the caller. */
struct flow_query {
  union sluice_address client;
  union sluice_address address;
  __u64 table; /* the service's, read once */
  __u64 slot_hash;
  __u64 other_hash; /* the slot's at the service's other affinity, where that was in force once; else `slot_hash` */
  __u64 hash;       /* over the whole tuple: source ports */
  __u64 client_way; /* back whence the packet came: a next-hop word */
  __u32 service;
  __u32 affinity;     /* the service's, seconds; 0: none */
  __u32 length;       /* of the IP packet */
  __u32 acknowledged; /* TCP's, host order */
  __be16 client_port;
  __be16 port;
  __u8 protocol;
  __u8 tcp_flags; /* 0 for UDP */
  __u8 hops;
  __u8 v6;
  __u8 peek;   /* only look: the packet is not the flow's own */
  __u8 others; /* another candidate may have the flow: a doubtful record settles nothing */
  __u8 pad[6];
};

/* Whether there is no connection yet that could be lost, or never one. */
static __always_inline bool begins(const struct flow_query* query) {
  return query->protocol != IPPROTO_TCP || is_syn(query->tcp_flags);
}

/* Where the packet goes. */
struct target {
  union sluice_address address; /* the backend's */
  union sluice_address source;  /* nat's */
  __u64 next_hop;               /* towards the backend; nat, direct, IP in IP */
  __u32 backend;                /* index */
  __u32 peer;                   /* tunnel */
  __be16 port;
  __be16 source_port;
  __u8 forwarding;
  __u8 first_free; /* the first try whose tuple a new record could have; port_tries() if there is none */
  __u8 left;       /* the backend is in no table in force */
  __u8 strict;     /* a tunnel for which nat does not stand in */
  __u8 promotes;   /* the flow's record is half open, and the packet shows that it is real */
  __u8 doubted;    /* there is a record, and query->others */
  __u8 pad[6];
};

/* A backend behind a tunnel that may have a flow's record. */
struct asked {
  union sluice_address address;
  union sluice_address node; /* the underlay address of the node that it runs on */
  __be16 port;
  __u16 peer;
  __u32 backend; /* index here */
  __u32 plane;   /* of the slot, that names it; 0 also where it came out of a tunnel */
  __u32 pad;
};

/* Working memory of the one packet that a CPU is at: more than fits the stack. */
struct flow_scratch {
  struct flow_query query;
  struct target target;
  struct new_flow flow;
  struct flow_key key;
  struct walked walked;
  __u32 pad_walked;
  struct asked asked[SLUICE_TUNNEL_CANDIDATES]; /* in the order of asking */
  __u32 asked_count;
  __u32 asked_newest; /* the newest candidate is among them */
  __u8 node_family;   /* 4 or 6, of `asked[].node` */
  __u8 hops;
  __u8 outer_class;  /* of the tunnel packet that this one came out of */
  __u8 tunnel_flags; /* of that which it came out of, and of that which it goes into */
  __u32 action;
  __u32 question; /* enum question, for stage FLOW */
  __u32 then;     /* the stage that carries out its answer */
  __s32 found;    /* the answer: FOUND_TARGET, FOUND_NEXT, or the reason to drop */
  __u32 next;     /* with FOUND_NEXT: of `asked` */
  __u32 answer;   /* enum answer, to a packet that is refused */
  __u32 mtu;
  __u32 tunnel_fits; /* bytes of packet that the tunnel carries which this one came out of; 0: it came out of none */
  __u32 doubted;     /* who has a doubtful record: plane, or place in `asked`, and one; 0: nobody */
  __u8 header[256];
};
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct flow_scratch);
} scratch SEC(".maps");

enum question {
  QUESTION_SERVICE, /* a packet from a client: where to? */
  QUESTION_INNER,   /* out of a tunnel: which of `asked` on this node has its flow, or takes it? */
  QUESTION_ERROR,   /* an ICMP error from a client's side: whose is the flow that it is about? */
};
#define FOUND_TARGET 0
#define FOUND_NEXT (-1) /* another node is asked */

static __always_inline struct flow_scratch* flow_scratch(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&scratch, &zero);
}

static __always_inline __u32 port_tries(__u8 forwarding) {
  return forwarding == SLUICE_FORWARD_LOCAL ? SLUICE_PORT_TRIES_LOCAL : SLUICE_PORT_TRIES_NAT;
}

/* How many ports nat has; 0: none are configured. */
static __always_inline __u32 nat_ports(const struct sluice_config* node) {
  return node->nat_port_first && node->nat_port_last >= node->nat_port_first
             ? node->nat_port_last - node->nat_port_first + 1
             : 0;
}

/* The i-th source port that a flow tries. In nat there is at least one. */
static __always_inline __be16 candidate_port(__u64 hash, __be16 client_port, __u8 forwarding, __u32 i,
                                             const struct sluice_config* node) {
  if (forwarding == SLUICE_FORWARD_LOCAL) return bpf_htons(sluice_local_port(hash, i, bpf_ntohs(client_port)));
  return bpf_htons(sluice_source_port(hash, i, node->nat_port_first, nat_ports(node)));
}

static __always_inline __u8 flow_kind(__u8 forwarding) {
  return forwarding == SLUICE_FORWARD_NAT ? SLUICE_FLOW_NAT : SLUICE_FLOW_LOCAL;
}

static __always_inline void candidate_key(const struct flow_query* query, const struct target* target,
                                          struct flow_key* key) {
  bool nat = target->forwarding == SLUICE_FORWARD_NAT;
  key->backend = target->address;
  key->source = nat ? target->source : query->client;
  key->tuple =
      SLUICE_FLOW_TUPLE(target->port, target->source_port, query->protocol, nat ? SLUICE_FLOW_NAT : SLUICE_FLOW_LOCAL);
}

/* The reason why the packet may not go there, or 0. */
static __always_inline int refused_by_way(const struct flow_query* query, const struct target* target) {
  const struct sluice_egress* out;

  if (target->forwarding == SLUICE_FORWARD_LOCAL) return 0;
  if (query->hops <= 1) return SLUICE_REASON_TTL_EXCEEDED;
  if (target->forwarding == SLUICE_FORWARD_TUNNEL) return 0; /* its peer knows what fits */
  out = find_egress(target->next_hop);
  if (!out) return SLUICE_REASON_NO_NEXT_HOP;
  return fits(out, query->length) ? 0 : SLUICE_REASON_TOO_BIG;
}

/* nat's source address for a way; false: it has none of this family. */
static __always_inline bool nat_source(const struct sluice_egress* out, const bool v6, union sluice_address* source) {
  if (v6) { /* the agent writes the first word last */
    source->words[0] = SLUICE_LOAD_ONCE(out->source6.words[0]);
    if (!source->words[0]) return false;
    source->words[1] = SLUICE_LOAD_ONCE(out->source6.words[1]);
    return true;
  }
  source->words[0] = out->source4;
  source->words[1] = 0;
  return out->source4;
}

#endif
