"""Kernel types as the programs use them: only the fields that are read, in any order.

Nothing here states an offset. A field access compiles to a CO-RE relocation,
and the loader fills in where the running kernel keeps that field; only names,
nesting, nominal sizes and signedness matter. ``struct x___y`` is a flavour of
``struct x`` (the part after three underscores is ignored when types are
matched), used where kernels or architectures disagree.
"""

from __future__ import annotations

from pybpf.lang import KStruct, KUnion, Ptr, char, i16, i32, i64, u16, u32, u64


class pt_regs(KStruct):
    """User registers at a system call, x86-64 (arch/x86/include/asm/ptrace.h)."""

    r10: u64
    r9: u64
    r8: u64
    bp: u64
    bx: u64
    cx: u64
    dx: u64
    si: u64
    di: u64
    orig_ax: u64


class pt_regs___arm64(KStruct):
    """The same on arm64 (arch/arm64/include/asm/ptrace.h); x0 holds the result on exit."""

    regs: u64[31]
    sp: u64
    pc: u64
    orig_x0: u64
    syscallno: i32


class pt_regs___riscv(KStruct):
    """The same on riscv64 (arch/riscv/include/asm/ptrace.h); a0 holds the result on exit."""

    a0: u64
    a1: u64
    a2: u64
    a3: u64
    a4: u64
    a5: u64
    a7: u64
    orig_a0: u64


class pt_regs___s390(KStruct):
    """The same on s390x (arch/s390/include/asm/ptrace.h); gprs[2] holds the result on exit."""

    gprs: u64[16]
    orig_gpr2: u64
    int_code: u32


class thread_info(KStruct):
    flags: u64


class thread_info___x86(KStruct):
    status: u32


class ns_common(KStruct):
    inum: u32


class new_utsname(KStruct):
    nodename: char[65]


class uts_namespace(KStruct):
    ns: ns_common
    name: new_utsname


class mnt_namespace(KStruct):
    ns: ns_common


class pid_namespace(KStruct):
    ns: ns_common


class ipc_namespace(KStruct):
    ns: ns_common


class net(KStruct):
    ns: ns_common


class cgroup_namespace(KStruct):
    ns: ns_common


class user_namespace(KStruct):
    ns: ns_common


class nsproxy(KStruct):
    uts_ns: Ptr[uts_namespace]
    ipc_ns: Ptr[ipc_namespace]
    mnt_ns: Ptr[mnt_namespace]
    pid_ns_for_children: Ptr[pid_namespace]
    net_ns: Ptr[net]
    cgroup_ns: Ptr[cgroup_namespace]


class upid(KStruct):
    nr: i32
    ns: Ptr[pid_namespace]


class struct_pid(KStruct, name="pid"):
    """``struct pid``: one number for each pid namespace from the initial one (level 0) down."""

    level: u32
    numbers: upid[1]


class kuid_t(KStruct, typedef=True):
    val: u32


class kgid_t(KStruct, typedef=True):
    val: u32


class kernel_cap_t(KStruct, typedef=True):
    """64 bits, as two numbers until 6.2 and one since."""


class cred(KStruct):
    uid: kuid_t
    gid: kgid_t
    suid: kuid_t
    sgid: kgid_t
    euid: kuid_t
    egid: kgid_t
    fsuid: kuid_t
    fsgid: kgid_t
    securebits: u32
    cap_inheritable: kernel_cap_t
    cap_permitted: kernel_cap_t
    cap_effective: kernel_cap_t
    cap_bset: kernel_cap_t
    cap_ambient: kernel_cap_t
    user_ns: Ptr[user_namespace]


class atomic_t(KStruct, typedef=True):
    counter: i32


class signal_struct(KStruct):
    live: atomic_t
    group_exit_code: i32


class sigset_t(KStruct, typedef=True):
    """64 bits."""


class sigaction(KStruct):
    sa_handler: Ptr[char]
    sa_flags: u64
    sa_mask: sigset_t


class k_sigaction(KStruct):
    sa: sigaction


class sighand_struct(KStruct):
    action: k_sigaction[64]


class files_struct(KStruct):
    fdt: Ptr[fdtable]


class fdtable(KStruct):
    max_fds: u32
    fd: Ptr[u64]


class rb_node(KStruct):
    rb_left: Ptr[rb_node]
    rb_right: Ptr[rb_node]


class rb_root(KStruct):
    rb_node: Ptr[rb_node]


class mm_context_t(KStruct, typedef=True):
    vdso: Ptr[u64]


