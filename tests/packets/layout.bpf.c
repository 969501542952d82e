/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One of each of the layouts that the programs and C++ share: their types as the programs' compiler lays them out. */
#include <linux/bpf.h>
#include <linux/types.h>

#include "bpf/sluice.h"

struct sluice_config config;
struct sluice_key_entry key_entry;
struct sluice_key6 key6;
struct sluice_service service;
struct sluice_backend backend;
struct sluice_egress egress;
struct sluice_peer peer;
struct sluice_proof proof;
struct sluice_flow4 flow4;
struct sluice_flow6 flow6;
struct sluice_shares shares;
struct sluice_owned_key owned_key;
struct sluice_owned owned;
struct sluice_counters counters;
struct sluice_count count;
struct sluice_service_reason_key service_reason_key;
struct sluice_sources4_key sources4_key;
struct sluice_sources6_key sources6_key;
struct sluice_tunnel_meta tunnel_meta;
struct sluice_clock clock;
