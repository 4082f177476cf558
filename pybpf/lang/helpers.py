"""Helper functions of the kernel, with typed signatures.

Numbers and arguments are those of include/uapi/linux/bpf.h, names without the
``bpf_`` prefix (tail_call is an intrinsic of the language instead; helpers that
take a function to call back are not in the table). Which
program type may call which helper is the kernel's decision; it differs between
versions, so nothing here repeats it.

Kinds of parameters: ``ctx`` the program's context; ``map`` a map; ``key`` and
``value`` of the map that came before; ``mem`` memory that is read, ``out``
memory that is written; ``size`` the size in bytes of the memory before it, by
default the whole of it; ``text`` a constant string in read-only memory; ``fmt``
a string with its size, written as one argument; ``flags`` an integer, 0 by
default; ``any`` an integer or an address; ``u64`` an integer; ``task`` a task
from current_task() in a program that has typed pointers; ``lock`` a SpinLock and
``timer`` a Timer in a map's value; ``percpu`` a variable that each CPU has its own
of; ``dynptr`` a Dynptr.

Kinds of results: ``u64``, ``u32``; ``int``, negative on failure: helpers return
64 bits with the sign extended; ``void``; ``value`` a pointer to the value type of
the map, or None; ``mem`` an untyped pointer to be cast, or None; ``held`` the
map's value, never None; ``task``; ``sock`` a bpf_sock, or None; ``object`` some
object of the kernel's that the verifier knows, or None; ``same`` a pointer to the
variable given, ``same?`` the same or None.
"""

from __future__ import annotations

