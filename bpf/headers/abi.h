/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the control plane writes and the programs read. abi_test.go holds Go to these sizes. */
#ifndef ANYCASTLE_ABI_H
#define ANYCASTLE_ABI_H

#include "kernel.h"

#define MAX_VIPS	 4096
#define MAX_FARMS	 1024
#define MAX_REALS	 4096
#define MAX_RANGES	 32 /* of ports, on one address */
#define MAX_UPLINKS	 64
#define FLOWS_PER_BUCKET 8
#define FLOW_BUCKETS	 32768	/* of flows that are tracked, in slots in transition; a power of two */
#define FLOW_NAMES	 262144 /* that are kept; a power of two */
#define MAX_FRAGMENTS	 65536	/* packets that came in fragments and are remembered */
#define SLOTS		 65536	/* a power of two: a hash is cut down to a slot by a mask */
#define SLOTS_PER_BLOCK	 16	/* a block is a cache line; the kernel would round a slot of its own up to 8 bytes */

/* An address as maps hold it, IPv4 or IPv6; IPv4 is in the first word, and a separate map or flag says which it is. */
struct vip_key4 {
	__be32 addr;
	__be16 port;
	__u8 proto;
	__u8 pad;
};
_Static_assert(sizeof(struct vip_key4) == 8, "vip_key4");

struct vip_key6 {
	__be32 addr[4];
	__be16 port;
	__u8 proto;
	__u8 pad;
};
_Static_assert(sizeof(struct vip_key6) == 20, "vip_key6");

enum {
	VIP_HASH_SOURCE = 1,   /* the slot depends on the source under the mask, and on nothing else */
	VIP_SECOND_CHANCE = 2, /* how the farm treats established flows in slots in transition; else it tracks them */
	VIP_FOLLOW_ALL = 4,    /* a farm that tracks them does so in every slot: one that moved back may have some */
};

struct vip {
	__u32 farm;  /* index into farms */
	__u32 index; /* index into counts */
	__u32 flags;
	__be32 mask[4]; /* of the source; IPv4 in the first word */
};
_Static_assert(sizeof(struct vip) == 28, "vip");

/* A VIP of many ports. */
struct range {
	__u16 low, high; /* host order, both in it */
	__u8 proto;
	__u8 pad[3];
	struct vip vip;
};
_Static_assert(sizeof(struct range) == 36, "range");

enum {
	ADDRESS_IN_SERVICE = 1, /* answers echo requests */
};

/* What is known of an address of VIPs: whose packets without ports are, and its VIPs of many ports, narrowest first. */
struct address {
	__u32 flags;
	__u32 ranges;
	struct range range[MAX_RANGES];
};
_Static_assert(sizeof(struct address) == 8 + 36 * MAX_RANGES, "address");

/*
 * Indexes into reals; 0 is no real. Where they differ the slot is in transition: new flows belong to primary,
 * established ones to secondary, or to primary already.
 */
struct slot {
	__u16 primary;
	__u16 secondary;
};
_Static_assert(sizeof(struct slot) == 4, "slot");

struct block {
	struct slot slot[SLOTS_PER_BLOCK];
};
_Static_assert(sizeof(struct block) == 64, "block");

enum {
	KIND_IPIP, /* IP in IP: RFC 2003, 2473, 4213, by the two families */
	KIND_GUE,  /* Generic UDP Encapsulation */
	KIND_L2,   /* the frame as it is, with another destination MAC */
};

enum {
	/*
	 * Leave by redirect even through the interface that the packet came in by. A veth needs it: its peer takes
	 * frames when it has GRO or a program, but XDP_TX wakes the peer only if it has a program; without one, frames
	 * stay in its ring until that is full.
	 */
	REAL_REDIRECT = 1,
	REAL_IPV6 = 2, /* the outer header is IPv6 */
};

struct tag {
	__be16 proto;
	__be16 tci;
};

