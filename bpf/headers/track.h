/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Flows that began in a slot in transition, and their reals. A flow is known by the 64 bits of its keyed hash: the
 * lowest choose one bucket of eight entries, a cache line, or the one beside it, and 40 others are compared. One flow
 * in 10^10 that was never stored is taken for another that was.
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
#define NAMES_AT_ONCE	64 /* that a CPU takes; a power of two */

_Static_assert(MAX_REALS <= 1 << TRACK_REAL_BITS, "an index of reals has its place in an entry");

/* How many buckets there are, less one. Set before the program is loaded. */
volatile const __u32 bucket_mask = FLOW_BUCKETS - 1;
/* How many names are kept, less one; likewise. */
volatile const __u32 name_mask = FLOW_NAMES - 1;

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

/*
 * A flow's entry in a bucket, or 0. Which it is no processor can guess, and one that has guessed wrong begins the next
 * packets anew when the bucket has come from memory at last: so there is no branch.
 */
static __always_inline __u64 entry_in(const struct flow_bucket *b, __u64 id)
{
	__u64 found = 0;

#pragma unroll
	for (int i = 0; i < FLOWS_PER_BUCKET; i++) {
		__u64 entry = *(volatile __u64 *)&b->entry[i];
		__u64 differs = (entry ^ id) >> TRACK_TAG;
		__u64 mask = (__s64)(differs - 1) >> 63; /* all ones if nothing differs */

		keep_bounds(mask);
		found ^= (found ^ entry) & mask;
	}
	return found;
}

/* Notes that a flow was seen, every few seconds. */
static __always_inline void touch_entry(struct flow_bucket *b, __u64 entry, __u64 now)
{
	for (int i = 0; i < FLOWS_PER_BUCKET; i++)
		if (b->entry[i] == entry)
			__sync_val_compare_and_swap(&b->entry[i], entry, (entry & ~(__u64)TRACK_TIME_MASK) | now);
}

/* Gives the real that a flow is stored with, or 0. */
__separate int recall_flow(__u64 id)
{
	__u64 now = track_time();
	__u32 index = id & bucket_mask;

	for (int half = 0; half < 2; half++) {
		struct flow_bucket *b = bpf_map_lookup_elem(&flows, &index);
		__u64 entry;

		if (!b)
			return 0;
		entry = entry_in(b, id);
		if (entry) {
			if (unlikely((entry & TRACK_TIME_MASK) != now))
				touch_entry(b, entry, now);
			return entry >> TRACK_TIME_BITS & ((1 << TRACK_REAL_BITS) - 1);
		}
		index ^= 1;
	}
	return 0;
}

/* 1 if x is 0, else 0; without a branch, of which the verifier would try both sides for every entry. */
static __always_inline __u64 is_zero(__u64 x)
{
	return (~x & (x - 1)) >> 63;
}

/* How well an entry would be replaced: its own flow's, else one that is free, else the oldest. */
static __always_inline __u64 rank_entry(__u64 entry, __u64 id, __u64 now)
{
	__u64 differs = (entry ^ id) >> TRACK_TAG, same = (differs - 1) >> 63; /* differs has no bit 63 */

	return ((now - entry) & TRACK_TIME_MASK) | is_zero(entry) << TRACK_TIME_BITS | same << (TRACK_TIME_BITS + 1);
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

/* Writes down what a flow is called that was stored. */
static __always_inline void name_flow(const struct flow *flow, __u64 id)
{
	__u32 first = 0, index;
	struct name_place *place = bpf_map_lookup_elem(&name_places, &first);
	__u64 *taken = bpf_map_lookup_elem(&names_taken, &first);
	struct flow_name *name;

	if (!place || !taken)
		return;
	if (!place->left) {
		place->next = __sync_fetch_and_add(taken, NAMES_AT_ONCE);
		place->left = NAMES_AT_ONCE;
	}
	place->left--;
	index = place->next++ & name_mask;
	name = bpf_map_lookup_elem(&flow_names, &index);
	if (!name)
		return;
	name->flow = *flow;
	name->id = id;
}

static __always_inline void count_displaced(void)
{
	__u32 index = 0;
	__u64 *count = bpf_map_lookup_elem(&displaced, &index);

	if (count)
		(*count)++;
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

		if (rank_entry(old, id, now) != best >> 8 ||
		    __sync_val_compare_and_swap(at, old, entry_of(id, real, now)) != old)
			continue;
		if (unlikely(old && !is_entry_of(old, id)))
			count_displaced();
		if (!is_entry_of(old, id))
			name_flow(flow, id);
		return 1;
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
