/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The short way of nearly every packet: IPv4 without tags, options or fragments, for a VIP of one port that hashes
 * flows, to a real behind IPv4 whose next hop is known. It decides as the long way does, in registers where that one
 * keeps a struct packet; when it leaves a packet to it, that does anew what was done here, with the same outcome. The
 * tests take each of their packets both ways, since one that is to be explained goes the long one.
 */
#ifndef ANYCASTLE_FAST_H
#define ANYCASTLE_FAST_H

#include "choose.h"
#include "encap.h"
#include "packet.h"
#include "track.h"

#define LONG_WAY -1

/* Is this a whole packet with ports, with nothing about it that must be looked at twice? */
static __always_inline int is_plain(const struct iphdr *ip, const void *data_end)
{
	__u32 len = ntohs(ip->tot_len);

	if (ip->version_ihl != 0x45 || ip->frag_off & htons(IP_MF_OFFSET))
		return 0;
	if (ip->ttl <= 1 || (const void *)ip + len > data_end)
		return 0;
	if (ip->protocol == IPPROTO_TCP)
		return len >= sizeof(*ip) + TCP_HEADER_LEN;
	return ip->protocol == IPPROTO_UDP && len >= sizeof(*ip) + UDP_HEADER_LEN;
}

static __always_inline int has_vips(__be32 addr)
{
	__be32 key[4];

	address_key(key, &addr, 4);
	return bpf_map_lookup_elem(&addresses, key) != NULL;
}

/* Wraps the packet. From here on there is no other way: what fails is dropped, as it would be there. */
static __always_inline int send_plain(struct xdp_md *ctx, struct iphdr *ip, const struct vip *vip,
				      const struct real *real, struct outer *o)
{
	void *at, *data_end;

	set_ttl(ip, o->ttl);
	if (bpf_xdp_adjust_head(ctx, -(int)overhead(o, real)))
		return drop(REASON_NO_HEADROOM);
	data_end = (void *)(long)ctx->data_end;
	at = (void *)(long)ctx->data;
	at = write_ethernet(at, data_end, real, htons(ETH_P_IP));
	if (!at || !write_outer(at, data_end, o, real))
		return drop(REASON_TRUNCATED);
	count_sent(vip->index, o->inner_len);
	if (real->ifindex == ctx->ingress_ifindex && !(real->flags & REAL_REDIRECT))
		return XDP_TX;
	return bpf_redirect(real->ifindex, 0);
}

static __always_inline int is_behind_ip4(const struct real *real)
{
	return real->addr[0] && !(real->flags & REAL_IPV6);
}

static __always_inline int opens_flow(const struct iphdr *ip, const void *data_end)
{
	const __u8 *flags = (const void *)(ip + 1) + TCP_FLAGS_AT;

	if (ip->protocol != IPPROTO_TCP || (const void *)(flags + 1) > data_end)
		return 0;
	return (*flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* In transition with a second chance: names the second hop. Gives 0 if that is for the long way. */
static __always_inline int describe_chance(struct outer *o, const struct slot *slot, const struct iphdr *ip,
					   const void *data_end)
{
	__u32 index = slot->secondary;
	struct real *second = bpf_map_lookup_elem(&reals, &index);

	if (!index || !second || !is_behind_ip4(second) || second->kind != KIND_GUE)
		return 0;
	if (ip->protocol != IPPROTO_TCP || opens_flow(ip, data_end))
		return 1;
	o->second[0] = second->addr[0];
	o->second_family = 4;
	return 1;
}

static __always_inline __u32 track_plain(const struct slot *slot, __u64 hash, const struct iphdr *ip,
					 const void *data_end)
{
	const __be16 *ports = (const void *)(ip + 1);
	struct flow flow = {};

	if (!opens_flow(ip, data_end))
		return track_flow(hash, NULL, slot->primary, slot->secondary);
	flow.src[0] = ip->saddr;
	flow.dst[0] = ip->daddr;
	flow.src_port = ports[0];
	flow.dst_port = ports[1];
	flow.proto = ip->protocol;
	flow.family = 4;
	return track_flow(hash, &flow, slot->primary, slot->secondary);
}

/* The real that the slot or the flow's own history says, if it can be had by the short way. */
static __always_inline struct real *find_plain(struct outer *o, const struct slot *slot, __u32 vip_flags, __u64 hash,
					       const struct iphdr *ip, const void *data_end)
{
	int moves = slot->primary != slot->secondary;
	__u32 index = slot->primary;
	struct real *real;

	if (unlikely(!(vip_flags & VIP_SECOND_CHANCE) && (moves || vip_flags & VIP_FOLLOW_ALL)))
		index = track_plain(slot, hash, ip, data_end);
	real = bpf_map_lookup_elem(&reals, &index);
	if (!index || !real || !real->ifindex || real->tags || !is_behind_ip4(real) || real->kind == KIND_L2)
		return NULL;
	o->kind = real->kind;
	if (likely(!moves || !(vip_flags & VIP_SECOND_CHANCE)))
		return real;
	return real->kind == KIND_GUE && describe_chance(o, slot, ip, data_end) ? real : NULL;
}

/* Does a VIP choose reals as the short way can? */
static __always_inline int is_plain_vip(const struct vip *vip)
{
	if (vip->flags & VIP_HASH_SOURCE)
		return 0;
	return (vip->flags & (VIP_SECOND_CHANCE | VIP_FOLLOW_ALL)) != (VIP_SECOND_CHANCE | VIP_FOLLOW_ALL);
}

static __always_inline int balance_plain(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	const __be16 *ports = (void *)(ip + 1);
	struct outer o = {.inner_proto = IPPROTO_IPIP};
	struct vip_key4 key = {};
	struct slot *slot;
	struct real *real;
	struct vip *vip;
	__u64 hash;

	if ((void *)(ports + 2) > data_end || eth->proto != htons(ETH_P_IP) || !is_plain(ip, data_end))
		return LONG_WAY;
	key.addr = ip->daddr;
	key.port = ports[1];
	key.proto = ip->protocol;
	vip = bpf_map_lookup_elem(&vips4, &key);
	if (!vip)
		return has_vips(ip->daddr) ? LONG_WAY : XDP_PASS;
	if (!is_plain_vip(vip))
		return LONG_WAY;
	hash = hash4(ip->saddr, ip->daddr, join((__u32)ports[1] << 16 | ports[0], ip->protocol));
	slot = find_slot(vip->farm, hash);
	if (!slot)
		return LONG_WAY;
	real = find_plain(&o, slot, vip->flags, hash, ip, data_end);
	if (!real)
		return LONG_WAY;
	o.hash = hash;
	o.tos = ip->tos;
	o.ttl = ip->ttl - 1;
	o.inner_len = ntohs(ip->tot_len);
	if (o.inner_len + overhead(&o, real) > real->mtu)
		return LONG_WAY;
	return send_plain(ctx, ip, vip, real, &o);
}

#endif
