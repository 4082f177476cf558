"""Keeping track of processes: who descends from a traced one, what runs in it, and new control groups.

What is known of a process is kept by its number, from its first instruction until the kernel lets go of it: not only
until it ends, for threads that end together, and what is closed at the end, are its events too. A number that is used
again begins anew, whatever was known before.
"""

from __future__ import annotations

from programs.common import *
from programs.fields import *
from programs.paths import *
from programs.selection import *
from pybpf.ktypes import cgroup as struct_cgroup
from pybpf.ktypes import linux_binprm, task_struct
from pybpf.lang import *

exec_paths = PerCpuArray(PathRecord, 1)
exec_walks = PerCpuArray(Walk, 1)
cgroup_records = PerCpuArray(PathRecord, 1)


@inline
def inherit(members, parent: u32, child: u32, mark: u64):
    """A new process is what its parent is; ``mark`` is the child's start, shifted."""
    member = members.lookup(parent)
    if member:
        if members.update(child, mark | member[0] & MEMBER_VERDICT, BPF_ANY) < 0:
            count_untracked()
    else:
        members.delete(child)  # an earlier process of this number


@inline
def enter_child(parent, child):
    """A new process belongs where its parent belongs, before it runs its first instruction."""
    mother: u32 = parent.tgid
    pid: u32 = child.tgid
    if pid == mother:  # a thread
        return
    mark: u64 = child.start_time << MEMBER_SHIFT
    if config.tree_on:
        inherit(tree, mother, pid, mark)
    if config.binary_on:
        inherit(binaries, mother, pid, mark)
    if config.follow:
        is_selected(current_task())  # enters the parent where it is
        inherit(followed, mother, pid, mark)


@hook("tp_btf/sched_process_fork", "raw_tp/sched_process_fork")
def fork(ctx, parent: Ptr[task_struct], child: Ptr[task_struct]):
    enter_child(parent, child)
    return 0


@inline
def judge_program(task, opened):
    """Once for each program that starts: is its file one of those that the filter names?"""
    record = exec_paths.lookup(0)
    walk = exec_walks.lookup(0)
    if not record or not walk:
        return
    text = cast(Ptr[PathText], addr(record.path))
    size = write_path(walk, text, u64(opened.f_path.dentry), u64(opened.f_path.mnt))
    hits = path_hits(cast(Ptr[u32], addr(record.status)), size + 1)
    verdict = u64(0)
    if config.binary_wanted == 0 or hits & config.binary_wanted:
        if not hits & config.binary_unwanted:
            verdict = 1
    pid: u32 = task.tgid
    if verdict == config.binary_default:
        binaries.delete(pid)
    else:
        mark = task.group_leader.start_time << MEMBER_SHIFT | verdict
        if binaries.update(pid, mark, BPF_ANY) < 0:
            count_untracked()


@hook("tp_btf/sched_process_exec", "raw_tp/sched_process_exec")
def exec(ctx, task: Ptr[task_struct], old_pid: i32, program: Ptr[linux_binprm]):
    judge_program(task, program.file)
    return 0


@inline
def forget(members, pid: u32, started: u64):
    member = members.lookup(pid)
    if member:
        mark = member[0] >> MEMBER_SHIFT
        if mark == 0 or mark == started:  # else the number is in use again
            members.delete(pid)


@inline
def leave(task):
    """Forget a process with its first thread, which the kernel keeps until all others are gone."""
    pid: u32 = task.tgid
    thread: u32 = task.pid
    if pid != thread:
        return
    started: u64 = task.start_time
    if config.tree_on:
        forget(tree, pid, started)
    if config.binary_on:
        forget(binaries, pid, started)
    if config.follow:
        forget(followed, pid, started)


@hook("tp_btf/sched_process_free", "raw_tp/sched_process_free")
def free(ctx, task: Ptr[task_struct]):
    leave(task)
    return 0


@inline
def tell_of_group(group, path):
    """Tell of a new control group, before anyone can be in it: its id as the first number, and its path."""
    record = cgroup_records.lookup(0)
    if not record or group.root.hierarchy_id != config.hierarchy:  # each has ids of its own; 0 is version 2
        return
    length = read_kernel_str(record.path, path)
    if length <= 0:
        return
    record.args[0] = group.kn.id
    record.event = NEW_CGROUP
    record.status = PATH_OK
    submit(record, offsetof(PathRecord, "path") + min(u64(length) - 1, PATH_SIZE - 1), NEW_CGROUP)


@hook("tp_btf/cgroup_mkdir", "raw_tp/cgroup_mkdir")
def new_cgroup(ctx, group: Ptr[struct_cgroup], path: u64):
    tell_of_group(group, path)
    return 0
