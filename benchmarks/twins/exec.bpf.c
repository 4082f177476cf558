#include "twin.h"

#define MAX_ARGS 20
#define ARG_SIZE 128
#define SIZE (MAX_ARGS * ARG_SIZE)

struct event {
	__u32 pid, uid, argc, length;
	char comm[16];
	char args[SIZE];
};

struct sys_enter {
	char common[8];
	long nr;
	unsigned long args[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct event);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_execve")
int on_execve(struct sys_enter *ctx)
{
	__u32 zero = 0, argc = 0;
	__u64 off = 0;
	const char **argv;
	struct event *e;
	int i;

	e = bpf_map_lookup_elem(&scratch, &zero);
	if (!e)
		return 0;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	argv = (const char **)ctx->args[1];
	for (i = 0; i < MAX_ARGS; i++) {
		const char *argp = NULL;
		long n;

		bpf_probe_read_user(&argp, sizeof(argp), &argv[i]);
		if (!argp || off > SIZE - ARG_SIZE)
			break;
		n = bpf_probe_read_user_str(&e->args[off], ARG_SIZE, argp);
		if (n < 0)
			break;
		off += n;
		argc++;
	}
	e->argc = argc;
	e->length = off;
	if (off > SIZE - 1)
		off = SIZE - 1;
	bpf_ringbuf_output(&events, e, __builtin_offsetof(struct event, args) + off, 0);
	return 0;
}
