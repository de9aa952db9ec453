//go:build ignore
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counts what passes a hop. Always on, so every instruction here is paid by every packet. */
#include "count.h"

SEC("tc")
int count_tc(struct __sk_buff *ctx)
{
	count_skb(ctx, REASON_PASS);
	return TC_ACT_UNSPEC;
}

SEC("xdp")
int count_xdp(struct xdp_md *ctx)
{
	__u64 len = ctx->data_end - ctx->data;

	count(REASON_PASS, 1, len, len);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
