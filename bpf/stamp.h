/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* By what a packet is known again at the next hop, without reading all its headers. */
#pragma once

#include "parse.h"

struct stamp {
	__u64 invariant; /* of what no hop changes, NAT included */
	__u64 ends;	 /* of addresses and ports */
};

#define GOLDEN 0x9e3779b97f4a7c15ULL

static __always_inline __u64 mix(__u64 h, __u64 x)
{
	h = (h ^ x) * GOLDEN;
	return h ^ h >> 29;
}

/*
 * The word of a transport header that tells packets of a flow from each other.
 * Where there is an IPv4 id that does, and it survives fragmentation.
 */
static __always_inline __u64 invariant_of(__u32 ip_id, __u8 proto, __u64 word)
{
	return mix((__u64)ip_id << 8 | proto, proto == IPPROTO_TCP || !ip_id ? word : 0);
}

/* The transport's part of a stamp at pos. Returns false where it is not readable, or of no protocol we know. */
static __always_inline bool stamp_transport(struct stamp *s, void *pos, void *end, __u8 proto, __u32 ip_id)
{
	__u32 *w = pos;
	__u64 word;

	if ((void *)(w + 2) > end)
		return false;
	switch (proto) {
	case IPPROTO_TCP:
		/* Both numbers: of those that only acknowledge the first is the same. */
		if ((void *)(w + 3) > end)
			return false;
		word = (__u64)w[1] << 32 | w[2];
		s->ends = mix(s->ends, w[0]);
		break;
	case IPPROTO_UDP:
		s->ends = mix(s->ends, w[0]);
		/* The first bytes of the payload, behind what many protocols begin with. */
		word = (void *)(w + 4) > end ? 0 : (__u64)w[2] << 32 | w[3];
		if ((void *)(w + 6) <= end)
			word ^= ((__u64)w[4] << 32 | w[5]) * GOLDEN; /* nothing, where it was not read */
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		/* Type, code and sequence number; NAT may change the id. */
		word = (__u64)(w[0] & bpf_htonl(0xffff0000)) << 32 | (w[1] & bpf_htonl(0xffff));
		s->ends = mix(s->ends, w[1]);
		break;
	default:
		return false;
	}
	s->invariant = invariant_of(ip_id, proto, word);
	return true;
}

/*
 * Fills *s for a packet of len bytes whose network header is at pos, without IP
 * options, extension headers and fragmentation, and returns true; else false.
 */
static __always_inline bool stamp_network(struct stamp *s, void *pos, void *end, __be16 protocol, __u32 len)
{
	struct ipv6hdr *ip6 = pos;
	struct iphdr *ip4 = pos;

	if (protocol == bpf_htons(ETH_P_IP)) {
		if ((void *)(ip4 + 1) > end || ip4->ver_ihl != 0x45 || ip4->frag_off & bpf_htons(0x3fff))
			return false;
		s->ends = mix(mix(len, ip4->saddr), ip4->daddr);
		return stamp_transport(s, ip4 + 1, end, ip4->protocol, ip4->id);
	}
	if (protocol == bpf_htons(ETH_P_IPV6)) {
		__u64 *a = (void *)ip6->saddr;

		if ((void *)(ip6 + 1) > end)
			return false;
		s->ends = mix(mix(mix(mix(len, a[0]), a[1]), a[2]), a[3]);
		return stamp_transport(s, ip6 + 1, end, ip6->nexthdr, 0);
	}
	return false;
}

/* Fills *s for a packet as nearly all are, without VLAN tags too, and returns true; else false. */
__attribute__((noinline)) int stamp_plain(struct __sk_buff *ctx, struct stamp *s)
{
	void *pos = (void *)(long)ctx->data + (ethernet ? ETH_HLEN : 0);

	if (!s || ctx->vlan_present)
		return false;
	return stamp_network(s, pos, (void *)(long)ctx->data_end, ctx->protocol, ctx->len);
}

/* As stamp_plain. */
__attribute__((noinline)) int stamp_plain_xdp(struct xdp_md *ctx, struct stamp *s)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;

	if (!s || (void *)(eth + 1) > end)
		return false;
	return stamp_network(s, eth + 1, end, eth->h_proto, end - (void *)eth);
}

/* What begins a transport header, with zeros where it was not read. */
struct beginning {
	__u32 words[6];
};

/* Whether a transport header was parsed, of a packet that is not cut into fragments. */
static __always_inline bool has_transport(const struct packet *p)
{
	return p->payload_off >= 8 && !(p->frag & 0x3fff);
}

/* The stamp of any packet whose headers were parsed. */
static __always_inline void stamp_headers(const struct packet *p, struct beginning *b, struct stamp *s)
{
	const __u32 *a = (const void *)p; /* both addresses */
	__u64 ends = 0;
	__u32 id;
	int i;

#pragma unroll
	for (i = 0; i < 8; i++)
		ends = mix(ends, a[i]);
	s->ends = mix(ends, p->len);
	if (p->ethertype == ETH_P_ARP) {
		s->invariant = mix(ends, p->icmp_type);
		return;
	}
	id = p->frag_id ? p->frag_id : bpf_htons(p->ip_id);
	if (has_transport(p)) {
		if (p->proto == IPPROTO_TCP) {
			b->words[1] = bpf_htonl(p->seq);
			b->words[2] = bpf_htonl(p->ack);
		}
		if (stamp_transport(s, b->words, b + 1, p->proto, id))
			return;
	}
	s->invariant = invariant_of(id, p->proto, 0);
}

__attribute__((noinline)) int stamp_parsed(struct __sk_buff *ctx, const struct packet *p, struct stamp *s)
{
	struct beginning b = {};

	if (!p || !s)
		return 0;
	if (has_transport(p) && p->proto != IPPROTO_TCP && bpf_skb_load_bytes(ctx, p->payload_off - 8, &b, 24) &&
	    bpf_skb_load_bytes(ctx, p->payload_off - 8, &b, 16))
		bpf_skb_load_bytes(ctx, p->payload_off - 8, &b, 8);
	stamp_headers(p, &b, s);
	return 0;
}

/* As stamp_parsed. */
__attribute__((noinline)) int stamp_parsed_xdp(struct xdp_md *ctx, const struct packet *p, struct stamp *s)
{
	struct beginning b = {};

	if (!p || !s)
		return 0;
	if (has_transport(p) && p->proto != IPPROTO_TCP && bpf_xdp_load_bytes(ctx, p->payload_off - 8, &b, 24) &&
	    bpf_xdp_load_bytes(ctx, p->payload_off - 8, &b, 16))
		bpf_xdp_load_bytes(ctx, p->payload_off - 8, &b, 8);
	stamp_headers(p, &b, s);
	return 0;
}
