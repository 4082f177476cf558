#include "twin.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, __u64);
} start SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} hist SEC(".maps");

static __always_inline __u64 log2(__u64 v)
{
	__u64 n = 0;

	if (v >> 32) {
		v >>= 32;
		n += 32;
	}
	if (v >> 16) {
		v >>= 16;
		n += 16;
	}
	if (v >> 8) {
		v >>= 8;
		n += 8;
	}
	if (v >> 4) {
		v >>= 4;
		n += 4;
	}
	if (v >> 2) {
		v >>= 2;
		n += 2;
	}
	if (v >> 1)
		n += 1;
	return n;
}

SEC("raw_tp/sys_enter")
int enter(void *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid();
	__u64 ts = bpf_ktime_get_ns();

	bpf_map_update_elem(&start, &tid, &ts, BPF_ANY);
	return 0;
}

SEC("raw_tp/sys_exit")
int leave(void *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid(), index;
	__u64 *began, *slot, delta;

	began = bpf_map_lookup_elem(&start, &tid);
	if (!began)
		return 0;
	delta = bpf_ktime_get_ns() - *began;
	bpf_map_delete_elem(&start, &tid);
	index = log2(delta / 1000);
	slot = bpf_map_lookup_elem(&hist, &index);
	if (slot)
		*slot += 1;
	return 0;
}
