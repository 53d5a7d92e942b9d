//go:build ignore

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The balancer, on the uplink of an LB: a packet for a VIP leaves encapsulated for one of the VIP's reals. */
#include "headers/kernel.h"
#include "headers/reason.h"
#include "headers/maps.h"
#include "headers/parse.h"
#include "headers/hash.h"
#include "headers/encap.h"

/* The same on every LB of a site, so that all send a flow to the same real. Set before the program is loaded. */
volatile const __u64 hash_key[2];

static __always_inline struct vip *find_vip(__be32 addr, __be16 port, __u8 proto)
{
	struct vip_key key = {.addr = addr, .port = port, .proto = proto};

	return bpf_map_lookup_elem(&vips, &key);
}

/* A packet that no VIP can take is dropped if its address is a VIP's; any other is for the kernel to judge. */
static __always_inline int refuse(__be32 addr, enum reason why)
{
	return find_vip(addr, 0, 0) ? drop(why) : XDP_PASS;
}

static __always_inline struct real *select_real(const struct vip *vip, const struct flow *flow, enum reason *why)
{
	__u32 index = hash_flow(flow, hash_key[0], hash_key[1]) & (SLOTS - 1);
	__u32 farm = vip->farm;
	struct slot *slot;
	struct real *real;
	void *table;

	*why = REASON_NO_TABLE;
	table = bpf_map_lookup_elem(&farms, &farm);
	if (!table)
		return NULL;
	slot = bpf_map_lookup_elem(table, &index);
	if (!slot)
		return NULL;
	*why = REASON_NO_REAL;
	index = slot->primary;
	if (!index)
		return NULL;
	real = bpf_map_lookup_elem(&reals, &index);
	if (!real)
		return NULL;
	*why = REASON_NO_NEXT_HOP;
	return real->ifindex ? real : NULL;
}

static __always_inline void count_packet(const struct vip *vip, __u32 bytes)
{
	__u32 index = vip->index;
	struct count *count = bpf_map_lookup_elem(&counts, &index);

	if (!count)
		return;
	count->packets++;
	count->bytes += bytes;
}

SEC("xdp")
int lb(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct flow flow = {};
	struct iphdr *ip;
	struct real *real;
	struct vip *vip;
	enum reason why;
	__u32 bytes;

	if ((void *)(eth + 1) > data_end || eth->proto != htons(ETH_P_IP))
		return XDP_PASS;
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > data_end)
		return drop(REASON_TRUNCATED);
	switch (parse_flow(ip, data_end, &flow, &why)) {
	case PARSED_OTHER:
		return XDP_PASS;
	case PARSED_REFUSE:
		return refuse(flow.dst, why);
	case PARSED_FLOW:
		break;
	}
	vip = find_vip(flow.dst, flow.dst_port, flow.proto);
	if (!vip)
		return XDP_PASS;
	real = select_real(vip, &flow, &why);
	if (!real)
		return drop(why);
	bytes = ntohs(ip->tot_len);
	why = encapsulate(ctx, ip, real);
	if (why != REASON_NONE)
		return drop(why);
	count_packet(vip, bytes);
	if (real->ifindex == ctx->ingress_ifindex && !(real->flags & REAL_REDIRECT))
		return XDP_TX;
	return bpf_redirect(real->ifindex, 0);
}

char program_license[] SEC("license") = "Dual BSD/GPL";
