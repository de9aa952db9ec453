/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reads a packet's headers once, with a cursor that never passes the end. */
#pragma once

#include "headers/bpf_endian.h"
#include "site.h"

#define VLAN_DEPTH 2
#define IPV6_EXT_DEPTH 4

struct cursor {
	void *start;
	void *pos;
	void *end;
	bool far; /* these are the kernel's own addresses, whose memory is read by a probe */
};

/*
 * Yields a T at the cursor and moves behind it, or NULL. The T is the packet's own,
 * or, where that is far, a copy in the room. The assembly makes the compiler derive
 * both pointers from one register: the verifier would not see that a check of one
 * holds for the other.
 */
#define take(c, room)                                                                        \
	({                                                                                   \
		typeof(room) *_p = (c)->pos;                                                 \
		void *_next;                                                                 \
		asm volatile("" : "+r"(_p));                                                 \
		_next = _p + 1;                                                              \
		_next > (c)->end ? (typeof(room) *)0                                         \
				 : ((c)->pos = _next, (c)->far ? copy_far(&(room), _p) : _p); \
	})

/* Copies what is at a kernel's address to *room, and returns that, or NULL. */
#define copy_far(room, from) \
	(bpf_probe_read_kernel(room, sizeof(*(room)), from) ? (typeof(room))0 : (room))

/* Copies 32-bit words: what is on the stack must be written aligned. */
static __always_inline void copy_v4(__u8 *to, const void *from)
{
	__u32 *w = (__u32 *)to;

	w[2] = bpf_htonl(0xffff);
	__builtin_memcpy(&w[3], from, 4);
}

static __always_inline void set_payload(struct packet *p, struct cursor *c)
{
	p->payload_off = c->pos - c->start;
}

static __always_inline bool parse_tcp(struct cursor *c, struct packet *p)
{
	struct tcphdr room, *tcp = take(c, room);
	__u32 len, word, *opt;
	void *from;

	if (!tcp)
		return false;
	p->sport = bpf_ntohs(tcp->source);
	p->dport = bpf_ntohs(tcp->dest);
	p->seq = bpf_ntohl(tcp->seq);
	p->ack = bpf_ntohl(tcp->ack_seq);
	p->tcp_flags = tcp->flags;
	p->flags |= PACKET_PORTS;

	len = (tcp->doff >> 4) * 4;
	from = c->pos - sizeof(*tcp);
	if (len < sizeof(*tcp) || from + len > c->end)
		return false;
	p->payload_off = from - c->start + len;

	/* NOP, NOP, timestamp: the layout of every established connection on Linux. */
	opt = take(c, word);
	if (opt && len >= 32 && *opt == bpf_htonl(0x0101080a)) {
		opt = take(c, word);
		if (opt)
			p->tsval = bpf_ntohl(*opt);
	}
	return true;
}

static __always_inline bool parse_udp(struct cursor *c, struct packet *p)
{
	struct udphdr room, *udp = take(c, room);

	if (!udp)
		return false;
	p->sport = bpf_ntohs(udp->source);
	p->dport = bpf_ntohs(udp->dest);
	p->flags |= PACKET_PORTS;
	set_payload(p, c);
	return true;
}

static __always_inline bool is_echo(const struct packet *p)
{
	if (p->proto == IPPROTO_ICMP)
		return p->icmp_type == 8 || p->icmp_type == 0;
	return p->icmp_type == 128 || p->icmp_type == 129;
}

static __always_inline bool parse_icmp(struct cursor *c, struct packet *p)
{
	struct icmphdr room, *icmp = take(c, room);

	if (!icmp)
		return false;
	p->icmp_type = icmp->type;
	p->icmp_code = icmp->code;
	if (is_echo(p)) {
		p->icmp_id = bpf_ntohs(icmp->id);
		p->icmp_seq = bpf_ntohs(icmp->sequence);
	}
	set_payload(p, c);
	return true;
}

