/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The Internet checksum (RFC 1071), and how it is mended (RFC 1624). */
#ifndef ANYCASTLE_CHECKSUM_H
#define ANYCASTLE_CHECKSUM_H

#include "kernel.h"

/* Folds a sum of 16-bit words into one. */
static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The checksum after one of the words under it has changed. One that was wrong stays wrong for the receiver to see. */
static __always_inline __u16 mend(__u16 check, __u16 before, __u16 after)
{
	return ~fold((__u16)~check + (__u16)~before + after);
}

static __always_inline void set_ttl(struct iphdr *ip, __u8 ttl)
{
	__u16 before = ip->ttl | ip->protocol << 8;

	ip->ttl = ttl;
	ip->check = mend(ip->check, before, ttl | ip->protocol << 8);
}

#endif
