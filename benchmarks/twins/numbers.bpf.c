#include "twin.h"

struct text {
	__u8 data[32];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct text);
} texts SEC(".maps");

SEC("raw_tp/parse")
int parse(void *ctx)
{
	struct text *text;
	__u64 value = 0;
	__u32 zero = 0;
	int i;

	text = bpf_map_lookup_elem(&texts, &zero);
	if (!text)
		return 0;
	for (i = 0; i < 20; i++) {
		__u8 c = text->data[i];

		if (c < '0' || c > '9')
			break;
		value = value * 10 + c - '0';
	}
	return value;
}

SEC("raw_tp/hexadecimal")
int hexadecimal(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 value = ctx->args[0];
	struct text *text;
	__u32 one = 1;
	int i;

	text = bpf_map_lookup_elem(&texts, &one);
	if (!text)
		return 0;
	for (i = 0; i < 16; i++) {
		__u8 digit = value >> 60;

		if (digit < 10)
			text->data[i] = '0' + digit;
		else
			text->data[i] = 'a' - 10 + digit;
		value <<= 4;
	}
	return 16;
}
