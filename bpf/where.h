/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where an skb is, for programs that are given one anywhere in the kernel. */
#pragma once

#include "headers/kernel.h"

#include "headers/bpf_helpers.h"

#include "headers/bpf_core_read.h"

#define SKB_DST_PTR (~1UL)

/* The network namespace of a device, or NULL where dev is none: a socket's queue keeps other things there. */
static __always_inline struct net *net_of_device(struct net_device *dev)
{
	struct net *net = 0;

	if (!dev || bpf_core_read(&net, sizeof(net), &dev->nd_net.net))
		return 0;
	return net;
}

/* The device of an skb's route, or NULL. */
static __always_inline struct net_device *route_device(const struct sk_buff *skb)
{
	struct dst_entry *dst = (void *)(BPF_CORE_READ(skb, _skb_refdst) & SKB_DST_PTR);

	return dst ? BPF_CORE_READ(dst, dev) : 0;
}

/* The skb's device, or that which it is on the way to; else NULL. */
static __always_inline struct net_device *device_of(const struct sk_buff *skb)
{
	struct net_device *dev = BPF_CORE_READ(skb, dev);

	return net_of_device(dev) ? dev : route_device(skb);
}

/* The inode of the network namespace that the skb is in, or 0. */
static __always_inline __u32 namespace_of(const struct sk_buff *skb)
{
	struct net *net = net_of_device(BPF_CORE_READ(skb, dev));
	struct sock *sk;

	if (!net) {
		/* Not of a network: a message of netlink or of a local socket. */
		if (!BPF_CORE_READ(skb, protocol))
			return 0;
		sk = BPF_CORE_READ(skb, sk);
		if (sk)
			net = BPF_CORE_READ(sk, __sk_common.skc_net.net);
		else
			net = net_of_device(route_device(skb));
	}
	return net ? BPF_CORE_READ(net, ns.inum) : 0;
}
