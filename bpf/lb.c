//go:build ignore

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The balancer, on the uplink of an LB: a packet for a VIP leaves for one of the VIP's reals. */
#include "headers/kernel.h"
#include "headers/reason.h"
#include "headers/maps.h"
#include "headers/packet.h"
#include "headers/flow.h"
#include "headers/choose.h"
#include "headers/encap.h"
#include "headers/fast.h"
#include "headers/reply.h"
#include "headers/icmp.h"
#include "headers/trace.h"

/* A packet that no VIP can take is dropped if its address is a VIP's; any other is for the kernel to judge. */
__separate int refuse(struct packet *p, __u32 why)
{
	if (!p)
		return XDP_DROP;
	return find_address(p) ? refused(p, why) : XDP_PASS;
}

/* One hop less, as a router does it. Gives what is left, 0 if it may not be forwarded. */
static __always_inline __u8 decrement_ttl(const struct packet *p, void *l3)
{
	struct ipv6hdr *ip6 = l3;
	struct iphdr *ip = l3;

	if (p->family == 6)
		return ip6->hop_limit <= 1 ? 0 : --ip6->hop_limit;
	if (ip->ttl <= 1)
		return 0;
	set_ttl(ip, ip->ttl - 1);
	return ip->ttl;
}

static __always_inline __u8 current_ttl(const struct packet *p, const void *l3)
{
	return p->family == 6 ? ((const struct ipv6hdr *)l3)->hop_limit : ((const struct iphdr *)l3)->ttl;
}

static __always_inline void describe_second(struct outer *o, const struct packet *p)
{
	struct real *second;

	if (likely(!p->second))
		return;
	second = find_real(p->second);
	if (!second)
		return;
	__builtin_memcpy(o->second, second->addr, 16);
	o->second_family = second->flags & REAL_IPV6 ? 6 : 4;
}

static __always_inline __be16 ethertype(const struct packet *p, const struct real *real)
{
	if (real->kind == KIND_L2)
		return p->family == 6 ? htons(ETH_P_IPV6) : htons(ETH_P_IP);
	return real->flags & REAL_IPV6 ? htons(ETH_P_IPV6) : htons(ETH_P_IP);
}

/* Makes the frame towards the real. On REASON_NONE it is ready to leave. */
static __always_inline enum reason wrap(struct xdp_md *ctx, const struct packet *p, const struct outer *o,
					const struct real *real, __u32 grows)
{
	int delta = (int)p->l3 - (int)grows - (int)(sizeof(struct ethhdr) + (real->tags & 3) * sizeof(struct vlanhdr));
	void *at, *data_end;

	if (delta && bpf_xdp_adjust_head(ctx, delta))
		return REASON_NO_HEADROOM;
	data_end = (void *)(long)ctx->data_end;
	at = write_ethernet((void *)(long)ctx->data, data_end, real, ethertype(p, real));
	if (!at || (o->kind != KIND_L2 && !write_outer(at, data_end, o, real)))
		return REASON_TRUNCATED;
	return REASON_NONE;
}

static __always_inline int send(struct xdp_md *ctx, struct packet *p, const struct real *real)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *l3 = (void *)(long)ctx->data + l3_offset(p);
	struct outer o = {.hash = p->hash, .inner_len = p->len, .tos = p->tos, .kind = real->kind};
	enum reason why;
	__u32 grows;

	o.inner_proto = p->family == 6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	describe_second(&o, p);
	grows = overhead(&o, real);
	if (l3 + (p->family == 6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) > data_end)
		return refused(p, REASON_TRUNCATED);
	if (current_ttl(p, l3) <= 1)
		return refused(p, REASON_TTL_EXPIRED);
	if (unlikely(p->len + grows > real->mtu))
		return too_big(ctx, p, real->mtu - grows);
	o.ttl = decrement_ttl(p, l3);
	why = wrap(ctx, p, &o, real, grows);
	if (why != REASON_NONE)
		return refused(p, why);
	if (!p->dry)
		count_sent(p->vip - 1, p->len);
	if (real->ifindex == ctx->ingress_ifindex && !(real->flags & REAL_REDIRECT))
		return XDP_TX;
	return bpf_redirect(real->ifindex, 0);
}

