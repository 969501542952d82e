/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The only header that the kernel side and C++ share: what stands in the maps and in tunnels, and the hashes that both
 * compute. Byte order: fields named __be are in network order; everything else is the host's. A change of any layout
 * here raises SLUICE_LAYOUT_VERSION, which is part of the pin path.
 *
 * A map that is called memory-mapped is an ARRAY of one element, which holds a table of elements of the given type, a
 * power of two of them where nothing else is said. The agent writes it with plain aligned stores; nothing lies between
 * it and the programs.
 */
#ifndef SLUICE_BPF_SLUICE_H
#define SLUICE_BPF_SLUICE_H
/* C, in the kernel's style of naming.
 * NOLINTBEGIN(readability-identifier-naming,modernize-*) */

#include "bpf/layout/base.h"
#include "bpf/layout/constants.h"
#include "bpf/layout/services.h"
#include "bpf/layout/tunnel.h"

#include "bpf/layout/counters.h"
#include "bpf/layout/flows.h"
#include "bpf/layout/node.h"

/* NOLINTEND(readability-identifier-naming,modernize-*) */
#endif
