/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What a balancer has put around a packet, read again by the real. */
#ifndef ANYCASTLE_DECAP_H
#define ANYCASTLE_DECAP_H

#include "abi.h"
#include "checksum.h"
#include "encap.h"
#include "parse.h"

#define MAX_ADDRESSES 1024
#define MAX_HOPS      4096
#define WANTED_RING   4096

/* This host's own addresses: what an outer header may be addressed to. IPv4 is mapped. The value means nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ADDRESSES);
	__uint(key_size, 16);
	__type(value, __u8);
	__uint(pinning, PIN_BY_NAME);
} own_addresses SEC(".maps");

/* The addresses of the VIPs that this host answers for. The value means nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VIPS);
	__uint(key_size, 16);
	__type(value, __u8);
	__uint(pinning, PIN_BY_NAME);
} vip_addresses SEC(".maps");

enum {
	TAKEN_HERE, /* handed to the kernel without outer header */
	TAKEN_ON,   /* passed on to the second hop */
	TAKEN_MAX,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TAKEN_MAX);
	__type(key, __u32);
	__type(value, struct count);
	__uint(pinning, PIN_BY_NAME);
} taken SEC(".maps");

struct hop {
	__u32 ifindex;
	__u8 dst_mac[MAC_LEN];
	__u8 src_mac[MAC_LEN];
};
_Static_assert(sizeof(struct hop) == 16, "hop");

/* The ways to other reals that packets were passed on to, as the control plane has resolved them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_HOPS);
	__uint(key_size, 16);
	__type(value, struct hop);
	__uint(pinning, PIN_BY_NAME);
} hops SEC(".maps");

/* Asks the control plane for one: an address as in hops. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, WANTED_RING);
} wanted SEC(".maps");

/* REAL_REDIRECT or 0, by index of the interface. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_UPLINKS);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, PIN_BY_NAME);
} real_uplinks SEC(".maps");

/* Keeps the struct in the BTF, for Go's sake. */
const struct hop *const hop_type __attribute__((unused));

struct decap {
	__be32 second[4]; /* as a key of the maps */
	__u64 outer;	  /* offset of the outer IP header in the frame */
	__u64 inner;	  /* of the inner one */
	__u32 end;	  /* of what the outer header covers */
	__u32 inner_len;
	__u32 hops_len; /* bytes of private data */
	__u8 outer_family;
	__u8 inner_family;
	__u8 second_family; /* 0: no second hop */
	__u8 tos;	    /* of the outer header */
	__u8 ttl;
	__u8 pad[3];
};

enum outer_kind {
	OUTER_OTHER, /* not encapsulated for us */
	OUTER_MINE,
	OUTER_REFUSE,
};

static __always_inline void map_address(__be32 key[4], const __be32 *addr, __u8 family)
{
	if (family == 4) {
		key[0] = key[1] = 0;
		key[2] = htonl(0xffff);
		key[3] = addr[0];
	} else {
		__builtin_memcpy(key, addr, 16);
	}
}

static __always_inline int is_own(const __be32 *addr, __u8 family)
{
	__be32 key[4];

	map_address(key, addr, family);
	return bpf_map_lookup_elem(&own_addresses, key) != NULL;
}

static __always_inline int is_inner_proto(__u8 proto)
{
	return proto == IPPROTO_IPIP || proto == IPPROTO_IPV6;
}

/* Reads UDP and GUE behind the outer header. */
static __noinline int parse_gue(struct xdp_md *ctx, struct decap *d)
{
	struct {
		struct udphdr udp;
		struct guehdr gue;
	} h;
	struct guehops hops;
	__u32 at = d->inner;

	if (bpf_xdp_load_bytes(ctx, at, &h, sizeof(h)) || at + sizeof(h) > d->end)
		return OUTER_OTHER;
	if (h.udp.dest != htons(GUE_PORT) || h.gue.flags || h.gue.hlen >> 5 || !is_inner_proto(h.gue.proto))
		return OUTER_OTHER;
	d->inner_family = h.gue.proto == IPPROTO_IPIP ? 4 : 6;
	d->hops_len = h.gue.hlen * 4;
	d->inner = at + sizeof(h) + d->hops_len;
	if (!d->hops_len || d->inner > d->end)
		return OUTER_MINE; /* without private data, or with less than it says: then there is no inner packet
				      either */
	at += sizeof(h);
	if (bpf_xdp_load_bytes(ctx, at, &hops, sizeof(hops)) || hops.type != GUE_PRIVATE_HOPS || hops.hops != 1)
		return OUTER_MINE; /* private data of a kind that is not known is passed over */
	at += sizeof(hops);
	if (hops.family == 4 && d->hops_len == sizeof(hops) + 4) {
		d->second[2] = htonl(0xffff);
		if (bpf_xdp_load_bytes(ctx, at, &d->second[3], 4))
			return OUTER_OTHER;
		d->second_family = 4;
	} else if (hops.family == 6 && d->hops_len == sizeof(hops) + 16) {
		if (bpf_xdp_load_bytes(ctx, at, d->second, 16))
			return OUTER_OTHER;
		d->second_family = 6;
	}
	return OUTER_MINE;
}

static __always_inline int finish_outer(struct xdp_md *ctx, struct decap *d, __u8 proto)
{
	if (proto == IPPROTO_UDP)
		return parse_gue(ctx, d);
	d->inner_family = proto == IPPROTO_IPIP ? 4 : 6;
	return OUTER_MINE;
}

