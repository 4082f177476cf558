#include "twin.h"

struct ns_common {
	unsigned int inum;
} CORE;

struct pid_namespace {
	struct ns_common ns;
	unsigned int level;
} CORE;

struct mnt_namespace {
	struct ns_common ns;
} CORE;

struct new_utsname {
	char nodename[65];
} CORE;

struct uts_namespace {
	struct new_utsname name;
	struct ns_common ns;
} CORE;

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
} CORE;

struct task_struct {
	int pid, tgid;
	__u64 start_time;
	struct nsproxy *nsproxy;
	struct task_struct *real_parent, *group_leader;
} CORE;

struct event {
	__u64 time, start;
	__u32 pid, tid, ppid, cpu, mnt, uts, pidns, level;
	char comm[16];
	char node[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} events SEC(".maps");

SEC("tp_btf/sys_enter")
int seen(void *ctx)
{
	struct task_struct *task;
	struct nsproxy *proxy;
	struct event *e;

	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	task = (struct task_struct *)bpf_get_current_task_btf();
	proxy = task->nsproxy;
	e->time = bpf_ktime_get_ns();
	e->start = task->start_time;
	e->pid = task->tgid;
	e->tid = task->pid;
	e->ppid = task->real_parent->tgid;
	e->cpu = bpf_get_smp_processor_id();
	e->mnt = proxy->mnt_ns->ns.inum;
	e->uts = proxy->uts_ns->ns.inum;
	e->pidns = proxy->pid_ns_for_children->ns.inum;
	e->level = proxy->pid_ns_for_children->level;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	__builtin_memcpy(e->node, proxy->uts_ns->name.nodename, sizeof(e->node));
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("raw_tp/sys_enter")
int seen__raw_tp(void *ctx)
{
	struct uts_namespace *uts;
	struct task_struct *task;
	struct nsproxy *proxy;
	struct event *e;

	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	proxy = BPF_CORE_READ(task, nsproxy);
	e->time = bpf_ktime_get_ns();
	e->start = BPF_CORE_READ(task, start_time);
	e->pid = BPF_CORE_READ(task, tgid);
	e->tid = BPF_CORE_READ(task, pid);
	e->ppid = BPF_CORE_READ(task, real_parent, tgid);
	e->cpu = bpf_get_smp_processor_id();
	e->mnt = BPF_CORE_READ(proxy, mnt_ns, ns.inum);
	e->uts = BPF_CORE_READ(proxy, uts_ns, ns.inum);
	e->pidns = BPF_CORE_READ(proxy, pid_ns_for_children, ns.inum);
	e->level = BPF_CORE_READ(proxy, pid_ns_for_children, level);
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	uts = BPF_CORE_READ(proxy, uts_ns);
	bpf_core_read(&e->node, sizeof(e->node), &uts->name.nodename);
	bpf_ringbuf_submit(e, 0);
	return 0;
}
