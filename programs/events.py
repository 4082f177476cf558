"""What the programs of events that are no system calls have in common: a record, begun, filled and sent.

There are many such programs, and all do much the same: what is long stands in functions of their own
(subprog), one copy for all of an object.
"""

from __future__ import annotations

from programs.common import *
from programs.fields import *
from programs.paths import *
from programs.records import *
from programs.selection import *
from pybpf.ktypes import pt_regs
from pybpf.lang import *

PF_KTHREAD = 0x200000  # include/linux/sched.h
NO_SYSCALL = 0xFFFFFFFF


class Running(Struct):
    """A call of a function of the kernel."""

    task: u64
    event: u64


class Arguments(Struct):
    args: u64[6]


# What functions were called with, until they return; of calls whose return is missed the oldest give way.
running = LruHash(Running, Arguments, 512)


def function(name):
    """The two ways to see a call of a kernel function."""
    return f"fentry/{name}", f"kprobe/{name}"


def tracepoint_of(name):
    """The two ways to see a tracepoint with its arguments."""
    return f"tp_btf/{name}", f"raw_tp/{name}"


class Number(Struct):
    value: u64


@inline
def argument_as_number(ctx, at):
    """An argument of a function for fentry and fexit whose type forbids reading it as a number, or at all.

    A pointer is no number to the verifier, and many verifiers refuse to read a ``const void *``. Needs 5.17.
    """
    given = Number()
    get_func_arg(ctx, at, addr(given.value))
    return given.value


@inline
def free_record():
    """A record to write into, which is then taken; None when there is none."""
    record = hook_scratch.lookup(0)
    if record and record.busy:
        record = hook_scratch.lookup(1)
        if record:
            record.place = 1
    return record


@inline
def begin_event(record):
    """Begin a record without numbers and fields."""
    record.busy = 1
    for i in unroll(range(ARGS)):
        record.args[i] = 0
    record.status = PATH_OK
    record.end = 0


@inline
def emit(event, fill, source, result=0, varying=(0, 0)):
    """One event: ``fill(record, shape, source)`` puts in the arguments, and says whether they are wanted.

    ``varying`` is the first of the numbers that change with every record, and how many there are: once the filters
    have seen them, they go behind the block.
    """
    task = current_task()
    shape = shapes.lookup(event)
    record = free_record()
    if not shape or not record or not is_selected(task):
        return
    if record.busy:
        count_loss(event)
        return
    begin_event(record)
    if fill(record, shape, source):
        if config.detect_syscall:
            if shape.kinds[EXTRA] & EXTRA_SYSCALL:
                put_number(record, SLOT_SYSCALL, running_syscall())
        if config.executable:
            add_executable(record)
        if config.stacks:
            add_stack(record)
        if is_asked_for(record, shape, event, result):
            if varying[1]:
                move_numbers(record, varying[0], varying[1])
            send(record, event, result)
    record.busy = 0


@subprog
def is_asked_for(record: Ptr[FieldRecord], shape: Ptr[Shape], event: u64, result: i64) -> u64:
    return u64(call_is_selected(record, shape, event, result))


@subprog
def send(record: Ptr[FieldRecord], event: u64, result: i64) -> u64:
    finish(record, current_task(), event, result, offsetof(FieldRecord, "data") + min(record.end, FIELDS_SIZE))
    return 0


@inline
def remember(event, first, second=0, third=0, fourth=0, fifth=0, sixth=0, again=False):
    """At a function's start: keep its arguments until it returns.

    A thread that is in such a call already was not seen to return from that, which is lost; unless one may begin
    ``again`` within another.
    """
    if is_selected(current_task()):
        given = Arguments()
        given.args[0] = first
        given.args[1] = second
        given.args[2] = third
        given.args[3] = fourth
        given.args[4] = fifth
        given.args[5] = sixth
        key = Running(task=u64(current_task()), event=event)
        if again:
            running.update(key, given, BPF_ANY)
        elif running.update(key, given, BPF_NOEXIST) < 0:
            count_loss(event)
            running.update(key, given, BPF_ANY)


@inline
def remembered(event):
    """At its return: the arguments, None for a call that is not of interest."""
    return running.lookup(Running(task=u64(current_task()), event=event))


@inline
def forget(event):
    running.delete(Running(task=u64(current_task()), event=event))


@subprog
def put_number(record: Ptr[FieldRecord], arg: u64, value: u64) -> u64:
    """A number for which the record's head has no place."""
    end = record.end
    if end <= FIELDS_FULL:
        field = cast(Ptr[Field], addr(record.data[end >> 3]))
        cast(Ptr[u64], addr(field[1]))[0] = value
        close_field(record, field, arg, FORM_NUMBER, 8)
    return 0


class Numbers(Struct):
    value: u64[ARGS]


