/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* From a flow to the real that has it, or gets it. */
#ifndef ANYCASTLE_CHOOSE_H
#define ANYCASTLE_CHOOSE_H

#include "hash.h"
#include "packet.h"
#include "track.h"

/* As long as a receiver waits for the rest of a packet (RFC 791 leaves it open; Linux: 30 s). */
#define FRAGMENT_TIME 30000000000ULL

static __always_inline struct real *find_real(__u32 index)
{
	struct real *real;

	if (!index)
		return NULL;
	real = bpf_map_lookup_elem(&reals, &index);
	if (!real || !(real->addr[0] | real->addr[1] | real->addr[2] | real->addr[3]))
		return NULL;
	return real;
}

static __always_inline void fragment_key(struct fragment_key *key, const struct packet *p)
{
	__builtin_memcpy(key->src, p->flow.src, 16);
	__builtin_memcpy(key->dst, p->flow.dst, 16);
	key->id = p->id;
	key->proto = p->flow.proto;
	key->family = p->family;
	key->pad[0] = key->pad[1] = 0;
}

static __noinline void remember_fragment(const struct packet *p)
{
	struct fragment f = {
		.at = bpf_ktime_get_ns(), .vip = p->vip, .real = p->real, .second = p->second, .hash = p->hash};
	struct fragment_key key;

	fragment_key(&key, p);
	if (!p->dry)
		bpf_map_update_elem(&fragments, &key, &f, 0);
}

/* A later fragment goes where the first one went. */
static __noinline int recall_fragment(struct packet *p)
{
	struct fragment_key key;
	struct fragment *f;

	fragment_key(&key, p);
	f = bpf_map_lookup_elem(&fragments, &key);
	if (!f || bpf_ktime_get_ns() - f->at > FRAGMENT_TIME)
		return 0;
	p->vip = f->vip;
	p->real = f->real;
	p->second = f->second;
	p->hash = f->hash;
	return 1;
}

static __always_inline __u64 hash_flow(const struct packet *p)
{
	__u64 rest = join((__u32)p->flow.dst_port << 16 | p->flow.src_port, p->flow.proto);

	return p->family == 4 ? hash4(p->flow.src[0], p->flow.dst[0], rest) : hash6(p->flow.src, p->flow.dst, rest);
}

static __always_inline __u32 hash_packet(const struct packet *p, const struct vip *vip)
{
	__be32 src[4], none[4] = {};

	if (likely(!(vip->flags & VIP_HASH_SOURCE)))
		return hash_flow(p);
	if (p->family == 4)
		return hash4(p->flow.src[0] & vip->mask[0], 0, 0);
	for (int i = 0; i < 4; i++)
		src[i] = p->flow.src[i] & vip->mask[i];
	return hash6(src, none, 0);
}

static __always_inline __u16 track(const struct packet *p)
{
	struct flow flow = p->flow;

	if (!(p->flags & PACKET_SYN))
		return track_flow(hash_flow(p), NULL, p->primary, p->secondary);
	flow.family = p->family;
	return p->dry ? p->primary : track_flow(hash_flow(p), &flow, p->primary, p->secondary);
}

/* An agent takes the packet, or passes it on to the second hop. */
static __always_inline void offer_both(struct packet *p)
{
	p->real = p->primary;
	if (p->flags & PACKET_SYN)
		return;
	if (!p->primary)
		p->real = p->secondary;
	else if (p->flow.proto == IPPROTO_TCP)
		p->second = p->secondary;
}

/* Can one pass a packet on to the other? */
static __always_inline int are_agents(const struct real *primary, const struct real *secondary)
{
	if (primary && secondary && (primary->flags ^ secondary->flags) & REAL_IPV6)
		return 0;
	return (!primary || primary->kind == KIND_GUE) && (!secondary || secondary->kind == KIND_GUE);
}

static __noinline void choose_in_transition(struct packet *p, __u32 vip_flags)
{
	if (vip_flags & VIP_SECOND_CHANCE && p->primary != p->secondary &&
	    are_agents(find_real(p->primary), find_real(p->secondary)))
		offer_both(p);
	else
		p->real = track(p);
}

/* NULL if the farm has no table. */
static __always_inline struct slot *find_slot(__u32 farm, __u32 hash)
{
	__u32 index = (hash & (SLOTS - 1)) / SLOTS_PER_BLOCK;
	void *table = bpf_map_lookup_elem(&farms, &farm);
	struct block *block;

	if (!table)
		return NULL;
	block = bpf_map_lookup_elem(table, &index);
	return block ? &block->slot[hash & (SLOTS_PER_BLOCK - 1)] : NULL;
}

static __always_inline enum reason choose(struct packet *p, const struct vip *vip)
{
	struct slot *slot;

	p->hash = hash_packet(p, vip);
	slot = find_slot(vip->farm, p->hash);
	if (!slot)
		return REASON_NO_TABLE;
	p->primary = slot->primary;
	p->secondary = slot->secondary;
	p->real = p->primary;
	if (unlikely(p->primary != p->secondary || vip->flags & VIP_FOLLOW_ALL))
		choose_in_transition(p, vip->flags);
	return REASON_NONE;
}

#endif
