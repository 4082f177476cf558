/* What every twin includes: types, map macros, helpers. No vmlinux.h: each file says which kernel fields it reads. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

typedef _Bool bool;
#define true 1
#define false 0
#define CORE __attribute__((preserve_access_index))

char LICENSE[] SEC("license") = "GPL";
