/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the balancer answers itself, back the way the packet came: echo requests, and packets that are too big. */
#ifndef ANYCASTLE_REPLY_H
#define ANYCASTLE_REPLY_H

#include "checksum.h"
#include "packet.h"

#define REPLY_TTL 64
/* How much of a packet that is too big goes back: RFC 1812 section 4.3.2.3 and RFC 4443 section 2.4 bound it. */
#define EMBED4	   512
#define EMBED6	   1024
#define CSUM_CHUNK 512 /* the most that the kernel sums in one go */

/* Senders are told of at most so many packets a second on each CPU (RFC 4443 section 2.4 f). */
#define TOO_BIG_RATE  1000
#define TOO_BIG_BURST 1000
#define SECOND	      1000000000ULL

struct bucket {
	__u64 at; /* ns on the monotonic clock */
	__u64 tokens;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

static __always_inline int take_token(void)
{
	__u32 index = 0;
	struct bucket *b = bpf_map_lookup_elem(&buckets, &index);
	__u64 now = bpf_ktime_get_ns(), passed;

	if (!b)
		return 0;
	passed = now - b->at;
	if (!b->at || passed >= SECOND) {
		b->tokens = TOO_BIG_BURST;
		b->at = now;
	} else if (passed >= SECOND / TOO_BIG_RATE) {
		b->tokens += passed / (SECOND / TOO_BIG_RATE);
		b->at = now;
	}
	if (b->tokens > TOO_BIG_BURST)
		b->tokens = TOO_BIG_BURST;
	if (!b->tokens)
		return 0;
	b->tokens--;
	return 1;
}

static __always_inline void count_reply(const struct packet *p, enum reply which)
{
	__u32 index = which;
	__u64 *count = bpf_map_lookup_elem(&replies, &index);

	if (count && !p->dry)
		(*count)++;
}

/* Does the source stand for a single host? Nothing is said to any other (RFC 1122 section 3.2.2, RFC 4443 section 2.4
 * e). */
static __always_inline int is_host(const struct packet *p)
{
	const __be32 *src = p->flow.src;
	__u8 first = src[0] & 0xff;

	if (p->family == 4)
		return first != 0 && first != 127 && first < 224;
	return first != 0xff && (src[0] | src[1] | src[2] || ntohl(src[3]) > 1);
}

/* Swaps the MAC addresses and gives the verdict. */
static __always_inline int turn_round(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	__u32 ifindex = ctx->ingress_ifindex;
	__u8 mac[MAC_LEN];
	__u32 *flags;

	if ((void *)(eth + 1) > data_end)
		return XDP_DROP;
	__builtin_memcpy(mac, eth->dst, MAC_LEN);
	__builtin_memcpy(eth->dst, eth->src, MAC_LEN);
	__builtin_memcpy(eth->src, mac, MAC_LEN);
	flags = bpf_map_lookup_elem(&uplinks, &ifindex);
	if (flags && *flags & REAL_REDIRECT)
		return bpf_redirect(ifindex, 0);
	return XDP_TX;
}

/* An IPv4 echo request becomes its reply. */
static __always_inline int turn_echo4(void *l3, const void *data_end)
{
	struct iphdr *ip = l3;
	struct icmphdr *icmp = (void *)(ip + 1);
	__be32 client = ip->saddr;

	if ((const void *)(icmp + 1) > data_end)
		return 0;
	ip->saddr = ip->daddr;
	ip->daddr = client;
	set_ttl(ip, REPLY_TTL);
	/*
	 * What is left may be all zeros, and then 0 would be wrong; 0xffff is right whenever 0 is (RFC 1624 section 3).
	 * An IP header and a sum over ICMPv6 are never all zeros.
	 */
	icmp->check = mend(icmp->check, ICMP_ECHO, ICMP_ECHOREPLY) ?: 0xffff;
	icmp->type = ICMP_ECHOREPLY;
	return 1;
}

static __always_inline int turn_echo6(void *l3, const void *data_end)
{
	struct ipv6hdr *ip = l3;
	struct icmphdr *icmp = (void *)(ip + 1);
	__be32 client[4];

	if ((const void *)(icmp + 1) > data_end)
		return 0;
	__builtin_memcpy(client, ip->saddr, 16);
	__builtin_memcpy(ip->saddr, ip->daddr, 16);
	__builtin_memcpy(ip->daddr, client, 16);
	ip->hop_limit = REPLY_TTL;
	icmp->check = mend(icmp->check, ICMPV6_ECHO, ICMPV6_ECHOREPLY);
	icmp->type = ICMPV6_ECHOREPLY;
	return 1;
}

/* Answers an echo request whose ICMP header follows the IP header at once. */
static __noinline int echo(struct xdp_md *ctx, struct packet *p)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	__u64 l3 = l3_offset(p);

	if (!(p->family == 4 ? turn_echo4(data + l3, data_end) : turn_echo6(data + l3, data_end)))
		return refused(p, REASON_TRUNCATED);
	count_reply(p, REPLY_ECHO);
	return turn_round(ctx);
}

