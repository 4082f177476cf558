"""Who makes a system call, seen from the initial namespaces and from its own."""

from __future__ import annotations

from pybpf.lang import *


class ns_common(KStruct):
    inum: u32


class pid_namespace(KStruct):
    ns: ns_common
    level: u32


class mnt_namespace(KStruct):
    ns: ns_common


class new_utsname(KStruct):
    nodename: char[65]


class uts_namespace(KStruct):
    name: new_utsname
    ns: ns_common


class nsproxy(KStruct):
    uts_ns: Ptr[uts_namespace]
    mnt_ns: Ptr[mnt_namespace]
    pid_ns_for_children: Ptr[pid_namespace]


class task_struct(KStruct):
    pid: i32
    tgid: i32
    start_time: u64
    nsproxy: Ptr[nsproxy]
    real_parent: Ptr[task_struct]
    group_leader: Ptr[task_struct]


class Event(Struct):
    time: u64
    start: u64
    pid: u32
    tid: u32
    ppid: u32
    cpu: u32
    mnt: u32
    uts: u32
    pidns: u32
    level: u32
    comm: char[16]
    node: char[64]


events = RingBuf(64 * 1024)


@hook("tp_btf/sys_enter", "raw_tp/sys_enter")
def seen(ctx):
    with events.reserve(Event) as e:
        task = cast(Ptr[task_struct], current_task())
        proxy = task.nsproxy
        e.time = ktime_get_ns()
        e.start = task.start_time
        e.pid = task.tgid
        e.tid = task.pid
        e.ppid = task.real_parent.tgid
        e.cpu = get_smp_processor_id()
        e.mnt = proxy.mnt_ns.ns.inum
        e.uts = proxy.uts_ns.ns.inum
        e.pidns = proxy.pid_ns_for_children.ns.inum
        e.level = proxy.pid_ns_for_children.level
        comm(e.comm)
        copy(e.node, proxy.uts_ns.name.nodename)
    return 0
