"""Keeping track of process trees: who descends from a traced process."""

from __future__ import annotations

from programs.common import *
from pybpf.ktypes import task_struct
from pybpf.lang import *


@inline
def inherit(members, parent: u32, child: u32):
    member = members.lookup(parent)
    if member:
        if members.update(child, member[0], BPF_ANY) < 0:
            untracked[0] += 1


@hook("tp_btf/sched_process_fork", "raw_tp/sched_process_fork")
def fork(ctx, parent: Ptr[task_struct], child: Ptr[task_struct]):
    """A new process belongs where its parent belongs, before it runs its first instruction."""
    mother: u32 = parent.tgid
    pid: u32 = child.tgid
    if pid == mother:  # a thread
        return 0
    if config.tree_on:
        inherit(tree, mother, pid)
    if config.follow:
        if is_selected(current_task()):
            inherit(followed, mother, pid)
    return 0


@hook("tp_btf/sched_process_exit", "raw_tp/sched_process_exit")
def exit(ctx, task: Ptr[task_struct]):
    """Forget a process with its last thread, so that its number can be used again."""
    if task.signal.live.counter == 0:
        pid: u32 = task.tgid
        tree.delete(pid)
        followed.delete(pid)
    return 0
