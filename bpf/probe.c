//go:build ignore

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * On the way out of an LB: what one of our own probes sends to a VIP carries a mark that names a real, and leaves for
 * that real in the encapsulation that its clients' packets have. So a real that cannot take it off fails the probe.
 */
#include "headers/kernel.h"
#include "headers/tc.h"
#include "headers/abi.h"
#include "headers/reason.h"
#include "headers/encap.h"

#define PROBE_MARK	0x0ac00000
#define PROBE_MARK_MASK 0xffff0000

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_REALS);
	__type(key, __u32);
	__type(value, struct real);
	__uint(pinning, PIN_BY_NAME);
} reals SEC(".maps");

static __always_inline int shot(enum reason why)
{
	count_drop(why);
	return TC_ACT_SHOT;
}

/* The fields of the inner header that the outer one copies. */
static __always_inline int read_inner(struct __sk_buff *skb, struct outer *o)
{
	union {
		struct iphdr ip;
		struct ipv6hdr ip6;
	} h = {};

	if (skb->protocol == htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &h.ip, sizeof(h.ip)))
			return 0;
		o->inner_proto = IPPROTO_IPIP;
		o->tos = h.ip.tos;
		o->ttl = h.ip.ttl;
		o->hash = h.ip.id;
		return 1;
	}
	if (skb->protocol != htons(ETH_P_IPV6) || bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &h.ip6, sizeof(h.ip6)))
		return 0;
	o->inner_proto = IPPROTO_IPV6;
	o->tos = ntohl(h.ip6.version_class_label) >> 20;
	o->ttl = h.ip6.hop_limit;
	return 1;
}

/* Puts the outer headers between Ethernet and the packet. */
static __always_inline int wrap(struct __sk_buff *skb, const struct outer *o, const struct real *real)
{
	__u8 outer[sizeof(struct ipv6hdr) + sizeof(struct udphdr) + sizeof(struct guehdr)];
	__u32 grows = overhead(o, real);
	__u64 flags = real->flags & REAL_IPV6 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;

	if (o->kind == KIND_GUE)
		flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	if (bpf_skb_adjust_room(skb, grows, BPF_ADJ_ROOM_MAC, flags))
		return 0;
	__builtin_memset(outer, 0, sizeof(outer));
	if (!write_outer(outer, outer + sizeof(outer), o, real))
		return 0;
	if (real->flags & REAL_IPV6 && o->kind == KIND_GUE)
		return !bpf_skb_store_bytes(skb, sizeof(struct ethhdr), outer, 52, 0);
	if (real->flags & REAL_IPV6)
		return !bpf_skb_store_bytes(skb, sizeof(struct ethhdr), outer, 40, 0);
	if (o->kind == KIND_GUE)
		return !bpf_skb_store_bytes(skb, sizeof(struct ethhdr), outer, 32, 0);
	return !bpf_skb_store_bytes(skb, sizeof(struct ethhdr), outer, 20, 0);
}

static __always_inline int address_frame(struct __sk_buff *skb, const struct outer *o, const struct real *real)
{
	__be16 proto = real->flags & REAL_IPV6 ? htons(ETH_P_IPV6) : htons(ETH_P_IP);

	if (bpf_skb_store_bytes(skb, 0, real->dst_mac, 2 * MAC_LEN, 0))
		return 0;
	if (o->kind != KIND_L2 && bpf_skb_store_bytes(skb, 2 * MAC_LEN, &proto, sizeof(proto), 0))
		return 0;
	if (real->tags > 1 && bpf_skb_vlan_push(skb, real->tag[1].proto, ntohs(real->tag[1].tci)))
		return 0;
	return !real->tags || !bpf_skb_vlan_push(skb, real->tag[0].proto, ntohs(real->tag[0].tci));
}

SEC("tc")
int probe(struct __sk_buff *skb)
{
	__u32 index = skb->mark & ~PROBE_MARK_MASK;
	struct outer o = {};
	struct real *real;

	if ((skb->mark & PROBE_MARK_MASK) != PROBE_MARK)
		return TC_ACT_UNSPEC;
	if (skb->protocol != htons(ETH_P_IP) && skb->protocol != htons(ETH_P_IPV6))
		return TC_ACT_UNSPEC; /* ARP for the next hop, that carries the mark of what waits for it */
	real = index ? bpf_map_lookup_elem(&reals, &index) : NULL;
	if (!real)
		return shot(REASON_NO_REAL);
	if (!real->ifindex)
		return shot(REASON_NO_NEXT_HOP);
	if (!read_inner(skb, &o))
		return shot(REASON_TRUNCATED);
	o.kind = real->kind;
	o.inner_len = skb->len - sizeof(struct ethhdr);
	skb->mark = 0; /* it passes here again when it leaves */
	if (o.kind != KIND_L2 && !wrap(skb, &o, real))
		return shot(REASON_NO_HEADROOM);
	if (!address_frame(skb, &o, real))
		return shot(REASON_NO_HEADROOM);
	return bpf_redirect(real->ifindex, 0);
}

char program_license[] SEC("license") = "Dual BSD/GPL";
