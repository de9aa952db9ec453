/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What crosses from the programs to user space: the layouts of the maps'
 * values and the reasons. Package bpf gives them Go names, and a test compares
 * those with this file's BTF.
 */
#pragma once

#include "headers/kernel.h"

#include "headers/bpf_helpers.h"

/* Why a program ended with a packet: the second half of a counter's index. */
enum reason {
	REASON_PASS,   /* handed on, not looked at further */
	REASON_FILTER, /* dropped because a filter of the user's matched */
	REASON_COUNT,
};

/* What became of a packet that a filter program judged and did not drop. */
enum outcome {
	OUTCOME_MATCHED, /* dropped */
	OUTCOME_UNREAD,  /* passed, because its headers could not be read */
	OUTCOME_COUNT,
};

/* One counter: per CPU, per hop and per reason. */
struct count {
	__u64 packets;	  /* skbs or XDP frames */
	__u64 segments;	  /* what GSO stands for: 1 for an ordinary packet */
	__u64 bytes;	  /* skb length with the Ethernet header */
	__u64 wire_bytes; /* the same with every segment's headers */
};

/* Where every packet that a trace program saw went: seen is the sum of the rest. */
struct ledger {
	__u64 seen;
	__u64 traced;	  /* a sighting is in the ring */
	__u64 filtered;	  /* the expression did not match */
	__u64 sampled_out; /* not of the sample */
	__u64 lost;	  /* the ring was full */
	__u64 unsnapped;  /* of the traced: their bytes are not in the ring, which was full */
};

enum packet_flag {
	PACKET_SHORT = 1 << 0,	  /* headers not all readable: fields after the gap are zero */
	PACKET_FRAGMENT = 1 << 1, /* a later fragment: no transport header */
	PACKET_PORTS = 1 << 2,	  /* sport and dport are valid */
	PACKET_VLAN = 1 << 3,	  /* vlan is valid */
	PACKET_QINQ = 1 << 4,	  /* there is a second tag */
};

/*
 * The headers of one packet, read once. Numbers are in host order, addresses in
 * network order, IPv4 addresses as ::ffff:a.b.c.d. The filter expressions of
 * user space are compiled against this layout.
 */
struct packet {
	__u8 src[16]; /* of an ARP packet: the sender's protocol address */
	__u8 dst[16]; /* of an ARP packet: the target's protocol address */
	__u8 eth_dst[6];
	__u8 eth_src[6];
	__u32 len; /* as struct count's bytes */
	__u32 seq;
	__u32 ack;
	__u32 tsval; /* of the usual layout of options, else 0 */
	__u32 frag_id; /* of an IPv6 fragment header */
	__u16 ethertype; /* behind VLAN tags; 0 if there is none */
	__u16 vlan;	 /* outermost tag's TCI */
	__u16 sport;
	__u16 dport;
	__u16 icmp_id;	/* of an echo; of a neighbour message 0 */
	__u16 icmp_seq; /* of an echo */
	__u16 ip_id;	/* IPv4 only */
	__u16 frag;	/* IPv4's flags and offset; an IPv6 fragment header's offset word */
	__u16 payload_off; /* from the packet's start; 0 if there is none */
	__u8 proto;	/* IPv6: the first header that is not an extension */
	__u8 nexthdr;	/* IPv6: the fixed header's; IPv4: as proto */
	__u8 fragnext;	/* IPv6: the fragment header's, if that came first */
	__u8 tcp_flags;
	__u8 icmp_type; /* of an ARP packet: the operation */
	__u8 icmp_code;
	__u8 ttl; /* or hop limit */
	__u8 tos; /* or traffic class */
	__u8 flags; /* enum packet_flag */
	__u8 pad;
};

/* conntrack's original tuple, where the packet carries a connection. */
struct tuple {
	__u8 src[16];
	__u8 dst[16];
	__u16 sport; /* of ICMP: the id */
	__u16 dport; /* of ICMP: type and code */
	__u32 status; /* enum ip_conntrack_status; 0: no connection */
};

/* One packet at one hop. */
struct sighting {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 skb;     /* address */
	__u64 head;    /* address of the buffer */
	__u32 payload_hash; /* of up to 32 bytes behind the UDP or ICMP header; else 0 */
	__u16 hop;
	__u16 gso_size;
	__u16 segments;
	__u8 steps;   /* further hops that follow in the record */
	__u8 tracked; /* there is a connection: its tuple follows */
	struct packet pkt;
};

/* A further hop of the same packet, with the same addresses, ports and length. */
struct step {
	__u32 delta_ns; /* since the sighting's time */
	__u16 hop;
	__u16 pad;
};

#define MAX_STEPS 6

/*
 * A run: one packet at hops one after another, as long as its skb, its buffer,
 * its addresses, ports and length are the same. A record of the ring is its sighting and as many steps as it has, or
 * all of it where the packet is tracked: cache lines are what tracing costs most.
 */
struct run {
	struct sighting first;
	struct step rest[MAX_STEPS];
	struct tuple orig;
};

/* What a record of the ring is that is no run: in the place of a sighting's steps. */
enum record {
	RECORD_DROP = 0x80,
	RECORD_PASSAGE = 0x81,
	RECORD_SNAP = 0x82,
};

#define MAX_CALLERS 8

/* A packet that the kernel ended. */
struct drop {
	struct sighting seen; /* its hop is the node's number, its steps RECORD_DROP */
	__u64 location;
	__u64 callers[MAX_CALLERS]; /* innermost first; 0: no more */
	__u32 reason;		    /* enum skb_drop_reason */
	__u32 if_index;
	__u8 matched;  /* the expression holds for it */
	__u8 followed; /* it was selected at a hop */
	__u8 pad[6];
};

/* A packet at one end of a netfilter hook. What it has in common with a sighting is where that has it. */
struct passage {
	__u64 time_ns;
	__u64 skb;
	__u64 pad;
	__u32 pad2;
	__u16 node;
	__u8 family; /* enum nfproto */
	__u8 hook;   /* enum nf_inet_hooks */
	__u8 last;   /* behind all that stands at the hook */
	__u8 pad3;
	__u8 record; /* RECORD_PASSAGE */
	__u8 pad4[5];
};

/* Goes before the first bytes of a packet. What it has in common with a sighting is where that has it. */
struct snap {
	__u64 time_ns; /* that of the run that begins with the packet */
	__u64 skb;
	__u64 captured; /* bytes that follow */
	__u32 length;	/* of the packet */
	__u16 hop;
	__u8 pad[4];
	__u8 record; /* RECORD_SNAP */
	__u8 pad2[5];
};
