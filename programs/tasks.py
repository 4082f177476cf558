"""Processes and threads: started, switched, ended, and the system calls they enter and leave."""

from __future__ import annotations

from programs.events import *
from programs.paths import *
from programs.records import *
from pybpf.ktypes import file, linux_binprm, pt_regs, task_struct
from pybpf.lang import *

SCHED_PROCESS_EXEC = HOOKS + 1
SYS_ENTER = HOOKS + 18
SYS_EXIT = HOOKS + 19
SCHED_SWITCH = HOOKS + 20
DO_EXIT = HOOKS + 21

MAX_ERRNO = 4095

# Files that were opened last because a program names them: a script's interpreter, then that of the ELF file. By task.
interpreters = LruHash(u64, u64, 1024)


@inline
def put_text(record, arg, start, end):
    """Strings of the process's that lie in a row, each with its NUL; the beginning where there are too many."""
    place = record.end
    if place > FIELDS_FULL or end <= start:
        return
    add_bytes(record, cast(Ptr[Field], addr(record.data[place >> 3])), arg, start, end - start, FORM_BYTES)


@inline
def input_file(task):
    """The file that the process reads as its standard input; all zero where there is none."""
    return cast(Ptr[file], task.files.fdt.fd[0])


@inline
def put_interpreter(record, shape, task, program):
    """Path, device, inode and change time of the file that the program's ELF headers name as interpreter."""
    found = interpreters.lookup(u64(task))
    if found and found[0] != u64(program.file):
        opened = cast(Ptr[file], found[0])
        node = opened.f_inode
        put_number(record, 12, u64(node.i_sb.s_dev))
        put_number(record, 13, u64(node.i_ino))
        put_number(record, 14, change_time(node))
        return put_file(record, shape, 11, opened)
    return put_user_string(record, shape, 11, u64(0))


@inline
def fill_exec(record, shape, program):
    task = current_task()
    opened = program.file
    node = opened.f_inode
    if not put_kernel_string(record, shape, 0, u64(program.filename)):
        return False
    if not put_file(record, shape, 1, opened):
        return False
    if not put_kernel_string(record, shape, 10, u64(program.interp)):
        return False
    if not put_interpreter(record, shape, task, program):
        return False
    record.args[4] = node.i_sb.s_dev
    record.args[5] = node.i_ino
    put_number(record, 6, u64(task.real_parent.flags & PF_KTHREAD != 0))
    put_number(record, 7, change_time(node))
    put_number(record, 8, u64(input_file(task).f_inode.i_mode))
    put_number(record, 9, u64(node.i_mode))
    memory = task.mm
    put_text(record, 2, memory.arg_start, memory.arg_end)
    if shape.kinds[EXTRA] & EXTRA_ENV:
        put_text(record, 3, memory.env_start, memory.env_end)
    return True


@hook(*tracepoint_of("sched_process_exec"))
def sched_process_exec(ctx, task: Ptr[task_struct], old_pid: i32, program: Ptr[linux_binprm]):
    emit(SCHED_PROCESS_EXEC, fill_exec, program, varying=(5, 1))
    interpreters.delete(u64(current_task()))  # a static program that follows has none
    return 0


@inline
def found_interpreter(opened):
    if i64(opened) < -MAX_ERRNO:  # an address of the kernel's
        interpreters.update(u64(current_task()), opened, BPF_ANY)


@hook("fexit/open_exec", name="sched_process_exec__loader")
def loader(ctx, name: u64, opened: u64):
    found_interpreter(opened)
    return 0


@hook("kretprobe/open_exec", name="sched_process_exec__loader_return")
def loader_return(ctx):
    found_interpreter(u64(ctx.ret))
    return 0


# --- the scheduler ---------------------------------------------------------------------


@inline
def fill_switch(record, shape, both):
    before, after = both
    record.args[0] = get_smp_processor_id()
    record.args[1] = before.pid
    record.args[3] = after.pid
    if not put_kernel_string(record, shape, 2, u64(addr(before.comm))):
        return False
    return put_kernel_string(record, shape, 4, u64(addr(after.comm)))


@hook(*tracepoint_of("sched_switch"))
def sched_switch(ctx, preempted: u64, before: Ptr[task_struct], after: Ptr[task_struct]):
    emit(SCHED_SWITCH, fill_switch, (before, after))
    return 0


@inline
def fill_nothing(record, shape, source):
    return True


@hook(*function("do_exit"))
def do_exit(ctx, code: i64):
    emit(DO_EXIT, fill_nothing, 0)
    return 0


# --- system calls as such ---------------------------------------------------------------


@inline
def fill_call(record, shape, regs):
    record.args[0] = syscall_number(regs)
    return True


@hook(*tracepoint_of("sys_enter"))
def sys_enter(ctx, regs: Ptr[pt_regs], number: i64):
    emit(SYS_ENTER, fill_call, regs)
    return 0


@hook(*tracepoint_of("sys_exit"))
def sys_exit(ctx, regs: Ptr[pt_regs], result: i64):
    emit(SYS_EXIT, fill_call, regs, result)
    return 0
