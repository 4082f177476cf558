"""What the programs of events that are no system calls have in common: a record, begun, filled and sent."""

from __future__ import annotations

from programs.common import *
from programs.fields import *
from programs.paths import *
from programs.records import *
from pybpf.ktypes import pt_regs
from pybpf.lang import *

# One program may interrupt another, or take its processor where it can be preempted; the second finds the other record.
hook_scratch = PerCpuArray(FieldRecord, 2)


@inline
def free_record():
    """A record to write into, which is then taken; None when there is none."""
    record = hook_scratch.lookup(0)
    if record and record.busy:
        record = hook_scratch.lookup(1)
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
def emit(event, fill, source):
    """One event: ``fill(record, shape, source)`` puts in the arguments, and says whether they are wanted."""
    task = current_task()
    shape = shapes.lookup(event)
    record = free_record()
    if not shape or not record or not is_selected(task):
        return
    if record.busy:
        count = lost.lookup(event)
        if count:
            count[0] += 1
        return
    begin_event(record)
    if fill(record, shape, source):
        if config.detect_syscall:
            if shape.kinds[EXTRA] & EXTRA_SYSCALL:
                put_number(record, SLOT_SYSCALL, running_call(task))
        if config.stacks:
            add_stack(record)
        if call_is_selected(record, shape, event, 0):
            finish(record, task, event, 0, offsetof(FieldRecord, "data") + min(record.end, FIELDS_SIZE))
    record.busy = 0


@inline
def put_number(record, arg, value):
    """A number for which the record's head has no place."""
    end = record.end
    if end <= FIELDS_FULL:
        field = cast(Ptr[Field], addr(record.data[end >> 3]))
        cast(Ptr[u64], addr(field[1]))[0] = value
        close_field(record, field, arg, FORM_NUMBER, 8)


@inline
def put_kernel_string(record, shape, arg, address):
    """A string of the kernel's; False when the event's filter does not want it."""
    end = record.end
    if end > FIELDS_FULL:
        return True
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    text = cast(Ptr[PathText], addr(field[1]))
    n = read_kernel_str(text.data, address)
    length: u64 = 0
    if n > 0:
        length = n
    if shape.path == arg:
        if not path_is_selected(shape, addr(field.size), length):
            return False
    if n <= 0:
        add_pointer(record, field, arg, address)
    else:
        close_field(record, field, arg, FORM_STRING, u64(n) - 1)
    return True


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


@inline
def first_argument(task):
    """What the running system call has as its first argument, often a file descriptor."""
    if has(task_pt_regs):
        return syscall_arg(cast(Ptr[pt_regs], u64(task_pt_regs(get_current_task_btf()))), 0, False)
    return syscall_arg(cast(Ptr[pt_regs], u64(task.stack) + THREAD_SIZE - sizeof(pt_regs)), 0, False)


@inline
def running_call(task):
    """The number of the running system call; a huge one where there is none, as in a kernel thread."""
    if has(task_pt_regs):
        return syscall_number(cast(Ptr[pt_regs], u64(task_pt_regs(get_current_task_btf()))))
    return syscall_number(cast(Ptr[pt_regs], u64(task.stack) + THREAD_SIZE - sizeof(pt_regs)))
