/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Packets copied to user space: those asked for, fragments to be sent again, and what an explanation is made from. */
#ifndef ANYCASTLE_TRACE_H
#define ANYCASTLE_TRACE_H

#include "packet.h"

#define CAPTURE_RING (4 << 20)
#define HELD_RING    (1 << 20)

/* Set while somebody captures. */
struct capture_filter capture;

/* Eight bytes of metadata in front of a frame that is only to be explained. Set before the program is loaded. */
volatile const __u64 explain_token = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, CAPTURE_RING);
} captured SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, HELD_RING);
} held SEC(".maps");

/* Captured frames that the ring had no room for. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} capture_lost SEC(".maps");

/* What became of the last packet that was to be explained. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct trace);
} explained SEC(".maps");

/* A record on its way to a ring: the trace, the frame as it came in, the frame that went out. */
struct record {
	struct trace trace;
	__u8 bytes[2 * MAX_CAP_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct record);
} scratch SEC(".maps");

static __always_inline struct record *get_scratch(void)
{
	__u32 index = 0;

	return bpf_map_lookup_elem(&scratch, &index);
}

static __always_inline int is_dry(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	__u64 *token = (void *)(long)ctx->data_meta;

	return (void *)(token + 1) <= data && *token == explain_token;
}

/* Copies at most cap_len bytes of the frame to at, and gives how many. */
static __always_inline __u32 copy_frame(struct xdp_md *ctx, __u8 *at, __u32 len, __u32 cap_len)
{
	__u64 n = len < cap_len ? len : cap_len;

	/* tested and used in one register; less one, since Linux 6.1 learns no lower bound from a test for 0 */
	n--;
	keep_bounds(n);
	if (n >= MAX_CAP_LEN)
		return 0;
	n++;
	return bpf_xdp_load_bytes(ctx, 0, at, n) ? 0 : n;
}

/* Keeps the frame as it came in. */
__separate int capture_in(struct xdp_md *ctx)
{
	struct record *r = get_scratch();

	if (!r)
		return 0;
	r->trace.at = bpf_ktime_get_ns();
	r->trace.ifindex = ctx->ingress_ifindex;
	r->trace.in_len = bpf_xdp_get_buff_len(ctx);
	r->trace.in_cap = copy_frame(ctx, r->bytes, r->trace.in_len, capture.cap_len);
	return 1;
}

static __always_inline int is_asked_for(const struct packet *p)
{
	if (capture.vip && capture.vip != p->vip)
		return 0;
	if (capture.real && capture.real != p->real && capture.real != p->second)
		return 0;
	if (capture.reason == REASON_MAX)
		return p->reason != REASON_NONE;
	return !capture.reason || capture.reason == p->reason;
}

static __always_inline void fill_trace(struct trace *t, const struct packet *p, int verdict)
{
	t->vip = p->vip;
	t->slot = p->hash & (SLOTS - 1);
	t->primary = p->primary;
	t->secondary = p->secondary;
	t->real = p->real;
	t->second = p->second;
	t->reason = p->reason;
	t->verdict = verdict;
}

/* Sends the frame as it came in, and as it is now unless it was dropped, to who captures. */
__separate int capture_out(struct xdp_md *ctx, struct packet *p, int verdict)
{
	struct record *r = get_scratch();
	__u64 *lost, in, size;
	__u32 index = 0;

	if (!p || !r || !is_asked_for(p) || r->trace.at > capture.until)
		return 0;
	fill_trace(&r->trace, p, verdict);
	in = r->trace.in_cap;
	keep_bounds(in);
	if (in > MAX_CAP_LEN)
		return 0;
	r->trace.out_len = 0;
	r->trace.out_cap = 0;
	if (verdict != XDP_DROP) {
		r->trace.out_len = bpf_xdp_get_buff_len(ctx);
		r->trace.out_cap = copy_frame(ctx, r->bytes + in, r->trace.out_len, capture.cap_len);
	}
	size = sizeof(r->trace) + in + r->trace.out_cap;
	keep_bounds(size);
	if (size > sizeof(*r) || !bpf_ringbuf_output(&captured, r, size, 0))
		return 1;
	lost = bpf_map_lookup_elem(&capture_lost, &index);
	if (lost)
		(*lost)++;
	return 0;
}

/* A fragment that came before the first of its packet waits in user space. */
static __noinline void hold(struct xdp_md *ctx, const struct packet *p)
{
	struct record *r = get_scratch();
	__u16 asked;
	__u64 in;

	if (!r || p->dry)
		return;
	asked = r->trace.in_cap;
	fill_trace(&r->trace, p, XDP_DROP);
	r->trace.at = bpf_ktime_get_ns();
	r->trace.ifindex = ctx->ingress_ifindex;
	r->trace.in_len = bpf_xdp_get_buff_len(ctx);
	in = copy_frame(ctx, r->bytes, r->trace.in_len, MAX_CAP_LEN);
	keep_bounds(in);
	if (!in || in != r->trace.in_len || in > MAX_CAP_LEN)
		return; /* larger than any frame that comes in fragments for want of a larger MTU */
	r->trace.in_cap = in;
	r->trace.out_len = 0;
	r->trace.out_cap = 0;
	bpf_ringbuf_output(&held, r, sizeof(r->trace) + in, 0);
	r->trace.in_cap = asked; /* for a capture that is running */
}

__separate int explain(struct packet *p, int verdict)
{
	__u32 index = 0;
	struct trace *t = bpf_map_lookup_elem(&explained, &index);

	if (p && t)
		fill_trace(t, p, verdict);
	return 0;
}

#endif
