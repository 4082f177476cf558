#include "twin.h"

struct task_struct {
	int pid, tgid, prio, on_cpu;
} CORE;

struct stat {
	__u64 count, total, worst;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, __u64);
} woken SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct stat);
} stats SEC(".maps");

SEC("raw_tp/sched_wakeup")
int BPF_PROG(wakeup, struct task_struct *task)
{
	__u32 key = BPF_CORE_READ(task, pid);
	__u64 now;

	if (!key)
		return 0;
	now = bpf_ktime_get_ns();
	bpf_map_update_elem(&woken, &key, &now, BPF_ANY);
	return 0;
}

SEC("raw_tp/sched_switch")
int BPF_PROG(switched, bool preempt, struct task_struct *previous, struct task_struct *next)
{
	__u32 key = BPF_CORE_READ(next, pid), group;
	__u64 *since, waited;
	struct stat *stat;

	if (!key)
		return 0;
	since = bpf_map_lookup_elem(&woken, &key);
	if (!since)
		return 0;
	waited = bpf_ktime_get_ns() - *since;
	bpf_map_delete_elem(&woken, &key);
	group = BPF_CORE_READ(next, tgid);
	stat = bpf_map_lookup_elem(&stats, &group);
	if (!stat) {
		struct stat first = {.count = 1, .total = waited, .worst = waited};

		bpf_map_update_elem(&stats, &group, &first, BPF_ANY);
		return 0;
	}
	stat->count += 1;
	stat->total += waited;
	if (waited > stat->worst)
		stat->worst = waited;
	return 0;
}
