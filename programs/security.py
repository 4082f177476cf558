"""Security hooks that tell of one thing each: a limit, a clock, a program or map of BPF, a capability."""

from __future__ import annotations

from programs.events import *
from programs.records import *
from pybpf.ktypes import bpf_map, bpf_prog, rlimit, task_struct, timespec64, timezone
from pybpf.lang import *

CAP_CAPABLE = HOOKS + 22
SECURITY_BPF = HOOKS + 37
SECURITY_BPF_MAP = HOOKS + 38
SECURITY_BPF_PROG = HOOKS + 39
SECURITY_TASK_SETRLIMIT = HOOKS + 47
SECURITY_SETTIME64 = HOOKS + 48
SECURITY_TASK_PRCTL = HOOKS + 49

CAP_OPT_NOAUDIT = 2  # include/linux/security.h: the question is none that matters
PR_SET_VMA = 0x53564D41
BPF_PROG_LOAD = 5


@inline
def fill_capability(record, shape, capability):
    record.args[0] = capability
    return True


@hook(*function("cap_capable"))
def cap_capable(ctx, credentials: u64, namespace: u64, capability: i32, options: u32):
    if not options & CAP_OPT_NOAUDIT:
        emit(CAP_CAPABLE, fill_capability, capability)
    return 0


# --- BPF -----------------------------------------------------------------------------


@inline
def fill_command(record, shape, command):
    record.args[0] = command
    return True


@hook(*function("security_bpf"))
def security_bpf(ctx, command: i32):
    emit(SECURITY_BPF, fill_command, command)
    return 0


@inline
def fill_map(record, shape, map):
    record.args[0] = map.id
    return put_kernel_string(record, shape, 1, u64(addr(map.name)))


@hook(*function("security_bpf_map"))
def security_bpf_map(ctx, map: Ptr[bpf_map]):
    emit(SECURITY_BPF_MAP, fill_map, map)
    return 0


class Called(Struct):
    """Helper functions that a program calls: bit n of the row is function n."""

    bits: u64[4]


# By the task whose program is being verified.
called = LruHash(u64, Called, 256)


CALL = 0x85  # BPF_JMP | BPF_CALL


@inline
def note_call(second):
    """``second`` is the function's number, or (since 5.13) the address of the instruction that holds it."""
    number = second
    if second > 4096:
        if read_kernel(u8, second) != CALL:
            return
        number = u64(read_kernel(u32, second + 4))
    task = u64(current_task())
    found = called.lookup(task)
    if not found:
        called.update(task, Called(), BPF_NOEXIST)
        found = called.lookup(task)
    if found and number < 256:
        word = number >> 6
        found.bits[word & 3] |= u64(1) << (number & 63)


@hook("fentry/check_helper_call", name="security_bpf_prog__helpers")
def helpers(ctx):
    note_call(argument_as_number(ctx, 1))
    return 0


@hook("kprobe/check_helper_call", name="security_bpf_prog__helpers__kprobe")
def helpers_kprobe(ctx, environment: u64, second: u64):
    note_call(second)
    return 0


# The compiler passes the third argument by value in some kernels (6.12), and names the function so; the first two stay.
@hook("kprobe/check_helper_call.isra.0", name="security_bpf_prog__helpers_clone")
def helpers_of_clone(ctx, environment: u64, second: u64):
    note_call(second)
    return 0


@inline
def put_called(record, arg):
    """The helpers of a program that was just verified, none of one that was loaded before."""
    end = record.end
    if end > FIELDS_FULL:
        return
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    to = cast(Ptr[Called], addr(field[1]))
    found = called.lookup(u64(current_task()))
    for i in unroll(range(4)):
        to.bits[i] = 0
    if found:
        for i in unroll(range(4)):
            to.bits[i] = found.bits[i]
        called.delete(u64(current_task()))
    close_field(record, field, arg, FORM_BYTES, sizeof(Called))


@inline
def fill_bpf_program(record, shape, program):
    # Its type, an enum, is followed by another, and that by its length.
    record.args[0] = read_kernel(u32, u64(addr(program.len)) - 8)
    record.args[3] = program.aux.id
    record.args[4] = running_argument(0) & 0xFFFFFFFF == BPF_PROG_LOAD
    if not put_kernel_string(record, shape, 1, u64(addr(program.aux.name))):
        return False
    put_called(record, 2)
    return True


@hook(*function("security_bpf_prog"))
def security_bpf_prog(ctx, program: Ptr[bpf_prog]):
    emit(SECURITY_BPF_PROG, fill_bpf_program, program)
    return 0


# --- processes, time ------------------------------------------------------------------------


@inline
def fill_limit(record, shape, given):
    task, resource, limit = given
    record.args[0] = task.tgid
    record.args[1] = resource
    record.args[2] = limit.rlim_cur
    record.args[3] = limit.rlim_max
    return True


@hook(*function("security_task_setrlimit"))
def security_task_setrlimit(ctx, task: Ptr[task_struct], resource: u32, limit: Ptr[rlimit]):
    emit(SECURITY_TASK_SETRLIMIT, fill_limit, (task, resource, limit))
    return 0


@inline
def fill_time(record, shape, both):
    time, zone = both
    if u64(time):
        record.args[0] = time.tv_sec
        record.args[1] = time.tv_nsec
    if u64(zone):
        record.args[2] = zone.tz_minuteswest
        record.args[3] = zone.tz_dsttime
    return True


@hook(*function("security_settime64"))
def security_settime64(ctx, time: Ptr[timespec64], zone: Ptr[timezone]):
    emit(SECURITY_SETTIME64, fill_time, (time, zone), varying=(0, 2))
    return 0


@inline
def fill_prctl(record, shape, given):
    option, second, third, fourth, fifth = given
    record.args[0] = option
    record.args[1] = second
    record.args[2] = third
    record.args[3] = fourth
    record.args[4] = fifth
    name: u64 = 0
    if option == PR_SET_VMA and second == 0:  # PR_SET_VMA_ANON_NAME
        name = fifth
    return put_user_string(record, shape, 5, name)


@hook(*function("security_task_prctl"))
def security_task_prctl(ctx, option: i32, second: u64, third: u64, fourth: u64, fifth: u64):
    emit(SECURITY_TASK_PRCTL, fill_prctl, (option, second, third, fourth, fifth), varying=(1, 4))
    return 0
