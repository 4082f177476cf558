#include "twin.h"

const volatile __u64 enabled = 0xffffffffffffffffULL;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 512);
	__uint(key_size, 4);
	__uint(value_size, 4);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

static __always_inline void hit(__u32 index)
{
	__u64 *count = bpf_map_lookup_elem(&hits, &index);

	if (count)
		*count += 1;
}

SEC("raw_tp/sys_enter")
int dispatch(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 nr = ctx->args[1];

	if (nr < 64 && !(enabled & 1ULL << (nr & 63)))
		return 1;
	bpf_tail_call(ctx, &calls, nr);
	hit(0);
	return 2;
}

SEC("raw_tp/sys_enter")
int two_paths(struct bpf_raw_tracepoint_args *ctx)
{
	hit(1);
	return ctx->args[1] + 7;
}
