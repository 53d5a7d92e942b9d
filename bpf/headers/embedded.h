/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The packet that an ICMP error is about, as far as it is in there. */
#ifndef ANYCASTLE_EMBEDDED_H
#define ANYCASTLE_EMBEDDED_H

#include "abi.h"
#include "parse.h"

static __always_inline int is_error(__u8 family, __u8 type)
{
	if (family == 6)
		return ICMPV6_UNREACHABLE <= type && type <= ICMPV6_PARAMETERPROB;
	return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/* Gives where the ports of the embedded packet are, 0 if there are none. in gets its addresses and protocol. */
static __noinline __u32 embedded4(struct xdp_md *ctx, __u32 at, struct flow *in)
{
	struct iphdr ip;

	if (bpf_xdp_load_bytes(ctx, at, &ip, sizeof(ip)))
		return 0;
	if (ip.version_ihl >> 4 != 4 || header_len(&ip) < sizeof(ip) || ip.frag_off & htons(IP_OFFSET))
		return 0;
	in->src[0] = ip.saddr;
	in->dst[0] = ip.daddr;
	in->proto = ip.protocol;
	return at + header_len(&ip);
}

static __noinline __u32 embedded6(struct xdp_md *ctx, __u32 at, __u32 end, struct flow *in)
{
	struct walk w = {.at = at + sizeof(struct ipv6hdr), .end = end};
	struct ipv6hdr ip;

	if (bpf_xdp_load_bytes(ctx, at, &ip, sizeof(ip)) || *(__u8 *)&ip >> 4 != 6)
		return 0;
	w.proto = ip.next;
	if (walk_headers(ctx, &w) != REASON_NONE || w.fragment == WALK_LATER)
		return 0;
	__builtin_memcpy(in->src, ip.saddr, 16);
	__builtin_memcpy(in->dst, ip.daddr, 16);
	in->proto = w.proto;
	return w.at;
}

#endif
