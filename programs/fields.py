"""What a system call's arguments are, and the memory behind them, brought into a record."""

from __future__ import annotations

from programs.common import *
from programs.records import *
from programs.selection import *
from programs.walk import *
from pybpf.ktypes import pt_regs___arm64
from pybpf.lang import *


class Short(Struct):
    value: u32


class Saved(Struct):
    """Registers that stand in a row in pt_regs, x86-64 (arch/x86/include/uapi/asm/ptrace.h)."""

    bp: u64
    bx: u64
    r11: u64
    r10: u64
    r9: u64
    r8: u64
    ax: u64
    cx: u64
    dx: u64
    si: u64
    di: u64


class Begun(Struct):
    """A record that has no data yet: room for them."""

    _: Anon[Head]
    saved: Saved


fields_scratch = PerCpuArray(FieldRecord, 1)


@inline
def begin(record, regs, shape, event):
    """Bring the call's arguments into the record; registers beyond them hold something else."""
    compat = event >= COMPAT
    arm64 = cast(Ptr[pt_regs___arm64], regs)
    if is_typed(regs):
        for i in unroll(range(ARGS)):
            record.args[i] = syscall_arg(regs, i, compat)
    # By helper, which takes its time whatever it reads: all at once.
    elif exists(arm64.orig_x0):
        read_kernel(record.args, u64(addr(arm64.regs)))
        record.args[0] = arm64.orig_x0
        if compat:
            for i in unroll(range(ARGS)):
                record.args[i] &= 0xFFFFFFFF
    elif exists(regs.orig_ax):
        saved = addr(cast(Ptr[Begun], record).saved)
        read_kernel(saved, u64(addr(regs.bp)))
        if compat:
            record.args[0] = saved.bx & 0xFFFFFFFF
            record.args[1] = saved.cx & 0xFFFFFFFF
            record.args[2] = saved.dx & 0xFFFFFFFF
            record.args[3] = saved.si & 0xFFFFFFFF
            record.args[4] = saved.di & 0xFFFFFFFF
            record.args[5] = saved.bp & 0xFFFFFFFF
        else:
            record.args[0] = saved.di
            record.args[1] = saved.si
            record.args[2] = saved.dx
            record.args[3] = saved.r10
            record.args[4] = saved.r8
            record.args[5] = saved.r9
    else:
        for i in unroll(range(ARGS)):
            record.args[i] = syscall_arg(regs, i, compat)
    used = shape.used
    for i in unroll(range(ARGS)):
        if not used & (1 << i):
            record.args[i] = 0


@inline
def finish(record, task, event, result, size):
    """Hand over the record, which has ``size`` bytes."""
    parent = task.real_parent
    nsproxy = task.nsproxy
    thread_pid = task.thread_pid
    cred = task.cred
    record.who.cgroup_id = current_group()
    record.who.host_pid = task.tgid
    record.who.host_tid = task.pid
    record.who.uid = cred.uid.val
    fill_context(addr(record.who), task, parent, nsproxy, thread_pid)
    record.event = event
    record.result = result
    submit(record, size, event)


@inline
def emit_call(task, regs, result, record, read, send=submit_call, number=NO_CALL):
    """One system call of the current ``task``; its ``number``, if it is known already.

    ``read(record, shape, event, result)`` brings in what is behind the arguments and gives the record's
    size, or 0 for a call that nobody wants; ``send`` hands it over.
    """
    if not record:
        return
    who = addr(record.who)
    if is_typed(task):
        who.host_pid = task.tgid
        who.host_tid = task.pid
    else:
        both = get_current_pid_tgid()
        who.host_pid = both >> 32
        who.host_tid = both
    if not is_selected_here(task, who.host_pid):
        return
    event: u64 = table_number(regs) if number == NO_CALL else number
    if is_compat(task):
        event += COMPAT
    shape = shapes.lookup(event)
    if not shape or not shape.asked:
        return
    parent = task.real_parent
    nsproxy = task.nsproxy
    thread_pid = task.thread_pid
    if is_typed(task):
        who.uid = task.cred.uid.val
    else:
        who.uid = get_current_uid_gid()
    if config.cgroup_v1:
        who.cgroup_id = group_by_hierarchy(task.cgroups)
    elif is_typed(task):
        who.cgroup_id = task.cgroups.dfl_cgrp.kn.id
    begin(record, regs, shape, event)
    if call_is_selected(record, shape, event, result):
        record.status = PATH_OK
        size = read(record, shape, event, result)
        if size:
            if not config.cgroup_v1 and not is_typed(task):
                who.cgroup_id = get_current_cgroup_id()
            fill_context(who, task, parent, nsproxy, thread_pid)
            record.event = event
            record.result = result
            send(record, size, event)