from bisect import bisect_right
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
9 skb_store_bytes ctx u64 mem size flags -> int
10 l3_csum_replace ctx u64 u64 u64 flags -> int
11 l4_csum_replace ctx u64 u64 u64 flags -> int
13 clone_redirect ctx u64 flags -> int
14 get_current_pid_tgid -> u64
15 get_current_uid_gid -> u64
16 get_current_comm out size -> int
17 get_cgroup_classid ctx -> u32
18 skb_vlan_push ctx u64 u64 -> int
19 skb_vlan_pop ctx -> int
20 skb_get_tunnel_key ctx out size flags -> int
21 skb_set_tunnel_key ctx mem size flags -> int
22 perf_event_read map u64 -> int
23 redirect u64 flags -> int
24 get_route_realm ctx -> u32
25 perf_event_output ctx map u64 mem size -> int
26 skb_load_bytes ctx u64 out size -> int
27 get_stackid ctx map u64 -> int
28 csum_diff any u64 any u64 u64 -> int
29 skb_get_tunnel_opt ctx out size -> int
30 skb_set_tunnel_opt ctx mem size -> int
31 skb_change_proto ctx u64 flags -> int
32 skb_change_type ctx u64 -> int
33 skb_under_cgroup ctx map u64 -> int
34 get_hash_recalc ctx -> u32
35 get_current_task -> u64
36 probe_write_user any mem size -> int
37 current_task_under_cgroup map u64 -> int
38 skb_change_tail ctx u64 flags -> int
39 skb_pull_data ctx u64 -> int
40 csum_update ctx u64 -> int
41 set_hash_invalid ctx -> void
42 get_numa_node_id -> u32
43 skb_change_head ctx u64 flags -> int
44 xdp_adjust_head ctx u64 -> int
45 probe_read_str out size any -> int
46 get_socket_cookie any -> u64
47 get_socket_uid ctx -> u32
48 set_hash ctx u64 -> int
49 setsockopt any u64 u64 mem size -> int
50 skb_adjust_room ctx u64 u64 flags -> int
51 redirect_map map u64 flags -> int
52 sk_redirect_map ctx map u64 flags -> int
53 sock_map_update ctx map key flags -> int
54 xdp_adjust_meta ctx u64 -> int
55 perf_event_read_value map u64 out size -> int
56 perf_prog_read_value ctx out size -> int
57 getsockopt any u64 u64 out size -> int
58 override_return ctx u64 -> int
59 sock_ops_cb_flags_set ctx u64 -> int
60 msg_redirect_map ctx map u64 flags -> int
61 msg_apply_bytes ctx u64 -> int
62 msg_cork_bytes ctx u64 -> int
63 msg_pull_data ctx u64 u64 flags -> int
64 bind ctx mem size -> int
65 xdp_adjust_tail ctx u64 -> int
66 skb_get_xfrm_state ctx u64 out size flags -> int
67 get_stack ctx out size flags -> int
68 skb_load_bytes_relative ctx u64 out size u64 -> int
69 fib_lookup ctx out size flags -> int
70 sock_hash_update ctx map key flags -> int
71 msg_redirect_hash ctx map key flags -> int
72 sk_redirect_hash ctx map key flags -> int
73 lwt_push_encap ctx u64 mem size -> int
74 lwt_seg6_store_bytes ctx u64 mem size -> int
75 lwt_seg6_adjust_srh ctx u64 u64 -> int
76 lwt_seg6_action ctx u64 mem size -> int
77 rc_repeat ctx -> int
78 rc_keydown ctx u64 u64 u64 -> int
79 skb_cgroup_id ctx -> u64
80 get_current_cgroup_id -> u64
81 get_local_storage map flags -> held
82 sk_select_reuseport ctx map key flags -> int
83 skb_ancestor_cgroup_id ctx u64 -> u64
84 sk_lookup_tcp ctx mem size u64 flags -> sock
85 sk_lookup_udp ctx mem size u64 flags -> sock
86 sk_release any -> int
87 map_push_elem map value flags -> int
88 map_pop_elem map out -> int
89 map_peek_elem map out -> int
90 msg_push_data ctx u64 u64 flags -> int
91 msg_pop_data ctx u64 u64 flags -> int
92 rc_pointer_rel ctx u64 u64 -> int
93 spin_lock lock -> void
94 spin_unlock lock -> void
95 sk_fullsock any -> sock
96 tcp_sock any -> object
97 skb_ecn_set_ce ctx -> int
98 get_listener_sock any -> sock
99 skc_lookup_tcp ctx mem size u64 flags -> sock
100 tcp_check_syncookie any mem u64 mem u64 -> int
101 sysctl_get_name ctx out size flags -> int
102 sysctl_get_current_value ctx out size -> int
103 sysctl_get_new_value ctx out size -> int
104 sysctl_set_new_value ctx mem size -> int
105 strtol mem size u64 out -> int
106 strtoul mem size u64 out -> int
107 sk_storage_get map any any flags -> value
108 sk_storage_delete map any -> int
109 send_signal u64 -> int
110 tcp_gen_syncookie any mem u64 mem u64 -> int
111 skb_output any map u64 mem size -> int
112 probe_read_user out size any -> int
113 probe_read_kernel out size any -> int
114 probe_read_user_str out size any -> int
115 probe_read_kernel_str out size any -> int
116 tcp_send_ack any u64 -> int
117 send_signal_thread u64 -> int
118 jiffies64 -> u64
119 read_branch_records ctx out size flags -> int
120 get_ns_current_pid_tgid u64 u64 out size -> int
121 xdp_output any map u64 mem size -> int
122 get_netns_cookie any -> u64
123 get_current_ancestor_cgroup_id u64 -> u64
124 sk_assign ctx any flags -> int
125 ktime_get_boot_ns -> u64
126 seq_printf any fmt mem? size? -> int
127 seq_write any mem size -> int
128 sk_cgroup_id any -> u64
129 sk_ancestor_cgroup_id any u64 -> u64
130 ringbuf_output map mem size flags -> int
131 ringbuf_reserve map u64 flags -> mem
132 ringbuf_submit mem flags -> void
133 ringbuf_discard mem flags -> void
134 ringbuf_query map u64 -> u64
135 csum_level ctx u64 -> int
136 skc_to_tcp6_sock any -> object
137 skc_to_tcp_sock any -> object
138 skc_to_tcp_timewait_sock any -> object
139 skc_to_tcp_request_sock any -> object
140 skc_to_udp6_sock any -> object
141 get_task_stack task out size flags -> int
142 load_hdr_opt ctx out size flags -> int
143 store_hdr_opt ctx mem size flags -> int
144 reserve_hdr_opt ctx u64 flags -> int
145 inode_storage_get map any any flags -> value
146 inode_storage_delete map any -> int
147 d_path any out size -> int
148 copy_from_user out size any -> int
149 snprintf_btf out size mem size flags -> int
150 seq_printf_btf any mem size flags -> int
151 skb_cgroup_classid ctx -> u64
152 redirect_neigh u64 any u64 flags -> int
153 per_cpu_ptr percpu u64 -> same?
154 this_cpu_ptr percpu -> same
155 redirect_peer u64 flags -> int
156 task_storage_get map any any flags -> value
157 task_storage_delete map any -> int
158 get_current_task_btf -> task
159 bprm_opts_set any u64 -> int
160 ktime_get_coarse_ns -> u64
161 ima_inode_hash any out size -> int
162 sock_from_file any -> object
163 check_mtu ctx u64 out u64 flags -> int
165 snprintf out size text mem? size? -> int
166 sys_bpf u64 mem size -> int
167 btf_find_by_name_kind mem size u64 flags -> int
168 sys_close u64 -> int
169 timer_init timer map flags -> int
171 timer_start timer u64 flags -> int
172 timer_cancel timer -> int
173 get_func_ip ctx -> u64
174 get_attach_cookie ctx -> u64
175 task_pt_regs task -> u64
176 get_branch_snapshot out size flags -> int
177 trace_vprintk fmt mem? size? -> int
178 skc_to_unix_sock any -> object
179 kallsyms_lookup_name mem size u64 out -> int
182 strncmp mem size text -> int
183 get_func_arg ctx u64 out -> int
184 get_func_ret ctx out -> int
185 get_func_arg_cnt ctx -> int
186 get_retval -> int
187 set_retval u64 -> int
188 xdp_get_buff_len ctx -> u64
189 xdp_load_bytes ctx u64 out size -> int
190 xdp_store_bytes ctx u64 mem size -> int
191 copy_from_user_task out size any task flags -> int
192 skb_set_tstamp ctx u64 u64 -> int
193 ima_file_hash any out size -> int
195 map_lookup_percpu_elem map key u64 -> value
196 skc_to_mptcp_sock any -> object
197 dynptr_from_mem mem size flags dynptr -> int
198 ringbuf_reserve_dynptr map u64 flags dynptr -> int
199 ringbuf_submit_dynptr dynptr flags -> void
200 ringbuf_discard_dynptr dynptr flags -> void
201 dynptr_read out size dynptr u64 flags -> int
202 dynptr_write dynptr u64 mem size flags -> int
203 dynptr_data dynptr u64 u64 -> mem
204 tcp_raw_gen_syncookie_ipv4 mem mem u64 -> int
205 tcp_raw_gen_syncookie_ipv6 mem mem u64 -> int
206 tcp_raw_check_syncookie_ipv4 mem mem -> int
207 tcp_raw_check_syncookie_ipv6 mem mem -> int
208 ktime_get_tai_ns -> u64
210 cgrp_storage_get map any any flags -> value
211 cgrp_storage_delete map any -> int
"""

# First kernel with the helpers from each number on.
_SINCE = (
    (1, "3.18"), (4, "4.1"), (12, "4.2"), (17, "4.3"), (23, "4.4"), (26, "4.5"), (27, "4.6"), (31, "4.8"),
    (37, "4.9"), (42, "4.10"), (45, "4.11"), (46, "4.12"), (48, "4.13"), (51, "4.14"), (54, "4.15"), (58, "4.16"),
    (60, "4.17"), (65, "4.18"), (81, "4.19"), (84, "4.20"), (91, "5.0"), (93, "5.1"), (99, "5.2"), (109, "5.3"),
    (111, "5.5"), (116, "5.6"), (119, "5.7"), (125, "5.8"), (136, "5.9"), (142, "5.10"), (156, "5.11"),
    (163, "5.12"), (164, "5.13"), (166, "5.14"), (169, "5.15"), (176, "5.16"), (180, "5.17"), (186, "5.18"),
    (194, "5.19"), (204, "6.0"), (208, "6.1"), (210, "6.2"),
)  # fmt: skip

# Parameters that may be left out even when they are not marked with '?'.
_DEFAULTED = ("flags",)


# Which maps a helper takes (check_map_func_compatibility in kernel/bpf/verifier.c), by the names of the language.
_MAPS = {
    "perf_event_read perf_event_read_value perf_event_output skb_output xdp_output": "PerfEventArray",
    "get_stackid": "StackTrace",
    "skb_under_cgroup current_task_under_cgroup": "CgroupArray",
    "redirect_map": "DevMap DevMapHash CpuMap XskMap",
    "sk_redirect_map msg_redirect_map sock_map_update": "SockMap",
    "sk_redirect_hash msg_redirect_hash sock_hash_update": "SockHash",
    "sk_select_reuseport": "ReuseportArray SockMap SockHash",
    "get_local_storage": "CgroupLocal PerCpuCgroupLocal",
    "sk_storage_get sk_storage_delete": "SkStorage",
    "inode_storage_get inode_storage_delete": "InodeStorage",
    "task_storage_get task_storage_delete": "TaskStorage",
    "cgrp_storage_get cgrp_storage_delete": "CgroupStorage",
    "map_push_elem map_peek_elem": "Queue Stack BloomFilter",
    "map_pop_elem": "Queue Stack",
    "ringbuf_output ringbuf_reserve ringbuf_query ringbuf_reserve_dynptr": "RingBuf",
    "map_lookup_percpu_elem": "PerCpuHash PerCpuArray LruPerCpuHash",
    "timer_init": "Hash LruHash Array",
}
MAPS_OF = {name: kinds.split() for names, kinds in _MAPS.items() for name in names.split()}
"""Kinds of maps by helper, for those that do not take any map with keys."""


class Helper:
    """One helper function: ``number``, kinds of ``params`` and of the ``result``; ``required`` arguments at least.

    ``since`` is the first kernel that has it for some program type.
    """

    __slots__ = ("name", "number", "params", "required", "result", "since")

    def __init__(self, name: str, number: int, params: tuple[str, ...], result: str) -> None:
        self.name = name
        self.number = number
        self.since = _SINCE[bisect_right([first for first, _ in _SINCE], number) - 1][1]
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
