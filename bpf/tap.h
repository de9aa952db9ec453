/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sightings at XDP hops. XDP has room for one program, so while somebody traces a
 * gate stands in the place of the hop's own, which is called its body: the gate
 * goes to the tap, and the tap to the body, each by a tail call. The verdict and
 * the counting are the body's.
 *
 * Taps are the tracing process's: the kernel clears the map when the last
 * descriptor of it is closed, also by a kill, and the gate then goes to the body.
 */
#pragma once

#include "passing.h"
#include "snap.h"

/* By hop. The loader sets max_entries. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} taps SEC(".maps");

/* By hop. The loader puts the lab's in its place, which is pinned. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} bodies SEC(".maps");

/* Whether an XDP hop comes next; set by bpf.Copies. */
const volatile bool xdp_next;

/*
 * Packets that were selected at the tc hop before an XDP hop. There is no skb
 * there by which they could be known, and neither the rate nor an address that
 * was translated before can be seen from them.
 */
struct announcement {
	__u64 key;
	__u64 time_ns;
};

#define ANNOUNCED_BITS 12

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct announcement);
	__uint(max_entries, 1 << ANNOUNCED_BITS);
} announced SEC(".maps");

/* On a wire nothing changes, so both parts of the stamp tell. */
static __always_inline __u64 key_of(const struct stamp *s)
{
	return mix(s->invariant, s->ends);
}

static __always_inline struct announcement *announcement_of(__u64 key)
{
	__u32 i = key >> (64 - ANNOUNCED_BITS);

	return bpf_map_lookup_elem(&announced, &i);
}

/* What takes another's place keeps that from being followed. */
static __always_inline void announce(struct passing *p)
{
	__u64 key = key_of(&p->stamp);
	struct announcement *a = announcement_of(key);

	if (!a)
		return;
	a->key = key;
	a->time_ns = time_of(p);
}

static __always_inline bool is_announced(struct passing *p)
{
	__u64 key = key_of(&p->stamp);
	struct announcement *a = announcement_of(key);

	return a && a->key == key && time_of(p) - a->time_ns < FOLLOW_NS;
}

static __always_inline void parse_frame(struct xdp_md *ctx, struct passing *p)
{
	if (p->parsed)
		return;
	p->parsed = true;
	__builtin_memset(&p->pkt, 0, sizeof(p->pkt));
	parse_xdp(ctx, &p->pkt);
}

static __noinline void stamp_frame(struct xdp_md *ctx, struct passing *p)
{
	if (p->stamped)
		return;
	p->stamped = true;
	if (stamp_plain_xdp(ctx, &p->stamp))
		return;
	parse_frame(ctx, p);
	stamp_parsed_xdp(ctx, &p->pkt, &p->stamp);
}

static __always_inline __u32 hash_payload_xdp(struct xdp_md *ctx, const struct packet *p)
{
	struct payload bytes = {};

	if (!has_payload(p) || bpf_xdp_load_bytes(ctx, p->payload_off, &bytes, hashed_bytes(p)))
		return 0;
	return hash_bytes(&bytes);
}

/*
 * Returns where in the ledger the packet belongs. The rate is spent where packets
 * begin their way, which is never here: what was not announced is none of its.
 */
static __always_inline __u64 *judge_frame(struct xdp_md *ctx, struct passing *p, struct ledger *l)
{
	if (sample_max != ~0U) {
		stamp_frame(ctx, p);
		if (!of_sample(&p->stamp))
			return &l->sampled_out;
	}
	if (!selective && !rate_ns)
		return &l->traced;
	stamp_frame(ctx, p);
	if (is_announced(p))
		return &l->traced;
	if (selective) {
		parse_frame(ctx, p);
		if (!match(&p->pkt))
			return &l->filtered;
	}
	return rate_ns ? &l->sampled_out : &l->traced;
}

/* Writes a run of this hop alone: what follows may be another skb, or none. */
static __always_inline void sight_frame(struct xdp_md *ctx, struct passing *p)
{
	__u32 only = 0;
	struct slot *s = bpf_map_lookup_elem(&spare, &only);
	struct sighting *f;

	if (!s)
		return;
	parse_frame(ctx, p);
	f = &s->run.first;
	f->time_ns = time_of(p);
	f->skb = 0;
	f->head = frame_head(ctx);
	f->payload_hash = hash_payload_xdp(ctx, &p->pkt);
	f->hop = hop_id;
	f->gso_size = 0;
	f->segments = 1;
	f->steps = 0;
	f->tracked = 0;
	f->pkt = p->pkt;
	if (snap_len)
		snap_frame(ctx, f);
	s->hops = 1;
	flush(s, p->now);
}

static __always_inline void tap(struct xdp_md *ctx, struct ledger *l)
{
	struct passing p;
	__u64 *what;

	p.parsed = false;
	p.stamped = false;
	p.now = 0;
	what = judge_frame(ctx, &p, l);
	l->seen++;
	(*what)++;
	if (what == &l->traced)
		sight_frame(ctx, &p);
}

SEC("xdp")
int trace_xdp(struct xdp_md *ctx)
{
	struct ledger *l = open_ledger(hop_id);

	if (l)
		tap(ctx, l);
	bpf_tail_call(ctx, &bodies, hop_id);
	return XDP_PASS;
}

SEC("xdp")
int gate_xdp(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &taps, hop_id);
	bpf_tail_call(ctx, &bodies, hop_id);
	return XDP_PASS;
}
