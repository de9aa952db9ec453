//go:build ignore
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Writes a sighting of each packet that the user's expression matches. Attached only while somebody traces. */
#include "count.h"
#include "tap.h"

/* Whether this stands in the place of the hop's count program; set by bpf.Copies. */
const volatile bool counting;

/* By how much packets may come before their time. */
#define RATE_BURST_NS 100000000ULL

/* A run that takes longer is ended, so that it is not kept from the reader. */
#define RUN_NS 2000000ULL

static __always_inline __u32 hash_payload(struct __sk_buff *ctx, const struct packet *p)
{
	struct payload bytes = {};

	if (!has_payload(p) || bpf_skb_load_bytes(ctx, p->payload_off, &bytes, hashed_bytes(p)))
		return 0;
	return hash_bytes(&bytes);
}

static __always_inline void parse(struct __sk_buff *ctx, struct passing *p)
{
	if (p->parsed)
		return;
	p->parsed = true;
	__builtin_memset(&p->pkt, 0, sizeof(p->pkt));
	parse_skb(ctx, &p->pkt);
}

static __noinline void stamp(struct __sk_buff *ctx, struct passing *p)
{
	if (p->stamped)
		return;
	p->stamped = true;
	if (stamp_plain(ctx, &p->stamp))
		return;
	parse(ctx, p);
	stamp_parsed(ctx, &p->pkt, &p->stamp);
}

static __always_inline bool comes_from(__u16 hop)
{
	return before[hop / 64 % (BEFORE_BITS / 64)] >> hop % 64 & 1;
}

/*
 * Whether the packet begins its way here: always at an origin, and at a node's
 * other ways out if it came by no device. An answer may look like the packet that
 * it answers and be in the same skb.
 */
static __always_inline bool begins(struct __sk_buff *ctx)
{
	return origin || (starts && !ctx->ingress_ifindex);
}

/* Whether the stamped packet is the one that was last seen in the slot. */
static __always_inline bool known(const struct slot *s, struct __sk_buff *ctx, struct passing *p)
{
	return !begins(ctx) && s->run.first.skb == p->skb && s->invariant == p->stamp.invariant &&
	       comes_from(s->last_hop) && time_of(p) - s->last_ns < FOLLOW_NS;
}

/*
 * Whether the run of the known packet can go on: where it is unchanged and in the
 * same buffer, and nobody asks for its bytes. By another buffer the sighting of generic XDP is known to be of
 * this packet, and a packet is told from one that looks the same and was given
 * the skb of one that died.
 */
static __always_inline bool unchanged(const struct slot *s, struct __sk_buff *ctx, const struct passing *p)
{
	return !snap_len && s->hops && s->ends == p->stamp.ends && s->run.first.head == head_of(ctx);
}

/* Adds this hop to the slot's run. Returns false if that is full or takes too long. */
static __always_inline bool step(struct slot *s, const struct passing *p)
{
	struct run *r = &s->run;
	__u32 i = r->first.steps;
	__u64 delta = p->now - r->first.time_ns;

	if (i >= MAX_STEPS || delta >= RUN_NS)
		return false;
	r->rest[i].delta_ns = delta;
	r->rest[i].hop = hop_id;
	r->first.steps = i + 1;
	s->hops++;
	s->last_ns = p->now;
	s->last_hop = hop_id;
	return true;
}

/* Remembers the stamped packet in a slot that has no run. */
static __always_inline void remember(struct slot *s, struct passing *p)
{
	s->refused = 0;
	s->last_hop = hop_id;
	s->invariant = p->stamp.invariant;
	s->ends = p->stamp.ends;
	s->last_ns = time_of(p);
	s->run.first.skb = p->skb;
}

/* Begins a run in a slot that has none. */
static __always_inline void begin(struct slot *s, struct __sk_buff *ctx, struct passing *p)
{
	struct sighting *f = &s->run.first;
	unsigned long nfct = connection_of(ctx);

	parse(ctx, p);
	remember(s, p);
	s->hops = 1;
	f->time_ns = p->now;
	f->head = head_of(ctx);
	f->payload_hash = hash_payload(ctx, &p->pkt);
	f->hop = hop_id;
	f->gso_size = ctx->gso_size;
	f->segments = ctx->gso_segs > 1 ? ctx->gso_segs : 1;
	f->steps = 0;
	f->tracked = nfct != 0;
	f->pkt = p->pkt;
	if (nfct)
		read_conntrack(&s->run.orig, nfct);
	if (snap_len)
		snap_skb(ctx, f);
}

/* Whether the packet is one of the rate's: the generic cell rate algorithm (ITU-T I.371). */
__u64 rate_next_ns;

