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
typedef int __s32;
typedef long long __s64;

#define NULL ((void *)0)

#define SEC(name)	__attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __noinline	__attribute__((noinline))
/*
 * A function without static in front is checked by the verifier once and by itself, and what it may write is unknown to
 * its callers: without that, every way through the parser would be followed through all the rest. It must check its
 * pointers.
 */
#define __separate  __attribute__((noinline))
#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
/* Keeps the compiler from testing one copy of a value and using another, of which the verifier knows no bounds. */
#define keep_bounds(x) asm volatile("" : "+r"(x))

/* How a map is described to the loader: by the types of the members of an anonymous struct. */
#define __uint(name, val)  int(*name)[val]
#define __type(name, val)  typeof(val) *name
#define __array(name, val) typeof(val) *name[]
#define PIN_BY_NAME	   1

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
};

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static __u64 (*const bpf_jiffies64)(void) = (void *)118;
static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)23;
static __s64 (*const bpf_csum_diff)(const void *from, __u32 from_size, const void *to, __u32 to_size,
				    __u32 seed) = (void *)28;
static long (*const bpf_ringbuf_output)(void *ring, const void *data, __u64 size, __u64 flags) = (void *)130;

struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
	__u32 priority;
	__u32 src_ip4;
	__u32 src_ip6[4];
	__u32 src_port;
	__be16 dst_port;
	__u16 pad;
	__u32 dst_ip4;
	__u32 dst_ip6[4];
	__u32 state;
};

/* The part of struct bpf_sock_tuple that a family has: addresses, then ports. */
struct tuple4 {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
};

struct tuple6 {
	__be32 saddr[4];
	__be32 daddr[4];
	__be16 sport;
	__be16 dport;
};

#define BPF_F_CURRENT_NETNS (-1L)
#define BPF_F_MMAPABLE	    (1 << 10)

static struct bpf_sock *(*const bpf_skc_lookup_tcp)(void *ctx, const void *tuple, __u32 size, __u64 netns,
						    __u64 flags) = (void *)99;
static long (*const bpf_sk_release)(void *sock) = (void *)86;
static long (*const bpf_tcp_check_syncookie)(void *sock, const void *ip, __u32 ip_len, const void *tcp,
					     __u32 tcp_len) = (void *)100;

enum {
	TCP_STATE_LISTEN = 10,
};

static long (*const bpf_xdp_adjust_head)(struct xdp_md *ctx, int delta) = (void *)44;
static long (*const bpf_xdp_adjust_tail)(struct xdp_md *ctx, int delta) = (void *)65;
static __u64 (*const bpf_xdp_get_buff_len)(struct xdp_md *ctx) = (void *)188;
static long (*const bpf_xdp_load_bytes)(struct xdp_md *ctx, __u32 offset, void *to, __u32 len) = (void *)189;
static long (*const bpf_xdp_store_bytes)(struct xdp_md *ctx, __u32 offset, const void *from, __u32 len) = (void *)190;

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

/* An 802.1Q or 802.1ad tag as it lies behind the protocol that announces it. */
struct vlanhdr {
	__be16 tci;
	__be16 proto;
};
_Static_assert(sizeof(struct vlanhdr) == 4, "tag");

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

struct ipv6hdr {
	__be32 version_class_label;
	__be16 payload_len;
	__u8 next;
	__u8 hop_limit;
	__be32 saddr[4];
	__be32 daddr[4];
};
_Static_assert(sizeof(struct ipv6hdr) == 40, "IPv6 header");

struct fraghdr {
	__u8 next;
	__u8 reserved;
	__be16 offset; /* in units of 8 bytes, in the upper 13 bits; the lowest: more fragments */
	__be32 id;
};
_Static_assert(sizeof(struct fraghdr) == 8, "IPv6 fragment header");

struct icmphdr {
	__u8 type;
	__u8 code;
	__u16 check;
	__be16 unused;
	__be16 mtu; /* of too big in IPv4; the lower half of that in IPv6 */
};
_Static_assert(sizeof(struct icmphdr) == 8, "ICMP header");

struct udphdr {
	__be16 source;
	__be16 dest;
	__be16 len;
	__u16 check;
};
_Static_assert(sizeof(struct udphdr) == 8, "UDP header");

enum {
	IPPROTO_HOPOPTS = 0,
	IPPROTO_ICMP = 1,
	IPPROTO_IPIP = 4,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
	IPPROTO_IPV6 = 41,
	IPPROTO_ROUTING = 43,
	IPPROTO_FRAGMENT = 44,
	IPPROTO_AH = 51,
	IPPROTO_ICMPV6 = 58,
	IPPROTO_DSTOPTS = 60,
};

enum {
	ICMP_ECHOREPLY = 0,
	ICMP_UNREACHABLE = 3,
	ICMP_FRAG_NEEDED = 4, /* a code of it */
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,

	ICMPV6_UNREACHABLE = 1,
	ICMPV6_TOO_BIG = 2,
	ICMPV6_PARAMETERPROB = 4,
	ICMPV6_ECHO = 128,
	ICMPV6_ECHOREPLY = 129,
	ICMPV6_ROUTER_SOLICIT = 133, /* the first of neighbour discovery's */
	ICMPV6_REDIRECT = 137,	     /* the last */
};

/* Objects are built for little-endian machines only (bpf2go -target bpfel). */
#define htons(x) ((__be16)__builtin_bswap16(x))
#define ntohs(x) ((__u16)__builtin_bswap16(x))

#define htonl(x) ((__be32)__builtin_bswap32(x))
#define ntohl(x) ((__u32)__builtin_bswap32(x))

#define ETH_P_IP       0x0800
#define ETH_P_8021Q    0x8100
#define ETH_P_IPV6     0x86dd
#define ETH_P_8021AD   0x88a8
#define IP_DF	       0x4000
#define IP_MF_OFFSET   0x3fff /* more fragments, or an offset: a part of a packet */
#define IP_OFFSET      0x1fff
#define IP6_OFFSET     0xfff8
#define IP6_MF	       0x0001
#define TCP_HEADER_LEN 20
#define TCP_FLAGS_AT   13
#define TCP_SYN	       0x02
#define TCP_ACK	       0x10
#define UDP_HEADER_LEN 8

#endif
