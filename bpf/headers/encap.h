/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Outer headers: IP in IP (RFC 2003, 2473, 4213) and GUE (draft-ietf-intarea-gue). DSCP, ECN and TTL are copied out as
 * they are in the inner header, which the balancer has treated as a router does one it forwards (RFC 6040 section 4.1,
 * RFC 2983 section 4.1: the uniform model).
 */
#ifndef ANYCASTLE_ENCAP_H
#define ANYCASTLE_ENCAP_H

#include "abi.h"
#include "checksum.h"

#define GUE_PORT	 6080
#define GUE_SOURCE_PORTS 0xc000 /* the dynamic ports; the hash of the flow fills in the rest */
#define GUE_PRIVATE_HOPS 1	/* type of private data: reals that may have the flow */

/* Variant 0 without flags, so everything that hlen counts is private data. */
struct guehdr {
	__u8 hlen; /* in words of 4 bytes */
	__u8 proto;
	__be16 flags;
};

struct guehops {
	__u8 type;
	__u8 hops;
	__u8 family; /* 4 or 6, of the addresses that follow */
	__u8 pad;
};

struct outer {
	__be32 second[4]; /* address of the second hop */
	__u32 hash;
	__u16 inner_len;
	__u8 tos;
	__u8 ttl;
	__u8 inner_proto; /* IPPROTO_IPIP or IPPROTO_IPV6 */
	__u8 kind;
	__u8 second_family; /* 0: there is no second hop */
};

static __always_inline __u32 second_len(const struct outer *o)
{
	if (!o->second_family)
		return 0;
	return sizeof(struct guehops) + (o->second_family == 6 ? 16 : 4);
}

/* What a packet grows by. */
static __always_inline __u32 overhead(const struct outer *o, const struct real *real)
{
	__u32 ip = real->flags & REAL_IPV6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);

	if (o->kind == KIND_IPIP)
		return ip;
	if (o->kind == KIND_L2)
		return 0;
	return ip + sizeof(struct udphdr) + sizeof(struct guehdr) + second_len(o);
}

static __always_inline void write_ip(struct iphdr *ip, const struct outer *o, const struct real *real, __u32 len)
{
	__u8 proto = o->kind == KIND_GUE ? IPPROTO_UDP : o->inner_proto;

	ip->version_ihl = 0x45;
	ip->tos = o->tos;
	ip->tot_len = htons(len);
	ip->id = 0; /* never fragmented, so needs no identity (RFC 6864) */
	ip->frag_off = htons(IP_DF);
	ip->ttl = o->ttl;
	ip->protocol = proto;
	ip->check = ~fold((__u32)real->sum + (o->tos << 8) + htons(len) + (o->ttl | proto << 8));
	ip->saddr = real->source[0];
	ip->daddr = real->addr[0];
}

static __always_inline void write_ip6(struct ipv6hdr *ip, const struct outer *o, const struct real *real, __u32 len)
{
	ip->version_class_label = htonl(6 << 28 | o->tos << 20 | (o->hash >> 12 & 0xfffff));
	ip->payload_len = htons(len - sizeof(*ip));
	ip->next = o->kind == KIND_GUE ? IPPROTO_UDP : o->inner_proto;
	ip->hop_limit = o->ttl;
	__builtin_memcpy(ip->saddr, real->source, 16);
	__builtin_memcpy(ip->daddr, real->addr, 16);
}

/* Gives 0 if the headers do not fit in front of data_end, which they always do. */
static __always_inline int write_gue(void *at, const void *data_end, const struct outer *o, __u32 len)
{
	struct udphdr *udp = at;
	struct guehdr *gue = (void *)(udp + 1);
	struct guehops *hops = (void *)(gue + 1);

	if ((void *)hops > data_end)
		return 0;
	udp->source = htons(GUE_SOURCE_PORTS | (o->hash & ~GUE_SOURCE_PORTS & 0xffff));
	udp->dest = htons(GUE_PORT);
	udp->len = htons(len);
	udp->check = 0; /* as tunnels may: RFC 768, RFC 6935 */
	gue->hlen = second_len(o) / 4;
	gue->proto = o->inner_proto;
	gue->flags = 0;
	if (!o->second_family)
		return 1;
	if ((void *)(hops + 1) + 4 > data_end)
		return 0;
	*hops = (struct guehops){.type = GUE_PRIVATE_HOPS, .hops = 1, .family = o->second_family};
	if (o->second_family == 4) {
		__builtin_memcpy(hops + 1, o->second, 4);
		return 1;
	}
	if ((void *)(hops + 1) + 16 > data_end)
		return 0;
	__builtin_memcpy(hops + 1, o->second, 16);
	return 1;
}

/* Everything in front of the inner packet, and behind the Ethernet header. Gives 0 like write_gue. */
static __always_inline int write_outer(void *at, const void *data_end, const struct outer *o, const struct real *real)
{
	__u32 len = o->inner_len + overhead(o, real);

	if (real->flags & REAL_IPV6) {
		struct ipv6hdr *ip = at;

		if ((void *)(ip + 1) > data_end)
			return 0;
		write_ip6(ip, o, real, len);
		return o->kind != KIND_GUE || write_gue(ip + 1, data_end, o, len - sizeof(*ip));
	}
	struct iphdr *ip = at;

	if ((void *)(ip + 1) > data_end)
		return 0;
	write_ip(ip, o, real, len);
	return o->kind != KIND_GUE || write_gue(ip + 1, data_end, o, len - sizeof(*ip));
}

/* The Ethernet header with the real's tags. Gives where it ends, NULL if that is behind data_end. */
static __always_inline void *write_ethernet(void *at, const void *data_end, const struct real *real, __be16 proto)
{
	struct ethhdr *eth = at;
	struct vlanhdr *tag = (void *)(eth + 1);

	if ((void *)(eth + 1) > data_end)
		return NULL;
	__builtin_memcpy(eth->dst, real->dst_mac, MAC_LEN);
	__builtin_memcpy(eth->src, real->src_mac, MAC_LEN);
	eth->proto = proto;
	if (likely(!real->tags))
		return eth + 1;
	if ((void *)(tag + 1) > data_end)
		return NULL;
	eth->proto = real->tag[0].proto;
	tag->tci = real->tag[0].tci;
	tag->proto = proto;
	if (real->tags == 1)
		return tag + 1;
	tag->proto = real->tag[1].proto;
	tag++;
	if ((void *)(tag + 1) > data_end)
		return NULL;
	tag->tci = real->tag[1].tci;
	tag->proto = proto;
	return tag + 1;
}

#endif
