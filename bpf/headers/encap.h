/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* IP in IP (RFC 2003), with the inner header treated as a router treats one it forwards. */
#ifndef ANYCASTLE_ENCAP_H
#define ANYCASTLE_ENCAP_H

#include "abi.h"
#include "reason.h"

#define OUTER_TTL 64

/* Folds a sum of 16-bit words into one and inverts it: the Internet checksum (RFC 1071). */
static __always_inline __u16 checksum(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The checksum is mended, not made anew (RFC 1624): one that was wrong on arrival stays wrong for the real to see. */
static __always_inline void decrement_ttl(struct iphdr *ip)
{
	__u16 before = ip->ttl | ip->protocol << 8;
	__u16 after;

	ip->ttl--;
	after = ip->ttl | ip->protocol << 8;
	ip->check = checksum((__u16)~ip->check + (__u16)~before + after);
}

static __always_inline void write_outer(struct iphdr *outer, const struct real *real, __u8 tos, __u16 inner_len)
{
	const __u16 *word = (const __u16 *)outer;
	__u32 sum = 0;

	outer->version_ihl = 0x45;
	outer->tos = tos;
	outer->tot_len = htons(inner_len + sizeof(*outer));
	outer->id = 0; /* never fragmented, so needs no identity (RFC 6864) */
	outer->frag_off = htons(IP_DF);
	outer->ttl = OUTER_TTL;
	outer->protocol = IPPROTO_IPIP;
	outer->check = 0;
	outer->saddr = real->source;
	outer->daddr = real->addr;
#pragma unroll
	for (int i = 0; i < (int)(sizeof(*outer) / 2); i++)
		sum += word[i];
	outer->check = checksum(sum);
}

/* Wraps the packet for the real. On REASON_NONE the frame is ready to leave and no earlier pointer into it is valid. */
static __always_inline enum reason encapsulate(struct xdp_md *ctx, struct iphdr *ip, const struct real *real)
{
	__u16 inner_len = ntohs(ip->tot_len);
	__u8 tos = ip->tos;
	struct ethhdr *eth;
	struct iphdr *outer;
	void *data_end;

	if (ip->ttl <= 1)
		return REASON_TTL_EXPIRED;
	if (inner_len + sizeof(*outer) > real->mtu)
		return REASON_TOO_BIG;
	decrement_ttl(ip);
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*outer)))
		return REASON_NO_HEADROOM;
	eth = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	outer = (void *)(eth + 1);
	if ((void *)(outer + 1) > data_end)
		return REASON_TRUNCATED;
	__builtin_memcpy(eth->dst, real->dst_mac, MAC_LEN);
	__builtin_memcpy(eth->src, real->src_mac, MAC_LEN);
	eth->proto = htons(ETH_P_IP);
	write_outer(outer, real, tos, inner_len);
	return REASON_NONE;
}

#endif
