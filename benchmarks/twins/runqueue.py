"""How long woken tasks wait for a CPU, with probe reads."""

from __future__ import annotations

from pybpf.lang import *


class task_struct(KStruct):
    pid: i32
    tgid: i32
    prio: i32
    on_cpu: i32


class Stat(Struct):
    count: u64
    total: u64
    worst: u64


woken = Hash(u32, u64, 10240)
stats = Hash(u32, Stat, 1024)


@raw_tp("sched_wakeup")
def wakeup(ctx, task: Ptr[task_struct]):
    key: u32 = task.pid
    if key == 0:
        return 0
    woken[key] = ktime_get_ns()
    return 0


@raw_tp("sched_switch")
def switched(ctx, preempt: u64, previous: Ptr[task_struct], next: Ptr[task_struct]):
    key: u32 = next.pid
    if key == 0:
        return 0
    since = woken.lookup(key)
    if not since:
        return 0
    waited = ktime_get_ns() - since[0]
    woken.delete(key)
    group: u32 = next.tgid
    stat = stats.lookup(group)
    if not stat:
        stats[group] = Stat(count=1, total=waited, worst=waited)
        return 0
    stat.count += 1
    stat.total += waited
    if waited > stat.worst:
        stat.worst = waited
    return 0
