/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* ICMP for the address of a VIP: echo requests are answered, errors turned into the flow that they are about. */
#ifndef ANYCASTLE_ICMP_H
#define ANYCASTLE_ICMP_H

#include "embedded.h"
#include "flow.h"
#include "reply.h"

static __always_inline int is_discovery(__u8 family, __u8 type)
{
	return family == 6 && ICMPV6_ROUTER_SOLICIT <= type && type <= ICMPV6_REDIRECT;
}

static __always_inline int is_echo(__u8 family, const struct icmphdr *icmp)
{
	return icmp->type == (family == 4 ? ICMP_ECHO : ICMPV6_ECHO) && !icmp->code;
}

static __always_inline int same_address(const __be32 *a, const __be32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

/* Makes the flow of p that of our client's packets: what the error is about went from the VIP to the client. */
static __noinline int turn_flow(struct xdp_md *ctx, struct packet *p)
{
	__u32 at = p->l4 + sizeof(struct icmphdr), end = p->l3 + p->len;
	struct flow in = {};
	__be16 ports[2];

	at = p->family == 4 ? embedded4(ctx, at, &in) : embedded6(ctx, at, end, &in);
	if (!at || at + sizeof(ports) > end || !is_l4(in.proto) || !same_address(in.src, p->flow.dst))
		return 0;
	if (bpf_xdp_load_bytes(ctx, at, ports, sizeof(ports)))
		return 0;
	__builtin_memcpy(p->flow.src, in.dst, 16);
	p->flow.proto = in.proto;
	p->flow.src_port = ports[1];
	p->flow.dst_port = ports[0];
	p->flags = PACKET_ERROR;
	return 1;
}

/* Gives a verdict, or -1 if the packet is now that of a flow. */
__separate int take_icmp(struct xdp_md *ctx, struct packet *p)
{
	struct address *address;
	struct icmphdr icmp;

	if (!p)
		return XDP_DROP;
	address = find_address(p);
	if (!address)
		return XDP_PASS;
	if (p->l4 + sizeof(icmp) > p->l3 + p->len || bpf_xdp_load_bytes(ctx, p->l4, &icmp, sizeof(icmp)))
		return refused(p, REASON_TRUNCATED);
	if (is_discovery(p->family, icmp.type))
		return XDP_PASS;
	if (is_echo(p->family, &icmp)) {
		if (!(address->flags & ADDRESS_IN_SERVICE))
			return refused(p, REASON_OUT_OF_SERVICE);
		if (p->l4 - p->l3 != (p->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) || !is_host(p))
			return refused(p, REASON_ICMP_UNHANDLED);
		return echo(ctx, p);
	}
	if (!is_error(p->family, icmp.type))
		return refused(p, REASON_ICMP_UNHANDLED);
	return turn_flow(ctx, p) ? -1 : refused(p, REASON_BAD_INNER);
}

#endif
