//go:build ignore

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The far end of the balancer's encapsulation, on the uplink of a real: the inner packet goes up the stack. One that
 * another real may own, and that no socket here does, goes on to that real.
 */
#include "headers/kernel.h"
#include "headers/abi.h"
#include "headers/reason.h"
#include "headers/parse.h"
#include "headers/decap.h"
#include "headers/socket.h"

static __always_inline void count_packet(__u32 which, __u32 bytes)
{
	struct count *count = bpf_map_lookup_elem(&taken, &which);

	if (!count)
		return;
	count->packets++;
	count->bytes += bytes;
}

/* Moves the Ethernet header with its tags up to where the packet now begins, and cuts off what is in front. */
static __always_inline int move_ethernet(struct xdp_md *ctx, __u64 l2_len, __u32 by, __be16 proto)
{
	__u8 l2[MAX_L2 + 2] __attribute__((aligned(8)));

	keep_bounds(l2_len);
	if (l2_len < sizeof(struct ethhdr))
		return 0;
	keep_bounds(l2_len);
	if (l2_len > MAX_L2 || bpf_xdp_load_bytes(ctx, 0, l2, l2_len))
		return 0;
	if (bpf_xdp_adjust_head(ctx, by) || bpf_xdp_store_bytes(ctx, 0, l2, l2_len))
		return 0;
	return !bpf_xdp_store_bytes(ctx, l2_len - sizeof(proto), &proto, sizeof(proto));
}

static __always_inline int take(struct xdp_md *ctx, const struct decap *d)
{
	__be16 proto = d->inner_family == 6 ? htons(ETH_P_IPV6) : htons(ETH_P_IP);

	if (!move_ethernet(ctx, d->outer, d->inner - d->outer, proto))
		return drop(REASON_TRUNCATED);
	count_packet(TAKEN_HERE, d->inner_len);
	return XDP_PASS;
}

static __always_inline enum reason copy_in4(struct xdp_md *ctx, const struct decap *d)
{
	__u16 before;
	struct iphdr ip;
	int tos;

	if (bpf_xdp_load_bytes(ctx, d->inner, &ip, sizeof(ip)))
		return REASON_BAD_INNER;
	tos = merge_ecn(d->tos, ip.tos);
	if (tos < 0)
		return REASON_ECN;
	before = ip.version_ihl | ip.tos << 8;
	ip.tos = tos;
	ip.check = mend(ip.check, before, ip.version_ihl | ip.tos << 8);
	if (d->ttl < ip.ttl)
		set_ttl(&ip, d->ttl);
	return bpf_xdp_store_bytes(ctx, d->inner, &ip, sizeof(ip)) ? REASON_BAD_INNER : REASON_NONE;
}

static __always_inline enum reason copy_in6(struct xdp_md *ctx, const struct decap *d)
{
	struct ipv6hdr ip;
	int class;

	if (bpf_xdp_load_bytes(ctx, d->inner, &ip, sizeof(ip)))
		return REASON_BAD_INNER;
	class = merge_ecn(d->tos, traffic_class(&ip));
	if (class < 0)
		return REASON_ECN;
	ip.version_class_label = (ip.version_class_label & htonl(0xf00fffff)) | htonl((__u32) class << 20);
	if (d->ttl < ip.hop_limit)
		ip.hop_limit = d->ttl;
	return bpf_xdp_store_bytes(ctx, d->inner, &ip, sizeof(ip)) ? REASON_BAD_INNER : REASON_NONE;
}

/* What a tunnel's end copies in: ECN (RFC 6040 section 4.2), DSCP (RFC 2983 section 4.1) and the hops that it took. */
__separate int copy_in(struct xdp_md *ctx, struct decap *d)
{
	if (!d)
		return REASON_BAD_INNER;
	return d->inner_family == 4 ? copy_in4(ctx, d) : copy_in6(ctx, d);
}

