//go:build ignore

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What becomes of new connections, on the uplinks of a real: how many came for each port of a VIP, how many were
 * answered, refused or reset. It counts, and lets every packet go on as it is.
 *
 * There are two programs, for the two directions of an interface, over the same maps. They see frames after an outer
 * header and an outermost tag have come off, and before a tag is put on; tags that are there all the same are stepped
 * over.
 */
#include "headers/kernel.h"
#include "headers/tc.h"

enum {
	BPF_MAP_TYPE_PERCPU_HASH = 5,
};
#define BPF_F_NO_PREALLOC 1
#define BPF_NOEXIST	  1

#define TCP_RST			0x04
#define ICMP_PORT_UNREACHABLE	3 /* codes of unreachable */
#define ICMPV6_PORT_UNREACHABLE 4

#define MAX_WATCHED	4096
#define MAX_ENDPOINTS	4096
#define MAX_TAGS	2
#define MAX_EXT_HEADERS 8

/* A port of a VIP, of which IPv4 is in the form ::ffff:a.b.c.d. Port 0 stands for all that have no entry. */
struct endpoint {
	__be32 vip[4];
	__be16 port;
	__u8 proto;
	__u8 pad;
};
_Static_assert(sizeof(struct endpoint) == 20, "endpoint");

struct tally {
	__u64 syns;	/* connections asked for, counted again each time that a client asks again */
	__u64 syn_acks; /* answers to these, likewise */
	__u64 refused;	/* by RST in answer to a SYN, or by ICMP port unreachable */
	__u64 resets;	/* every other RST that was sent */
};
_Static_assert(sizeof(struct tally) == 32, "tally");

/* The addresses to watch. The value means nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_WATCHED);
	__type(key, __be32[4]);
	__type(value, __u8);
	__uint(pinning, PIN_BY_NAME);
} watched SEC(".maps");

/*
 * A port gets an entry when it first answers a SYN, or from the control plane. Nobody outside can fill the map, as
 * asking for every port there is would do if a question were enough.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, MAX_ENDPOINTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct endpoint);
	__type(value, struct tally);
	__uint(pinning, PIN_BY_NAME);
} endpoints SEC(".maps");

/* Where the programs are, by interface index: what the control plane has to undo. The programs do not read it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
	__uint(pinning, PIN_BY_NAME);
} attached SEC(".maps");

enum event {
	EVENT_SYN,
	EVENT_SYN_ACK,
	EVENT_REFUSED,
	EVENT_RESET,
};

/* A packet, as far as it is of interest. */
struct view {
	__be32 src[4];
	__be32 dst[4];
	__u32 l4;   /* offset of what follows the IP header and its extensions */
	__u8 proto; /* of that */
};

/* The beginning of a TCP header, up to the flags. */
struct tcp_start {
	__be16 source;
	__be16 dest;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
};
#define TCP_START_LEN 14

static __always_inline void map_ip4(__be32 to[4], __be32 addr)
{
	to[0] = to[1] = 0;
	to[2] = htonl(0xffff);
	to[3] = addr;
}

/* A fragment other than the first has no header of the next layer. */
static __always_inline int parse_ip4(const struct __sk_buff *skb, __u32 offset, struct view *v)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
		return 0;
	if (ip.version_ihl >> 4 != 4 || ip.frag_off & htons(IP_OFFSET))
		return 0;
	map_ip4(v->src, ip.saddr);
	map_ip4(v->dst, ip.daddr);
	v->l4 = offset + (ip.version_ihl & 0xf) * 4;
	v->proto = ip.protocol;
	return 1;
}

/* A chain of more extension headers than MAX_EXT_HEADERS ends in one of them, which no caller looks for. */
static __always_inline int parse_ip6(const struct __sk_buff *skb, __u32 offset, struct view *v)
{
	__u8 ext[4]; /* next header, length in units of its own; in a fragment header, its offset in place of more */
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
		return 0;
	if ((ip.version_class_label & htonl(0xf0000000)) != htonl(0x60000000))
		return 0;
	__builtin_memcpy(v->src, ip.saddr, sizeof(v->src));
	__builtin_memcpy(v->dst, ip.daddr, sizeof(v->dst));
	v->l4 = offset + sizeof(ip);
	v->proto = ip.next;
	for (int i = 0; i < MAX_EXT_HEADERS; i++) {
		__u8 kind = v->proto;

		if (kind != IPPROTO_HOPOPTS && kind != IPPROTO_ROUTING && kind != IPPROTO_DSTOPTS &&
		    kind != IPPROTO_FRAGMENT && kind != IPPROTO_AH)
			return 1;
		if (bpf_skb_load_bytes(skb, v->l4, ext, sizeof(ext)))
			return 0;
		v->proto = ext[0];
		if (kind == IPPROTO_FRAGMENT) {
			if (ext[2] || ext[3] & (__u8)IP6_OFFSET)
				return 0;
			v->l4 += sizeof(struct fraghdr);
		} else if (kind == IPPROTO_AH) {
			v->l4 += (ext[1] + 2) * 4;
		} else {
			v->l4 += (ext[1] + 1) * 8;
		}
	}
	return 1;
}

