/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Runs that are being made. A packet's sightings are put together here by its
 * skb's address and go to the ring once, where the packet reaches a node's stack,
 * when another packet takes its place, or when it was not seen for a while.
 *
 * A program takes a slot by exchanging its claim and never waits: who finds it
 * taken writes a record of its own, and user space joins the two.
 */
#pragma once

#include "stamp.h"

/* Bytes in the ring from which the reader is woken at once; set by bpf.SetWakeAt. */
const volatile __u64 wake_at = 1 << 20;

/* The loader sets max_entries to the ring's size. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
	__type(value, struct run);
} ring SEC(".maps");

/* By hop. The loader sets max_entries. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct ledger);
	__uint(max_entries, 1);
} ledgers SEC(".maps");

struct slot {
	__u32 claim;
	__u8 hops;	 /* of the run; 0: there is none, what was seen is in the ring */
	__u8 refused;	 /* the packet is over the rate */
	__u16 last_hop;	 /* where the packet was seen last */
	__u64 invariant; /* its stamp */
	__u64 ends;
	__u64 last_ns; /* when it was seen last */
	__u64 pad;     /* a slot is four cache lines */
	struct run run; /* its skb is that of the last packet here, also when it is in the ring */
};

#define SLOT_BITS 13
#define SLOTS (1 << SLOT_BITS)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct slot);
	__uint(max_entries, SLOTS);
} slots SEC(".maps");

/* Where a run is made that finds its slot taken. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct slot);
	__uint(max_entries, 1);
} spare SEC(".maps");

/* To the verifier an address is no number, but half of one is. */
static __always_inline struct slot *slot_of(const void *skb)
{
	__u32 low, i;

	asm volatile("%0 = %1" : "=w"(low) : "w"((__u32)(long)skb));
	i = (low >> 8) * GOLDEN >> (64 - SLOT_BITS);
	return bpf_map_lookup_elem(&slots, &i);
}

static __always_inline bool claim(struct slot *s)
{
	return !__sync_lock_test_and_set(&s->claim, 1);
}

static __always_inline void release(struct slot *s)
{
	barrier();
	*(volatile __u32 *)&s->claim = 0;
}

/* A reader that was woken this short ago is still at it. */
#define WAKE_PAUSE_NS 200000

/* When the reader was last woken; two CPUs at once wake it twice. */
__u64 woken_ns;

#define RECORD_HEADER 8 /* the ring's own */

/* For a record of that size that is about to be written. */
static __always_inline __u64 wake_flag(__u64 now, __u64 size)
{
	if (bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) + RECORD_HEADER + size < wake_at || now - woken_ns < WAKE_PAUSE_NS)
		return BPF_RB_NO_WAKEUP;
	woken_ns = now;
	return BPF_RB_FORCE_WAKEUP;
}

/* Atomic, for the sweep may be interrupted by a packet. */
static __always_inline void note_lost(__u32 hop)
{
	struct ledger *l = bpf_map_lookup_elem(&ledgers, &hop);

	if (!l)
		return;
	__sync_fetch_and_add(&l->traced, -1);
	__sync_fetch_and_add(&l->lost, 1);
}

/* The ring had no room for a run that was counted as traced. */
__attribute__((noinline)) int lose(struct run *r)
{
	__u32 i;

	if (!r)
		return 0;
	note_lost(r->first.hop);
	for (i = 0; i < MAX_STEPS && i < r->first.steps; i++)
		note_lost(r->rest[i].hop);
	return 0;
}

/* Hands the run of a slot that the caller has claimed to the ring. */
static __always_inline void flush(struct slot *s, __u64 now)
{
	struct run *r = &s->run;
	__u64 size = offsetof(struct run, rest);

	if (!s->hops)
		return;
	s->hops = 0;
	if (r->first.tracked)
		size = sizeof(*r);
	else
		size += (r->first.steps & 7) * sizeof(struct step);
	if (bpf_ringbuf_output(&ring, r, size, wake_flag(now, size)))
		lose(r);
}
