"""System calls, seen when they return.

One program runs at the end of every system call and hands over, by number, to
one of the others, which differ in what they read of the caller's memory; a call
that nobody asked for ends at a bit of a frozen table. The registers still hold the
arguments then, and the strings they point at are resident, since the kernel
has just read them. What the arguments of each call are is data (``shapes``).
"""

from __future__ import annotations

from programs.common import *
from programs.fields import *
from programs.records import *
from programs.selection import *
from pybpf.ktypes import pt_regs
from pybpf.lang import *

SYS_EXIT = ("tp_btf/sys_exit", "raw_tp/sys_exit")

SIZED_MAX = 256


@hook(*SYS_EXIT)
def sys_exit(ctx, regs: Ptr[pt_regs], result: i64):
    """Attached; all other programs of this file are its tail calls."""
    hand_over(ctx, calls, RETURN_HANDLERS, table_number(regs))
    return 0


@hook(*SYS_EXIT)
def plain(ctx, regs: Ptr[pt_regs], result: i64):
    """Numbers only."""
    emit_call(current_task(), regs, result, scratch.lookup(0), no_memory)
    return 0


@inline
def read_path(record, shape, event, result):
    place = shape.path
    if place >= ARGS:
        return u64(0)
    address = record.args[place]
    record.args[place] = 0
    length: u64 = 0
    size: u64 = 8
    n = read_string(record.path, address)
    if n > 0:
        length = n
        size = min(length - 1, PATH_SIZE - 1)
        if n == PATH_SIZE:
            record.status = PATH_CUT
    else:
        record.status = PATH_UNREADABLE
        cast(Ptr[u64], addr(record.path))[0] = address
    if not path_is_selected(shape, cast(Ptr[u32], addr(record.status)), length):
        return u64(0)
    return offsetof(PathRecord, "path") + size


@hook(*SYS_EXIT)
def path(ctx, regs: Ptr[pt_regs], result: i64):
    """One path among numbers."""
    emit_call(current_task(), regs, result, scratch.lookup(0), read_path)
    return 0


@inline
def read_fields(record, shape, event, result):
    record.end = 0
    for arg in range(ARGS):
        kind = u64(shape.kinds[arg])
        if kind & KIND_OUT and result < 0:
            kind = 0
        checked = kind & KIND_CHECKED
        kind = kind & 0x3F
        if kind == KIND_INT and checked and result <= 0:
            kind = 0
        if kind == 0:
            continue
        end = record.end
        if end > FIELDS_FULL:
            break
        field = cast(Ptr[Field], addr(record.data[end >> 3]))
        address = record.args[arg]
        record.args[arg] = 0
        following: u64 = 0
        if arg + 1 < ARGS:
            following = record.args[arg + 1]
        if address == 0:
            add_pointer(record, field, arg, 0)
        elif kind == KIND_STRING:
            if not add_string(record, field, shape, arg, address):
                return u64(0)
            if config.resolve and field.form == FORM_STRING:
                add_folder(record, shape, arg, cast(Ptr[PathText], addr(field[1])))
        else:
            size = 8 * (kind - KIND_WORDS)
            if kind == KIND_SOCKADDR:
                size = min(following & 0xFFFFFFFF, SOCKADDR_MAX)
            elif kind == KIND_SOCKADDR_REF:
                size = min(u64(user(Short, following).value), SOCKADDR_MAX)
            elif kind == KIND_BUFFER:
                size = min(u64(result), PATH_SIZE - 1)
            elif kind == KIND_SIZED:
                size = min(following & 0xFFFFFFFF, SIZED_MAX)
            elif kind == KIND_ITEMS_8:
                size = min((following & 0xFFFFFFFF) * 8, SIZED_MAX)
            elif kind == KIND_ITEMS_16:
                size = min((following & 0xFFFFFFFF) * 16, SIZED_MAX)
            elif kind == KIND_EVENTS:
                size = min(u64(result) * 16, SIZED_MAX)
            elif kind == KIND_EVENTS_PACKED:
                size = min(u64(result) * 12, SIZED_MAX - SIZED_MAX % 12)
            elif kind == KIND_INT:
                size = 4
            if checked and kind >= KIND_WORDS and following < size:
                add_pointer(record, field, arg, address)
            else:
                add_bytes(record, field, arg, address, size, FORM_BYTES)
    if config.executable:
        add_executable(record)
    if config.stacks:
        add_stack(record)
    return offsetof(FieldRecord, "data") + min(record.end, FIELDS_SIZE)


@hook(*SYS_EXIT)
def fields(ctx, regs: Ptr[pt_regs], result: i64):
    """Any memory behind any of the arguments."""
    emit_call(current_task(), regs, result, fields_scratch.lookup(0), read_fields)
    return 0
