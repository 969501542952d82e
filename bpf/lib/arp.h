/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Answers to ARP requests (RFC 826) for the addresses that this node owns. */
#ifndef SLUICE_BPF_LIB_ARP_H
#define SLUICE_BPF_LIB_ARP_H

#include "bpf/lib/counters.h"
#include "bpf/lib/packet.h"

#define SLUICE_ARP_ETHERNET 1
#define SLUICE_ARP_REQUEST 1
#define SLUICE_ARP_REPLY 2

struct arp_ipv4 {
  __be16 hardware;
  __be16 protocol;
  __u8 hardware_length;
  __u8 protocol_length;
  __be16 operation;
  __u8 sender_mac[6];
  __be32 sender;
  __u8 target_mac[6];
  __be32 target;
} __attribute__((packed));

/* Turns a request for an owned address, broadcast or to our MAC (a neighbour's unicast probe), into its reply. True:
 * transmit it. False: untouched. Not answered: announcements (sender and target equal, RFC 5227 section 3), what is not
 * an Ethernet/IPv4 request, a sender whose MAC is no single station's, and addresses whose deadline has passed. A
 * request from 0.0.0.0, by which somebody asks before taking the address (RFC 5227 section 2.1.1), is answered: it is
 * taken. */
static __always_inline bool answer_arp(struct ethhdr* eth, const void* end, __u16 vlan) {
  struct arp_ipv4* arp = (struct arp_ipv4*)(eth + 1);
  const struct sluice_owned* owned;
  struct sluice_owned_key key = {};
  __u64 asker, mac;

  if ((const void*)(arp + 1) > end) return false;
  if (arp->hardware != bpf_htons(SLUICE_ARP_ETHERNET) || arp->protocol != bpf_htons(ETH_P_IP) ||
      arp->hardware_length != ETH_ALEN || arp->protocol_length != 4 || arp->operation != bpf_htons(SLUICE_ARP_REQUEST))
    return false;
  if (arp->sender == arp->target) return false;
  asker = load_mac(arp->sender_mac);
  if (!asker || asker & 1) return false;

  key.address.ipv4 = arp->target;
  key.family = 4;
  key.ifindex = interface_index;
  key.vlan = vlan;
  owned = bpf_map_lookup_elem(&owned_addresses, &key);
  /* The coarse clock is CLOCK_MONOTONIC, up to a tick behind. */
  if (!owned || SLUICE_LOAD_ONCE(owned->deadline) <= bpf_ktime_get_coarse_ns()) return false;

  mac = own_mac();
  store_mac(eth->h_dest, asker);
  store_mac(eth->h_source, mac);
  arp->operation = bpf_htons(SLUICE_ARP_REPLY);
  store_mac(arp->target_mac, asker);
  arp->target = arp->sender;
  store_mac(arp->sender_mac, mac);
  arp->sender = key.address.ipv4;
  return true;
}

#endif
