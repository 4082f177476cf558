"""execve and execveat, and the calls that never return.

A program that starts takes the caller's memory away, and the registers; so
the arguments are read on entry and kept until the call returns.
"""

from __future__ import annotations

from programs.common import *
from programs.fields import *
from programs.records import *
from programs.selection import *
from pybpf.ktypes import pt_regs
from pybpf.lang import *

SYS_ENTER = ("tp_btf/sys_enter", "raw_tp/sys_enter")
SYS_EXIT = ("tp_btf/sys_exit", "raw_tp/sys_exit")

VECTOR_MAX = 64  # strings of a vector


class Long(Struct):
    value: u64


# By task, not by thread id: a thread that is not its group's first changes its id when it executes.
starting = Hash(u64, FieldRecord, 16)
enter_calls = ProgArray(HANDLERS)


@hook(*SYS_ENTER)
def sys_enter(ctx, regs: Ptr[pt_regs], number: i64):
    """Attached where a call of this file is wanted."""
    hand_over(ctx, enter_calls, ENTRY_HANDLERS, table_number(regs))
    return 0


@hook(*SYS_ENTER)
def plain_enter(ctx, regs: Ptr[pt_regs], number: i64):
    """Numbers only, of a call that does not return."""
    emit_call(current_task(), regs, i64(0), fields_scratch.lookup(0), no_fields, submit)
    return 0


@inline
def add_vector(record, arg, address):
    """The strings of a vector, one field each; its pointers have ``record.word`` bytes."""
    for i in range(VECTOR_MAX + 1):
        end = record.end
        if end > FIELDS_FULL:
            return
        field = cast(Ptr[Field], addr(record.data[end >> 3]))
        item: u64 = 0
        if record.word == 4:
            ok, item = try_read(user(Short, address + i * 4).value)
        else:
            ok, item = try_read(user(Long, address + i * 8).value)
        if not ok:
            add_pointer(record, field, arg, address)  # NULL too: the kernel takes it for an empty vector
            return
        if item == 0:
            return
        if i == VECTOR_MAX:
            close_field(record, field, arg, FORM_MORE, 0)
            return
        n = read_string(cast(Ptr[PathText], addr(field[1])).data, item)
        close_string(record, field, arg, n, item, whole=FORM_ITEM, cut=FORM_ITEM_CUT)


@subprog(global_=True)
def keep_vector(arg: u64, address: u64) -> u64:
    """Add a vector to the record of `fields_scratch`.

    The verifier keeps states of each pass. A global function it looks at once, not at each call.
    """
    record = fields_scratch.lookup(0)
    if record:
        add_vector(record, arg, address)
    return 0


@inline
def keep_exec(regs):
    """execve(pathname, argv, envp), execveat(dirfd, pathname, argv, envp, flags)"""
    record = fields_scratch.lookup(0)
    if not record:
        return
    event = syscall_number(regs)
    shape = shapes.lookup(event)
    if not shape or not shape.asked:
        return
    begin(record, regs, shape, event)
    record.status = PATH_OK
    record.end = 0
    first = shape.path
    if first > 1:
        return
    address = record.args[first]
    record.args[first] = 0
    field = cast(Ptr[Field], addr(record.data[0]))
    if not add_string(record, field, shape, first, address):
        return
    if config.resolve and field.form == FORM_STRING:
        add_folder(record, shape, first, cast(Ptr[PathText], addr(field[1])))
    record.word = 4 if event >= COMPAT else 8
    for which in range(1, 3):
        arg = first + which
        if shape.kinds[arg]:
            address = record.args[arg]
            record.args[arg] = 0
            keep_vector(u64(arg), address)
    if config.stacks:
        add_stack(record)
    if starting.update(u64(current_task()), record, BPF_ANY) < 0:
        count_loss(event)


@hook(*SYS_ENTER)
def exec_enter(ctx, regs: Ptr[pt_regs], number: i64):
    keep_exec(regs)
    return 0


@inline
def tell_exec(regs, result):
    """Selected by what the process is now: by its new name."""
    task = current_task()
    record = starting.lookup(u64(task))
    if not record:
        return
    event = syscall_number(regs)
    shape = shapes.lookup(event)
    if shape and is_selected(task):
        if call_is_selected(record, shape, event, result):
            if config.executable:
                add_executable(record)  # the new one, unless the call failed
            finish(record, task, event, result, offsetof(FieldRecord, "data") + min(record.end, FIELDS_SIZE))
    starting.delete(u64(task))


@hook(*SYS_EXIT)
def exec_exit(ctx, regs: Ptr[pt_regs], result: i64):
    tell_exec(regs, result)
    return 0
