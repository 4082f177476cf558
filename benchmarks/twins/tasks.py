"""Birth and death of processes, from typed tracepoints."""

from __future__ import annotations

from pybpf.lang import *


class signal_struct(KStruct):
    group_exit_code: i32


class cred_kuid(KStruct, name="kuid_t", typedef=True):
    val: u32


class cred(KStruct):
    uid: cred_kuid


class task_struct(KStruct):
    pid: i32
    tgid: i32
    flags: u32
    exit_code: i32
    start_time: u64
    comm: char[16]
    real_parent: Ptr[task_struct]
    group_leader: Ptr[task_struct]
    signal: Ptr[signal_struct]
    cred: Ptr[cred]


class Event(Struct):
    kind: u32
    pid: u32
    tid: u32
    ppid: u32
    uid: u32
    code: i32
    lived: u64
    comm: char[16]


events = RingBuf(256 * 1024)
alive = Hash(u32, u32, 8192)


@tp_btf("sched_process_fork")
def forked(ctx, parent: Ptr[task_struct], child: Ptr[task_struct]):
    if parent.tgid == child.tgid:
        return 0
    alive[child.tgid] = u32(parent.tgid)
    with events.reserve(Event) as e:
        e.kind = 1
        e.pid = child.tgid
        e.tid = child.pid
        e.ppid = parent.tgid
        e.uid = child.cred.uid.val
        e.code = 0
        e.lived = 0
        copy(e.comm, child.comm)
    return 0


@tp_btf("sched_process_exit")
def exited(ctx, task: Ptr[task_struct]):
    if task.pid != task.tgid:
        return 0
    key: u32 = task.tgid
    alive.delete(key)
    with events.reserve(Event) as e:
        e.kind = 2
        e.pid = task.tgid
        e.tid = task.pid
        e.ppid = task.real_parent.tgid
        e.uid = task.cred.uid.val
        e.code = task.exit_code >> 8 & 0xFF
        e.lived = ktime_get_ns() - task.start_time
        copy(e.comm, task.comm)
    return 0