static __always_inline bool within_rate(__u64 now)
{
	__u64 next = rate_next_ns, from = next > now ? next : now;

	if (from - now > RATE_BURST_NS)
		return false;
	/* Of two at once one is taken. */
	return __sync_val_compare_and_swap(&rate_next_ns, next, from + rate_ns) == next;
}

/* Puts the packet in the slot, which is claimed: in its run, or in one that begins. */
static __always_inline void place(struct slot *s, struct __sk_buff *ctx, struct passing *p)
{
	if (known(s, ctx, p) && unchanged(s, ctx, p) && step(s, p))
		return;
	flush(s, p->now);
	begin(s, ctx, p);
}

/* Sees a packet that was selected. */
static __always_inline void sight(struct slot *s, struct __sk_buff *ctx, struct passing *p)
{
	__u32 only = 0;

	time_of(p);
	stamp(ctx, p);
	if (xdp_next && (selective || rate_ns))
		announce(p);
	if (claim(s)) {
		place(s, ctx, p);
		if (terminal)
			flush(s, p->now);
		release(s);
		return;
	}
	s = bpf_map_lookup_elem(&spare, &only);
	if (!s)
		return;
	begin(s, ctx, p);
	flush(s, p->now);
}

/*
 * Whether a packet that is not known here is one of the rate's. What is refused
 * is remembered, so that it is not taken at a later hop, and a packet that is
 * being followed keeps its slot.
 */
static __always_inline bool admit(struct slot *s, struct __sk_buff *ctx, struct passing *p)
{
	bool yes = false;

	if (!claim(s))
		return false;
	if (!s->hops || time_of(p) - s->last_ns >= RUN_NS) {
		yes = begins(ctx) && within_rate(time_of(p));
		if (!yes) {
			flush(s, time_of(p));
			stamp(ctx, p);
			remember(s, p);
			s->refused = 1;
		}
	}
	release(s);
	return yes;
}

/* Returns where in the ledger the packet belongs. */
static __always_inline __u64 *judge(struct slot *s, struct __sk_buff *ctx, struct passing *p, struct ledger *l)
{
	bool sampling = sample_max != ~0U, followed = false;

	if (!selective && !sampling && !rate_ns)
		return &l->traced;
	if (sampling) {
		stamp(ctx, p);
		if (!of_sample(&p->stamp))
			return &l->sampled_out;
	}
	if (!selective && !rate_ns)
		return &l->traced;
	if (!begins(ctx) && s->run.first.skb == p->skb) {
		stamp(ctx, p);
		followed = known(s, ctx, p);
	}
	if (selective && !followed) {
		parse(ctx, p);
		if (!match(&p->pkt))
			return &l->filtered;
	}
	if (rate_ns && (followed ? s->refused : !admit(s, ctx, p)))
		return &l->sampled_out;
	return &l->traced;
}

static __always_inline void trace_packet(struct __sk_buff *ctx, struct ledger *l)
{
	struct passing p;
	struct slot *s;
	__u64 *what;

	p.skb = (__u64)ctx;
	p.parsed = false;
	p.stamped = false;
	s = slot_of(ctx);
	if (!s)
		return;
	p.now = 0;
	what = judge(s, ctx, &p, l);
	l->seen++;
	(*what)++;
	if (what == &l->traced)
		sight(s, ctx, &p);
}

SEC("tc")
int trace_tc(struct __sk_buff *ctx)
{
	struct ledger *l = open_ledger(hop_id);

	if (l)
		trace_packet(ctx, l);
	if (counting)
		count_skb(ctx, REASON_PASS);
	return TC_ACT_UNSPEC;
}

/*
 * By hop: trace_tc, where a gate stands in the place of the count program. A
 * program more on a hop costs more than a jump. As taps it is the tracing
 * process's, and empty when that is gone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} tc_taps SEC(".maps");

SEC("tc")
int gate_tc(struct __sk_buff *ctx)
{
	bpf_tail_call(ctx, &tc_taps, hop_id);
	count_skb(ctx, REASON_PASS);
	return TC_ACT_UNSPEC;
}

static long sweep_slot(__u32 i, const __u64 *before)
{
	struct slot *s = bpf_map_lookup_elem(&slots, &i);

	if (!s || !s->hops || s->last_ns >= *before || !claim(s))
		return 0;
	if (s->last_ns < *before)
		flush(s, bpf_ktime_get_ns());
	release(s);
	return 0;
}

/* Hands runs to the ring that were not seen since a time. Run by the reader. */
SEC("syscall")
int sweep(const __u64 *before)
{
	__u64 when = *before;

	bpf_loop(SLOTS, sweep_slot, &when, 0);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