/* The way to the second hop. Until it is known, that is the way that the packet came: a router is likely there. */
static __always_inline void find_hop(struct xdp_md *ctx, const struct decap *d, struct hop *to)
{
	struct ethhdr eth;
	struct hop *hop;
	__be32 key[4]; /* Linux 6.1 takes no key from memory that came as an argument */

	__builtin_memcpy(key, d->second, sizeof(key));
	hop = bpf_map_lookup_elem(&hops, key);
	if (hop) {
		*to = *hop;
		return;
	}
	bpf_ringbuf_output(&wanted, key, sizeof(key), 0);
	to->ifindex = ctx->ingress_ifindex;
	if (bpf_xdp_load_bytes(ctx, 0, &eth, sizeof(eth)))
		return;
	__builtin_memcpy(to->dst_mac, eth.src, MAC_LEN);
	__builtin_memcpy(to->src_mac, eth.dst, MAC_LEN);
}

/* The packet to the second hop names none any more. The headers that stay are moved over the private data. */
static __always_inline int readdress4(struct xdp_md *ctx, const struct decap *d)
{
	struct {
		struct iphdr ip;
		struct udphdr udp;
		struct guehdr gue;
	} h;

	if (bpf_xdp_load_bytes(ctx, d->outer, &h, sizeof(h)))
		return 0;
	h.ip.tot_len = htons(ntohs(h.ip.tot_len) - d->hops_len);
	h.ip.ttl--;
	h.ip.daddr = d->second[3];
	h.ip.check = 0;
	h.ip.check = ~fold(bpf_csum_diff(NULL, 0, &h.ip, sizeof(h.ip), 0));
	h.udp.len = htons(ntohs(h.udp.len) - d->hops_len);
	h.gue.hlen = 0;
	return !bpf_xdp_store_bytes(ctx, d->outer + d->hops_len, &h, sizeof(h));
}

static __always_inline int readdress6(struct xdp_md *ctx, const struct decap *d)
{
	struct {
		struct ipv6hdr ip;
		struct udphdr udp;
		struct guehdr gue;
	} h;

	if (bpf_xdp_load_bytes(ctx, d->outer, &h, sizeof(h)))
		return 0;
	h.ip.payload_len = htons(ntohs(h.ip.payload_len) - d->hops_len);
	h.ip.hop_limit--;
	__builtin_memcpy(h.ip.daddr, d->second, 16);
	h.udp.len = htons(ntohs(h.udp.len) - d->hops_len);
	h.gue.hlen = 0;
	return !bpf_xdp_store_bytes(ctx, d->outer + d->hops_len, &h, sizeof(h));
}

static __always_inline int leave(struct xdp_md *ctx, const struct hop *to)
{
	__u32 ifindex = to->ifindex;
	__u32 *flags = bpf_map_lookup_elem(&real_uplinks, &ifindex);

	if (ifindex == ctx->ingress_ifindex && !(flags && *flags & REAL_REDIRECT))
		return XDP_TX;
	return bpf_redirect(ifindex, 0);
}

__separate int pass_on(struct xdp_md *ctx, struct decap *d)
{
	__be16 proto;
	struct hop to = {};

	if (!d || d->ttl <= 1)
		return drop(REASON_TTL_EXPIRED);
	if (d->second_family != d->outer_family)
		return drop(REASON_NO_ROUTE);
	find_hop(ctx, d, &to);
	if (!(d->outer_family == 4 ? readdress4(ctx, d) : readdress6(ctx, d)))
		return drop(REASON_TRUNCATED);
	proto = d->outer_family == 6 ? htons(ETH_P_IPV6) : htons(ETH_P_IP);
	if (!move_ethernet(ctx, d->outer, d->hops_len, proto) || bpf_xdp_store_bytes(ctx, 0, to.dst_mac, 2 * MAC_LEN))
		return drop(REASON_TRUNCATED);
	count_packet(TAKEN_ON, d->inner_len);
	return leave(ctx, &to);
}

SEC("xdp")
int real(struct xdp_md *ctx)
{
	enum reason why = REASON_NONE;
	struct decap d = {};

	switch (parse_outer(ctx, &d, &why)) {
	case OUTER_OTHER:
		return XDP_PASS;
	case OUTER_REFUSE:
		return drop(why);
	case OUTER_MINE:
		break;
	}
	why = check_inner(ctx, &d);
	if (why != REASON_NONE)
		return drop(why);
	if (d.second_family && !belongs_here(ctx, &d))
		return pass_on(ctx, &d);
	why = copy_in(ctx, &d);
	if (why != REASON_NONE)
		return drop(why);
	return take(ctx, &d);
}

char program_license[] SEC("license") = "Dual BSD/GPL";
