//go:build ignore
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Makes frames, takes them where they are to arrive, and counts what the kernel drops in between. */
#include "generate.h"

#include "headers/bpf_endian.h"
#include "where.h"

/* The frames to send, in turn; set by bpf.SetTraffic. */
const volatile struct shape shapes[MAX_SHAPES];
/* How many of them there are; set by bpf.SetTraffic. */
const volatile __u32 shape_count = 1;
/* The longest of them, as which every frame comes; set by bpf.SetTraffic. */
const volatile __u32 longest;
/* Where the UDP header begins; set by bpf.SetTraffic. */
const volatile __u32 transport = 34;
/* The first flow's source port; set by bpf.SetTraffic. */
const volatile __u16 first_port;
/* How many source ports are used, in turn; set by bpf.SetTraffic. */
const volatile __u32 flows = 1;
/* From packet to packet, in ns of 1/1024; 0: as fast as it goes; set by bpf.SetTraffic. */
const volatile __u64 gap;
/* Whether frames go up at the device that they are said to come from, not out of one; set by bpf.SetTraffic. */
const volatile bool up;

#define GAP_SHIFT 10
/* A generator that was held up longer does not make up for it. */
#define MOST_BEHIND_NS 1000000

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct tally);
	__uint(max_entries, 1);
} tallies SEC(".maps");

/* The device that frames go out of. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} out SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct arrival);
	__uint(max_entries, 1);
} arrivals SEC(".maps");

/* The inodes of the namespaces on the way. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u8);
	__uint(max_entries, 256);
} spaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct lost_key);
	__type(value, __u64);
	__uint(max_entries, 1024);
} losses SEC(".maps");

/* Whether it is too early for the next packet. */
static __always_inline bool early(struct tally *t)
{
	__u64 due, now = bpf_ktime_get_ns();

	due = t->start_ns + ((t->packets * gap) >> GAP_SHIFT);
	if (now < due)
		return true;
	if (now - due > MOST_BEHIND_NS)
		t->start_ns += now - due - MOST_BEHIND_NS;
	return false;
}

/* Writes the whole head anew: the memory of frames is used again as the last run left it. */
static __always_inline bool write(struct xdp_md *ctx, const volatile struct shape *s, __be16 port)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 *words = data;
	struct udphdr *udp = data + transport;
	__u32 sum = s->sum + port;
	__u32 i;

	if (data + FRAME_HEAD > end || (void *)(udp + 1) > end)
		return false;
#pragma unroll
	for (i = 0; i < FRAME_HEAD / 8; i++)
		words[i] = s->head[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	udp->source = port;
	udp->check = sum == 0xffff ? sum : ~sum;
	return true;
}

/* Makes one frame of the next shape and flow. */
static __always_inline bool make(struct xdp_md *ctx, struct tally *t)
{
	const volatile struct shape *s = &shapes[shape_count > 1 ? t->shape % MAX_SHAPES : 0];
	__u32 len = s->len;

	if (shape_count > 1 && bpf_xdp_adjust_tail(ctx, (int)(len - longest)))
		return false;
	if (!write(ctx, s, bpf_htons(first_port + t->flow)))
		return false;
	if (flows > 1 && ++t->flow >= flows)
		t->flow = 0;
	if (shape_count > 1 && ++t->shape >= shape_count)
		t->shape = 0;
	t->packets++;
	t->bytes += len;
	return true;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	__u32 only = 0;
	struct tally *t = bpf_map_lookup_elem(&tallies, &only);

	if (!t)
		return XDP_DROP;
	if (!t->start_ns)
		t->start_ns = bpf_ktime_get_ns();
	if (gap && early(t))
		return XDP_DROP;
	if (!make(ctx, t)) {
		t->failed++;
		return XDP_ABORTED;
	}
	return up ? XDP_PASS : bpf_redirect_map(&out, 0, 0);
}

/* Whether a generator made the frame. Its address and port may be others since. */
static __always_inline bool is_ours(void *data, void *end)
{
	struct ethhdr *eth = data;
	struct iphdr *ip4 = data + ETH_HLEN;
	struct ipv6hdr *ip6 = data + ETH_HLEN;
	__be16 *mark;
	__u8 proto;

	if (data + FRAME_HEAD > end)
		return false;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		mark = data + ETH_HLEN + sizeof(*ip4) + sizeof(struct udphdr);
		proto = ip4->protocol;
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		mark = data + ETH_HLEN + sizeof(*ip6) + sizeof(struct udphdr);
		proto = ip6->nexthdr;
	} else {
		return false;
	}
	return proto == IPPROTO_UDP && *mark == bpf_htons(FRAME_MARK);
}

static __always_inline void arrive(__u64 bytes)
{
	__u32 only = 0;
	struct arrival *a = bpf_map_lookup_elem(&arrivals, &only);

	if (!a)
		return;
	a->packets++;
	a->bytes += bytes;
}

/* Takes what a generator made, and lets all else pass. */
SEC("xdp")
int sink_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (!is_ours(data, end))
		return XDP_PASS;
	arrive(end - data);
	return XDP_DROP;
}

SEC("tc")
int sink_tc(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (!is_ours(data, end))
		return TC_ACT_UNSPEC;
	arrive(ctx->len);
	return TC_ACT_SHOT;
}

/* Makes the veth end that it stands at take frames. */
SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

/* What GSO stands for. */
static __always_inline __u64 segments_of(const struct sk_buff *skb)
{
	void *head = BPF_CORE_READ(skb, head);
	struct skb_shared_info *shared = head + BPF_CORE_READ(skb, end);
	__u16 n = BPF_CORE_READ(shared, gso_segs);

	return n > 1 ? n : 1;
}

/* Counts the IP packets that the kernel drops in the namespaces on the way. */
SEC("raw_tp/kfree_skb")
int lost(struct bpf_raw_tracepoint_args *ctx)
{
	const struct sk_buff *skb = (void *)ctx->args[0];
	struct lost_key key = { .space = namespace_of(skb), .reason = ctx->args[2] };
	__be16 protocol = BPF_CORE_READ(skb, protocol);
	__u64 *n, segments, zero = 0;

	if (!key.space || !bpf_map_lookup_elem(&spaces, &key.space))
		return 0;
	if (protocol != bpf_htons(ETH_P_IP) && protocol != bpf_htons(ETH_P_IPV6))
		return 0;
	segments = segments_of(skb);
	n = bpf_map_lookup_elem(&losses, &key);
	if (!n) {
		bpf_map_update_elem(&losses, &key, &zero, 1 /* BPF_NOEXIST: another CPU may be first */);
		n = bpf_map_lookup_elem(&losses, &key);
	}
	if (n)
		__sync_fetch_and_add(n, segments);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
