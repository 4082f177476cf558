"""Opening and unlinking: the system calls with a path, seen when they return.

One program runs at the end of every system call and hands over, by number, to
the program that knows the call's arguments; a call that nobody asked for ends
at an empty slot. The registers still hold the arguments then, and the strings
they point at are resident, since the kernel has just read them.
"""

from __future__ import annotations

from programs.common import *
from programs.records import *
from pybpf.ktypes import pt_regs
from pybpf.lang import *

SYS_EXIT = ("tp_btf/sys_exit", "raw_tp/sys_exit")


class OpenHow(Struct):
    """struct open_how (include/uapi/linux/openat2.h)."""

    flags: u64
    mode: u64
    resolve: u64


@hook(*SYS_EXIT)
def sys_exit(ctx, regs: Ptr[pt_regs], result: i64):
    """Attached; all other programs of this file are its tail calls."""
    if not is_compat(current_task()):
        tail_call(ctx, calls, syscall_number(regs))
    return 0


@inline
def emit(regs, result, path, scalars):
    """``path`` is the number of the argument that holds it, ``scalars`` those of the others."""
    record = scratch.lookup(0)
    if not record:
        return
    task = current_task()
    if not is_selected(task):
        return
    event = syscall_number(regs)
    length = read_path(record, syscall_arg(regs, path))
    if not path_is_selected(record, length, event):
        return
    for i in unroll(range(5)):
        record.scalars[i] = 0
    for i, n in unroll(enumerate(scalars)):
        record.scalars[i] = syscall_arg(regs, n)
    finish(record, task, event, result, length)


@inline
def finish(record, task, event, result, length):
    fill_context(addr(record.who), task)
    record.event = event
    record.result = result
    record.time = ktime_get_boot_ns()
    submit(record, offsetof(PathRecord, "path") + min(length - 1, PATH_SIZE - 1), event)


@hook(*SYS_EXIT)
def path_only(ctx, regs: Ptr[pt_regs], result: i64):
    """unlink(path)"""
    emit(regs, result, 0, ())
    return 0


@hook(*SYS_EXIT)
def path_int(ctx, regs: Ptr[pt_regs], result: i64):
    """creat(path, mode)"""
    emit(regs, result, 0, (1,))
    return 0


@hook(*SYS_EXIT)
def path_int_int(ctx, regs: Ptr[pt_regs], result: i64):
    """open(path, flags, mode)"""
    emit(regs, result, 0, (1, 2))
    return 0


@hook(*SYS_EXIT)
def fd_path_int(ctx, regs: Ptr[pt_regs], result: i64):
    """unlinkat(dirfd, path, flag)"""
    emit(regs, result, 1, (0, 2))
    return 0


@hook(*SYS_EXIT)
def fd_path_int_int(ctx, regs: Ptr[pt_regs], result: i64):
    """openat(dirfd, path, flags, mode)"""
    emit(regs, result, 1, (0, 2, 3))
    return 0


@hook(*SYS_EXIT)
def fd_path_how(ctx, regs: Ptr[pt_regs], result: i64):
    """openat2(dirfd, path, how, size)"""
    record = scratch.lookup(0)
    if not record:
        return 0
    task = current_task()
    if not is_selected(task):
        return 0
    event = syscall_number(regs)
    length = read_path(record, syscall_arg(regs, 1))
    if not path_is_selected(record, length, event):
        return 0
    record.scalars[0] = syscall_arg(regs, 0)
    how = OpenHow()
    size = syscall_arg(regs, 3)
    # The kernel does not look at a structure that is smaller than its first version.
    if size < sizeof(OpenHow) or read_user(how, syscall_arg(regs, 2)) < 0:
        record.status = record.status | HOW_UNREADABLE
        how.flags = syscall_arg(regs, 2)
    record.scalars[1] = how.flags
    record.scalars[2] = how.mode
    record.scalars[3] = how.resolve
    record.scalars[4] = size
    finish(record, task, event, result, length)
    return 0
