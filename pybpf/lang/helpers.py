"""Helper functions of the kernel that tracing programs may call, with typed signatures.

Numbers and arguments are those of include/uapi/linux/bpf.h, names without the
``bpf_`` prefix (tail_call is an intrinsic of the language instead). Which
program type may call which helper is the kernel's decision; it differs between
versions, so nothing here repeats it.

Kinds of parameters: ``ctx`` the program's context; ``map`` a map; ``key`` and
``value`` of the map that came before; ``mem`` memory that is read, ``out``
memory that is written; ``size`` the size in bytes of the memory before it, by
default the whole of it; ``text`` a constant string in read-only memory; ``fmt``
a string with its size, written as one argument; ``flags`` an integer, 0 by
default; ``any`` an integer or an address; ``u64`` an integer; ``task`` a task
from current_task() in a program that has typed pointers.

Kinds of results: ``u64``, ``u32``; ``int``, negative on failure: helpers return
64 bits with the sign extended; ``void``; ``value`` a pointer to the value type of
the map, or None; ``mem`` an untyped pointer to be cast, or None; ``task``.
"""

from __future__ import annotations

from typing import NoReturn

from pybpf.errors import CompileError

_TABLE = """
1 map_lookup_elem map key -> value
2 map_update_elem map key value flags -> int
3 map_delete_elem map key -> int
4 probe_read out size any -> int
5 ktime_get_ns -> u64
6 trace_printk fmt any? any? any? -> int
7 get_prandom_u32 -> u32
8 get_smp_processor_id -> u32
14 get_current_pid_tgid -> u64
15 get_current_uid_gid -> u64
16 get_current_comm out size -> int
17 get_cgroup_classid ctx -> u32
22 perf_event_read map u64 -> int
25 perf_event_output ctx map u64 mem size -> int
27 get_stackid ctx map u64 -> int
35 get_current_task -> u64
36 probe_write_user any mem size -> int
37 current_task_under_cgroup map u64 -> int
42 get_numa_node_id -> u32
45 probe_read_str out size any -> int
46 get_socket_cookie ctx -> u64
55 perf_event_read_value map u64 out size -> int
56 perf_prog_read_value ctx out size -> int
58 override_return ctx u64 -> int
67 get_stack ctx out size flags -> int
80 get_current_cgroup_id -> u64
87 map_push_elem map value flags -> int
88 map_pop_elem map out -> int
89 map_peek_elem map out -> int
105 strtol mem size u64 out -> int
106 strtoul mem size u64 out -> int
109 send_signal u64 -> int
112 probe_read_user out size any -> int
113 probe_read_kernel out size any -> int
114 probe_read_user_str out size any -> int
115 probe_read_kernel_str out size any -> int
117 send_signal_thread u64 -> int
118 jiffies64 -> u64
119 read_branch_records ctx out size flags -> int
120 get_ns_current_pid_tgid u64 u64 out size -> int
123 get_current_ancestor_cgroup_id u64 -> u64
125 ktime_get_boot_ns -> u64
130 ringbuf_output map mem size flags -> int
131 ringbuf_reserve map u64 flags -> mem
132 ringbuf_submit mem flags -> void
133 ringbuf_discard mem flags -> void
134 ringbuf_query map u64 -> u64
141 get_task_stack task out size flags -> int
147 d_path any out size -> int
148 copy_from_user out size any -> int
149 snprintf_btf out size mem size flags -> int
158 get_current_task_btf -> task
160 ktime_get_coarse_ns -> u64
165 snprintf out size text mem? size? -> int
173 get_func_ip ctx -> u64
174 get_attach_cookie ctx -> u64
175 task_pt_regs task -> u64
176 get_branch_snapshot out size flags -> int
182 strncmp mem size text -> int
183 get_func_arg ctx u64 out -> int
184 get_func_ret ctx out -> int
185 get_func_arg_cnt ctx -> int
191 copy_from_user_task out size any task flags -> int
208 ktime_get_tai_ns -> u64
"""

# Parameters that may be left out even when they are not marked with '?'.
_DEFAULTED = ("flags",)


class Helper:
    """One helper function: ``number``, kinds of ``params`` and of the ``result``; ``required`` arguments at least."""

    __slots__ = ("name", "number", "params", "required", "result")

    def __init__(self, name: str, number: int, params: tuple[str, ...], result: str) -> None:
        self.name = name
        self.number = number
        self.params = tuple(p.rstrip("?") for p in params)
        self.result = result
        self.required = len(params)
        for i in range(len(params) - 1, -1, -1):
            after_memory = params[i] == "size" and i > 0 and params[i - 1] in ("mem", "out")
            if not (params[i].endswith("?") or params[i] in _DEFAULTED or after_memory):
                break
            self.required = i

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise CompileError(f"{self.name}() is a kernel helper: it can be called in compiled functions only")

    def __repr__(self) -> str:
        return f"<helper {self.name} {self.number}>"


def _parse() -> dict[str, Helper]:
    helpers = {}
    for line in _TABLE.strip().splitlines():
        left, result = line.split(" -> ")
        number, name, *params = left.split()
        helpers[name] = Helper(name, int(number), tuple(params), result)
    return helpers


HELPERS = _parse()
"""All helpers by name."""
