/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet as it lies in the kernel's memory, for programs that are given an skb
 * wherever in the kernel it is. What is read of it is what a tc program at its
 * device reads, as far as that is there.
 */
#pragma once

#include "passing.h"
#include "where.h"

#define UNSET 0xffff

static __always_inline bool has_tag(const struct sk_buff *skb)
{
	const struct sk_buff___from_6_2 *new = (void *)skb;
	const struct sk_buff___before_6_2 *old = (void *)skb;

	if (bpf_core_field_exists(new->vlan_all))
		return BPF_CORE_READ(new, vlan_all);
	if (bpf_core_field_exists(old->vlan_present))
		return BPF_CORE_READ_BITFIELD_PROBED(old, vlan_present);
	return false;
}

/*
 * Puts the cursor on the packet, and returns whether there is an Ethernet header.
 * Where it is still to be made the packet begins where it will be.
 */
static __always_inline bool find(const struct sk_buff *skb, struct cursor *c)
{
	__u16 mac = BPF_CORE_READ(skb, mac_header), network = BPF_CORE_READ(skb, network_header);
	bool made = mac != UNSET && (!network || mac + ETH_HLEN <= network);
	void *head = BPF_CORE_READ(skb, head);
	struct net_device *dev;
	__u16 type;

	c->far = true;
	c->pos = head + (made ? mac : network);
	c->start = c->pos;
	c->end = head + BPF_CORE_READ(skb, tail);
	if (made)
		return true;
	dev = device_of(skb);
	type = dev ? BPF_CORE_READ(dev, type) : ARPHRD_ETHER;
	if (type == ARPHRD_ETHER || type == ARPHRD_LOOPBACK)
		c->start -= ETH_HLEN;
	return false;
}

/* As parse_skb, of an skb anywhere. The cursor is then where it came to. */
static __always_inline void parse_held(const struct sk_buff *skb, struct cursor *c, struct packet *p)
{
	bool made = find(skb, c);

	p->len = BPF_CORE_READ(skb, len) + ((void *)BPF_CORE_READ(skb, data) - c->start);
	if (has_tag(skb)) {
		p->vlan = BPF_CORE_READ(skb, vlan_tci);
		p->flags |= PACKET_VLAN;
	}
	if (!made)
		p->ethertype = bpf_ntohs(BPF_CORE_READ(skb, protocol));
	if ((made && !parse_link(c, p)) || !parse_network(c, p) || !parse_transport(c, p))
		p->flags |= PACKET_SHORT;
}

/* Reads n bytes at an offset from the packet's start. Returns false where they are not all in one piece. */
static __always_inline bool read_held(const struct cursor *c, void *to, __u32 off, __u32 n)
{
	void *from = c->start + off;

	return from + n <= c->end && !bpf_probe_read_kernel(to, n, from);
}

/* The part of a parsed packet's stamp that no hop changes. */
static __always_inline __u64 invariant_of_held(const struct cursor *c, const struct packet *p)
{
	__u32 off = p->payload_off - 8;
	struct beginning b = {};
	struct stamp s = {};

	if (has_transport(p) && p->proto != IPPROTO_TCP && !read_held(c, &b, off, 24) && !read_held(c, &b, off, 16))
		read_held(c, &b, off, 8);
	stamp_headers(p, &b, &s);
	return s.invariant;
}

/* As hash_payload of trace.c, or 0 where the payload is not behind the headers. */
static __always_inline __u32 hash_held(const struct cursor *c, const struct packet *p)
{
	struct payload bytes = {};

	if (!has_payload(p) || !read_held(c, &bytes, p->payload_off, hashed_bytes(p)))
		return 0;
	return hash_bytes(&bytes);
}

/* The slot of a parsed packet that a hop selected just now, or NULL. */
static __always_inline struct slot *slot_following(const struct sk_buff *skb, const struct cursor *c, const struct packet *p,
						   __u64 now)
{
	struct slot *s = slot_of(skb);

	if (!s || s->run.first.skb != (__u64)skb || s->refused || (__s64)(now - s->last_ns) >= (__s64)FOLLOW_NS)
		return 0;
	return s->invariant == invariant_of_held(c, p) ? s : 0;
}
