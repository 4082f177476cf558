#include "twin.h"

struct text {
	__u8 data[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct text);
} texts SEC(".maps");

SEC("raw_tp/match")
int match(void *ctx)
{
	struct text *pattern, *text;
	__u32 zero = 0, one = 1;
	int i;

	pattern = bpf_map_lookup_elem(&texts, &zero);
	text = bpf_map_lookup_elem(&texts, &one);
	if (!pattern || !text)
		return 0;
	for (i = 0; i < 64; i++) {
		__u8 p = pattern->data[i];

		if (p == '*')
			return 1;
		if (p != text->data[i])
			return 0;
		if (!p)
			return 1;
	}
	return 0;
}

SEC("raw_tp/basename")
int basename(void *ctx)
{
	__u32 one = 1, depth = 0, last = 0;
	struct text *text;
	int i;

	text = bpf_map_lookup_elem(&texts, &one);
	if (!text)
		return 0;
	for (i = 0; i < 64; i++) {
		__u8 c = text->data[i];

		if (!c)
			break;
		if (c == '/') {
			depth += 1;
			last = i + 1;
		}
	}
	return depth << 8 | last;
}
