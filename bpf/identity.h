/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the kernel knows of a packet beside its bytes: addresses and its connection. */
#pragma once

#include "site.h"

#include "headers/bpf_core_read.h"
#include "headers/bpf_endian.h"

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;

#define CT_PTR_MASK (~7UL)
#define AF_INET 2

static __always_inline void copy_inet(__u8 *to, const union nf_inet_addr *from, bool v4)
{
	__u32 *w = (__u32 *)to;

	if (!v4) {
		bpf_probe_read_kernel(to, 16, from);
		return;
	}
	w[0] = 0;
	w[1] = 0;
	w[2] = bpf_htonl(0xffff);
	bpf_probe_read_kernel(&w[3], 4, from);
}

static __always_inline void read_conntrack(struct tuple *t, unsigned long nfct)
{
	struct nf_conn *ct = (void *)nfct;
	struct nf_conntrack_tuple *orig = &ct->tuplehash[0].tuple;
	bool v4;

	t->status = BPF_CORE_READ(ct, status);
	v4 = BPF_CORE_READ(orig, src.l3num) == AF_INET;
	copy_inet(t->src, &orig->src.u3, v4);
	copy_inet(t->dst, &orig->dst.u3, v4);
	t->sport = bpf_ntohs(BPF_CORE_READ(orig, src.u.all));
	t->dport = bpf_ntohs(BPF_CORE_READ(orig, dst.u.all));
}

/*
 * The context of a tc program is the skb itself. From 6.2 on there is a cast
 * that makes it one for the verifier, so that it is read by plain loads.
 */
static __always_inline __u64 head_of(struct __sk_buff *ctx)
{
	const struct sk_buff *skb = (void *)ctx;

	if (!bpf_cast_to_kern_ctx)
		return (__u64)BPF_CORE_READ(skb, head);
	skb = bpf_cast_to_kern_ctx(ctx);
	return (__u64)skb->head;
}

/*
 * The same of an XDP program, whose context is the xdp_buff. It is the head of the
 * skb that the frame is in, or that is made of it if it passes.
 */
static __always_inline __u64 frame_head(struct xdp_md *ctx)
{
	const struct xdp_buff *frame = (void *)ctx;

	if (!bpf_cast_to_kern_ctx)
		return (__u64)BPF_CORE_READ(frame, data_hard_start);
	frame = bpf_cast_to_kern_ctx(ctx);
	return (__u64)frame->data_hard_start;
}

/* conntrack's entry, or 0. */
static __always_inline unsigned long connection_of(struct __sk_buff *ctx)
{
	const struct sk_buff *skb = (void *)ctx;

	if (!bpf_core_field_exists(skb->_nfct) || !bpf_core_field_exists(struct nf_conn, status))
		return 0;
	if (!bpf_cast_to_kern_ctx)
		return BPF_CORE_READ(skb, _nfct) & CT_PTR_MASK;
	skb = bpf_cast_to_kern_ctx(ctx);
	return skb->_nfct & CT_PTR_MASK;
}
