#include "twin.h"

static __always_inline __u32 rol32(__u32 x, int n)
{
	return x << n | x >> (32 - n);
}

SEC("raw_tp/jhash")
int jhash(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 a = ctx->args[0], b = ctx->args[1], c = ctx->args[2];

	c = (c ^ b) - rol32(b, 14);
	a = (a ^ c) - rol32(c, 11);
	b = (b ^ a) - rol32(a, 25);
	c = (c ^ b) - rol32(b, 16);
	a = (a ^ c) - rol32(c, 4);
	b = (b ^ a) - rol32(a, 14);
	c = (c ^ b) - rol32(b, 24);
	return c;
}

SEC("raw_tp/murmur")
int murmur(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 h = ctx->args[0];

	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ULL;
	h ^= h >> 33;
	return h;
}
