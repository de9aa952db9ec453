//go:build ignore
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Writes a sighting of each packet that the user's expression matches. Attached only while somebody traces. */
#include "match.h"
#include "parse.h"

#include "headers/bpf_core_read.h"

/* Bytes in the ring from which the reader is woken at once; set by bpf.SetWakeAt. */
const volatile __u64 wake_at = 1 << 20;

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;

/* The loader sets max_entries to the ring's size. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
	__type(value, struct sighting);
} ring SEC(".maps");

/* By hop. The loader sets max_entries. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct ledger);
	__uint(max_entries, 1);
} ledgers SEC(".maps");

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

/* What the kernel knows of a packet, beside its bytes. */
struct identity {
	__u64 skb;
	__u64 head;
	unsigned long nfct; /* conntrack's entry, or 0 */
};

/*
 * The context of a tc program is the skb itself. From 6.2 on there is a cast
 * that makes it one for the verifier, so that it is read by plain loads.
 */
static __always_inline struct identity identify(struct __sk_buff *ctx)
{
	const struct sk_buff *skb = (void *)ctx;
	bool conntrack = bpf_core_field_exists(skb->_nfct) && bpf_core_field_exists(struct nf_conn, status);
	struct identity id = { .skb = (__u64)skb };

	if (bpf_cast_to_kern_ctx) {
		skb = bpf_cast_to_kern_ctx(ctx);
		id.head = (__u64)skb->head;
		if (conntrack)
			id.nfct = skb->_nfct;
	} else {
		id.head = (__u64)BPF_CORE_READ(skb, head);
		if (conntrack)
			id.nfct = BPF_CORE_READ(skb, _nfct);
	}
	id.nfct &= CT_PTR_MASK;
	return id;
}

#define HASHED 32

/* FNV-1a over words: cheap, and two packets of one flow seldom meet in it. */
static __always_inline __u32 hash_payload(struct __sk_buff *ctx, const struct packet *p)
{
	__u32 words[HASHED / 4] = {};
	__u32 h = 2166136261;
	__u32 n;
	int i;

	if (!p->payload_off || p->proto == IPPROTO_TCP)
		return 0;
	n = ctx->len - p->payload_off;
	if (n > HASHED)
		n = HASHED;
	/* The verifier of 6.1 learns nothing from n != 0. What was 0 is now too long to be loaded. */
	n = ((n - 1) & (HASHED - 1)) + 1;
	if (bpf_skb_load_bytes(ctx, p->payload_off, words, n))
		return 0;
#pragma unroll
	for (i = 0; i < HASHED / 4; i++)
		h = (h ^ words[i]) * 16777619;
	return h;
}

/* A reader that was woken this short ago is still at it. */
#define WAKE_PAUSE_NS 200000

/* When the reader was last woken; two CPUs at once wake it twice. */
__u64 woken_ns;

static __always_inline __u64 wake_flag(__u64 now)
{
	if (bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < wake_at || now - woken_ns < WAKE_PAUSE_NS)
		return BPF_RB_NO_WAKEUP;
	woken_ns = now;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline void fill(struct sighting *s, struct __sk_buff *ctx, const struct packet *p,
				 const struct identity *id)
{
	s->time_ns = bpf_ktime_get_ns();
	s->skb = id->skb;
	s->head = id->head;
	s->payload_hash = hash_payload(ctx, p);
	s->hop = hop_id;
	s->gso_size = ctx->gso_size;
	s->segments = ctx->gso_segs > 1 ? ctx->gso_segs : 1;
	s->pkt = *p;
}

/* Returns whether there was room. */
static __always_inline bool sight(struct __sk_buff *ctx, const struct packet *p)
{
	struct identity id = identify(ctx);
	struct sighting *s;

	/* A record's size has to be a constant. */
	if (id.nfct) {
		s = bpf_ringbuf_reserve(&ring, sizeof(*s), 0);
		if (!s)
			return false;
		fill(s, ctx, p, &id);
		read_conntrack(&s->orig, id.nfct);
	} else {
		s = bpf_ringbuf_reserve(&ring, offsetof(struct sighting, orig), 0);
		if (!s)
			return false;
		fill(s, ctx, p, &id);
	}
	bpf_ringbuf_submit(s, wake_flag(s->time_ns));
	return true;
}

static __always_inline void trace_packet(struct __sk_buff *ctx, struct ledger *l)
{
	struct packet p = {};

	l->seen++;
	parse_skb(ctx, &p);
	if (!match(&p))
		l->filtered++;
	else if (sight(ctx, &p))
		l->traced++;
	else
		l->lost++;
}

/*
 * While the hops are being attached or detached, one after the other, nothing is
 * seen: a packet that met some of them would look lost. Its one value is 1 while
 * it is so; set by bpf.SetPaused.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} paused SEC(".maps");

SEC("tc")
int trace_tc(struct __sk_buff *ctx)
{
	__u32 only = 0, i = hop_id;
	__u32 *pause = bpf_map_lookup_elem(&paused, &only);
	struct ledger *l = bpf_map_lookup_elem(&ledgers, &i);

	if (l && pause && !*pause)
		trace_packet(ctx, l);
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
