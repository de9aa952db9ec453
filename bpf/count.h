/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The lab's counters and the way a program adds to them. */
#pragma once

#include "headers/bpf_endian.h"
#include "site.h"

/* The loader sets max_entries to hops times REASON_COUNT. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct count);
	__uint(max_entries, REASON_COUNT);
} counts SEC(".maps");

/* A hop's index is below max_entries by construction, so a miss cannot lose a packet. */
static __always_inline void count(enum reason why, __u64 segments, __u64 bytes, __u64 wire_bytes)
{
	__u32 i = hop_id * REASON_COUNT + why;
	struct count *c = bpf_map_lookup_elem(&counts, &i);

	if (!c)
		return;
	c->packets++;
	c->segments += segments;
	c->bytes += bytes;
	c->wire_bytes += wire_bytes;
}

/*
 * Length of the headers that GSO repeats on every segment, 0 if it is unknown.
 * Only large packets come here, so plain loads do: they keep the program small,
 * and it is verified once per hop.
 */
static __always_inline __u32 header_len(struct __sk_buff *ctx)
{
	__u32 off = ethernet ? ETH_HLEN : 0;
	__u8 ver_ihl, proto, doff;

	if (ctx->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(ctx, off, &ver_ihl, 1) || bpf_skb_load_bytes(ctx, off + 9, &proto, 1))
			return 0;
		off += (ver_ihl & 0xf) * 4;
	} else if (ctx->protocol == bpf_htons(ETH_P_IPV6)) {
		if (bpf_skb_load_bytes(ctx, off + 6, &proto, 1))
			return 0;
		off += sizeof(struct ipv6hdr);
	} else {
		return 0;
	}
	if (proto == IPPROTO_UDP)
		return off + sizeof(struct udphdr);
	if (proto != IPPROTO_TCP || bpf_skb_load_bytes(ctx, off + 12, &doff, 1))
		return 0;
	return off + (doff >> 4) * 4;
}

static __always_inline void count_skb(struct __sk_buff *ctx, enum reason why)
{
	__u64 segments = ctx->gso_segs;
	__u64 wire = ctx->len;

	if (segments > 1)
		wire += (segments - 1) * header_len(ctx);
	else
		segments = 1;
	count(why, segments, ctx->len, wire);
}
