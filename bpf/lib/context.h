/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a program is handed. Functions that XDP and tc share name it SLUICE_CONTEXT: each object is compiled for one of
 * them, as the verifier knows a function's context by the name of its type. */
#ifndef SLUICE_BPF_LIB_CONTEXT_H
#define SLUICE_BPF_LIB_CONTEXT_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#ifdef SLUICE_FOR_TC
#define SLUICE_CONTEXT struct __sk_buff
#define sluice_load_bytes bpf_skb_load_bytes
#else
#define SLUICE_CONTEXT struct xdp_md
#define sluice_load_bytes bpf_xdp_load_bytes
#endif

#endif