static __always_inline int parse_outer4(struct xdp_md *ctx, struct decap *d, const struct iphdr *ip,
					const void *data_end, enum reason *why)
{
	int own;

	if ((const void *)(ip + 1) > data_end || (!is_inner_proto(ip->protocol) && ip->protocol != IPPROTO_UDP))
		return OUTER_OTHER;
	own = is_own(&ip->daddr, 4);
	if (!own && ip->protocol == IPPROTO_UDP)
		return OUTER_OTHER;
	*why = check_ip(ip, data_end);
	if (*why != REASON_NONE)
		return ip->protocol == IPPROTO_UDP ? OUTER_OTHER : OUTER_REFUSE;
	if (!own) {
		*why = REASON_NOT_OWN;
		return OUTER_REFUSE;
	}
	if (ip->frag_off & htons(IP_MF_OFFSET) || header_len(ip) != sizeof(*ip)) {
		/* our balancers send neither; what else comes by UDP is the kernel's */
		*why = ip->frag_off & htons(IP_MF_OFFSET) ? REASON_FRAGMENT : REASON_BAD_HEADER;
		return ip->protocol == IPPROTO_UDP ? OUTER_OTHER : OUTER_REFUSE;
	}
	d->outer_family = 4;
	d->tos = ip->tos;
	d->ttl = ip->ttl;
	d->end = d->outer + ntohs(ip->tot_len);
	d->inner = d->outer + sizeof(*ip);
	return finish_outer(ctx, d, ip->protocol);
}

static __always_inline int parse_outer6(struct xdp_md *ctx, struct decap *d, const struct ipv6hdr *ip,
					const void *data_end, enum reason *why)
{
	int own;

	if ((const void *)(ip + 1) > data_end || (!is_inner_proto(ip->next) && ip->next != IPPROTO_UDP))
		return OUTER_OTHER;
	own = is_own(ip->daddr, 6);
	if (!own && ip->next == IPPROTO_UDP)
		return OUTER_OTHER;
	*why = check_ip6(ip, data_end);
	if (*why != REASON_NONE)
		return ip->next == IPPROTO_UDP ? OUTER_OTHER : OUTER_REFUSE;
	if (!own) {
		*why = REASON_NOT_OWN;
		return OUTER_REFUSE;
	}
	d->outer_family = 6;
	d->tos = traffic_class(ip);
	d->ttl = ip->hop_limit;
	d->end = d->outer + sizeof(*ip) + ntohs(ip->payload_len);
	d->inner = d->outer + sizeof(*ip);
	return finish_outer(ctx, d, ip->next);
}

static __always_inline int parse_outer(struct xdp_md *ctx, struct decap *d, enum reason *why)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct vlanhdr *tag = (void *)(eth + 1);
	__be16 proto;

	if ((void *)(eth + 1) > data_end)
		return OUTER_OTHER;
	proto = eth->proto;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (!is_tag(proto))
			break;
		if ((void *)(tag + 1) > data_end)
			return OUTER_OTHER;
		proto = tag->proto;
		tag++;
	}
	d->outer = (void *)tag - (void *)eth;
	if (proto == htons(ETH_P_IP))
		return parse_outer4(ctx, d, (void *)tag, data_end, why);
	if (proto == htons(ETH_P_IPV6))
		return parse_outer6(ctx, d, (void *)tag, data_end, why);
	return OUTER_OTHER;
}

/* The inner packet must be whole, and for a VIP of this host. */
__separate int check_inner(struct xdp_md *ctx, struct decap *d)
{
	union {
		struct iphdr ip;
		struct ipv6hdr ip6;
	} h = {};
	__be32 key[4];

	if (!d)
		return REASON_BAD_INNER;
	if (bpf_xdp_load_bytes(ctx, d->inner, &h, d->inner_family == 4 ? sizeof(h.ip) : sizeof(h.ip6)))
		return REASON_BAD_INNER;
	if (d->inner_family == 4) {
		d->inner_len = ntohs(h.ip.tot_len);
		if (h.ip.version_ihl >> 4 != 4 || header_len(&h.ip) < sizeof(h.ip) || d->inner_len < header_len(&h.ip))
			return REASON_BAD_INNER;
		map_address(key, &h.ip.daddr, 4);
	} else {
		d->inner_len = ntohs(h.ip6.payload_len) + sizeof(h.ip6);
		if (*(__u8 *)&h >> 4 != 6)
			return REASON_BAD_INNER;
		map_address(key, h.ip6.daddr, 6);
	}
	if (d->inner + d->inner_len > d->end)
		return REASON_BAD_INNER;
	return bpf_map_lookup_elem(&vip_addresses, key) ? REASON_NONE : REASON_NOT_VIP;
}

/* DSCP from the outer header; ECN by the table of RFC 6040 section 4.2, or -1 where that says drop. */
static __always_inline int merge_ecn(__u8 outer, __u8 inner)
{
	const __u8 mask = 3, not_ect = 0, ect1 = 1, ect0 = 2, ce = 3;
	__u8 o = outer & mask, i = inner & mask;

	if (o == ce && i == not_ect)
		return -1;
	if (o == ce || (o == ect1 && i == ect0))
		i = o;
	return (outer & ~mask) | i;
}

#endif
