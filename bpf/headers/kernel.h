/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The few kernel types, constants and helpers that the programs use, so that they compile with -nostdinc on any
 * machine. Layouts and numbers are the kernel's user interface and do not change.
 */
#ifndef ANYCASTLE_KERNEL_H
#define ANYCASTLE_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;

#define NULL ((void *)0)

#define SEC(name)	__attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))

/* How a map is described to the loader: by the types of the members of an anonymous struct. */
#define __uint(name, val)  int(*name)[val]
#define __type(name, val)  typeof(val) *name
#define __array(name, val) typeof(val) *name[]
#define PIN_BY_NAME	   1

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
};

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)23;

struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

static long (*const bpf_xdp_adjust_head)(struct xdp_md *ctx, int delta) = (void *)44;

enum xdp_action {
	XDP_ABORTED,
	XDP_DROP,
	XDP_PASS,
	XDP_TX,
	XDP_REDIRECT,
};

#define MAC_LEN 6

struct ethhdr {
	__u8 dst[MAC_LEN];
	__u8 src[MAC_LEN];
	__be16 proto;
};
_Static_assert(sizeof(struct ethhdr) == 14, "Ethernet header");

struct iphdr {
	__u8 version_ihl;
	__u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag_off;
	__u8 ttl;
	__u8 protocol;
	__u16 check;
	__be32 saddr;
	__be32 daddr;
};
_Static_assert(sizeof(struct iphdr) == 20, "IPv4 header");

enum {
	IPPROTO_IPIP = 4,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
};

/* Objects are built for little-endian machines only (bpf2go -target bpfel). */
#define htons(x) ((__be16)__builtin_bswap16(x))
#define ntohs(x) ((__u16)__builtin_bswap16(x))

#define ETH_P_IP       0x0800
#define IP_DF	       0x4000
#define IP_MF_OFFSET   0x3fff /* more fragments, or an offset: a part of a packet */
#define TCP_HEADER_LEN 20
#define UDP_HEADER_LEN 8

#endif
