/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet on its way through a trace program, tc or XDP, and which packets are selected. */
#pragma once

#include "identity.h"
#include "match.h"
#include "run.h"

/* Whether there is an expression that not all packets match; set by bpf.SetMatch. */
const volatile bool selective;
/* Packets whose hash is not above this are of the sample; set by bpf.SetSample. */
const volatile __u32 sample_max = ~0U;
/* The time that one packet takes of the rate, 0 for no limit; set by bpf.SetRate. */
const volatile __u64 rate_ns;

/* A packet that was selected is known again for so long. */
#define FOLLOW_NS 1000000000ULL

struct passing {
	struct packet pkt;
	struct stamp stamp;
	__u64 skb;
	__u64 now; /* 0 as long as nobody asked */
	bool parsed;
	bool stamped;
};

static __always_inline __u64 time_of(struct passing *p)
{
	if (!p->now)
		p->now = bpf_ktime_get_ns();
	return p->now;
}

static __always_inline bool of_sample(const struct stamp *s)
{
	return (__u32)(s->invariant * GOLDEN >> 32) <= sample_max;
}

#define HASHED 32

/* The bytes of a payload that are hashed, filled up with zeros. */
struct payload {
	__u32 words[HASHED / 4];
};

static __always_inline bool has_payload(const struct packet *p)
{
	return p->payload_off && p->proto != IPPROTO_TCP;
}

/* How many bytes are hashed. Of no bytes at all it is one too many, so that they cannot be read. */
static __always_inline __u32 hashed_bytes(const struct packet *p)
{
	__u32 n = p->len - p->payload_off;

	if (n > HASHED)
		n = HASHED;
	/* The verifier of 6.1 learns nothing from n != 0. What was 0 is now too long to be loaded. */
	return ((n - 1) & (HASHED - 1)) + 1;
}

/* FNV-1a over words: cheap, and two packets of one flow seldom meet in it. */
static __always_inline __u32 hash_bytes(const struct payload *b)
{
	__u32 h = 2166136261;
	int i;

#pragma unroll
	for (i = 0; i < HASHED / 4; i++)
		h = (h ^ b->words[i]) * 16777619;
	return h;
}

/*
 * While the hops are being attached or detached, one after the other, nothing is
 * seen: a packet that met some of them would look lost. Its one value is 1 while
 * it is so; set by bpf.SetPaused.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} paused SEC(".maps");

/* The ledger with that index, or NULL while nothing is to be seen. */
static __always_inline struct ledger *open_ledger(__u32 i)
{
	__u32 only = 0;
	__u32 *pause = bpf_map_lookup_elem(&paused, &only);

	if (!pause || *pause)
		return 0;
	return bpf_map_lookup_elem(&ledgers, &i);
}
