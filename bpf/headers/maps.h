/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The balancer's maps. Those pinned by name are found filled by a restarted control plane. */
#ifndef ANYCASTLE_MAPS_H
#define ANYCASTLE_MAPS_H

#include "abi.h"

/* VIPs of one port. Two maps, since the short key of IPv4 is looked up in half the time. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VIPS);
	__type(key, struct vip_key4);
	__type(value, struct vip);
	__uint(pinning, PIN_BY_NAME);
} vips4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VIPS);
	__type(key, struct vip_key6);
	__type(value, struct vip);
	__uint(pinning, PIN_BY_NAME);
} vips6 SEC(".maps");

/* Every address of a VIP. The key is an IPv6 address; IPv4 is mapped (RFC 4291, section 2.5.5.2). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VIPS);
	__uint(key_size, 16);
	__type(value, struct address);
	__uint(pinning, PIN_BY_NAME);
} addresses SEC(".maps");

/* A farm's table is never written in place: a full new one replaces it, so that no packet sees half of one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_FARMS);
	__type(key, __u32);
	__uint(pinning, PIN_BY_NAME);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_ARRAY);
			__uint(max_entries, SLOTS / SLOTS_PER_BLOCK);
			__type(key, __u32);
			/* by size: clang leaves a type out of the BTF that is reached through two pointers */
			__uint(value_size, sizeof(struct block));
		});
} farms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_REALS);
	__type(key, __u32);
	__type(value, struct real);
	__uint(pinning, PIN_BY_NAME);
} reals SEC(".maps");

/* Flows that began in slots in transition of farms that track them. Empty in the steady state. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* begins with a page, so that no bucket lies across two cache lines */
	__uint(max_entries, FLOW_BUCKETS);
	__type(key, __u32);
	__type(value, struct flow_bucket);
	__uint(pinning, PIN_BY_NAME);
} flows SEC(".maps");

/*
 * The names of those that were stored last, whether they still are or not. They lie in a row, for a name beside its
 * entry would be one more cache line from memory.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOW_NAMES);
	__type(key, __u32);
	__type(value, struct flow_name);
	__uint(pinning, PIN_BY_NAME);
} flow_names SEC(".maps");

/* How many places in flow_names CPUs have taken, many at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, PIN_BY_NAME);
} names_taken SEC(".maps");

/* Which of those are each CPU's own. A process that is started anew takes others. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct name_place);
} name_places SEC(".maps");

/* How many stored flows had to make room for others. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, PIN_BY_NAME);
} displaced SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FRAGMENTS);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
	__uint(pinning, PIN_BY_NAME);
} fragments SEC(".maps");

/* What the program's own answers need to know of an interface: REAL_REDIRECT or 0. By index. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_UPLINKS);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, PIN_BY_NAME);
} uplinks SEC(".maps");

/* What was sent on to reals, by VIP index. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__type(value, struct count);
	__uint(pinning, PIN_BY_NAME);
} counts SEC(".maps");

static __always_inline void count_sent(__u32 vip_index, __u32 len)
{
	struct count *count = bpf_map_lookup_elem(&counts, &vip_index);

	if (!count)
		return;
	count->packets++;
	count->bytes += len;
}

enum reply {
	REPLY_ECHO,
	REPLY_TOO_BIG,
	REPLY_MAX,
};

/* What the program answered itself. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REPLY_MAX);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, PIN_BY_NAME);
} replies SEC(".maps");

/* Keep types in the BTF, for Go's sake. */
const struct block *const block_type __attribute__((unused));
const struct trace *const trace_type __attribute__((unused));
const enum reply *const reply_type __attribute__((unused));

#endif
