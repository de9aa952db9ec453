//go:build ignore
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What the kernel does with packets between the hops: where it drops them, and which netfilter hooks they pass. */
#include "probe.h"

/* The index of the first ledger here, behind those of the hops; set by bpf.SetLedgers. */
const volatile __u32 first_ledger;

enum other_ledger {
	LEDGER_DROPS,
	LEDGER_PASSAGES,
};

/* Namespaces of the lab, by inode: the node's number. The loader sets max_entries. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u16);
	__uint(max_entries, 1);
} nodes SEC(".maps");

/* With the frames of the tracepoint before the location. */
#define STACK 24

struct dropping {
	struct drop drop;
	__u64 stack[STACK];
	__u64 walked_ns; /* when the stack was last walked for a reason that says where by itself */
};

/* A walk takes most of the time that a drop does. */
#define WALK_PAUSE_NS 1000000

/* The kernel runs a program of a tracepoint once at a time on a CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct dropping);
	__uint(max_entries, 1);
} dropping SEC(".maps");

/* Whether packets are traced also where no hop has chosen them. */
static __always_inline bool all_of_them(void)
{
	return sample_max == ~0U && !rate_ns;
}

static __always_inline bool matches(const struct packet *p)
{
	return !selective || match(p);
}

static __always_inline void note(__u64 *what)
{
	__sync_fetch_and_add(what, 1);
}

static __always_inline void hand_over(struct ledger *l, void *record, __u64 size, __u64 now)
{
	note(bpf_ringbuf_output(&ring, record, size, wake_flag(now, size)) ? &l->lost : &l->traced);
}

#define is_reason(reason, name) \
	(bpf_core_enum_value_exists(enum skb_drop_reason, name) && (reason) == bpf_core_enum_value(enum skb_drop_reason, name))

/* Whether only the callers tell what was at work. */
static __always_inline bool is_vague(__u32 reason)
{
	return is_reason(reason, SKB_DROP_REASON_NOT_SPECIFIED) || is_reason(reason, SKB_DROP_REASON_NETFILTER_DROP);
}

/* The stack's entries behind the location, which is one of them unless the packet was put off to be freed. */
static __always_inline void read_callers(void *ctx, struct dropping *on)
{
	struct drop *d = &on->drop;
	bool behind = false;
	__u32 i, n = 0;

	__builtin_memset(d->callers, 0, sizeof(d->callers));
	if (!is_vague(d->reason)) {
		if (d->seen.time_ns - on->walked_ns < WALK_PAUSE_NS)
			return;
		on->walked_ns = d->seen.time_ns;
	}
	__builtin_memset(on->stack, 0, sizeof(on->stack));
	if (bpf_get_stack(ctx, on->stack, sizeof(on->stack), 0) < 0)
		return;
	for (i = 0; i < STACK; i++) {
		if (behind && n < MAX_CALLERS)
			d->callers[n++] = on->stack[i];
		behind = behind || on->stack[i] == d->location;
	}
}

/* Fills in what a sighting has beside the packet. */
static __always_inline void describe(const struct sk_buff *skb, const struct cursor *c, const struct slot *s, struct sighting *f)
{
	void *head = BPF_CORE_READ(skb, head);
	struct skb_shared_info *shared = head + BPF_CORE_READ(skb, end);
	__u16 segments = BPF_CORE_READ(shared, gso_segs);

	f->skb = (__u64)skb;
	f->head = (__u64)head;
	f->payload_hash = hash_held(c, &f->pkt);
	if (!f->payload_hash && s)
		f->payload_hash = s->run.first.payload_hash;
	f->gso_size = BPF_CORE_READ(shared, gso_size);
	f->segments = segments > 1 ? segments : 1;
	f->tracked = 0;
}

static __always_inline __u32 if_index_of(const struct sk_buff *skb)
{
	struct net_device *dev = BPF_CORE_READ(skb, dev);

	return net_of_device(dev) ? BPF_CORE_READ(dev, ifindex) : BPF_CORE_READ(skb, skb_iif);
}

/*
 * Whether the packet need not be read to know that it is not selected: one that a
 * full socket does not take came by a hop, which had it in its slot a moment ago if
 * it selected it. Of these there may be floods.
 */
