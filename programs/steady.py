"""System calls and process trees where a program on a raw tracepoint can be preempted (Linux 7).

The kernel lets a program of one tracepoint run once at a time on a processor. A task that is preempted inside of it
therefore keeps others from being seen until it goes on. On a tracepoint's record the program runs with preemption
off: it costs more, and misses nothing. What the record does not tell is then found by the current task, which such a
kernel gives with its type.
"""

from __future__ import annotations

from programs.common import *
from programs.execs import keep_exec, tell_exec
from programs.fields import *
from programs.processes import enter_child, judge_program, leave, tell_of_group
from programs.records import *
from programs.syscalls import read_fields, read_path
from pybpf.ktypes import cgroup as struct_cgroup
from pybpf.ktypes import pt_regs, task_struct
from pybpf.lang import *


class Anything(Struct):
    """A record of which nothing is needed."""

    common: u64


class Entry(Struct):
    """raw_syscalls/sys_enter/format"""

    common: u64
    id: i64
    args: u64[6]


class Exit(Struct):
    """raw_syscalls/sys_exit/format"""

    common: u64
    id: i64
    ret: i64


SYS_ENTER = "tracepoint/raw_syscalls/sys_enter"
SYS_EXIT = "tracepoint/raw_syscalls/sys_exit"

steady_calls = ProgArray(HANDLERS, name="calls__steady")
steady_enter_calls = ProgArray(HANDLERS, name="enter_calls__steady")


@inline
def emit(ctx, result, record, read, send=submit_call):
    task = get_current_task_btf()
    emit_call(task, cast(Ptr[pt_regs], user_registers(task)), result, record, read, send, u64(ctx.id))


@inline
def registers():
    return cast(Ptr[pt_regs], user_registers(get_current_task_btf()))


@hook(SYS_EXIT, name="sys_exit__steady")
def sys_exit(ctx: Ptr[Exit]):
    hand_over(ctx, steady_calls, RETURN_HANDLERS, u64(ctx.id))
    return 0


@hook(SYS_EXIT, name="plain__steady")
def plain(ctx: Ptr[Exit]):
    emit(ctx, ctx.ret, scratch.lookup(0), no_memory)
    return 0


@hook(SYS_EXIT, name="path__steady")
def path(ctx: Ptr[Exit]):
    emit(ctx, ctx.ret, scratch.lookup(0), read_path)
    return 0


@hook(SYS_EXIT, name="fields__steady")
def fields(ctx: Ptr[Exit]):
    emit(ctx, ctx.ret, fields_scratch.lookup(0), read_fields)
    return 0


@hook(SYS_ENTER, name="sys_enter__steady")
def sys_enter(ctx: Ptr[Entry]):
    hand_over(ctx, steady_enter_calls, ENTRY_HANDLERS, u64(ctx.id))
    return 0


@hook(SYS_ENTER, name="plain_enter__steady")
def plain_enter(ctx: Ptr[Entry]):
    emit(ctx, i64(0), fields_scratch.lookup(0), no_fields, submit)
    return 0


@hook(SYS_ENTER, name="exec_enter__steady")
def exec_enter(ctx: Ptr[Entry]):
    keep_exec(registers())
    return 0


@hook(SYS_EXIT, name="exec_exit__steady")
def exec_exit(ctx: Ptr[Exit]):
    tell_exec(registers(), ctx.ret)
    return 0


@hook("raw_tp/sched_wakeup_new", name="fork__steady")
def fork(ctx, child: Ptr[task_struct]):
    """Under the lock of a run queue, and right after sched_process_fork: the child cannot run before."""
    enter_child(current_task(), child)
    return 0


@hook("tracepoint/sched/sched_process_exec", name="exec__steady")
def exec(ctx: Ptr[Anything]):
    """The file that runs is that of the task's memory by now."""
    task = current_task()
    judge_program(task, task.mm.exe_file)
    return 0


@hook("raw_tp/sched_process_free", name="free__steady")
def free(ctx, task: Ptr[task_struct]):
    """In a callback of RCU, which is not preempted."""
    leave(task)
    return 0


@hook("raw_tp/cgroup_mkdir", name="new_cgroup__steady")
def new_cgroup(ctx, group: Ptr[struct_cgroup], path: u64):
    """Under the lock of all control groups: one at a time."""
    tell_of_group(group, path)
    return 0
