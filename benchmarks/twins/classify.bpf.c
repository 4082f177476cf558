#include "twin.h"

enum { OK, MISSING, DENIED, BUSY, RESOURCE, FAULT, OTHER };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline __u32 class_of(long result)
{
	if (result >= 0)
		return OK;
	if (result == -2 || result == -20 || result == -3)
		return MISSING;
	if (result == -1 || result == -13)
		return DENIED;
	if (result == -11 || result == -16 || result == -4 || result == -115)
		return BUSY;
	if (result == -12 || result == -28 || result == -24 || result == -23)
		return RESOURCE;
	if (result == -14 || result == -22)
		return FAULT;
	return OTHER;
}

SEC("raw_tp/sys_exit")
int classify(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 kind = class_of(ctx->args[1]);
	__u64 *count = bpf_map_lookup_elem(&counts, &kind);

	if (count)
		*count += 1;
	return kind;
}