@inline
def move_numbers(record, first, count):
    """Move numbers from the record's head behind it."""
    end = record.end
    if end <= FIELDS_FULL:
        field = cast(Ptr[Field], addr(record.data[end >> 3]))
        numbers = cast(Ptr[Numbers], addr(field[1]))
        for i in unroll(range(count)):
            numbers.value[i] = record.args[first + i]
            record.args[first + i] = 0
        close_field(record, field, first, FORM_NUMBERS, 8 * count)


@subprog
def put_kernel_string(record: Ptr[FieldRecord], shape: Ptr[Shape], arg: u64, address: u64) -> u64:
    """A string of the kernel's; False when the event's filter does not want it."""
    end = record.end
    if end > FIELDS_FULL:
        return 1
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    text = cast(Ptr[PathText], addr(field[1]))
    n = read_kernel_str(text.data, address)
    length: u64 = 0
    if n > 0:
        length = n
    if shape.path == arg:
        if not path_passes(shape, addr(field.size), length):
            return 0
    close_string(record, field, arg, n, address)
    return 1


@inline
def put_file(record, shape, arg, opened):
    """The path of an open file; False when the event's filter does not want it."""
    return put_path(record, shape, arg, u64(opened.f_path.dentry), u64(opened.f_path.mnt))


@subprog
def put_user_string(record: Ptr[FieldRecord], shape: Ptr[Shape], arg: u64, address: u64) -> u64:
    """A string of the process's, "" at no address; False when the event's filter does not want it."""
    end = record.end
    if end > FIELDS_FULL:
        return 1
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    text = cast(Ptr[PathText], addr(field[1]))
    n: i64 = 1
    text.data[0] = 0
    if address:
        n = read_string(text.data, address)
    length: u64 = 0
    if n > 0:
        length = n
    if shape.path == arg:
        if not path_passes(shape, addr(field.size), length):
            return 0
    close_string(record, field, arg, n, address)
    return 1


@inline
def put_address(record, arg, address, size):
    """A struct sockaddr in the kernel's memory."""
    end = record.end
    if end > FIELDS_FULL:
        return
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    kept = min(u64(size) & 0xFFFFFFFF, SOCKADDR_MAX)
    if read_kernel(cast(Ptr[PathText], addr(field[1])).data, address, size=kept) < 0:
        add_pointer(record, field, arg, address)
    else:
        close_field(record, field, arg, FORM_BYTES, kept)


class LocalAddress(Struct):
    """struct sockaddr_in and sockaddr_in6 in one."""

    family: u16
    port: be16
    address4: u32
    address6: u32[4]
    scope: u32


@inline
def put_local_address(record, arg, sk):
    """The address that a socket is bound to."""
    end = record.end
    if end > FIELDS_FULL:
        return
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    local = cast(Ptr[LocalAddress], addr(field[1]))
    common = addr(sk.__sk_common)
    local.family = common.skc_family
    local.port = common.skc_num
    local.address4 = 0
    local.scope = 0
    if common.skc_family == AF_INET6:
        for i in unroll(range(4)):
            local.address6[i] = common.skc_v6_rcv_saddr.in6_u.u6_addr32[i]
    else:
        local.address4 = common.skc_rcv_saddr
        for i in unroll(range(4)):
            local.address6[i] = 0
    close_field(record, field, arg, FORM_BYTES, sizeof(LocalAddress))


@subprog
def running_argument(n: u64) -> u64:
    """An argument of the running system call: often a file descriptor."""
    registers = cast(Ptr[pt_regs], user_registers(current_task()))
    for i in unroll(range(ARGS)):
        if n == i:
            return syscall_arg(registers, i, False)
    return 0


@subprog
def running_syscall() -> u64:
    """The number of the system call that the task is in; NO_SYSCALL in a kernel thread or an exception."""
    task = current_task()
    if task.flags & PF_KTHREAD:
        return NO_SYSCALL
    number = syscall_number(cast(Ptr[pt_regs], user_registers(task)))
    if number >= CALLS:
        return NO_SYSCALL
    return number


NONE = 9


@subprog
def place_of_path() -> u64:
    """Which argument of the running system call is the path that it opens, executes or enters; NONE if none is."""
    call = running_syscall()
    for i in unroll(range(8)):
        if call == config.opens_first[i]:
            return 0
        if call == config.opens_second[i]:
            return 1
    return NONE


@inline
def opened_path():
    """Address of the path as the process gave it to the running system call; else 0."""
    place = place_of_path()
    address: u64 = 0
    if place != NONE:
        address = running_argument(place)
    return address


@inline
def pid_in_namespace(task):
    """The thread's number in its own pid namespace."""
    thread_pid = task.thread_pid
    return u64(thread_pid.numbers[thread_pid.level].nr)
