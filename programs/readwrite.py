"""What is read and written, by whatever system call; seen when the function returns, so that the result is known.

Where there are no programs for a function's return that know its arguments (fexit), a pair of probes
does it: one remembers the arguments, the other finds them.
"""

from __future__ import annotations

from programs.events import *
from programs.records import *
from pybpf.ktypes import file
from pybpf.lang import *

VFS_WRITE = HOOKS + 23
VFS_WRITEV = HOOKS + 24
VFS_READ = HOOKS + 25
VFS_READV = HOOKS + 26
__KERNEL_WRITE = HOOKS + 27
MAGIC_WRITE = HOOKS + 28

MAGIC_SIZE = 32
S_IFMT, S_IFREG = 0xF000, 0x8000

# What the first argument's data is: an address of the process's, an iovec of those, an address of the kernel's.
USER, VECTOR, KERNEL = range(3)


@inline
def start_of(position, result):
    """Where in the file it began; 0 for what has no positions."""
    start: u64 = 0
    if position:
        start = read_kernel(u64, position)
        if result > 0:
            start -= u64(result)
    return start


@inline
def fill_transfer(record, shape, given):
    opened, count, position, result = given
    node = opened.f_inode
    record.args[1] = node.i_sb.s_dev
    record.args[2] = node.i_ino
    record.args[3] = count
    record.args[4] = start_of(position, result)
    return put_file(record, shape, 0, opened)


@inline
def fill_magic(record, shape, given):
    opened, data, source, size = given
    node = opened.f_inode
    record.args[2] = node.i_sb.s_dev
    record.args[3] = node.i_ino
    if not put_file(record, shape, 0, opened):
        return False
    end = record.end
    if end <= FIELDS_FULL:
        field = cast(Ptr[Field], addr(record.data[end >> 3]))
        place = cast(Ptr[PathText], addr(field[1]))
        kept = u64(size)
        address = data
        if source == VECTOR:
            first = user(Piece, data)
            address = first.base
            kept = min(kept, first.length)
        kept = min(kept, MAGIC_SIZE)  # last, for what 5.10 has to know is the constant
        if source == KERNEL:
            failed = read_kernel(place.data, address, size=kept)
        else:
            failed = read_user(place.data, address, size=kept)
        if failed < 0:
            add_pointer(record, field, 1, address)
        else:
            close_field(record, field, 1, FORM_BYTES, kept)
    return True


class Piece(Struct):
    """struct iovec"""

    base: u64
    length: u64


@inline
def transferred(event, opened, data, count, position, source, result):
    """One call of a function that reads or writes."""
    if event == MAGIC_WRITE:
        if result > 0 and position and start_of(position, result) == 0:
            if opened.f_inode.i_mode & S_IFMT == S_IFREG:
                emit(event, fill_magic, (opened, data, source, result), result, varying=(3, 1))
    else:
        emit(event, fill_transfer, (opened, count, position, result), result, varying=(2, 3))


def functions_of(event, name, function, source, prefix=""):
    """The three programs for one function: ``prefix`` is that of the suffixes of their names."""
    if source == VECTOR:

        @hook(f"fexit/{function}", name=name + (f"__{prefix}fexit" if prefix else ""))
        def vector(ctx, opened: Ptr[file], data: u64, count: u64, position: u64, flags: i32, result: i64):
            transferred(event, opened, data, count, position, source, result)
            return 0

    elif source == KERNEL and event == MAGIC_WRITE:

        @hook(f"fexit/{function}", name=name + (f"__{prefix}fexit" if prefix else ""))
        def const(ctx, opened: Ptr[file], data: u64, count: u64, position: u64, result: i64):
            transferred(event, opened, argument_as_number(ctx, 1), count, position, source, result)
            return 0

    else:

        @hook(f"fexit/{function}", name=name + (f"__{prefix}fexit" if prefix else ""))
        def plain(ctx, opened: Ptr[file], data: u64, count: u64, position: u64, result: i64):
            transferred(event, opened, data, count, position, source, result)
            return 0

    @hook(f"kprobe/{function}", name=f"{name}__{prefix}enter")
    def enter(ctx, opened: u64, data: u64, count: u64, position: u64):
        remember(event, opened, data, count, position)
        return 0

    @hook(f"kretprobe/{function}", name=f"{name}__{prefix}return")
    def leave(ctx):
        call = remembered(event)
        if call:
            transferred(
                event, cast(Ptr[file], call.args[0]), call.args[1], call.args[2], call.args[3], source, i64(ctx.ret)
            )
            forget(event)
        return 0


functions_of(VFS_WRITE, "vfs_write", "vfs_write", USER)
functions_of(VFS_WRITEV, "vfs_writev", "vfs_writev", VECTOR)
functions_of(VFS_READ, "vfs_read", "vfs_read", USER)
functions_of(VFS_READV, "vfs_readv", "vfs_readv", VECTOR)
functions_of(__KERNEL_WRITE, "__kernel_write", "__kernel_write", KERNEL)
functions_of(MAGIC_WRITE, "magic_write", "vfs_write", USER)
functions_of(MAGIC_WRITE, "magic_write", "vfs_writev", VECTOR, "vector_")
functions_of(MAGIC_WRITE, "magic_write", "__kernel_write", KERNEL, "kernel_")
