/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The first bytes of packets, for a recording. They go to the ring before the run
 * that begins with the packet. While they are asked for a run has one hop, since
 * what forwards a packet changes them.
 */
#pragma once

#include "run.h"

/* How many bytes of a packet, 0 for none; set by bpf.SetSnap. */
const volatile __u32 snap_len;

#define MOST_SNAP (1 << 16)

struct snapped {
	struct snap head;
	__u8 bytes[MOST_SNAP];
};

/* By CPU: a per-CPU map has no room for so much. bpf.SetSnap sets max_entries. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct snapped);
	__uint(max_entries, 1);
} snapping SEC(".maps");

static __always_inline struct snapped *snap_room(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&snapping, &cpu);
}

/* How many bytes to take. Of none at all it is too many, so that they cannot be read. */
static __always_inline __u32 snapped_bytes(__u32 len)
{
	__u32 n = len < snap_len ? len : snap_len;

	return ((n - 1) & (MOST_SNAP - 1)) + 1;
}

static __always_inline void note_unsnapped(void)
{
	__u32 hop = hop_id;
	struct ledger *l = bpf_map_lookup_elem(&ledgers, &hop);

	if (l)
		__sync_fetch_and_add(&l->unsnapped, 1);
}

/* Hands the first n bytes of the packet that begins f to the ring; they are in s. */
static __always_inline void hand_snap(struct snapped *s, const struct sighting *f, __u32 n)
{
	__u64 size = sizeof(s->head) + n;

	__builtin_memset(&s->head, 0, sizeof(s->head));
	s->head.time_ns = f->time_ns;
	s->head.skb = f->skb;
	s->head.captured = n;
	s->head.length = f->pkt.len;
	s->head.hop = f->hop;
	s->head.record = RECORD_SNAP;
	if (bpf_ringbuf_output(&ring, s, size, wake_flag(f->time_ns, size)))
		note_unsnapped();
}

static __noinline void snap_skb(struct __sk_buff *ctx, const struct sighting *f)
{
	__u32 n = snapped_bytes(ctx->len);
	struct snapped *s = snap_room();

	if (s && !bpf_skb_load_bytes(ctx, 0, s->bytes, n))
		hand_snap(s, f, n);
	else
		note_unsnapped();
}

static __noinline void snap_frame(struct xdp_md *ctx, const struct sighting *f)
{
	__u32 n = snapped_bytes(f->pkt.len);
	struct snapped *s = snap_room();

	if (s && !bpf_xdp_load_bytes(ctx, 0, s->bytes, n))
		hand_snap(s, f, n);
	else
		note_unsnapped();
}