@inline
def no_memory(record, shape, event, result):
    return u64(offsetof(PathRecord, "path"))


@inline
def no_fields(record, shape, event, result):
    record.end = 0
    if config.executable:
        add_executable(record)
    if config.stacks:
        add_stack(record)
    return offsetof(FieldRecord, "data") + min(record.end, FIELDS_SIZE)


@inline
def read_string(text, address):
    """The length of a string of the process's, with its NUL; negative where it cannot be read."""
    n = read_user_str(text, address)
    if n == 0:  # so the helper calls the empty string before Linux 6.13
        n = 1
    return n


@inline
def close_field(record, field, arg, form, size):
    field.arg = arg
    field.form = form
    field.size = size
    record.end += sizeof(Field) + (size + 7 & ~7)


@inline
def add_pointer(record, field, arg, address):
    cast(Ptr[u64], addr(field[1]))[0] = address
    close_field(record, field, arg, FORM_POINTER, 8)


@inline
def close_string(record, field, arg, n, pointer, whole=FORM_STRING, cut=FORM_CUT):
    """The end of a string of ``n`` bytes with its NUL; what could not be read shows as ``pointer``."""
    if n <= 0:
        add_pointer(record, field, arg, pointer)
    elif n == PATH_SIZE:
        close_field(record, field, arg, cut, PATH_SIZE - 1)
    else:
        close_field(record, field, arg, whole, u64(n) - 1)


@inline
def add_string(record, field, shape, arg, address):
    """One string; False when the event's filter does not want it."""
    text = cast(Ptr[PathText], addr(field[1]))
    n = read_string(text.data, address)
    length: u64 = 0
    if n > 0:
        length = n
    if shape.path == arg:
        if not path_is_selected(shape, addr(field.size), length):
            return False
    close_string(record, field, arg, n, address)
    return True


@inline
def add_bytes(record, field, arg, address, size, form):
    """``size`` bytes, at most PATH_SIZE of them."""
    text = cast(Ptr[PathText], addr(field[1]))
    kept = min(size, PATH_SIZE)
    if read_user(text.data, address, size=kept) < 0:
        add_pointer(record, field, arg, address)
    else:
        close_field(record, field, arg, form, kept)


@inline
def add_folder(record, shape, arg, text):
    """The folder that the path ``text``, argument ``arg`` of a system call, begins at, if it is a relative one."""
    end = record.end
    if shape.kinds[PATHS] >> arg & 1 and text.data[0] != 0x2F and end <= FIELDS_FULL:
        descriptor: i64 = AT_FDCWD
        if arg > 0 and shape.kinds[EXTRA] >> arg & 1:
            descriptor = i64(i32(record.args[arg - 1]))
        field = cast(Ptr[Field], addr(record.data[end >> 3]))
        size = write_folder(cast(Ptr[PathText], addr(field[1])), descriptor)
        form: u64 = FORM_STRING
        if size >= REMOVED:
            form = FORM_DELETED
            size -= REMOVED
        if size > 0:
            close_field(record, field, SLOT_FOLDER + arg, form, min(size, PATH_SIZE - 1))


@inline
def add_executable(record):
    """The path of the file that the process runs."""
    end = record.end
    if end <= FIELDS_FULL:
        field = cast(Ptr[Field], addr(record.data[end >> 3]))
        size = write_executable(cast(Ptr[PathText], addr(field[1])))
        close_field(record, field, SLOT_EXECUTABLE, FORM_STRING, min(size, PATH_SIZE - 1))


@inline
def add_stack(record):
    """Where the calling process came from, as far as its frame pointers tell; nothing for a kernel thread."""
    end = record.end
    if end <= FIELDS_FULL:
        field = cast(Ptr[Field], addr(record.data[end >> 3]))
        stack = cast(Ptr[CallStack], addr(field[1]))
        size = get_stack(context(), stack.addresses, sizeof(CallStack), BPF_F_USER_STACK)
        if size > 0:
            close_field(record, field, SLOT_STACK, FORM_BYTES, min(u64(size), sizeof(CallStack)))
