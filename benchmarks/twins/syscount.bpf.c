#include "twin.h"

struct key {
	__u32 pid, nr;
};

const volatile __u32 only_pid = 0;
const volatile __u32 first = 0;
const volatile __u32 last = 511;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct key);
	__type(value, __u64);
} counts SEC(".maps");

SEC("raw_tp/sys_enter")
int count(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 nr = ctx->args[1], *value, one = 1;
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct key key = {};

	if (nr < first || nr > last)
		return 0;
	if (only_pid && pid != only_pid)
		return 0;
	key.pid = pid;
	key.nr = nr;
	value = bpf_map_lookup_elem(&counts, &key);
	if (value)
		__sync_fetch_and_add(value, 1);
	else
		bpf_map_update_elem(&counts, &key, &one, BPF_NOEXIST);
	return 0;
}
