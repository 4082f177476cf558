"""Which number a process has in bfer's own pid namespace, and which in the first one: needed where these are two."""

from __future__ import annotations

from programs.records import *
from pybpf.ktypes import task_struct
from pybpf.lang import *

LICENSE = "Dual MIT/GPL"


class Walk(Struct):
    """What an iterator's program gets (struct bpf_iter__task)."""

    meta: u64
    task: Ptr[task_struct]


own_numbers = Hash(u32, OwnNumber, 16384)  # by number in bfer's own namespace


@hook("iter/task")
def number_processes(ctx: Ptr[Walk]):
    """Run by a read(): once for each thread of the reader's pid namespace, and of those inside of it."""
    task = ctx.task
    if not task:
        return 0
    host: u32 = task.tgid
    if host != task.pid:
        return 0
    reader = cast(Ptr[task_struct], u64(get_current_task()))
    entry = OwnNumber()
    entry.host = host
    entry.level = reader.thread_pid.level
    pid = cast(Ptr[task_struct], u64(task)).thread_pid
    own_numbers.update(u32(pid.numbers[entry.level].nr), entry, BPF_ANY)
    return 0
