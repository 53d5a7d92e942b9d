/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the balancer knows of the packet in hand. */
#ifndef ANYCASTLE_PACKET_H
#define ANYCASTLE_PACKET_H

#include "abi.h"
#include "maps.h"
#include "parse.h"
#include "reason.h"

enum {
	PACKET_SYN = 1,	  /* opens a flow */
	PACKET_ERROR = 2, /* an ICMP error about a flow, which was turned round: its source is our client */
	PACKET_FIRST = 4, /* the first fragment of several */
	PACKET_LATER = 8, /* another one: it has no ports */
};

struct packet {
	struct flow flow;
	__be32 id;   /* of the packet that a fragment is of */
	__u32 l3;    /* offset of the IP header in the frame */
	__u32 l4;    /* offset of an ICMP header */
	__u32 len;   /* of the IP packet */
	__u32 hash;  /* lower half */
	__u8 family; /* 4 or 6 */
	__u8 tos;    /* or traffic class */
	__u8 flags;
	__u8 dry; /* only to be explained: nothing may be written or counted */
	__u16 real;
	__u16 second;
	__u16 primary;
	__u16 secondary;
	__u32 vip; /* index plus 1 */
	__u32 reason;
};

/*
 * The offset of the IP header: with 0, 1 or 2 tags p->l3 is 14, 18 or 22. Arithmetic keeps it in bounds that every
 * verifier sees; a test would not do, since the compiler joins two tests into one that Linux 6.1 learns nothing from.
 */
static __always_inline __u64 l3_offset(const struct packet *p)
{
	__u64 l3 = sizeof(struct ethhdr) + ((p->l3 - sizeof(struct ethhdr)) & 15);

	keep_bounds(l3);
	return l3;
}

static __always_inline int refused(struct packet *p, enum reason why)
{
	p->reason = why;
	if (!p->dry)
		count_drop(why);
	return XDP_DROP;
}

/* An IPv4 address becomes the key of addresses. */
static __always_inline void address_key(__be32 key[4], const __be32 *addr, __u8 family)
{
	if (family == 4) {
		key[0] = key[1] = 0;
		key[2] = htonl(0xffff);
		key[3] = addr[0];
	} else {
		__builtin_memcpy(key, addr, 16);
	}
}

/* An IPv4 address in an IPv6 header is nobody's here: none is to be seen on a wire (RFC 6890). */
static __noinline struct address *find_address(const struct packet *p)
{
	__be32 key[4];

	if (p->family == 6 && !(p->flow.dst[0] | p->flow.dst[1]) && p->flow.dst[2] == htonl(0xffff))
		return NULL;
	address_key(key, p->flow.dst, p->family);
	return bpf_map_lookup_elem(&addresses, key);
}

/* The VIPs of many ports. The control plane keeps the narrowest first. */
static __noinline struct vip *find_range(const struct packet *p)
{
	struct address *address = find_address(p);
	__u16 port = ntohs(p->flow.dst_port);

	if (!address)
		return NULL;
	for (__u32 i = 0; i < MAX_RANGES; i++) {
		struct range *r = &address->range[i];

		if (i >= address->ranges)
			break;
		if (r->proto == p->flow.proto && r->low <= port && port <= r->high)
			return &r->vip;
	}
	return NULL;
}

static __always_inline struct vip *find_vip(const struct packet *p)
{
	struct vip *vip;

	if (p->family == 4) {
		struct vip_key4 key = {.addr = p->flow.dst[0], .port = p->flow.dst_port, .proto = p->flow.proto};

		vip = bpf_map_lookup_elem(&vips4, &key);
	} else {
		struct vip_key6 key = {.port = p->flow.dst_port, .proto = p->flow.proto};

		__builtin_memcpy(key.addr, p->flow.dst, 16);
		vip = bpf_map_lookup_elem(&vips6, &key);
	}
	return likely(vip) ? vip : find_range(p);
}

#endif
