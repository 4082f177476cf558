"""Programs for whatever function or tracepoint the user names: what to read of it is data.

The arguments of such an event are known when the tracer starts, from the kernel's BTF or the
format of a tracepoint. Each becomes one Piece or several: where its value is, counted from the program's
context, through how many pointers, and what it is. The pieces are frozen before the program is
loaded, so that the verifier sees constants and removes what no piece asks for.
"""

from __future__ import annotations

from programs.events import *
from programs.paths import *
from programs.records import *
from programs.selection import *
from pybpf.ktypes import path, task_struct
from pybpf.lang import *


class Wanted(ConfigBase):
    """One event: its number, and its pieces as they are in memory."""

    generic_event: u32 = 0
    generic_count: u32 = 0
    generic_pieces: u64[PIECES * 3] = ()


wanted = Wanted()

TYPED = ("tp_btf/generic", "fentry/generic", "lsm/generic")


class Word(Struct):
    value: u64


@inline
def word_at(address):
    """8 bytes of the kernel's memory, or else of the process's; 0 where there are none."""
    word = Word()
    if read_kernel(word.value, address) < 0:
        if read_user(word.value, address) < 0:
            word.value = 0
    return word.value


@inline
def put_text(record, shape, arg, address, size, pointer):
    """A string of the kernel's or the process's, of at most ``size`` bytes; False when the filter does not want it."""
    end = record.end
    if end > FIELDS_FULL:
        return True
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    text = cast(Ptr[PathText], addr(field[1]))
    room = min(u64(size) + 1, PATH_SIZE)
    n = read_kernel_str(text.data, address, size=room)
    if n < 0:
        n = read_user_str(text.data, address, size=room)
        if n == 0:  # as in read_string
            n = 1
    length: u64 = 0
    if n > 0:
        length = n
    if shape.path == arg:
        if not path_is_selected(shape, addr(field.size), length):
            return False
    close_string(record, field, arg, n, pointer)
    return True


@inline
def put_bytes(record, arg, address, size, pointer):
    end = record.end
    if end > FIELDS_FULL:
        return
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    text = cast(Ptr[PathText], addr(field[1]))
    kept = min(u64(size), BYTES_MAX)
    if read_kernel(text.data, address, size=kept) < 0:
        if read_user(text.data, address, size=kept) < 0:
            add_pointer(record, field, arg, pointer)
            return
    close_field(record, field, arg, FORM_BYTES, kept)


@inline
def put_address_of(record, shape, arg, pointer):
    """A pointer instead of what is behind it; False when the event's filter wants something there."""
    end = record.end
    if end > FIELDS_FULL:
        return True
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    if shape.path == arg:
        if not path_is_selected(shape, addr(field.size), u64(0)):
            return False
    add_pointer(record, field, arg, pointer)
    return True


@inline
def put_piece(record, shape, piece):
    """One piece; False when the event's filter does not want it."""
    arg = u64(piece.arg)
    kind = u64(piece.kind)
    steps = u64(piece.steps)
    address = record.busy + i64(piece.offsets[0])
    pointer = address
    if steps > 0:
        pointer = word_at(address)
        address = pointer
        if steps > 1:
            if address:
                address = word_at(address + i64(piece.offsets[1]))
            if steps > 2:
                if address:
                    address = word_at(address + i64(piece.offsets[2]))
        if address == 0:
            return put_address_of(record, shape, arg, pointer)
        address += i64(piece.offsets[3])
    size = u64(piece.size)
    if kind & PIECE_LOCATED:
        place = word_at(address) & 0xFFFFFFFF
        address = record.busy if kind & PIECE_LOCATED == PIECE_FROM_START else address + 4
        address += place & 0xFFFF
        size = min(size, place >> 16)
    length = u64(piece.length)
    if length < ARGS:
        size = min(size, record.args[length])
    kind &= PIECE_KIND
    if kind == PIECE_STRING:
        return put_text(record, shape, arg, address, size, pointer)
    if kind == PIECE_PATH:
        opened = cast(Ptr[path], address)
        if u64(opened.dentry) == 0:
            return put_address_of(record, shape, arg, pointer)
        return put_path(record, shape, arg, u64(opened.dentry), u64(opened.mnt))
    if kind == PIECE_DENTRY:
        return put_path(record, shape, arg, address, 0)
    if kind == PIECE_BYTES:
        put_bytes(record, arg, address, size, pointer)
        return True
    value: u64 = 0
    if kind == PIECE_CONSTANT:
        value = i64(piece.offsets[0])
    else:
        value = word_at(address)
    if size < 8:
        value = value & ((1 << size * 8) - 1)
    if kind == PIECE_RESULT:
        record.result = value
        return True
    if kind == PIECE_SIGNED_RESULT:
        shift = 64 - size * 8
        record.result = i64(value << shift) >> shift
        return True
    if arg < ARGS:
        record.args[arg] = value
        if kind != PIECE_KEPT:
            return True
    put_number(record, arg, value)
    return True


@inline
def put_own_pieces(record, shape, source):
    for i in range(PIECES):
        if i >= wanted.generic_count:
            break
        if not put_piece(record, shape, cast(Ptr[Piece], addr(wanted.generic_pieces[i * 3]))):
            return False
    return True


@inline
def put_pieces_of(record, shape, table):
    for i in range(TABLE_PIECES):
        if i >= table.count:
            break
        if not put_piece(record, shape, addr(table.pieces[i])):
            return False
    return True


@inline
def generic_event(ctx, task, event, fill, source):
    shape = shapes.lookup(event)
    record = free_record()
    if not shape or not record or not is_selected(task):
        return
    if record.busy:
        count_loss(event)
        return
    begin_event(record)
    record.result = 0
    record.busy = u64(ctx)
    if fill(record, shape, source):
        if config.executable:
            add_executable(record)
        if config.stacks:
            add_stack(record)
        result = record.result
        if call_is_selected(record, shape, event, result):
            finish(record, task, event, result, offsetof(FieldRecord, "data") + min(record.end, FIELDS_SIZE))
    record.busy = 0


@hook("tp/generic/generic", "raw_tp/generic", "kprobe/generic", *TYPED)
def generic(ctx):
    generic_event(ctx, current_task(), wanted.generic_event, put_own_pieces, 0)
    return 0


@hook(*TYPED)
def generic_old(ctx):
    """The same for kernels on which programs of these kinds cannot have the task by type (5.11)."""
    task = cast(Ptr[task_struct], get_current_task())
    generic_event(ctx, task, wanted.generic_event, put_own_pieces, 0)
    return 0


generic_tables = Array(Tables, 1)


@hook("kprobe.multi/generic")
def generic_multi(ctx):
    """Many functions by one program: the cookie of each is the place of its pieces."""
    tables = generic_tables.lookup(0)
    if tables:
        table = addr(tables.tables[u64(get_attach_cookie(ctx)) & (TABLES - 1)])
        generic_event(ctx, current_task(), table.event, put_pieces_of, table)
    return 0
