#include "twin.h"

struct buffer {
	__u32 length;
	__u8 data[512];
};

struct options {
	__u32 mss, scale, stamp, unknown;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct buffer);
} buffers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct options);
} found SEC(".maps");

SEC("raw_tp/tlv")
int tlv(void *ctx)
{
	struct options *out;
	struct buffer *b;
	__u32 zero = 0;
	__u64 off = 0;
	int i;

	b = bpf_map_lookup_elem(&buffers, &zero);
	out = bpf_map_lookup_elem(&found, &zero);
	if (!b || !out)
		return 0;
	for (i = 0; i < 24; i++) {
		__u64 kind, size;

		if (off >= b->length || off > 480)
			break;
		kind = b->data[off];
		if (kind == 0)
			break;
		if (kind == 1) {
			off += 1;
			continue;
		}
		size = b->data[off + 1];
		if (size < 2)
			return 1;
		if (kind == 2)
			out->mss = b->data[off + 2] << 8 | b->data[off + 3];
		else if (kind == 3)
			out->scale = b->data[off + 2];
		else if (kind == 8)
			out->stamp = (__u32)b->data[off + 2] << 24 | b->data[off + 3] << 16 | b->data[off + 4] << 8 |
				     b->data[off + 5];
		else
			out->unknown += 1;
		off += size;
	}
	return off;
}
