/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is fixed when the programs are loaded, and stands in their text as an operand: a mask that were loaded from
 * memory would cost an instruction and a register at each look-up. A program says which by an operand of its own, which
 * the loader replaces. Included by bpf/sluice.h only. */
#ifndef SLUICE_BPF_LAYOUT_CONSTANTS_H
#define SLUICE_BPF_LAYOUT_CONSTANTS_H

#include "bpf/layout/base.h"

enum sluice_constant {
  SLUICE_CONSTANT_INTERFACE_INDEX,
  SLUICE_CONSTANT_INTERFACE_EGRESS, /* its index in `egress`; 0: none */
  SLUICE_CONSTANT_INTERFACE_MAC,    /* first byte of the address in the lowest bits */
  /* 1: the far end of the node link. What comes in is from this machine itself and what it routes, its pods as a rule.
   */
  SLUICE_CONSTANT_INTERFACE_IS_NODE_LINK,
  /* Elements of the tables, powers of two, less one. */
  SLUICE_CONSTANT_KEYS_MASK,
  SLUICE_CONSTANT_KEYS6_MASK,
  SLUICE_CONSTANT_SERVICES_MASK,
  SLUICE_CONSTANT_SLOTS_MASK,
  SLUICE_CONSTANT_BACKENDS_MASK,
  SLUICE_CONSTANT_FLOWS4_MASK,
  SLUICE_CONSTANT_HALF_OPEN4_MASK,
  SLUICE_CONSTANT_FLOWS6_MASK,
  SLUICE_CONSTANT_HALF_OPEN6_MASK,
  SLUICE_CONSTANT_JIFFIES_PER_SECOND,
  SLUICE_CONSTANT_COUNT
};

/* The operand that stands for a constant until the program is loaded: this word in its high half, the constant's number
 * in its low half. */
#define SLUICE_CONSTANT_MARK 0x51c3a70eU

#endif
