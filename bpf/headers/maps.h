/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The balancer's maps. All are pinned by name, so that a restarted control plane finds them filled. */
#ifndef ANYCASTLE_MAPS_H
#define ANYCASTLE_MAPS_H

#include "abi.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MAX_VIPS); /* each VIP may need an entry for its address too */
	__type(key, struct vip_key);
	__type(value, struct vip);
	__uint(pinning, PIN_BY_NAME);
} vips SEC(".maps");

/* A farm's table is never written in place: a full new one replaces it, so that no packet sees half of one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_FARMS);
	__type(key, __u32);
	__uint(pinning, PIN_BY_NAME);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_ARRAY);
			__uint(max_entries, SLOTS);
			__type(key, __u32);
			/* by size: clang leaves a type out of the BTF that is reached through two pointers */
			__uint(value_size, sizeof(struct slot));
		});
} farms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_REALS);
	__type(key, __u32);
	__type(value, struct real);
	__uint(pinning, PIN_BY_NAME);
} reals SEC(".maps");

/* Keeps struct slot in the BTF, for Go's sake. */
const struct slot *const slot_type __attribute__((unused));

/* What was sent on to reals, by VIP index. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__type(value, struct count);
	__uint(pinning, PIN_BY_NAME);
} counts SEC(".maps");

#endif