static __always_inline bool is_foreign(const struct sk_buff *skb, __u32 reason)
{
	struct slot *s;

	if (!selective || !is_reason(reason, SKB_DROP_REASON_SOCKET_RCVBUFF))
		return false;
	s = slot_of(skb);
	return s && s->run.first.skb != (__u64)skb;
}

static __always_inline void record_drop(struct bpf_raw_tracepoint_args *ctx, struct dropping *on, __u16 node, struct ledger *l)
{
	const struct sk_buff *skb = (void *)ctx->args[0];
	struct drop *d = &on->drop;
	struct cursor c;
	struct slot *s;
	__u64 now;

	note(&l->seen);
	if (is_foreign(skb, ctx->args[2]))
		return note(&l->filtered);
	now = bpf_ktime_get_ns();
	__builtin_memset(&d->seen.pkt, 0, sizeof(d->seen.pkt));
	parse_held(skb, &c, &d->seen.pkt);
	s = slot_following(skb, &c, &d->seen.pkt, now);
	d->followed = s != 0;
	d->matched = matches(&d->seen.pkt);
	if (!s && !d->matched)
		return note(&l->filtered);
	if (!s && !all_of_them())
		return note(&l->sampled_out);

	d->location = ctx->args[1];
	d->reason = ctx->args[2];
	d->if_index = if_index_of(skb);
	d->seen.time_ns = now;
	d->seen.hop = node;
	d->seen.steps = RECORD_DROP;
	describe(skb, &c, s, &d->seen);
	read_callers(ctx, on);
	hand_over(l, d, sizeof(*d), now);
}

/* Whether the kernel says of the packet that it comes to a good end. */
static __always_inline bool is_consumed(__u32 reason)
{
	return reason == SKB_NOT_DROPPED_YET || is_reason(reason, SKB_CONSUMED);
}

SEC("raw_tp/kfree_skb")
int drop(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 only = 0, ns = namespace_of((void *)ctx->args[0]);
	__u16 *node = bpf_map_lookup_elem(&nodes, &ns);
	struct dropping *on;
	struct ledger *l;

	if (!node || is_consumed(ctx->args[2]))
		return 0;
	l = open_ledger(first_ledger + LEDGER_DROPS);
	on = bpf_map_lookup_elem(&dropping, &only);
	if (l && on)
		record_drop(ctx, on, *node, l);
	return 0;
}

/* Whether the packet was selected at a hop, or matches where none has seen it. */
static __noinline bool is_traced(const struct sk_buff *skb, __u64 now)
{
	struct packet p = {};
	struct cursor c;

	parse_held(skb, &c, &p);
	return slot_following(skb, &c, &p, now) || (all_of_them() && matches(&p));
}

static __noinline void record_passage(struct passage *p, struct ledger *l)
{
	hand_over(l, p, sizeof(*p), p->time_ns);
}

static __always_inline void pass(struct bpf_nf_ctx *ctx, bool last)
{
	struct ledger *l = open_ledger(first_ledger + LEDGER_PASSAGES);
	__u32 ns = BPF_CORE_READ(ctx->state, net, ns.inum);
	__u16 *node = bpf_map_lookup_elem(&nodes, &ns);
	__u64 now = bpf_ktime_get_ns();
	struct passage p = {};

	if (!l || !node)
		return;
	note(&l->seen);
	if (!is_traced(ctx->skb, now))
		return note(&l->filtered);
	p.time_ns = now;
	p.skb = (__u64)ctx->skb;
	p.node = *node;
	p.family = BPF_CORE_READ(ctx->state, pf);
	p.hook = BPF_CORE_READ(ctx->state, hook);
	p.last = last;
	p.record = RECORD_PASSAGE;
	record_passage(&p, l);
}

/* Before all that stands at a netfilter hook. */
SEC("netfilter")
int passage_first(struct bpf_nf_ctx *ctx)
{
	pass(ctx, false);
	return NF_ACCEPT;
}

/* Behind it. */
SEC("netfilter")
int passage_last(struct bpf_nf_ctx *ctx)
{
	pass(ctx, true);
	return NF_ACCEPT;
}

/* For nft's match by a program: all of a packet that is traced, and nothing of another. */
SEC("socket")
int traced(struct __sk_buff *ctx)
{
	return is_traced((void *)ctx, bpf_ktime_get_ns()) ? ctx->len : 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
