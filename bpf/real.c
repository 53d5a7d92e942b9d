//go:build ignore

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The far end of the balancer's encapsulation, on the uplink of a real: the inner packet goes up the stack. */
#include "headers/kernel.h"
#include "headers/abi.h"
#include "headers/reason.h"
#include "headers/parse.h"

#define MAX_ADDRESSES 1024

/* This host's own addresses: what an outer header may be addressed to. The value means nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ADDRESSES);
	__type(key, __be32);
	__type(value, __u8);
	__uint(pinning, PIN_BY_NAME);
} own_addresses SEC(".maps");

/* The addresses of the VIPs that this host answers for. The value means nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VIPS);
	__type(key, __be32);
	__type(value, __u8);
	__uint(pinning, PIN_BY_NAME);
} vip_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct count);
	__uint(pinning, PIN_BY_NAME);
} decapsulated SEC(".maps");

static __always_inline enum reason check_outer(const struct iphdr *outer, const void *data_end)
{
	enum reason why = check_ip(outer, data_end);

	if (why != REASON_NONE)
		return why;
	if (!bpf_map_lookup_elem(&own_addresses, &outer->daddr))
		return REASON_NOT_OWN;
	if (outer->frag_off & htons(IP_MF_OFFSET))
		return REASON_FRAGMENT;
	/* our balancers send no options, and a fixed header length spares the verifier and us a copy of variable size
	 */
	if (header_len(outer) != sizeof(*outer))
		return REASON_BAD_HEADER;
	return REASON_NONE;
}

static __always_inline enum reason check_inner(const struct iphdr *outer, const void *data_end)
{
	const struct iphdr *inner = outer + 1;

	if ((const void *)(inner + 1) > data_end)
		return REASON_BAD_INNER;
	if (check_ip(inner, data_end) != REASON_NONE)
		return REASON_BAD_INNER;
	if (ntohs(inner->tot_len) + sizeof(*outer) > ntohs(outer->tot_len))
		return REASON_BAD_INNER;
	if (!bpf_map_lookup_elem(&vip_addresses, &inner->daddr))
		return REASON_NOT_VIP;
	return REASON_NONE;
}

static __always_inline void count_packet(__u32 bytes)
{
	__u32 index = 0;
	struct count *count = bpf_map_lookup_elem(&decapsulated, &index);

	if (!count)
		return;
	count->packets++;
	count->bytes += bytes;
}

/* Moves the Ethernet header over the outer one and cuts off what is in front. */
static __always_inline int strip_outer(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct ethhdr saved;
	struct iphdr *inner;

	if ((void *)(eth + 1) > data_end)
		return drop(REASON_TRUNCATED);
	saved = *eth;
	if (bpf_xdp_adjust_head(ctx, sizeof(struct iphdr)))
		return drop(REASON_TRUNCATED);
	data_end = (void *)(long)ctx->data_end;
	eth = (void *)(long)ctx->data;
	inner = (void *)(eth + 1);
	if ((void *)(inner + 1) > data_end)
		return drop(REASON_TRUNCATED);
	*eth = saved;
	count_packet(ntohs(inner->tot_len));
	return XDP_PASS;
}

SEC("xdp")
int real(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *outer;
	enum reason why;

	if ((void *)(eth + 1) > data_end || eth->proto != htons(ETH_P_IP))
		return XDP_PASS;
	outer = (void *)(eth + 1);
	if ((void *)(outer + 1) > data_end || outer->protocol != IPPROTO_IPIP)
		return XDP_PASS;
	why = check_outer(outer, data_end);
	if (why == REASON_NONE)
		why = check_inner(outer, data_end);
	if (why != REASON_NONE)
		return drop(why);
	return strip_outer(ctx);
}

char program_license[] SEC("license") = "Dual BSD/GPL";
