#include "twin.h"

struct buffer {
	__u8 data[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct buffer);
} buffers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} table SEC(".maps");

SEC("raw_tp/bitwise")
int bitwise(void *ctx)
{
	__u32 zero = 0, crc = 0xffffffff;
	struct buffer *b;
	int i, k;

	b = bpf_map_lookup_elem(&buffers, &zero);
	if (!b)
		return 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < 64; i++) {
		crc ^= b->data[i];
#pragma unroll
		for (k = 0; k < 8; k++) {
			if (crc & 1)
				crc = crc >> 1 ^ 0xedb88320;
			else
				crc >>= 1;
		}
	}
	return crc ^ 0xffffffff;
}

SEC("raw_tp/tabled")
int tabled(void *ctx)
{
	__u32 zero = 0, crc = 0xffffffff;
	struct buffer *b;
	int i;

	b = bpf_map_lookup_elem(&buffers, &zero);
	if (!b)
		return 0;
	for (i = 0; i < 64; i++) {
		__u32 index = (crc ^ b->data[i]) & 0xff, *entry;

		entry = bpf_map_lookup_elem(&table, &index);
		if (!entry)
			return 0;
		crc = crc >> 8 ^ *entry;
	}
	return crc ^ 0xffffffff;
}
