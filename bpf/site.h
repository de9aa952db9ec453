/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where this copy of a program stands. One copy is loaded for each hop. */
#pragma once

#include "hop.h"

/* The hop this copy of the program stands at; set by bpf.Copies. */
const volatile __u16 hop_id;
/* Whether the device's packets start with an Ethernet header; set by bpf.Copies. */
const volatile bool ethernet = true;
/* Whether no packet comes here from another hop; set by bpf.Copies. */
const volatile bool origin;
/* Whether what follows here is a node's stack, or nothing; set by bpf.Copies. */
const volatile bool terminal;
/* Whether a packet can begin its way here; set by bpf.Copies. */
const volatile bool starts = true;

#define BEFORE_BITS 256

/* The hops that a packet can come from, by their number modulo BEFORE_BITS; set by bpf.Copies. */
const volatile __u64 before[BEFORE_BITS / 64];
