/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What crosses between the generator of packets and user space. */
#pragma once

#include "headers/kernel.h"

#include "headers/bpf_helpers.h"

/* Ethernet, IP and UDP headers, and the mark behind them: no frame is shorter. */
#define FRAME_HEAD 64
#define MAX_SHAPES 16

/* What makes a frame ours: the first bytes behind its UDP header. */
#define FRAME_MARK 0x6e73

/* A frame to send: all of it that is not zero, its source port apart. */
struct shape {
	__u64 head[FRAME_HEAD / 8];
	__u32 sum; /* of what the UDP checksum covers, the source port apart */
	__u32 len; /* of the frame */
};

/* What one generator sent. Only one thread runs a generator. */
struct tally {
	__u64 packets;
	__u64 bytes;
	__u64 failed;	/* runs that could not make a frame */
	__u64 start_ns; /* of the first packet, and of the pace */
	__u32 flow;
	__u32 shape;
};

/* What came to a sink, on one CPU. */
struct arrival {
	__u64 packets;
	__u64 bytes;
};

/* Of packets that the kernel dropped. */
struct lost_key {
	__u32 space; /* the inode of the network namespace */
	__u32 reason; /* enum skb_drop_reason */
};
