#include "twin.h"

struct bitmap {
	__u64 words[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bitmap);
} sets SEC(".maps");

SEC("raw_tp/mark")
int mark(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 number = ctx->args[0], word, bit;
	struct bitmap *bits;
	__u32 zero = 0;

	if (number >= 1024)
		return 2;
	bits = bpf_map_lookup_elem(&sets, &zero);
	if (!bits)
		return 3;
	word = number >> 6;
	bit = 1ULL << (number & 63);
	if (bits->words[word] & bit)
		return 1;
	bits->words[word] |= bit;
	return 0;
}

SEC("raw_tp/weight")
int weight(void *ctx)
{
	struct bitmap *bits;
	__u64 total = 0;
	__u32 zero = 0;
	int i;

	bits = bpf_map_lookup_elem(&sets, &zero);
	if (!bits)
		return 0;
	for (i = 0; i < 16; i++) {
		__u64 x = bits->words[i];

		x -= x >> 1 & 0x5555555555555555ULL;
		x = (x & 0x3333333333333333ULL) + (x >> 2 & 0x3333333333333333ULL);
		x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
		total += x * 0x0101010101010101ULL >> 56;
	}
	return total;
}