static __always_inline bool parse_transport(struct cursor *c, struct packet *p)
{
	if (p->flags & PACKET_FRAGMENT)
		return true;
	switch (p->proto) {
	case IPPROTO_TCP:
		return parse_tcp(c, p);
	case IPPROTO_UDP:
		return parse_udp(c, p);
	case IPPROTO_ICMP:
		return p->ethertype != ETH_P_IP || parse_icmp(c, p);
	case IPPROTO_ICMPV6:
		return p->ethertype != ETH_P_IPV6 || parse_icmp(c, p);
	}
	return true;
}

static __always_inline bool parse_ipv4(struct cursor *c, struct packet *p)
{
	struct iphdr room, *ip = take(c, room);
	__u32 options;

	if (!ip)
		return false;
	copy_v4(p->src, &ip->saddr);
	copy_v4(p->dst, &ip->daddr);
	p->proto = ip->protocol;
	p->nexthdr = ip->protocol;
	p->tos = ip->tos;
	p->ttl = ip->ttl;
	p->ip_id = bpf_ntohs(ip->id);
	p->frag = bpf_ntohs(ip->frag_off);
	if (p->frag & 0x1fff)
		p->flags |= PACKET_FRAGMENT;

	options = (ip->ver_ihl & 0xf) * 4;
	if (options < sizeof(*ip))
		return false;
	c->pos += options - sizeof(*ip);
	return c->pos <= c->end;
}

static __always_inline bool is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
	       next == IPPROTO_AH || next == IPPROTO_DSTOPTS;
}

static __always_inline bool parse_ipv6(struct cursor *c, struct packet *p)
{
	struct ipv6hdr room, *ip = take(c, room);
	struct ipv6_ext header, *ext;
	__u8 next;
	int i;

	if (!ip)
		return false;
	__builtin_memcpy(p->src, ip->saddr, 16);
	__builtin_memcpy(p->dst, ip->daddr, 16);
	p->ttl = ip->hop_limit;
	p->tos = bpf_ntohl(ip->flow) >> 20;
	p->nexthdr = ip->nexthdr;

	next = ip->nexthdr;
#pragma unroll
	for (i = 0; i < IPV6_EXT_DEPTH; i++) {
		if (!is_extension(next))
			break;
		ext = take(c, header);
		if (!ext)
			return false;
		if (next == IPPROTO_FRAGMENT) {
			p->frag = bpf_ntohs(ext->frag_off);
			p->frag_id = bpf_ntohl(ext->id);
			if (i == 0)
				p->fragnext = ext->nexthdr;
			if (p->frag & 0xfff8) {
				/* The headers were in the first fragment; what follows is not one. */
				p->flags |= PACKET_FRAGMENT;
				p->proto = ext->nexthdr;
				return true;
			}
		} else if (next == IPPROTO_AH) {
			c->pos += (ext->len + 2) * 4 - sizeof(*ext);
		} else {
			c->pos += ext->len * 8;
		}
		next = ext->nexthdr;
	}
	if (is_extension(next) || c->pos > c->end)
		return false;
	p->proto = next;
	return true;
}

static __always_inline bool parse_arp(struct cursor *c, struct packet *p)
{
	struct arphdr_ip room, *arp = take(c, room);

	if (!arp)
		return false;
	p->icmp_type = bpf_ntohs(arp->op);
	if (arp->pro == bpf_htons(ETH_P_IP) && arp->pln == 4) {
		copy_v4(p->src, arp->sip);
		copy_v4(p->dst, arp->tip);
	}
	return true;
}

static __always_inline bool parse_network(struct cursor *c, struct packet *p)
{
	switch (p->ethertype) {
	case ETH_P_IP:
		return parse_ipv4(c, p);
	case ETH_P_IPV6:
		return parse_ipv6(c, p);
	case ETH_P_ARP:
		return parse_arp(c, p);
	}
	return true;
}

