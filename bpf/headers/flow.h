/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* From a frame to the flow it belongs to. */
#ifndef ANYCASTLE_FLOW_H
#define ANYCASTLE_FLOW_H

#include "packet.h"
#include "parse.h"

enum parsed {
	PARSED_OTHER,	  /* not IP, or nothing that a VIP can be asked for: none of our business */
	PARSED_FLOW,	  /* p->flow is whole, or all of it but the ports if it is a later fragment */
	PARSED_ICMP,	  /* p->l4 is where its header is */
	PARSED_REFUSE,	  /* a VIP cannot take it, for the reason given; p->flow.dst says whose it is */
	PARSED_TRUNCATED, /* it does not even say whose it is */
};

static __always_inline int is_l4(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP;
}

/* left: bytes of the packet from l4 on. */
static __always_inline enum parsed parse_l4(struct packet *p, const void *l4, const void *end, __u32 left,
					    enum reason *why)
{
	const __be16 *ports = l4;
	const __u8 *flags = l4 + TCP_FLAGS_AT;
	__u32 need = p->flow.proto == IPPROTO_TCP ? TCP_HEADER_LEN : UDP_HEADER_LEN;

	*why = REASON_TRUNCATED;
	/* the second test is the verifier's: it does not see that the first implies it */
	if (left < need || (const void *)(ports + 2) > end)
		return PARSED_REFUSE;
	p->flow.src_port = ports[0];
	p->flow.dst_port = ports[1];
	if (p->flow.proto == IPPROTO_TCP) {
		if ((const void *)(flags + 1) > end)
			return PARSED_REFUSE;
		if ((*flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
			p->flags |= PACKET_SYN;
	}
	return PARSED_FLOW;
}

/* IPv4 options are taken: they travel inside, unread. */
static __always_inline enum parsed parse_ip(struct packet *p, const struct iphdr *ip, const void *data_end,
					    enum reason *why)
{
	if ((const void *)(ip + 1) > data_end)
		return PARSED_TRUNCATED;
	p->family = 4;
	p->tos = ip->tos;
	p->len = ntohs(ip->tot_len);
	p->flow.src[0] = ip->saddr;
	p->flow.dst[0] = ip->daddr;
	p->flow.proto = ip->protocol;
	*why = check_ip(ip, data_end);
	if (*why != REASON_NONE)
		return PARSED_REFUSE;
	if (unlikely(ip->frag_off & htons(IP_MF_OFFSET))) {
		p->id = ip->id;
		p->flags = ip->frag_off & htons(IP_OFFSET) ? PACKET_LATER : PACKET_FIRST;
		if (p->flow.proto == IPPROTO_ICMP) {
			*why = REASON_FRAGMENT;
			return PARSED_REFUSE;
		}
	}
	if (unlikely(ip->protocol == IPPROTO_ICMP)) {
		p->l4 = p->l3 + header_len(ip);
		return PARSED_ICMP;
	}
	if (!is_l4(ip->protocol))
		return PARSED_OTHER;
	if (p->flags & PACKET_LATER)
		return PARSED_FLOW;
	return parse_l4(p, (const void *)ip + header_len(ip), data_end, p->len - header_len(ip), why);
}

/* Behind extension headers the place of the ports is known only at run time, so they are copied to be read. */
static __noinline enum parsed parse_walked(struct xdp_md *ctx, struct packet *p, enum reason *why)
{
	struct walk w = {.at = p->l3 + sizeof(struct ipv6hdr), .end = p->l3 + p->len, .proto = p->flow.proto};
	__u8 l4[16] __attribute__((aligned(8)));

	*why = walk_headers(ctx, &w);
	if (*why != REASON_NONE)
		return PARSED_REFUSE;
	p->flow.proto = w.proto;
	p->l4 = w.at;
	if (w.fragment != WALK_WHOLE) {
		p->id = w.id;
		p->flags = w.fragment == WALK_LATER ? PACKET_LATER : PACKET_FIRST;
		if (w.proto == IPPROTO_ICMPV6) {
			*why = REASON_FRAGMENT;
			return PARSED_REFUSE;
		}
	}
	if (w.proto == IPPROTO_ICMPV6)
		return PARSED_ICMP;
	if (!is_l4(w.proto))
		return PARSED_OTHER;
	if (p->flags & PACKET_LATER)
		return PARSED_FLOW;
	*why = REASON_TRUNCATED;
	if (bpf_xdp_load_bytes(ctx, w.at, l4, w.proto == IPPROTO_TCP ? sizeof(l4) : UDP_HEADER_LEN))
		return PARSED_REFUSE;
	return parse_l4(p, l4, l4 + sizeof(l4), w.end - w.at, why);
}

static __always_inline enum parsed parse_ip6(struct xdp_md *ctx, struct packet *p, const struct ipv6hdr *ip,
					     const void *data_end, enum reason *why)
{
	if ((const void *)(ip + 1) > data_end)
		return PARSED_TRUNCATED;
	p->family = 6;
	p->tos = traffic_class(ip);
	p->len = ntohs(ip->payload_len) + sizeof(*ip);
	__builtin_memcpy(p->flow.src, ip->saddr, 16);
	__builtin_memcpy(p->flow.dst, ip->daddr, 16);
	p->flow.proto = ip->next;
	*why = check_ip6(ip, data_end);
	if (*why != REASON_NONE)
		return PARSED_REFUSE;
	if (likely(is_l4(ip->next)))
		return parse_l4(p, ip + 1, data_end, p->len - sizeof(*ip), why);
	return parse_walked(ctx, p, why);
}

#endif
