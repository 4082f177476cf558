#include "twin.h"

struct buffer {
	__u32 length;
	__u8 data[256];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct buffer);
} buffers SEC(".maps");

SEC("raw_tp/fnv")
int fnv(void *ctx)
{
	__u64 value = 0xcbf29ce484222325ULL;
	__u32 zero = 0, i;
	struct buffer *b;

	b = bpf_map_lookup_elem(&buffers, &zero);
	if (!b)
		return 0;
	for (i = 0; i < 256; i++) {
		if (i >= b->length)
			break;
		value = (value ^ b->data[i]) * 0x100000001b3ULL;
	}
	return value ^ value >> 32;
}