class mm_struct(KStruct):
    exe_file: Ptr[file]
    mm_users: atomic_t
    start_brk: u64
    brk: u64
    start_stack: u64
    context: mm_context_t
    mm_rb: rb_root  # until 6.0
    arg_start: u64
    arg_end: u64
    env_start: u64
    env_end: u64


class cgroup_subsys_state(KStruct):
    cgroup: Ptr[cgroup]


class css_set(KStruct):
    subsys: Ptr[cgroup_subsys_state][16]
    dfl_cgrp: Ptr[cgroup]


class task_struct(KStruct):
    cgroups: Ptr[css_set]
    thread_info: thread_info
    flags: u32
    pid: i32
    tgid: i32
    real_parent: Ptr[task_struct]
    group_leader: Ptr[task_struct]
    thread_pid: Ptr[struct_pid]
    start_time: u64
    cred: Ptr[cred]
    real_cred: Ptr[cred]
    comm: char[16]
    nsproxy: Ptr[nsproxy]
    signal: Ptr[signal_struct]
    stack: Ptr[u64]
    exit_code: i32
    mm: Ptr[mm_struct]
    fs: Ptr[fs_struct]
    files: Ptr[files_struct]
    sighand: Ptr[sighand_struct]
    sas_ss_sp: u64
    sas_ss_size: u64


class task_struct___x86(KStruct):
    thread_info: thread_info___x86


class pt_regs___x86(KStruct):
    """Registers at a probe, x86-64: arguments in di, si, dx, cx (a system call's: r10), r8, r9, the result in ax."""

    bp: u64
    r9: u64
    r8: u64
    ax: u64
    cx: u64
    dx: u64
    si: u64
    di: u64
    ip: u64
    sp: u64
    r10: u64


class vm_area_struct(KStruct):
    """An area of a process's memory, as find_vma() gives it."""

    vm_start: u64
    vm_end: u64
    vm_flags: u64
    vm_file: Ptr[file]
    vm_rb: rb_node  # until 6.0


class bpf_perf_event_data(KStruct):
    """Context of a perf_event program (include/uapi/linux/bpf_perf_event.h); ``regs`` depends on the architecture."""

    sample_period: u64
    addr: u64


# --- files -----------------------------------------------------------------------


class timespec64(KStruct):
    tv_sec: i64
    tv_nsec: i64


class file_system_type(KStruct):
    name: Ptr[char]


class super_block(KStruct):
    s_dev: u32
    s_type: Ptr[file_system_type]
    s_magic: u64


class inode(KStruct):
    i_mode: u16
    i_ino: u64
    i_sb: Ptr[super_block]
    i_ctime: timespec64  # until 6.5


class inode___ctime(KStruct):
    __i_ctime: timespec64  # 6.6 to 6.10


class inode___seconds(KStruct):
    i_ctime_sec: i64  # since 6.11
    i_ctime_nsec: u32


class qstr(KStruct):
    len: u32
    name: Ptr[char]


class hlist_bl_node(KStruct):
    pprev: Ptr[u64]


class dentry(KStruct):
    d_hash: hlist_bl_node
    d_parent: Ptr[dentry]
    d_name: qstr
    d_inode: Ptr[inode]
    d_sb: Ptr[super_block]


class vfsmount(KStruct):
    mnt_root: Ptr[dentry]
    mnt_sb: Ptr[super_block]
    mnt_userns: Ptr[user_namespace]  # 5.12 to 6.1
    mnt_idmap: Ptr[u64]  # since 6.2


class mount(KStruct):
    mnt_parent: Ptr[mount]
    mnt_mountpoint: Ptr[dentry]
    mnt: vfsmount


class path(KStruct):
    mnt: Ptr[vfsmount]
    dentry: Ptr[dentry]


class fs_struct(KStruct):
    pwd: path


class file_operations(KStruct):
    iterate_shared: Ptr[u64]
    iterate: Ptr[u64]  # until 6.5


class file(KStruct):
    f_path: path
    f_flags: u32
    f_inode: Ptr[inode]
    f_op: Ptr[file_operations]
    f_pos: u64
    private_data: Ptr[u64]


class pipe_buffer(KStruct):
    flags: u32


class pipe_inode_info(KStruct):
    head: u32
    ring_size: u32
    bufs: Ptr[pipe_buffer]


class linux_binprm(KStruct):
    file: Ptr[file]
    filename: Ptr[char]
    interp: Ptr[char]


# --- sockets -----------------------------------------------------------------------


class in6_words(KUnion):
    u6_addr32: u32[4]


class in6_addr(KStruct):
    in6_u: in6_words


