"""Programs that could not be started, and what signals do."""

from __future__ import annotations

from programs.events import *
from programs.execs import add_vector
from programs.paths import *
from programs.records import *
from programs.tasks import input_file
from pybpf.ktypes import k_sigaction, linux_binprm
from pybpf.lang import *

PROCESS_EXECUTE_FAILED = HOOKS + 57
DO_SIGACTION = HOOKS + 58

AT_FDCWD = -100

# sa_handle_method, as Tracee counts
DEFAULT, IGNORED, HANDLED = range(3)


@inline
def fill_failed(record, shape, program):
    task = current_task()
    opened = program.file
    node = opened.f_inode
    call = running_syscall()
    record.args[0] = u64(AT_FDCWD)
    arguments = running_argument(1)
    environment = running_argument(2)
    if place_of_path() == 1:  # execveat
        record.args[0] = running_argument(0)
        record.args[1] = running_argument(4)
        environment = running_argument(3)
        arguments = running_argument(2)
    if not put_user_string(record, shape, 2, opened_path()):
        return False
    if not put_file(record, shape, 3, opened):
        return False
    record.args[4] = node.i_sb.s_dev
    record.args[5] = node.i_ino
    put_number(record, 6, change_time(node))
    put_number(record, 7, u64(node.i_mode))
    if not put_kernel_string(record, shape, 8, u64(program.interp)):
        return False
    source = input_file(task)
    put_number(record, 9, u64(source.f_inode.i_mode))
    if not put_file(record, shape, 10, source):
        return False
    put_number(record, 11, u64(task.real_parent.flags & PF_KTHREAD != 0))
    record.word = 4 if call >= COMPAT else 8
    put_vector(u32(record.place), 12, arguments)
    if shape.kinds[EXTRA] & EXTRA_ENV:
        put_vector(u32(record.place), 13, environment)
    return True


@subprog(global_=True)
def put_vector(place: u32, arg: u64, address: u64) -> u64:
    """The same as execs.keep_vector, for a record of `hook_scratch`."""
    record = hook_scratch.lookup(place)
    if record:
        add_vector(record, arg, address)
    return 0


@inline
def executed(program, result):
    if result < 0 and u64(program.file) != 0:
        emit(PROCESS_EXECUTE_FAILED, fill_failed, program, result, varying=(5, 1))


@hook("fexit/bprm_execve")
def process_execute_failed(ctx, program: Ptr[linux_binprm], fd: i32, name: u64, flags: i32, result: i32):
    executed(program, i64(result))
    return 0


@hook("fexit/bprm_execve", name="process_execute_failed__single")
def single(ctx, program: Ptr[linux_binprm], result: i32):
    """The function has one argument only since 6.9."""
    executed(program, i64(result))
    return 0


@hook("kprobe/bprm_execve", name="process_execute_failed__enter")
def enter(ctx, program: u64):
    remember(PROCESS_EXECUTE_FAILED, program)
    return 0


@hook("kretprobe/bprm_execve", name="process_execute_failed__return")
def leave(ctx):
    call = remembered(PROCESS_EXECUTE_FAILED)
    if call:
        executed(cast(Ptr[linux_binprm], call.args[0]), i64(i32(ctx.ret)))
        forget(PROCESS_EXECUTE_FAILED)
    return 0


# --- signals ------------------------------------------------------------------------------


@inline
def method(handler):
    """SIG_DFL is 0, SIG_IGN is 1."""
    return min(handler, HANDLED)


@inline
def fill_action(record, shape, given):
    number, address, old = given
    record.args[0] = number
    if address:
        record.args[1] = 1
        new = cast(Ptr[k_sigaction], address)
        handler = u64(new.sa.sa_handler)
        record.args[2] = new.sa.sa_flags
        record.args[3] = read_kernel(u64, u64(addr(new.sa.sa_mask)))
        record.args[4] = method(handler)
        if handler >= HANDLED:
            record.args[5] = handler
    put_number(record, 6, u64(old != 0))
    actions = u64(addr(current_task().sighand.action))
    before = cast(Ptr[k_sigaction], actions + (u64(number) - 1) * sizeof(k_sigaction))
    handler = u64(before.sa.sa_handler)
    put_number(record, 7, before.sa.sa_flags)
    put_number(record, 8, read_kernel(u64, u64(addr(before.sa.sa_mask))))
    put_number(record, 9, method(handler))
    put_number(record, 10, handler if handler >= HANDLED else u64(0))
    return True


@hook(*function("do_sigaction"))
def do_sigaction(ctx, number: i32, action: u64, old: u64):
    if 0 < number <= 64:
        emit(DO_SIGACTION, fill_action, (number, action, old), varying=(5, 1))
    return 0
