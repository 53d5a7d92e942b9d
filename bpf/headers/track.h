/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Flows that began in a slot in transition, and their reals. A flow is known by the 64 bits of its keyed hash: of
 * those, one bucket of eight entries, a cache line, is chosen by 17 bits, and 40 are compared. A flow that was never
 * stored is taken for one that was once in 10^11 packets, which is less often than a network hands a damaged segment to
 * TCP.
 */
#ifndef ANYCASTLE_TRACK_H
#define ANYCASTLE_TRACK_H

#include "hash.h"
#include "packet.h"

#define TRACK_TIME_BITS 12 /* of an entry: when its flow was last seen */
#define TRACK_REAL_BITS 12
#define TRACK_TAG	(TRACK_TIME_BITS + TRACK_REAL_BITS) /* and what is compared is above */
#define TRACK_TIME_MASK ((1U << TRACK_TIME_BITS) - 1)
#define TRACK_TRIES	4

_Static_assert(MAX_REALS <= 1 << TRACK_REAL_BITS, "an index of reals has its place in an entry");

/* How many buckets there are, less one. Set before the program is loaded. */
volatile const __u32 bucket_mask = FLOW_BUCKETS - 1;

/* In ticks of 1 to 10 s, by the kernel's. An entry older than all 4096 looks younger, and is kept a while longer. */
static __always_inline __u64 track_time(void)
{
	return bpf_jiffies64() >> 10 & TRACK_TIME_MASK;
}

/* The bits that chose a slot are not to choose the bucket too: the slots in transition may be few. */
static __always_inline __u64 track_id(__u64 hash)
{
	return rotate(hash, 64 - 16);
}

static __always_inline int is_entry_of(__u64 entry, __u64 id)
{
	return entry >> TRACK_TAG == id >> TRACK_TAG;
}

static __always_inline __u64 entry_of(__u64 id, __u64 real, __u64 time)
{
	return id >> TRACK_TAG << TRACK_TAG | real << TRACK_TIME_BITS | time;
}

/* Gives the real that a flow is stored with, or 0. */
__separate int recall_flow(__u64 id)
{
	__u64 now = track_time();
	__u32 index = id & bucket_mask;

	for (int half = 0; half < 2; half++) {
		struct flow_bucket *b = bpf_map_lookup_elem(&flows, &index);

		if (!b)
			return 0;
#pragma unroll
		for (int i = 0; i < FLOWS_PER_BUCKET; i++) {
			__u64 entry = *(volatile __u64 *)&b->entry[i];

			if (likely(!is_entry_of(entry, id)))
				continue;
			if (unlikely((entry & TRACK_TIME_MASK) != now))
				__sync_val_compare_and_swap(&b->entry[i], entry,
							    (entry & ~(__u64)TRACK_TIME_MASK) | now);
			return entry >> TRACK_TIME_BITS & ((1 << TRACK_REAL_BITS) - 1);
		}
		index ^= 1;
	}
	return 0;
}

/* 1 if x is 0, else 0; without a branch, of which the verifier would try both sides for every entry. */
static __always_inline __u64 is_zero(__u64 x)
{
	return ((x | -x) >> 63) ^ 1;
}

/* How well an entry would be replaced: its own flow's, else one that is free, else the oldest. */
static __always_inline __u64 rank_entry(__u64 entry, __u64 id, __u64 now)
{
	return ((now - entry) & TRACK_TIME_MASK) | is_zero(entry) << TRACK_TIME_BITS |
	       is_zero((entry ^ id) >> TRACK_TAG) << (TRACK_TIME_BITS + 1);
}

/* The best of these and a better one before: its rank, and below that its number. */
static __always_inline __u64 rank_bucket(const struct flow_bucket *b, __u64 best, __u64 id, __u64 now, __u64 first)
{
#pragma unroll
	for (int i = 0; i < FLOWS_PER_BUCKET; i++) {
		__u64 rank = rank_entry(*(volatile __u64 *)&b->entry[i], id, now) << 8 | (first + i);
		__u64 worse = best - rank, mask = (__s64)worse >> 63;

		keep_bounds(mask);
		best -= worse & mask;
	}
	return best;
}

static __always_inline int name_flow(const struct flow *flow, __u32 index, __u64 at)
{
	struct flow_owners *names = bpf_map_lookup_elem(&flow_names, &index);

	if (names)
		names->flow[at & (FLOWS_PER_BUCKET - 1)] = *flow;
	return 1;
}

/* Stores a flow, in place of the one unseen for longest if both its buckets are full. */
__separate int remember_flow(struct flow *flow, __u64 id, __u32 real)
{
	__u64 now = track_time();
	__u32 index = id & bucket_mask, other = index ^ 1;
	struct flow_bucket *first = bpf_map_lookup_elem(&flows, &index);
	struct flow_bucket *second = bpf_map_lookup_elem(&flows, &other);

	if (!flow || !first || !second || real >= MAX_REALS)
		return 0;
	/* again if another CPU took the place */
	for (int try = 0; try < TRACK_TRIES; try++) {
		__u64 best = rank_bucket(second, rank_bucket(first, 0, id, now, 0), id, now, FLOWS_PER_BUCKET);
		struct flow_bucket *b = best & FLOWS_PER_BUCKET ? second : first;
		__u64 *at = &b->entry[best & (FLOWS_PER_BUCKET - 1)];
		__u64 old = *(volatile __u64 *)at;

		if (rank_entry(old, id, now) == best >> 8 &&
		    __sync_val_compare_and_swap(at, old, entry_of(id, real, now)) == old)
			return name_flow(flow, best & FLOWS_PER_BUCKET ? other : index, best & (FLOWS_PER_BUCKET - 1));
	}
	return 0;
}

/* New flows are stored; what is not stored is as old as the transition, and with the slot's secondary. */
static __always_inline __u32 track_flow(__u64 hash, struct flow *opens, __u32 primary, __u32 secondary)
{
	__u64 id = track_id(hash);
	__u32 real;

	if (opens) {
		if (primary)
			remember_flow(opens, id, primary);
		return primary;
	}
	real = recall_flow(id);
	if (real)
		return real;
	return secondary ? secondary : primary;
}

#endif