class sock_common(KStruct):
    skc_family: u16
    skc_num: u16
    skc_dport: u16  # network byte order
    skc_daddr: u32
    skc_rcv_saddr: u32
    skc_v6_daddr: in6_addr
    skc_v6_rcv_saddr: in6_addr


class sock(KStruct):
    __sk_common: sock_common


class iov_iter(KStruct):
    count: u64


class sockaddr_un(KStruct):
    sun_family: u16


class unix_address(KStruct):
    len: i32
    name: sockaddr_un[1]


class unix_sock(KStruct):
    addr: Ptr[unix_address]
    peer: Ptr[sock]


class socket(KStruct):
    type: i16
    sk: Ptr[sock]


# --- drivers -------------------------------------------------------------------------------


class list_head(KStruct):
    next: Ptr[list_head]
    prev: Ptr[list_head]


class kobject(KStruct):
    name: Ptr[char]
    entry: list_head


class kset(KStruct):
    list: list_head


class device(KStruct):
    kobj: kobject
    parent: Ptr[device]
    init_name: Ptr[char]


class struct_kprobe(KStruct, name="kprobe"):
    symbol_name: Ptr[char]
    pre_handler: Ptr[u64]
    post_handler: Ptr[u64]


class subprocess_info(KStruct):
    path: Ptr[char]
    argv: Ptr[u64]
    envp: Ptr[u64]


# --- modules, control groups -----------------------------------------------------------


class module_layout(KStruct):
    base: Ptr[u64]
    text_size: u32


class module_memory(KStruct):
    base: Ptr[u64]
    size: u32


class module(KStruct):
    core_layout: module_layout  # until 6.3
    mem: module_memory[1]  # since 6.4; the first is the code
    list: list_head
    name: char[56]
    version: Ptr[char]
    srcversion: Ptr[char]


class module_kobject(KStruct):
    kobj: kobject
    mod: Ptr[module]


class latch_tree_root(KStruct):
    tree: rb_root[2]


class latch_tree_node(KStruct):
    node: rb_node[2]


class mod_tree_root(KStruct):
    root: latch_tree_root


class mod_tree_node(KStruct):
    node: latch_tree_node


class kernfs_node(KStruct):
    id: u64


class cgroup_root(KStruct):
    hierarchy_id: i32


class cgroup(KStruct):
    kn: Ptr[kernfs_node]
    root: Ptr[cgroup_root]


# --- limits, times ----------------------------------------------------------------------


class rlimit(KStruct):
    rlim_cur: u64
    rlim_max: u64


class timezone(KStruct):
    tz_minuteswest: i32
    tz_dsttime: i32


# --- BPF ----------------------------------------------------------------------------------


class bpf_map(KStruct):
    id: u32
    name: char[16]


class bpf_prog_aux(KStruct):
    id: u32
    name: char[16]
    attach_func_name: Ptr[char]


class bpf_prog(KStruct):
    len: u32
    aux: Ptr[bpf_prog_aux]


class bpf_link(KStruct):
    id: u32
    prog: Ptr[bpf_prog]


class bpf_perf_link(KStruct):
    """Since 5.15."""

    perf_file: Ptr[file]


class tracepoint_place(KStruct, name="tracepoint"):
    name: Ptr[char]


class bpf_raw_event_map(KStruct):
    tp: Ptr[tracepoint_place]


class bpf_raw_tp_link(KStruct):
    btp: Ptr[bpf_raw_event_map]


class bpf_trampoline_func(KStruct):
    addr: Ptr[u64]


class bpf_trampoline(KStruct):
    func: bpf_trampoline_func


class bpf_tracing_link(KStruct):
    trampoline: Ptr[bpf_trampoline]


# --- probes --------------------------------------------------------------------------------


class trace_event_call(KStruct):
    tp: Ptr[tracepoint_place]
    name: Ptr[char]
    flags: i32
    mod: Ptr[u64]  # until 5.14
    filter: Ptr[u64]  # until 6.11


class struct_perf_event(KStruct, name="perf_event"):
    tp_event: Ptr[trace_event_call]


class trace_probe_event(KStruct):
    call: trace_event_call
    probes: list_head


class trace_probe(KStruct):
    list: list_head


class kprobe_place(KStruct, name="kprobe"):
    addr: Ptr[u64]


class kretprobe_place(KStruct, name="kretprobe"):
    kp: kprobe_place
    handler: Ptr[u64]


class trace_kprobe(KStruct):
    rp: kretprobe_place
    symbol: Ptr[char]
    tp: trace_probe


class uprobe_consumer(KStruct):
    ret_handler: Ptr[u64]


class trace_uprobe(KStruct):
    consumer: uprobe_consumer
    filename: Ptr[char]
    offset: u64
    tp: trace_probe
