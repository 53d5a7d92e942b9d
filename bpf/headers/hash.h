/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * SipHash-1-3 (Aumasson and Bernstein, 2012). It is keyed, so that nobody outside can choose source ports that all fall
 * on one real.
 */
#ifndef ANYCASTLE_HASH_H
#define ANYCASTLE_HASH_H

#include "abi.h"

/* The same on every LB of a site, so that all send a flow to the same real. Set before the program is loaded. */
volatile const __u64 hash_key[2];

struct sip {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 rotate(__u64 x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static __always_inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 = rotate(s->v2, 32);
}

static __always_inline void sip_word(struct sip *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	s->v0 ^= word;
}

static __always_inline struct sip sip_begin(void)
{
	/* the constants spell "somepseudorandomlygeneratedbytes" */
	return (struct sip){
		hash_key[0] ^ 0x736f6d6570736575ULL,
		hash_key[1] ^ 0x646f72616e646f6dULL,
		hash_key[0] ^ 0x6c7967656e657261ULL,
		hash_key[1] ^ 0x7465646279746573ULL,
	};
}

static __always_inline __u64 sip_end(struct sip *s, __u64 len)
{
	sip_word(s, len << 56);
	s->v2 ^= 0xff;
	sip_round(s);
	sip_round(s);
	sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

static __always_inline __u64 join(__u32 low, __u32 high)
{
	return low | (__u64)high << 32;
}

/* The 16 bytes {source, destination, ports, protocol, 0, 0, 0}. */
static __always_inline __u64 hash4(__be32 src, __be32 dst, __u64 rest)
{
	struct sip s = sip_begin();

	sip_word(&s, join(src, dst));
	sip_word(&s, rest);
	return sip_end(&s, 16);
}

/* The 40 bytes of struct flow, with family 0. */
static __always_inline __u64 hash6(const __be32 *src, const __be32 *dst, __u64 rest)
{
	struct sip s = sip_begin();

	sip_word(&s, join(src[0], src[1]));
	sip_word(&s, join(src[2], src[3]));
	sip_word(&s, join(dst[0], dst[1]));
	sip_word(&s, join(dst[2], dst[3]));
	sip_word(&s, rest);
	return sip_end(&s, 40);
}

#endif
