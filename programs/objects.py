"""Events of shared objects: files that are mapped to be executed by a process that runs another program."""

from __future__ import annotations

from programs.events import *
from programs.paths import *
from programs.records import *
from pybpf.ktypes import file, task_struct
from pybpf.lang import *

SHARED_OBJECT_LOADED = HOOKS + 150
SYMBOLS_LOADED = HOOKS + 151
SYMBOLS_COLLISION = HOOKS + 152

PROT_EXEC = 4


@inline
def is_shared_object(opened, prot):
    """Is a file mapped with code? The program itself is, too, when it starts; it is none."""
    if not u64(opened) or not prot & PROT_EXEC:
        return False
    task = cast(Ptr[task_struct], u64(current_task()))
    return u64(opened.f_inode) != u64(task.mm.exe_file.f_inode)


@inline
def fill_object(record, shape, opened):
    node = opened.f_inode
    record.args[1] = opened.f_flags
    record.args[2] = node.i_sb.s_dev
    record.args[3] = node.i_ino
    record.args[4] = change_time(node)
    return put_file(record, shape, 0, opened)


@inline
def fill_for_symbols(record, shape, opened):
    """What the file is by, and by whose memory it is mapped, is for bfer.derive.objects only."""
    record.args[5] = u64(cast(Ptr[task_struct], u64(current_task())).mm)
    return fill_object(record, shape, opened)


@hook(*function("security_mmap_file"))
def shared_object_loaded(ctx, opened: Ptr[file], prot: u64):
    if is_shared_object(opened, prot):
        emit(SHARED_OBJECT_LOADED, fill_object, opened)
    return 0


# What these are about is read from the file by bfer.derive.objects.
@hook(*function("security_mmap_file"))
def symbols_loaded(ctx, opened: Ptr[file], prot: u64):
    if is_shared_object(opened, prot):
        emit(SYMBOLS_LOADED, fill_for_symbols, opened)
    return 0


@hook(*function("security_mmap_file"))
def symbols_collision(ctx, opened: Ptr[file], prot: u64):
    if is_shared_object(opened, prot):
        emit(SYMBOLS_COLLISION, fill_for_symbols, opened)
    return 0
