//go:build ignore
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counts how long packets took from hop to hop, with no event at all. Attached only while somebody measures. */
#include "latency.h"
#include "stamp.h"

/* One packet of so many is chosen at each hop; set by bpf.SetChosen. */
const volatile __u32 one_of = 1;

/* How many hops there are; set by bpf.SetHops. */
const volatile __u32 hops;

/* From each hop to each hop. The loader fills it, and sets max_entries. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct edge);
	__uint(max_entries, 1);
} edges SEC(".maps");

/* The loader sets max_entries: a lab has more edges than are ever used. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct histogram);
	__uint(max_entries, 1);
} histograms SEC(".maps");

/* By hop. The loader sets max_entries, and the first wait. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct timing);
	__uint(max_entries, 1);
} timings SEC(".maps");

/*
 * Where and when the packet that has an skb's address was last chosen.
 *
 * No lock guards it: CPUs may write one slot at the same time, for packets whose
 * addresses share it, and read words of several of them. That loses times, but
 * makes none up: what is read counts only if the seal, the time and the address
 * yield the packet's own 48 bits of stamp, which the words of two packets do
 * only by chance (R. Hyatt, T. Mann, A lockless transposition table
 * implementation for parallel search, ICGA Journal 25, 2002). One packet is
 * never on two CPUs at once, and is handed from one to the other under a lock.
 */
struct slot {
	__u64 skb; /* 0: none */
	__u64 time_ns;
	__u64 seal; /* stamp and hop, veiled by the other two */
	__u64 pad;  /* a slot is not in two cache lines */
};

/* There are 2 to the power of these slots; set by bpf.SetSlots. */
const volatile __u32 slot_bits;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct slot);
	__uint(max_entries, 1);
} slots SEC(".maps");

/* How many edges were given a histogram. */
__u32 allotted;

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/* The rest of a sealed word is the stamp. */
#define HOP_MASK 0xffffULL

static __always_inline __u64 veil(__u64 skb, __u64 time_ns)
{
	return (skb + time_ns) * GOLDEN;
}

/* To the verifier an address is no number, but the distance of two is. */
static __always_inline __u64 number_of(const void *skb)
{
	__u64 n = (__u64)skb;

	asm volatile("%0 -= %1" : "+r"(n) : "r"(&allotted));
	return n;
}

static __always_inline struct slot *slot_of(__u64 skb)
{
	__u32 i = skb * GOLDEN >> 1 >> (63 - slot_bits);

	return bpf_map_lookup_elem(&slots, &i);
}

/* What no hop changes about a packet, NAT included. */
static __always_inline __u64 stamp_of(struct __sk_buff *ctx)
{
	struct packet p = {};
	struct stamp s = {};

	if (!stamp_plain(ctx, &s)) {
		parse_skb(ctx, &p);
		stamp_parsed(ctx, &p, &s);
	}
	return mix(s.invariant, ctx->len);
}

/*
 * Whether the packet is one of the sample. Their distances are random, N on
 * average, so that no rhythm of the traffic is met, nor that of the allocator,
 * which gives out a few addresses over and over (as sFlow does, RFC 3176).
 */
static __always_inline bool choose(struct timing *t)
{
	if (--t->wait)
		return false;
	t->wait = 1;
	if (one_of > 1)
		t->wait += bpf_get_prandom_u32() % (2 * one_of - 1);
	return true;
}

/* NULL if none is left. Of two CPUs that come first over an edge, one allots. */
static __always_inline struct histogram *histogram_of(struct edge *e)
{
	__u32 i = e->histogram, other;

	if (!i) {
		i = __sync_fetch_and_add(&allotted, 1) + 1;
		other = __sync_val_compare_and_swap(&e->histogram, 0, i);
		if (other)
			i = other;
	}
	i--;
	return bpf_map_lookup_elem(&histograms, &i);
}

__attribute__((noinline)) int bucket_of(__u64 ns)
{
	__u64 v = ns >> SUB_BITS;
	__u32 shift = 0;
	int i;

	if (ns >> 36)
		return BUCKETS - 1;
#pragma unroll
	for (i = 16; i; i /= 2) {
		if (v >> i) {
			v >>= i;
			shift += i;
		}
	}
	return (shift << SUB_BITS) + (ns >> shift);
}

static __always_inline void record(struct histogram *h, __u32 from, __u64 ns)
{
	__u32 i = bucket_of(ns);

	h->from = from;
	h->to = hop_id;
	if (ns > h->max_ns)
		h->max_ns = ns;
	if (i < BUCKETS)
		h->counts[i]++;
}

/* Whether the packet can have come over e. A stack disowns what it receives: what has a socket begins there. */
static __always_inline bool follows(struct __sk_buff *ctx, const struct edge *e)
{
	return e->kind == EDGE_DIRECT || (e->kind == EDGE_STACK && !ctx->sk);
}

/* A packet whose address is in the slot: counts its way here, if it is the one that started there. */
static __always_inline void arrive(struct __sk_buff *ctx, struct timing *t, struct slot *s, __u64 skb, __u64 stamp,
				   __u64 now)
{
	__u64 then = READ_ONCE(s->time_ns);
	__u64 what = READ_ONCE(s->seal) ^ veil(skb, then);
	__u32 from = what & HOP_MASK, i = from * hops + hop_id;
	struct edge *e = bpf_map_lookup_elem(&edges, &i);
	struct histogram *h;

	if ((what ^ stamp) & ~HOP_MASK || !e || !follows(ctx, e)) {
		t->reused++;
		return;
	}
	h = histogram_of(e);
	if (!h) {
		t->crowded++;
		return;
	}
	/* The clocks of two CPUs are equal up to some ns. */
	record(h, from, now > then ? now - then : 0);
	t->timed++;
}

static __always_inline void start(struct timing *t, struct slot *s, __u64 skb, __u64 stamp, __u64 now)
{
	__u64 other = READ_ONCE(s->skb);

	if (other && other != skb)
		t->displaced++;
	WRITE_ONCE(s->skb, skb);
	WRITE_ONCE(s->time_ns, now);
	WRITE_ONCE(s->seal, ((stamp & ~HOP_MASK) | hop_id) ^ veil(skb, now));
}

static __always_inline void time_packet(struct __sk_buff *ctx, struct timing *t)
{
	__u64 skb = number_of(ctx), stamp, now;
	struct slot *s = slot_of(skb);
	bool known, chosen;

	t->seen++;
	if (!s)
		return;
	known = READ_ONCE(s->skb) == skb;
	chosen = choose(t);
	if (!known && !chosen)
		return;
	now = bpf_ktime_get_ns();
	stamp = stamp_of(ctx);
	if (known)
		arrive(ctx, t, s, skb, stamp, now);
	/* Nothing stays that could be taken for the start of a later packet. */
	if (chosen)
		start(t, s, skb, stamp, now);
	else
		WRITE_ONCE(s->skb, 0);
}

SEC("tc")
int latency_tc(struct __sk_buff *ctx)
{
	__u32 i = hop_id;
	struct timing *t = bpf_map_lookup_elem(&timings, &i);

	if (t)
		time_packet(ctx, t);
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
