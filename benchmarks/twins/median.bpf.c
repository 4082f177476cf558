#include "twin.h"

struct ring {
	__u32 next;
	__u32 samples[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ring);
} rings SEC(".maps");

SEC("raw_tp/median")
int median(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 zero = 0, values[8];
	struct ring *ring;
	int i, j;

	ring = bpf_map_lookup_elem(&rings, &zero);
	if (!ring)
		return 0;
	ring->samples[ring->next & 7] = ctx->args[0];
	ring->next += 1;
	__builtin_memcpy(values, ring->samples, sizeof(values));
#pragma unroll
	for (i = 1; i < 8; i++) {
#pragma unroll
		for (j = i; j > 0; j--) {
			if (values[j - 1] > values[j]) {
				__u32 t = values[j];

				values[j] = values[j - 1];
				values[j - 1] = t;
			}
		}
	}
	return values[4];
}
