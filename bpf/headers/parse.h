/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Headers of both families, for all programs: well-formed or not, and how to walk to what they carry. */
#ifndef ANYCASTLE_PARSE_H
#define ANYCASTLE_PARSE_H

#include "kernel.h"
#include "reason.h"

#define MAX_EXT_HEADERS 8
/* The Ethernet header with as many tags as are read. */
#define MAX_L2 ((__u32)(sizeof(struct ethhdr) + 2 * sizeof(struct vlanhdr)))

static __always_inline int is_tag(__be16 proto)
{
	return proto == htons(ETH_P_8021Q) || proto == htons(ETH_P_8021AD);
}

static __always_inline __u32 header_len(const struct iphdr *ip)
{
	return (ip->version_ihl & 0xf) * 4;
}

static __always_inline __u8 traffic_class(const struct ipv6hdr *ip)
{
	return ntohl(ip->version_class_label) >> 20;
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

static __always_inline enum reason check_ip6(const struct ipv6hdr *ip, const void *data_end)
{
	__u32 frame_len = (const __u8 *)data_end - (const __u8 *)ip;

	if (*(const __u8 *)ip >> 4 != 6)
		return REASON_BAD_HEADER;
	if (ntohs(ip->payload_len) + sizeof(*ip) > frame_len)
		return REASON_TRUNCATED;
	return REASON_NONE;
}

enum {
	WALK_WHOLE,
	WALK_FIRST, /* the first fragment of several */
	WALK_LATER, /* another fragment: at is no header */
};

/* A walk along the extension headers of an IPv6 packet. */
struct walk {
	__u32 at;   /* offset in the frame of the header that proto names */
	__u32 end;  /* offset of the packet's end */
	__be32 id;  /* of a fragment */
	__u8 proto; /* 255 in the end: there is none to be had */
	__u8 fragment;
	__u8 pad[2];
};

static __always_inline int is_ext_header(__u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_FRAGMENT ||
	       proto == IPPROTO_AH || proto == IPPROTO_DSTOPTS;
}

static __always_inline enum reason step_fragment(struct walk *w, const __u8 *header)
{
	const struct fraghdr *f = (const void *)header;

	if (!(f->offset & htons(IP6_OFFSET | IP6_MF)))
		return REASON_NONE; /* atomic (RFC 6946): a part of nothing */
	w->id = f->id;
	if (f->offset & htons(IP6_OFFSET)) {
		w->fragment = WALK_LATER;
		return is_ext_header(f->next) ? REASON_EXT_HEADER : REASON_NONE;
	}
	w->fragment = WALK_FIRST;
	return REASON_NONE;
}

/* Goes on from w to the first header that is no extension header. Gives an enum reason. */
__separate int walk_headers(struct xdp_md *ctx, struct walk *w)
{
	__u8 header[8] __attribute__((aligned(8)));

	if (!w)
		return REASON_TRUNCATED;
	for (int i = 0; i < MAX_EXT_HEADERS; i++) {
		enum reason why = REASON_NONE;
		__u8 proto = w->proto;
		__u32 size;

		if (!is_ext_header(proto) || w->fragment == WALK_LATER)
			return REASON_NONE;
		if (w->at + sizeof(header) > w->end || bpf_xdp_load_bytes(ctx, w->at, header, sizeof(header)))
			return REASON_TRUNCATED;
		size = (header[1] + 1) * 8;
		if (proto == IPPROTO_FRAGMENT)
			size = sizeof(struct fraghdr);
		else if (proto == IPPROTO_AH)
			size = (header[1] + 2) * 4;
		if (w->at + size > w->end)
			return REASON_TRUNCATED;
		if (proto == IPPROTO_ROUTING && header[3])
			return REASON_EXT_HEADER; /* it is going elsewhere yet */
		if (proto == IPPROTO_FRAGMENT)
			why = step_fragment(w, header);
		if (why != REASON_NONE)
			return why;
		w->proto = header[0];
		w->at += size;
	}
	return is_ext_header(w->proto) && w->fragment != WALK_LATER ? REASON_EXT_HEADER : REASON_NONE;
}

#endif
