#include "twin.h"

struct event {
	__u64 ts;
	__u32 pid, tid, uid, flags, mode, length;
	char comm[16];
	char path[256];
};

struct sys_enter {
	char common[8];
	long nr;
	unsigned long args[6];
};

const volatile __u32 target_pid = 0;
const volatile __u32 min_uid = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_openat")
int on_openat(struct sys_enter *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 uid = bpf_get_current_uid_gid();
	struct event *e;
	long n;

	if (target_pid && id >> 32 != target_pid)
		return 0;
	if (min_uid && uid < min_uid)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	n = bpf_probe_read_user_str(e->path, sizeof(e->path), (void *)ctx->args[1]);
	if (n <= 0 || e->path[0] != '/' || e->path[1] != 'e' || e->path[2] != 't' || e->path[3] != 'c') {
		bpf_ringbuf_discard(e, 0);
		return 0;
	}
	e->ts = bpf_ktime_get_ns();
	e->pid = id >> 32;
	e->tid = id;
	e->uid = uid;
	e->flags = ctx->args[2];
	e->mode = ctx->args[3];
	e->length = n;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
	return 0;
}
