/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The layouts of what the latency programs share with user space. Package bpf
 * gives them Go names, and a test compares those with this file's BTF.
 */
#pragma once

#include "headers/kernel.h"

#include "headers/bpf_helpers.h"

/*
 * Buckets are log-linear: each power of two is cut into 32, so that a bucket is
 * at most 1/32 of its values wide, and those below 64 ns hold one value each.
 * The last one also takes what is longer than 2^36 ns.
 */
#define SUB_BITS 5
#define BUCKETS 1024

/* The times that packets took over one edge, on one CPU. */
struct histogram {
	__u64 max_ns;
	__u16 from; /* hops; valid where anything was counted */
	__u16 to;
	__u32 pad;
	__u64 counts[BUCKETS];
};

/*
 * What became of the packets that a latency program saw. The rest of seen came
 * from no hop or were not chosen at the one before.
 */
struct timing {
	__u64 seen;
	__u64 timed;	 /* the time since the hop before is in a histogram */
	__u64 reused;	 /* an earlier packet had this skb's address at the hop before */
	__u64 crowded;	 /* no histogram was left for the edge */
	__u64 displaced; /* a start was noted where another packet's stood, which may have ended long ago */
	__u64 wait;	 /* packets until one is chosen; 0: none is, for no hop follows */
};

/* Whether one hop follows another. */
enum edge_kind {
	EDGE_NONE,
	EDGE_DIRECT, /* over a wire or within a bridge */
	EDGE_STACK,  /* through a node's stack, which sends packets of its own */
	EDGE_COUNT,
};

struct edge {
	__u32 kind;
	__u32 histogram; /* counted from 1; 0: no packet came over it yet */
};
