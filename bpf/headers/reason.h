/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Why a packet was dropped. Go's names for these are in abi.go, in the same order. */
#ifndef ANYCASTLE_REASON_H
#define ANYCASTLE_REASON_H

#include "kernel.h"

enum reason {
	REASON_NONE,	    /* not a drop */
	REASON_TRUNCATED,   /* a header or the packet is cut short */
	REASON_BAD_HEADER,  /* not a well-formed IPv4 header */
	REASON_FRAGMENT,    /* a fragment has no ports to choose a real by */
	REASON_TTL_EXPIRED, /* may not be forwarded any more */
	REASON_NO_TABLE,    /* the VIP's farm has no slot table */
	REASON_NO_REAL,	    /* no real of the farm is in service */
	REASON_NO_NEXT_HOP, /* the MAC address towards the real is not known */
	REASON_TOO_BIG,	    /* would exceed the MTU once encapsulated */
	REASON_NO_HEADROOM, /* no space in front of the frame for one more header */
	REASON_NOT_OWN,	    /* encapsulated for an address that is not this host's */
	REASON_NOT_VIP,	    /* encapsulated, but not for a VIP of this host */
	REASON_BAD_INNER,   /* what is encapsulated is no whole IPv4 packet */
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

/* Counts the packet under its reason and gives the verdict for it. */
static __always_inline int drop(enum reason why)
{
	__u32 index = why;
	__u64 *count = bpf_map_lookup_elem(&drops, &index);

	if (count)
		(*count)++; /* per CPU: no other CPU writes here */
	return XDP_DROP;
}

#endif
