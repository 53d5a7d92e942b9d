/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the control plane writes and the programs read. abi_test.go holds Go to these sizes. */
#ifndef ANYCASTLE_ABI_H
#define ANYCASTLE_ABI_H

#include "kernel.h"

#define MAX_VIPS  4096
#define MAX_FARMS 1024
#define MAX_REALS 4096
#define SLOTS	  65536 /* a power of two: a hash is cut down to a slot by a mask */

/* Port 0 with protocol 0 stands for the address as a whole: it says whose packets without ports are. */
struct vip_key {
	__be32 addr;
	__be16 port;
	__u8 proto;
	__u8 pad;
};
_Static_assert(sizeof(struct vip_key) == 8, "vip_key");

struct vip {
	__u32 farm;  /* index into farms */
	__u32 index; /* index into counts */
};
_Static_assert(sizeof(struct vip) == 8, "vip");

/*
 * Indexes into reals; 0 is no real. The control plane writes both, and equal: the data path reads primary alone until
 * slots in transition exist, which is when they differ.
 */
struct slot {
	__u32 primary;
	__u32 secondary;
};
_Static_assert(sizeof(struct slot) == 8, "slot");

enum {
	/*
	 * Leave by redirect even through the interface that the packet came in by. A veth needs it: its peer takes
	 * frames when it has GRO or a program, but XDP_TX wakes the peer only if it has a program; without one, frames
	 * stay in its ring until that is full.
	 */
	REAL_REDIRECT = 1,
};

/* Everything that the frame towards a real needs. ifindex 0: the next hop is not resolved. */
struct real {
	__be32 addr;
	__be32 source; /* our own address on the way to the real: the outer source */
	__u32 ifindex;
	__u32 mtu; /* largest IPv4 packet that the link or the route takes */
	__u8 dst_mac[MAC_LEN];
	__u8 src_mac[MAC_LEN];
	__u32 flags;
};
_Static_assert(sizeof(struct real) == 32, "real");

struct count {
	__u64 packets;
	__u64 bytes; /* IPv4 packets as the client sent them, without Ethernet and outer headers */
};
_Static_assert(sizeof(struct count) == 16, "count");

#endif
