/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Whose is an established flow: this host's, or the one's that had it before? */
#ifndef ANYCASTLE_SOCKET_H
#define ANYCASTLE_SOCKET_H

#include "decap.h"
#include "embedded.h"

#define MAX_DECISIONS 65536

/* Packets that came in fragments, whose first one decided. The value says whether they belong here. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_DECISIONS);
	__type(key, struct fragment_key);
	__type(value, __u8);
	__uint(pinning, PIN_BY_NAME);
} decisions SEC(".maps");

/* An inner packet on its way to a socket. */
struct inner {
	struct flow flow;
	__be32 id;
	__u32 l4; /* offset in the frame */
	__u8 fragment;
	__u8 flags;  /* of TCP */
	__u8 turned; /* an ICMP error: flow is the other way round than the packet that it is about */
	__u8 pad;
};

static __always_inline int read_inner4(struct xdp_md *ctx, const struct decap *d, struct inner *in)
{
	struct iphdr ip;

	if (bpf_xdp_load_bytes(ctx, d->inner, &ip, sizeof(ip)))
		return 0;
	in->flow.src[0] = ip.saddr;
	in->flow.dst[0] = ip.daddr;
	in->flow.proto = ip.protocol;
	in->id = ip.id;
	in->l4 = d->inner + header_len(&ip);
	if (ip.frag_off & htons(IP_OFFSET))
		in->fragment = WALK_LATER;
	else if (ip.frag_off & htons(IP_MF_OFFSET))
		in->fragment = WALK_FIRST;
	return 1;
}

static __always_inline int read_inner6(struct xdp_md *ctx, const struct decap *d, struct inner *in)
{
	struct walk w = {.at = d->inner + sizeof(struct ipv6hdr), .end = d->inner + d->inner_len};
	struct ipv6hdr ip;

	if (bpf_xdp_load_bytes(ctx, d->inner, &ip, sizeof(ip)))
		return 0;
	w.proto = ip.next;
	if (walk_headers(ctx, &w) != REASON_NONE)
		return 0;
	__builtin_memcpy(in->flow.src, ip.saddr, 16);
	__builtin_memcpy(in->flow.dst, ip.daddr, 16);
	in->flow.proto = w.proto;
	in->id = w.id;
	in->l4 = w.at;
	in->fragment = w.fragment;
	return 1;
}

/* Reads the ports, those of the embedded packet for an ICMP error. Gives 0 if there is no TCP flow to be asked for. */
static __noinline int read_ports(struct xdp_md *ctx, const struct decap *d, struct inner *in)
{
	__u8 tcp[16] __attribute__((aligned(8)));
	struct icmphdr icmp;
	struct flow about = {};
	__be16 *ports = (void *)tcp;
	__u32 at = in->l4, end = d->inner + d->inner_len;

	if (in->flow.proto == (d->inner_family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		if (at + sizeof(icmp) > end || bpf_xdp_load_bytes(ctx, at, &icmp, sizeof(icmp)) ||
		    !is_error(d->inner_family, icmp.type))
			return 0;
		at += sizeof(icmp);
		at = d->inner_family == 4 ? embedded4(ctx, at, &about) : embedded6(ctx, at, end, &about);
		if (!at || at + 4 > end || about.proto != IPPROTO_TCP || bpf_xdp_load_bytes(ctx, at, tcp, 4))
			return 0;
		__builtin_memcpy(in->flow.src, about.dst, 16);
		__builtin_memcpy(in->flow.dst, about.src, 16);
		in->flow.src_port = ports[1];
		in->flow.dst_port = ports[0];
		in->turned = 1;
		return 1;
	}
	if (in->flow.proto != IPPROTO_TCP || at + TCP_HEADER_LEN > end || bpf_xdp_load_bytes(ctx, at, tcp, sizeof(tcp)))
		return 0;
	in->flow.src_port = ports[0];
	in->flow.dst_port = ports[1];
	in->flags = tcp[TCP_FLAGS_AT];
	return (in->flags & (TCP_SYN | TCP_ACK)) != TCP_SYN;
}

static __always_inline struct bpf_sock *find_socket(struct xdp_md *ctx, const struct flow *f, __u8 family)
{
	if (family == 4) {
		struct tuple4 t = {f->src[0], f->dst[0], f->src_port, f->dst_port};

		return bpf_skc_lookup_tcp(ctx, &t, sizeof(t), BPF_F_CURRENT_NETNS, 0);
	}
	struct tuple6 t = {.sport = f->src_port, .dport = f->dst_port};

	__builtin_memcpy(t.saddr, f->src, 16);
	__builtin_memcpy(t.daddr, f->dst, 16);
	return bpf_skc_lookup_tcp(ctx, &t, sizeof(t), BPF_F_CURRENT_NETNS, 0);
}

/* Does the ACK answer a SYN cookie of this listener? Then the flow has no socket yet, and is ours all the same. */
static __always_inline int is_cookie(struct xdp_md *ctx, const struct decap *d, const struct inner *in,
				     struct bpf_sock *listener)
{
	__u8 ip[40] __attribute__((aligned(8))), tcp[20] __attribute__((aligned(8)));
	__u32 len = d->inner_family == 4 ? 20 : 40;

	if (in->turned || bpf_xdp_load_bytes(ctx, in->l4, tcp, sizeof(tcp)) ||
	    bpf_xdp_load_bytes(ctx, d->inner, ip, len))
		return 0;
	return bpf_tcp_check_syncookie(listener, ip, len, tcp, sizeof(tcp)) == 0;
}

static __noinline int has_socket(struct xdp_md *ctx, const struct decap *d, const struct inner *in)
{
	struct bpf_sock *sk = find_socket(ctx, &in->flow, d->inner_family);
	int here;

	if (!sk)
		return 0;
	here = sk->state != TCP_STATE_LISTEN || is_cookie(ctx, d, in, sk);
	bpf_sk_release(sk);
	return here;
}

static __always_inline void decision_key(struct fragment_key *key, const struct inner *in, __u8 family)
{
	__builtin_memcpy(key->src, in->flow.src, 16);
	__builtin_memcpy(key->dst, in->flow.dst, 16);
	key->id = in->id;
	key->proto = in->flow.proto;
	key->family = family;
	key->pad[0] = key->pad[1] = 0;
}

/* A later fragment without a known first one stays here: it has no flow that could be asked for. */
static __noinline int recall_decision(const struct inner *in, __u8 family)
{
	struct fragment_key key;
	__u8 *here;

	decision_key(&key, in, family);
	here = bpf_map_lookup_elem(&decisions, &key);
	return !here || *here;
}

static __noinline void remember_decision(const struct inner *in, __u8 family, __u8 here)
{
	struct fragment_key key;

	decision_key(&key, in, family);
	bpf_map_update_elem(&decisions, &key, &here, 0);
}

/*
 * New flows do, and so do those that a socket here knows. Everything but TCP does: it has no state to go by.
 */
__separate int belongs_here(struct xdp_md *ctx, struct decap *d)
{
	struct inner in = {};
	int here;

	if (!d || !(d->inner_family == 4 ? read_inner4(ctx, d, &in) : read_inner6(ctx, d, &in)))
		return 1;
	if (in.fragment == WALK_LATER)
		return recall_decision(&in, d->inner_family);
	here = !read_ports(ctx, d, &in) || has_socket(ctx, d, &in);
	if (in.fragment == WALK_FIRST)
		remember_decision(&in, d->inner_family, here);
	return here;
}

#endif
