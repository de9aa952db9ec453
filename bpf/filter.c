//go:build ignore
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Drops what the user's expression matches at one hop, and nothing else: what cannot be read passes. */
#include "count.h"
#include "match.h"
#include "parse.h"

/* Of this filter alone, by enum outcome; count has the hop's sum. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, OUTCOME_COUNT);
} outcomes SEC(".maps");

static __always_inline void note(enum outcome o)
{
	__u32 i = o;
	__u64 *n = bpf_map_lookup_elem(&outcomes, &i);

	if (n)
		(*n)++;
}

static __always_inline enum reason judge(const struct packet *p, bool whole)
{
	if (!match(p)) {
		if (!whole)
			note(OUTCOME_UNREAD);
		return REASON_PASS;
	}
	note(OUTCOME_MATCHED);
	return REASON_FILTER;
}

/* The hop's count program, which comes next, counts what passes here. */
SEC("tc")
int filter_tc(struct __sk_buff *ctx)
{
	struct packet p = {};
	bool whole = parse_skb(ctx, &p);

	if (judge(&p, whole) == REASON_PASS)
		return TC_ACT_UNSPEC;
	count_skb(ctx, REASON_FILTER);
	return TC_ACT_SHOT;
}

/* XDP has room for one program, so this one counts what passes too. */
SEC("xdp")
int filter_xdp(struct xdp_md *ctx)
{
	struct packet p = {};
	bool whole = parse_xdp(ctx, &p);
	enum reason why = judge(&p, whole);

	count(why, 1, p.len, p.len);
	return why == REASON_PASS ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
