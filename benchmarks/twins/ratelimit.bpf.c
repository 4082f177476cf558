#include "twin.h"

struct bucket {
	__u64 tokens, last, dropped;
};

const volatile __u64 rate = 1000;
const volatile __u64 burst = 100;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

SEC("raw_tp/limit")
int limit(void *ctx)
{
	__u64 now = bpf_ktime_get_ns(), tokens;
	__u32 uid = bpf_get_current_uid_gid();
	struct bucket *bucket;

	bucket = bpf_map_lookup_elem(&buckets, &uid);
	if (!bucket) {
		struct bucket first = {.tokens = burst - 1, .last = now};

		bpf_map_update_elem(&buckets, &uid, &first, BPF_ANY);
		return 1;
	}
	tokens = bucket->tokens + (now - bucket->last) * rate / 1000000000;
	if (tokens > burst)
		tokens = burst;
	bucket->last = now;
	if (!tokens) {
		bucket->dropped += 1;
		return 0;
	}
	bucket->tokens = tokens - 1;
	return 1;
}
