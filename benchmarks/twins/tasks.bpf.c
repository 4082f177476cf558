#include "twin.h"

typedef struct {
	__u32 val;
} kuid_t;

struct cred {
	kuid_t uid;
} CORE;

struct task_struct {
	int pid, tgid;
	unsigned int flags;
	int exit_code;
	__u64 start_time;
	char comm[16];
	struct task_struct *real_parent, *group_leader;
	struct cred *cred;
} CORE;

struct event {
	__u32 kind, pid, tid, ppid, uid;
	__s32 code;
	__u64 lived;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u32);
} alive SEC(".maps");

SEC("tp_btf/sched_process_fork")
int BPF_PROG(forked, struct task_struct *parent, struct task_struct *child)
{
	__u32 key, value;
	struct event *e;

	if (parent->tgid == child->tgid)
		return 0;
	key = child->tgid;
	value = parent->tgid;
	bpf_map_update_elem(&alive, &key, &value, BPF_ANY);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	e->kind = 1;
	e->pid = child->tgid;
	e->tid = child->pid;
	e->ppid = parent->tgid;
	e->uid = child->cred->uid.val;
	e->code = 0;
	e->lived = 0;
	__builtin_memcpy(e->comm, child->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(exited, struct task_struct *task)
{
	struct event *e;
	__u32 key;

	if (task->pid != task->tgid)
		return 0;
	key = task->tgid;
	bpf_map_delete_elem(&alive, &key);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	e->kind = 2;
	e->pid = task->tgid;
	e->tid = task->pid;
	e->ppid = task->real_parent->tgid;
	e->uid = task->cred->uid.val;
	e->code = task->exit_code >> 8 & 0xff;
	e->lived = bpf_ktime_get_ns() - task->start_time;
	__builtin_memcpy(e->comm, task->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
	return 0;
}
