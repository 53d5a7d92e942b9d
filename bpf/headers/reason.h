/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Why a packet was dropped. Go's names for these are in abi.go, in the same order. */
#ifndef ANYCASTLE_REASON_H
#define ANYCASTLE_REASON_H

#include "kernel.h"

enum reason {
	REASON_NONE,	       /* not a drop */
	REASON_TRUNCATED,      /* a header or the packet is cut short */
	REASON_BAD_HEADER,     /* not a well-formed IP header */
	REASON_EXT_HEADER,     /* IPv6 extension headers that are too many, or whose way is not at its end */
	REASON_FRAGMENT,       /* a fragment of what may not come in fragments */
	REASON_FRAGMENT_EARLY, /* a fragment before its first one; the control plane sends it again after that */
	REASON_TTL_EXPIRED,    /* may not be forwarded any more */
	REASON_NO_TABLE,       /* the VIP's farm has no slot table */
	REASON_NO_REAL,	       /* no real of the farm is in service */
	REASON_NO_NEXT_HOP,    /* the MAC address towards the real is not known */
	REASON_TOO_BIG,	       /* would exceed the MTU once encapsulated, and its sender cannot be told */
	REASON_ICMP_LIMITED,   /* too big, and enough senders were told in this second */
	REASON_ICMP_UNHANDLED, /* ICMP for a VIP that is no echo to be answered, and no error about one of its flows */
	REASON_OUT_OF_SERVICE, /* echo request for a VIP that is not in service */
	REASON_NO_HEADROOM,    /* no space in front of the frame for one more header */
	REASON_NOT_OWN,	       /* encapsulated for an address that is not this host's */
	REASON_NOT_VIP,	       /* encapsulated, but not for a VIP of this host */
	REASON_BAD_INNER,      /* what is encapsulated, or what an ICMP error is about, is no whole packet */
	REASON_ECN,	       /* congestion was marked on the way on a packet whose ends know no ECN (RFC 6040) */
	REASON_NO_ROUTE,       /* no way from this real to the other one that may have the flow */
	REASON_MAX,
};

/* Keeps the enum in the BTF, from which Go's constants are made. */
const enum reason *const reason_type __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_MAX);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, PIN_BY_NAME);
} drops SEC(".maps");

/* Counts a packet under its reason. Per CPU: no other CPU writes here. */
static __always_inline void count_drop(enum reason why)
{
	__u32 index = why;
	__u64 *count = bpf_map_lookup_elem(&drops, &index);

	if (count)
		(*count)++;
}

/* Counts the packet under its reason and gives the verdict for it. */
static __always_inline int drop(enum reason why)
{
	count_drop(why);
	return XDP_DROP;
}

#endif
