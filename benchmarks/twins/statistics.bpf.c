#include "twin.h"

struct stat {
	__u64 count, sum, least, greatest, mean;
	__u32 buckets[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct stat);
} stats SEC(".maps");

static __noinline int sample(__u32 index, __u64 value)
{
	struct stat *s = bpf_map_lookup_elem(&stats, &index);
	__u64 bucket;

	if (!s)
		return -1;
	if (s->count == 0 || value < s->least)
		s->least = value;
	if (value > s->greatest)
		s->greatest = value;
	s->count += 1;
	s->sum += value;
	s->mean = s->sum / s->count;
	bucket = value / 100;
	if (bucket > 15)
		bucket = 15;
	s->buckets[bucket] += 1;
	return 0;
}

SEC("raw_tp/feed")
int feed(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 failed = 0, i;

	for (i = 0; i < 3; i++)
		if (sample(i, ctx->args[0] + i * 50) < 0)
			failed++;
	if (sample(3, ctx->args[1]) < 0)
		failed++;
	return failed;
}