__separate int forward(struct xdp_md *ctx, struct packet *p)
{
	struct real *real;

	if (!p)
		return XDP_DROP;
	real = find_real(p->real);
	if (!real)
		return refused(p, REASON_NO_REAL);
	if (!real->ifindex)
		return refused(p, REASON_NO_NEXT_HOP);
	return send(ctx, p, real);
}

/* Finds the real of a later fragment. Gives a verdict, or -1 if p->real is to have it. */
static __noinline int decide_fragment(struct xdp_md *ctx, struct packet *p)
{
	int verdict;

	if (recall_fragment(p))
		return -1;
	verdict = refuse(p, REASON_FRAGMENT_EARLY);
	if (verdict == XDP_DROP)
		hold(ctx, p);
	return verdict;
}

/* Finds the real of a packet that has been parsed. Gives a verdict, or -1 if p->real is to have it. */
__separate int decide(struct xdp_md *ctx, struct packet *p)
{
	struct vip *vip;
	enum reason why;

	if (!p)
		return XDP_DROP;
	if (unlikely(p->flags & PACKET_LATER))
		return decide_fragment(ctx, p);
	vip = find_vip(p);
	if (!vip)
		return p->flags & PACKET_ERROR ? refused(p, REASON_ICMP_UNHANDLED) : XDP_PASS;
	p->vip = vip->index + 1;
	why = choose(p, vip);
	if (why != REASON_NONE)
		return refused(p, why);
	if (unlikely(p->flags & PACKET_FIRST) && p->real)
		remember_fragment(p);
	return -1;
}

static __always_inline enum parsed parse(struct xdp_md *ctx, struct packet *p, enum reason *why)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct vlanhdr *tag = (void *)(eth + 1);
	__be16 proto;

	if ((void *)(eth + 1) > data_end)
		return PARSED_OTHER;
	proto = eth->proto;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (likely(!is_tag(proto)))
			break;
		if ((void *)(tag + 1) > data_end)
			return PARSED_TRUNCATED;
		proto = tag->proto;
		tag++;
	}
	p->l3 = (void *)tag - (void *)eth;
	if (proto == htons(ETH_P_IP))
		return parse_ip(p, (void *)tag, data_end, why);
	if (proto == htons(ETH_P_IPV6))
		return parse_ip6(ctx, p, (void *)tag, data_end, why);
	return PARSED_OTHER;
}

static __always_inline int balance(struct xdp_md *ctx, struct packet *p)
{
	enum reason why = REASON_NONE;
	int verdict;

	switch (parse(ctx, p, &why)) {
	case PARSED_OTHER:
		return XDP_PASS;
	case PARSED_TRUNCATED:
		return refused(p, REASON_TRUNCATED);
	case PARSED_REFUSE:
		return refuse(p, why);
	case PARSED_ICMP:
		verdict = take_icmp(ctx, p);
		if (verdict >= 0)
			return verdict;
		break;
	case PARSED_FLOW:
		break;
	}
	verdict = decide(ctx, p);
	return verdict >= 0 ? verdict : forward(ctx, p);
}

/* The long way, of which a trace can be had. */
__separate int go_long_way(struct xdp_md *ctx)
{
	int capturing = capture.until != 0, verdict;
	struct packet p = {};

	p.dry = is_dry(ctx);
	if (unlikely(capturing))
		capture_in(ctx);
	verdict = balance(ctx, &p);
	if (unlikely(p.dry))
		explain(&p, verdict);
	else if (unlikely(capturing))
		capture_out(ctx, &p, verdict);
	return verdict;
}

SEC("xdp")
int lb(struct xdp_md *ctx)
{
	int verdict;

	if (likely(!capture.until && !is_dry(ctx))) {
		verdict = balance_plain(ctx);
		if (likely(verdict != LONG_WAY))
			return verdict;
	}
	return go_long_way(ctx);
}

char program_license[] SEC("license") = "Dual BSD/GPL";