static __always_inline int parse(const struct __sk_buff *skb, struct view *v)
{
	__u32 offset = sizeof(struct ethhdr);
	struct vlanhdr tag;
	struct ethhdr eth;

	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return 0;
	for (int i = 0; i < MAX_TAGS; i++) {
		if (eth.proto != htons(ETH_P_8021Q) && eth.proto != htons(ETH_P_8021AD))
			break;
		if (bpf_skb_load_bytes(skb, offset, &tag, sizeof(tag)))
			return 0;
		eth.proto = tag.proto;
		offset += sizeof(tag);
	}
	if (eth.proto == htons(ETH_P_IP))
		return parse_ip4(skb, offset, v);
	if (eth.proto == htons(ETH_P_IPV6))
		return parse_ip6(skb, offset, v);
	return 0;
}

static __always_inline void count_event(const __be32 vip[4], __u8 proto, __be16 port, enum event what)
{
	struct endpoint key = {.port = port, .proto = proto};
	struct tally *count;

	__builtin_memcpy(key.vip, vip, sizeof(key.vip));
	if (!bpf_map_lookup_elem(&watched, key.vip))
		return;
	count = bpf_map_lookup_elem(&endpoints, &key);
	if (!count && what == EVENT_SYN_ACK) {
		/* the SYN that this answers was counted with those of port 0 */
		struct tally first = {.syns = 1};

		bpf_map_update_elem(&endpoints, &key, &first, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&endpoints, &key);
	}
	if (!count) {
		key.port = 0;
		count = bpf_map_lookup_elem(&endpoints, &key);
	}
	if (!count)
		return;
	/* per CPU: no other CPU writes here */
	if (what == EVENT_SYN)
		count->syns++;
	else if (what == EVENT_SYN_ACK)
		count->syn_acks++;
	else if (what == EVENT_REFUSED)
		count->refused++;
	else
		count->resets++;
}

/*
 * The kernel refuses a datagram for a port that nobody has open by ICMP port unreachable, and a firewall may refuse
 * connections by it. The message holds the beginning of the packet that was refused.
 */
static __always_inline void count_unreachable(const struct __sk_buff *skb, const struct view *v)
{
	struct icmphdr icmp;
	struct view inner;
	__be16 ports[2];
	int whole;

	if (bpf_skb_load_bytes(skb, v->l4, &icmp, sizeof(icmp)))
		return;
	if (v->proto == IPPROTO_ICMP) {
		if (icmp.type != ICMP_UNREACHABLE || icmp.code != ICMP_PORT_UNREACHABLE)
			return;
		whole = parse_ip4(skb, v->l4 + sizeof(icmp), &inner);
	} else {
		if (icmp.type != ICMPV6_UNREACHABLE || icmp.code != ICMPV6_PORT_UNREACHABLE)
			return;
		whole = parse_ip6(skb, v->l4 + sizeof(icmp), &inner);
	}
	if (!whole || (inner.proto != IPPROTO_UDP && inner.proto != IPPROTO_TCP))
		return;
	/* what the VIP refuses was sent to it */
	for (int i = 0; i < 4; i++)
		if (inner.dst[i] != v->src[i])
			return;
	if (bpf_skb_load_bytes(skb, inner.l4, ports, sizeof(ports)))
		return;
	count_event(inner.dst, inner.proto, ports[1], EVENT_REFUSED);
}

SEC("tc")
int leaving(struct __sk_buff *skb)
{
	struct tcp_start tcp;
	struct view v;

	if (!parse(skb, &v))
		return TC_ACT_UNSPEC;
	if (v.proto == IPPROTO_ICMP || v.proto == IPPROTO_ICMPV6)
		count_unreachable(skb, &v);
	if (v.proto != IPPROTO_TCP || bpf_skb_load_bytes(skb, v.l4, &tcp, TCP_START_LEN))
		return TC_ACT_UNSPEC;
	if (tcp.flags & TCP_RST) {
		/* what acknowledges nothing, as a SYN, is answered by sequence number 0 (RFC 9293, 3.10.7.1) */
		int refused = tcp.flags & TCP_ACK && tcp.seq == 0;

		count_event(v.src, IPPROTO_TCP, tcp.source, refused ? EVENT_REFUSED : EVENT_RESET);
	} else if ((tcp.flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
		count_event(v.src, IPPROTO_TCP, tcp.source, EVENT_SYN_ACK);
	}
	return TC_ACT_UNSPEC;
}

SEC("tc")
int arriving(struct __sk_buff *skb)
{
	struct tcp_start tcp;
	struct view v;

	if (!parse(skb, &v))
		return TC_ACT_UNSPEC;
	if (v.proto != IPPROTO_TCP || bpf_skb_load_bytes(skb, v.l4, &tcp, TCP_START_LEN))
		return TC_ACT_UNSPEC;
	if ((tcp.flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN)
		count_event(v.dst, IPPROTO_TCP, tcp.dest, EVENT_SYN);
	return TC_ACT_UNSPEC;
}

char program_license[] SEC("license") = "Dual BSD/GPL";