/* Moves behind the link layer's headers: an Ethernet header and VLAN tags, or nothing. */
static __always_inline bool parse_link(struct cursor *c, struct packet *p)
{
	struct ethhdr room, *eth = take(c, room);
	struct vlan_hdr inner, *tag;
	__be16 proto;
	int i;

	if (!eth)
		return false;
	__builtin_memcpy(p->eth_dst, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(p->eth_src, eth->h_source, ETH_ALEN);

	proto = eth->h_proto;
#pragma unroll
	for (i = 0; i < VLAN_DEPTH; i++) {
		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		tag = take(c, inner);
		if (!tag)
			return false;
		if (!(p->flags & PACKET_VLAN)) {
			p->vlan = bpf_ntohs(tag->tci);
			p->flags |= PACKET_VLAN;
		} else {
			p->flags |= PACKET_QINQ;
		}
		proto = tag->proto;
	}
	p->ethertype = bpf_ntohs(proto);
	return true;
}

/* Behind the link, network and transport headers a packet has at most this. */
#define MAX_OFFSET 512

#define cursor_at(ctx, off)                                 \
	{                                                   \
		.start = (void *)(long)(ctx)->data,         \
		.pos = (void *)(long)(ctx)->data + (off),   \
		.end = (void *)(long)(ctx)->data_end,       \
	}

/*
 * Each layer is a global function: the verifier walks it once, and not once for
 * each way through the layers before it and each state of the caller. That
 * matters because a copy of a program is loaded for every hop. Such a function
 * may be handed NULL as far as the verifier knows.
 *
 * Each returns the offset behind its headers, or -1 if they are not readable.
 */
__attribute__((noinline)) int skb_link(struct __sk_buff *ctx, struct packet *p)
{
	struct cursor c = cursor_at(ctx, 0);

	if (!p)
		return -1;
	p->len = ctx->len;
	if (ctx->vlan_present) {
		p->vlan = ctx->vlan_tci;
		p->flags |= PACKET_VLAN;
	}
	if (!ethernet) {
		p->ethertype = bpf_ntohs(ctx->protocol);
		return 0;
	}
	return parse_link(&c, p) ? (int)(c.pos - c.start) : -1;
}

__attribute__((noinline)) int skb_network(struct __sk_buff *ctx, struct packet *p, __u32 off)
{
	struct cursor c = cursor_at(ctx, off & (MAX_OFFSET - 1));

	if (!p)
		return -1;
	return parse_network(&c, p) ? (int)(c.pos - c.start) : -1;
}

__attribute__((noinline)) int skb_transport(struct __sk_buff *ctx, struct packet *p, __u32 off)
{
	struct cursor c = cursor_at(ctx, off & (MAX_OFFSET - 1));

	if (!p || off >= MAX_OFFSET)
		return -1;
	return parse_transport(&c, p) ? 0 : -1;
}

__attribute__((noinline)) int xdp_link(struct xdp_md *ctx, struct packet *p)
{
	struct cursor c = cursor_at(ctx, 0);

	if (!p)
		return -1;
	p->len = ctx->data_end - ctx->data;
	return parse_link(&c, p) ? (int)(c.pos - c.start) : -1;
}

__attribute__((noinline)) int xdp_network(struct xdp_md *ctx, struct packet *p, __u32 off)
{
	struct cursor c = cursor_at(ctx, off & (MAX_OFFSET - 1));

	if (!p)
		return -1;
	return parse_network(&c, p) ? (int)(c.pos - c.start) : -1;
}

__attribute__((noinline)) int xdp_transport(struct xdp_md *ctx, struct packet *p, __u32 off)
{
	struct cursor c = cursor_at(ctx, off & (MAX_OFFSET - 1));

	if (!p || off >= MAX_OFFSET)
		return -1;
	return parse_transport(&c, p) ? 0 : -1;
}

/* Fills *p, which the caller has zeroed, and returns whether every header was readable. */
static __always_inline bool parse_skb(struct __sk_buff *ctx, struct packet *p)
{
	int off = skb_link(ctx, p);

	if (off >= 0)
		off = skb_network(ctx, p, off);
	if (off >= 0)
		off = skb_transport(ctx, p, off);
	if (off >= 0)
		return true;
	p->flags |= PACKET_SHORT;
	return false;
}

/* As parse_skb. */
static __always_inline bool parse_xdp(struct xdp_md *ctx, struct packet *p)
{
	int off = xdp_link(ctx, p);

	if (off >= 0)
		off = xdp_network(ctx, p, off);
	if (off >= 0)
		off = xdp_transport(ctx, p, off);
	if (off >= 0)
		return true;
	p->flags |= PACKET_SHORT;
	return false;
}
