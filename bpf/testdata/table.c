/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * A balancer of the kind that keeps connections: the real of a flow is chosen by its first packet, stored, and looked
 * up for every later one. It is here for the benchmarks, which measure lb.c beside it, so it does no more than that
 * needs: IPv4 TCP without options, IP in IP, XDP_TX. It shares neither code nor maps with lb.c.
 */
#include "../headers/kernel.h"

#define RING_SIZE 65536
#define TCP_SYN	  0x02

struct service {
	__be32 addr;
	__be16 port;
	__u16 proto;
};

struct connection {
	__be32 src;
	__be32 dst;
	__be16 src_port;
	__be16 dst_port;
	__u32 proto;
};

struct server {
	__be32 addr;
	__be32 source;
	__u8 dst_mac[MAC_LEN];
	__u8 src_mac[MAC_LEN];
};

struct sum {
	__u64 packets;
	__u64 bytes;
};

struct tcp {
	__be16 src_port;
	__be16 dst_port;
	__u32 seq;
	__u32 ack;
	__u8 offset;
	__u8 flags;
	__u16 window;
	__u16 check;
	__u16 urgent;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct service);
	__type(value, __u32); /* index into sums */
} services SEC(".maps");

/* The loader sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct connection);
	__type(value, __u32); /* index into servers */
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RING_SIZE);
	__type(key, __u32);
	__type(value, __u32); /* index into servers */
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct server);
} servers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct sum);
} sums SEC(".maps");

/* Multiply and shift: as cheap as a hash can be, so that what is measured is the table. */
static __always_inline __u32 place(const struct connection *c)
{
	__u64 x = ((__u64)c->src << 32 | c->dst) ^ ((__u64)c->src_port << 16 | c->dst_port) * 0x9e3779b97f4a7c15ULL;

	x *= 0xff51afd7ed558ccdULL;
	return x >> 48;
}

static __always_inline struct server *choose(const struct connection *c, __u8 flags)
{
	__u32 index, *stored = NULL;

	if (!(flags & TCP_SYN))
		stored = bpf_map_lookup_elem(&connections, c);
	if (!stored) {
		index = place(c);
		stored = bpf_map_lookup_elem(&ring, &index);
		if (!stored)
			return NULL;
		bpf_map_update_elem(&connections, c, stored, 0);
	}
	index = *stored;
	return bpf_map_lookup_elem(&servers, &index);
}

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline int wrap(struct xdp_md *ctx, const struct server *server, __u8 tos, __u8 ttl, __u16 inner_len)
{
	const __u16 *word;
	struct ethhdr *eth;
	struct iphdr *ip;
	__u32 total = 0;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*ip)))
		return XDP_DROP;
	eth = (void *)(long)ctx->data;
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	__builtin_memcpy(eth->dst, server->dst_mac, MAC_LEN);
	__builtin_memcpy(eth->src, server->src_mac, MAC_LEN);
	eth->proto = htons(ETH_P_IP);
	ip->version_ihl = 0x45;
	ip->tos = tos;
	ip->tot_len = htons(inner_len + sizeof(*ip));
	ip->id = 0;
	ip->frag_off = htons(IP_DF);
	ip->ttl = ttl;
	ip->protocol = IPPROTO_IPIP;
	ip->check = 0;
	ip->saddr = server->source;
	ip->daddr = server->addr;
	word = (const __u16 *)ip;
#pragma unroll
	for (int i = 0; i < (int)(sizeof(*ip) / 2); i++)
		total += word[i];
	ip->check = ~fold(total);
	return XDP_TX;
}

SEC("xdp")
int table(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcp *tcp = (void *)(ip + 1);
	struct connection c = {};
	struct service key = {};
	struct server *server;
	__u32 *index;
	struct sum *sum;

	if ((void *)(tcp + 1) > data_end || eth->proto != htons(ETH_P_IP) || ip->version_ihl != 0x45 ||
	    ip->protocol != IPPROTO_TCP || ip->frag_off & htons(IP_MF_OFFSET))
		return XDP_PASS;
	key.addr = c.dst = ip->daddr;
	key.port = c.dst_port = tcp->dst_port;
	key.proto = c.proto = IPPROTO_TCP;
	c.src = ip->saddr;
	c.src_port = tcp->src_port;
	index = bpf_map_lookup_elem(&services, &key);
	if (!index)
		return XDP_PASS;
	server = choose(&c, tcp->flags);
	if (!server || ip->ttl <= 1)
		return XDP_DROP;
	sum = bpf_map_lookup_elem(&sums, index);
	if (sum) {
		sum->packets++;
		sum->bytes += ntohs(ip->tot_len);
	}
	ip->check = fold(ip->check + htons(0x0100)); /* RFC 1624, for one hop less */
	ip->ttl--;
	return wrap(ctx, server, ip->tos, ip->ttl, ntohs(ip->tot_len));
}

char program_license[] SEC("license") = "Dual BSD/GPL";