/* Everything that the frame towards a real needs. ifindex 0: the next hop is not resolved. A cache line. */
struct real {
	__be32 addr[4];
	__be32 source[4]; /* our own address on the way to the real: the outer source */
	__u32 ifindex;
	__u16 mtu; /* largest packet that the link or the route takes */
	__u16 sum; /* of those words of the outer IPv4 header that are the same for every packet, folded */
	__u8 dst_mac[MAC_LEN];
	__u8 src_mac[MAC_LEN];
	__u8 kind;
	__u8 flags;
	__u8 tags; /* how many of the following, outermost first */
	__u8 pad;
	struct tag tag[2];
};
_Static_assert(sizeof(struct real) == 64, "real");

struct count {
	__u64 packets;
	__u64 bytes; /* IP packets as the client sent them, without Ethernet and outer headers */
};
_Static_assert(sizeof(struct count) == 16, "count");

/* Flows that are tracked, a cache line of them. See track.h. */
struct flow_bucket {
	__u64 entry[FLOWS_PER_BUCKET]; /* 0: free */
};
_Static_assert(sizeof(struct flow_bucket) == 64, "flow_bucket");

/* A flow as the data path knows it. IPv4 addresses are in the first words. It is hashed as it lies. */
struct flow {
	__be32 src[4];
	__be32 dst[4];
	__be16 src_port;
	__be16 dst_port;
	__u8 proto;
	__u8 family; /* 0 while it is hashed; 4 or 6 as a name */
	__u8 pad[2];
};
_Static_assert(sizeof(struct flow) == 40, "flow");

/* What a stored flow is called. The data path only writes it, in the order in which flows are stored. */
struct flow_name {
	struct flow flow;
	__u64 id; /* see track.h */
};
_Static_assert(sizeof(struct flow_name) == 48, "flow_name");

/* Which names a CPU writes next. */
struct name_place {
	__u32 next;
	__u32 left;
};

struct fragment_key {
	__be32 src[4];
	__be32 dst[4];
	__be32 id;
	__u8 proto;
	__u8 family;
	__u8 pad[2];
};
_Static_assert(sizeof(struct fragment_key) == 40, "fragment_key");

/* Where the first fragment of a packet went. */
struct fragment {
	__u64 at; /* ns on the monotonic clock */
	__u32 vip;
	__u16 real;
	__u16 second; /* as in struct slot, or 0 */
	__u32 hash;
	__u32 pad;
};
_Static_assert(sizeof(struct fragment) == 24, "fragment");

/* What became of a packet: in front of captured frames, and what an explanation is made from. */
struct trace {
	__u64 at;      /* ns on the monotonic clock */
	__u32 vip;     /* index into counts, plus 1; 0: no VIP */
	__u32 slot;    /* if a real was chosen or none was in the slot */
	__u16 primary; /* of the slot */
	__u16 secondary;
	__u16 real;   /* that it was sent to; 0: none */
	__u16 second; /* the second hop that it carries; 0: none */
	__u32 reason;
	__u32 verdict;
	__u32 ifindex; /* that it came in by */
	__u32 in_len;  /* of the frame, of which no more is stored than a capture asks for */
	__u32 out_len;
	__u16 in_cap, out_cap; /* stored bytes of the frame as it came in, and of the one that went out behind that */
};
_Static_assert(sizeof(struct trace) == 48, "trace");

/* Selects what is captured; 0 selects everything. */
struct capture_filter {
	__u64 until; /* ns on the monotonic clock; a process that has died leaves no capture running */
	__u32 vip;   /* index into counts, plus 1 */
	__u32 real;
	__u32 reason;  /* REASON_MAX: any drop */
	__u32 cap_len; /* stored of each frame */
};
_Static_assert(sizeof(struct capture_filter) == 24, "capture_filter");

#define MAX_CAP_LEN 2048 /* a power of two */

#endif
