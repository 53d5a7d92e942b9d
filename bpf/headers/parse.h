/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* From a frame to the flow it belongs to. */
#ifndef ANYCASTLE_PARSE_H
#define ANYCASTLE_PARSE_H

#include "kernel.h"
#include "reason.h"

/* The 5-tuple, and nothing else in its 16 bytes: it is hashed as it lies. */
struct flow {
	__be32 src;
	__be32 dst;
	__be16 src_port;
	__be16 dst_port;
	__u8 proto;
	__u8 pad[3];
};
_Static_assert(sizeof(struct flow) == 16, "flow");

enum parsed {
	PARSED_OTHER,  /* not IPv4 TCP or UDP: none of our business */
	PARSED_FLOW,   /* a whole header chain; flow is filled in */
	PARSED_REFUSE, /* a VIP cannot take it, for the reason given; flow.dst says whose it is */
};

static __always_inline __u32 header_len(const struct iphdr *ip)
{
	return (ip->version_ihl & 0xf) * 4;
}

/* Is this a well-formed IPv4 header whose packet lies wholly in front of data_end? */
static __always_inline enum reason check_ip(const struct iphdr *ip, const void *data_end)
{
	__u32 frame_len = (const __u8 *)data_end - (const __u8 *)ip;

	if (ip->version_ihl >> 4 != 4 || header_len(ip) < sizeof(*ip) || ntohs(ip->tot_len) < header_len(ip))
		return REASON_BAD_HEADER;
	if (ntohs(ip->tot_len) > frame_len)
		return REASON_TRUNCATED;
	return REASON_NONE;
}

/* Options are taken: they travel inside, unread. */
static __always_inline enum parsed parse_flow(const struct iphdr *ip, const void *data_end, struct flow *flow,
					      enum reason *why)
{
	const __be16 *ports;
	__u32 l4_len;

	flow->src = ip->saddr;
	flow->dst = ip->daddr;
	flow->proto = ip->protocol;
	*why = check_ip(ip, data_end);
	if (*why != REASON_NONE)
		return PARSED_REFUSE;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return PARSED_OTHER;
	if (ip->frag_off & htons(IP_MF_OFFSET)) {
		*why = REASON_FRAGMENT;
		return PARSED_REFUSE;
	}
	l4_len = ip->protocol == IPPROTO_TCP ? TCP_HEADER_LEN : UDP_HEADER_LEN;
	ports = (const void *)ip + header_len(ip);
	/* the second test is the verifier's: it does not see that the first implies it */
	if (ntohs(ip->tot_len) < header_len(ip) + l4_len || (const void *)(ports + 2) > data_end) {
		*why = REASON_TRUNCATED;
		return PARSED_REFUSE;
	}
	flow->src_port = ports[0];
	flow->dst_port = ports[1];
	return PARSED_FLOW;
}

#endif