struct too_big4 {
	struct iphdr ip;
	struct icmphdr icmp;
};

struct too_big6 {
	struct ipv6hdr ip;
	struct icmphdr icmp;
};

/* Puts room for a header between Ethernet and IP, and cuts the packet behind the part that goes back. */
static __always_inline int make_room(struct xdp_md *ctx, __u64 l3, int header, int embed)
{
	__u8 l2[32] __attribute__((aligned(8))); /* more than l3_offset can give */
	__u32 len = bpf_xdp_get_buff_len(ctx);

	if (len < l3 + embed)
		return 0;
	if (bpf_xdp_load_bytes(ctx, 0, l2, l3) || bpf_xdp_adjust_head(ctx, -header))
		return 0;
	if (bpf_xdp_store_bytes(ctx, 0, l2, l3))
		return 0;
	return !bpf_xdp_adjust_tail(ctx, (int)(l3 + embed) - (int)len);
}

/* The sum of what goes back, on top of sum. It begins at an offset in the frame. */
static __always_inline __u32 sum_chunk(struct xdp_md *ctx, __u64 at, __u32 sum)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;

	if (at > 2 * CSUM_CHUNK || data + at + CSUM_CHUNK > data_end)
		return 0;
	return bpf_csum_diff(NULL, 0, data + at, CSUM_CHUNK, sum);
}

/* RFC 1191 section 4. */
static __noinline int too_big4(struct xdp_md *ctx, struct packet *p, __u32 mtu)
{
	struct too_big4 h = {
		.ip = {.version_ihl = 0x45,
		       .tot_len = htons(sizeof(h) + EMBED4),
		       .frag_off = htons(IP_DF),
		       .ttl = REPLY_TTL,
		       .protocol = IPPROTO_ICMP,
		       .saddr = p->flow.dst[0],
		       .daddr = p->flow.src[0]},
		.icmp = {.type = ICMP_UNREACHABLE, .code = ICMP_FRAG_NEEDED, .mtu = htons(mtu)},
	};
	__u64 l3 = l3_offset(p);
	__u32 sum;

	if (!make_room(ctx, l3, sizeof(h), EMBED4))
		return 0;
	h.ip.check = ~fold(bpf_csum_diff(NULL, 0, &h.ip, sizeof(h.ip), 0));
	sum = bpf_csum_diff(NULL, 0, &h.icmp, sizeof(h.icmp), 0);
	h.icmp.check = ~fold(sum_chunk(ctx, l3 + sizeof(h), sum));
	return !bpf_xdp_store_bytes(ctx, l3, &h, sizeof(h));
}

/* RFC 4443 section 3.2. */
static __noinline int too_big6(struct xdp_md *ctx, struct packet *p, __u32 mtu)
{
	struct {
		__be32 len;
		__be32 next;
	} pseudo = {htonl(sizeof(struct icmphdr) + EMBED6), htonl(IPPROTO_ICMPV6)};
	struct too_big6 h = {
		.ip = {.version_class_label = htonl(6 << 28),
		       .payload_len = htons(sizeof(h.icmp) + EMBED6),
		       .next = IPPROTO_ICMPV6,
		       .hop_limit = REPLY_TTL},
		.icmp = {.type = ICMPV6_TOO_BIG, .mtu = htons(mtu)},
	};
	__u64 l3 = l3_offset(p);
	__u32 sum;

	if (!make_room(ctx, l3, sizeof(h), EMBED6))
		return 0;
	__builtin_memcpy(h.ip.saddr, p->flow.dst, 16);
	__builtin_memcpy(h.ip.daddr, p->flow.src, 16);
	sum = bpf_csum_diff(NULL, 0, h.ip.saddr, 32, 0);
	sum = bpf_csum_diff(NULL, 0, (void *)&pseudo, sizeof(pseudo), sum);
	sum = bpf_csum_diff(NULL, 0, &h.icmp, sizeof(h.icmp), sum);
	sum = sum_chunk(ctx, l3 + sizeof(h), sum);
	h.icmp.check = ~fold(sum_chunk(ctx, l3 + sizeof(h) + CSUM_CHUNK, sum));
	return !bpf_xdp_store_bytes(ctx, l3, &h, sizeof(h));
}

/* Tells the sender what would fit. */
__separate int too_big(struct xdp_md *ctx, struct packet *p, __u32 mtu)
{
	int done;

	if (!p)
		return XDP_DROP;
	if (p->flags & (PACKET_LATER | PACKET_ERROR) || p->len < (p->family == 4 ? EMBED4 : EMBED6) || !is_host(p))
		return refused(p, REASON_TOO_BIG);
	if (!p->dry && !take_token())
		return refused(p, REASON_ICMP_LIMITED);
	done = p->family == 4 ? too_big4(ctx, p, mtu) : too_big6(ctx, p, mtu);
	if (!done)
		return refused(p, REASON_TOO_BIG);
	p->real = 0;
	count_reply(p, REPLY_TOO_BIG);
	return turn_round(ctx);
}

#endif
