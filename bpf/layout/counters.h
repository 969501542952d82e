/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counters and the reasons that they are kept by. Included by bpf/sluice.h only.
 *
 * A packet that is forwarded is counted once, in its backend's element, by what was done: totals of services and of
 * reasons are sums that the agent makes. Map `backend_counters` (PERCPU_ARRAY, same indices as `backends`). All else is
 * counted in `reasons` (PERCPU_ARRAY, index enum sluice_reason) and, where it concerns a service, in `service_reasons`
 * (PERCPU_HASH by sluice_service_reason_key). */
#ifndef SLUICE_BPF_LAYOUT_COUNTERS_H
#define SLUICE_BPF_LAYOUT_COUNTERS_H

#include "bpf/layout/base.h"

struct sluice_count {
  __u64 packets;
  __u64 bytes; /* of Ethernet frames, as they came */
};
struct sluice_counters {
  struct sluice_count forwarded; /* in the way that the record says: local, nat, tunnel, direct, IP in IP */
  struct sluice_count otherwise; /* of a local backend: out of a tunnel; of one behind a tunnel: by nat */
  struct sluice_count returned;  /* replies translated back */
  __u64 flows;                   /* records made */
  __u64 pad;
};
struct sluice_service_reason_key {
  __u32 service;
  __u32 reason;
  __u32 backend; /* SLUICE_NO_BACKEND_INDEX: before one was chosen */
  __u32 pad;
};
#define SLUICE_NO_BACKEND_INDEX 0xffffffffu
#define SLUICE_NO_SERVICE 0xffffffffu /* at the address, none at this port */

/* X(name, text, kind): kind is forward (a sum over backends), pass, drop, answer, or note (counted beside the
 * verdict). The texts are what people see in metrics. */
#define SLUICE_REASONS(X)                                                                                             \
  X(FORWARDED_LOCAL, "forwarded_local", forward)    /* to a backend on this node */                                   \
  X(FORWARDED_NAT, "forwarded_nat", forward)        /* rewritten at both ends and transmitted */                      \
  X(FORWARDED_TUNNEL, "forwarded_tunnel", forward)  /* encapsulated to the backend's node */                          \
  X(FORWARDED_DIRECT, "forwarded_direct", forward)  /* as it is, to the backend's MAC */                              \
  X(FORWARDED_IPIP, "forwarded_ipip", forward)      /* IP in IP to the backend */                                     \
  X(DECAPSULATED, "decapsulated", forward)          /* from another node, to a backend on this one */                 \
  X(HANDED_ON, "handed_on", forward)                /* from another node, no record here: to the next candidate */    \
  X(RETURNED_NAT, "returned_nat", forward)          /* a reply translated back and transmitted */                     \
  X(RETURNED_LOCAL, "returned_local", forward)      /* a reply translated back on its way out (tc) */                 \
  X(ERROR_FORWARDED, "error_forwarded", forward)    /* an ICMP error, to the flow's other end */                      \
  X(NEIGHBOUR_REPLY, "neighbour_reply", answer)     /* ARP or NDP for an owned address answered */                    \
  X(ECHO_REPLY, "echo_reply", answer)               /* a ping to an owned address answered */                         \
  X(PROBE_ANSWERED, "probe_answered", answer)       /* another node's tunnel probe sent back */                       \
  X(PROBE_RETURNED, "probe_returned", answer)       /* our own tunnel probe came back */                              \
  X(REFUSAL_TOLD, "refusal_told", note)             /* a drop that was answered: a reset, or an ICMP error */         \
  X(NOT_FOR_US, "not_for_us", pass)                 /* another host's MAC, no IP, or no address of ours */            \
  X(OWN_TRAFFIC, "own_traffic", pass)               /* to an address of this machine, and no flow's */                \
  X(NO_BACKEND, "no_backend", drop)                 /* the service has no backend in the choice */                    \
  X(NO_SERVICE, "no_service", drop)                 /* to a service's address, at a port that none is at */           \
  X(SOURCE_NOT_ALLOWED, "source_not_allowed", drop) /* the client is not in the service's allowed sources */          \
  X(NO_FLOW, "no_flow", drop)                 /* an ICMP error to a service's address, about no flow that is known */ \
  X(ANSWERS_LIMITED, "answers_limited", drop) /* a ping, or an error to tell on, beyond what a second allows */       \
  X(MALFORMED, "malformed", drop)             /* to a service's address, with lengths that do not add up */           \
  X(FRAGMENT, "fragment", drop)               /* a fragment whose first has not been seen, or beyond the bound */     \
  X(TTL_EXCEEDED, "ttl_exceeded", drop)       /* TTL would reach 0 */                                                 \
  X(NO_NEXT_HOP, "no_next_hop", drop)         /* the way to the backend or client is not known */                     \
  X(PORTS_EXHAUSTED, "ports_exhausted", drop) /* every source port this flow may try is taken */                      \
  X(FLOW_TABLE_FULL, "flow_table_full", drop) /* no room for another flow, or not for this service */                 \
  X(FLOW_TABLE_BUSY, "flow_table_busy", drop) /* another CPU had the place for too long */                            \
  X(TOO_BIG, "too_big", drop)                 /* does not fit the way it would leave by */                            \
  X(NO_MEMORY, "no_memory", drop)             /* the kernel could not make room or the packet writable */             \
  X(STALE_TABLE, "stale_table", drop)         /* a slot or record outside its table: should never happen */           \
  X(TUNNEL_DENIED, "tunnel_denied", drop)     /* a tunnel packet from no node of ours, or with a wrong token */       \
  X(TUNNEL_MALFORMED, "tunnel_malformed", drop)   /* a tunnel packet that cannot be read */                           \
  X(TUNNEL_STRAY, "tunnel_stray", drop)           /* for a service or backend that this node does not know */         \
  X(TUNNEL_HOPS, "tunnel_hops", drop)             /* handed on too often */                                           \
  X(TAKEN_UP, "taken_up", note)                   /* a TCP packet without SYN and without record, adopted */          \
  X(FROM_HISTORY, "from_history", note)           /* an earlier candidate of the slot had the record */               \
  X(PORT_CHANGED, "port_changed", note)           /* two flows met in one tuple: the later got another port */        \
  X(PATH_MTU, "path_mtu", note)                   /* an ICMP error about a tunnel packet of ours: less fits */        \
  X(HALF_OPEN_EVICTED, "half_open_evicted", note) /* made room for another that is half open */                       \
  X(NOT_ESTABLISHED, "not_established", note)     /* a flow stays half open: no room among the established */

enum sluice_reason {
#define SLUICE_REASON_ENUM(name, text, kind) SLUICE_REASON_##name,
  SLUICE_REASONS(SLUICE_REASON_ENUM)
#undef SLUICE_REASON_ENUM
      SLUICE_REASON_COUNT
};

#endif
