"""What tells of a kernel that somebody changed: programs that look, and programs that say when to look again."""

from __future__ import annotations

from programs.events import *
from programs.paths import *
from programs.records import *
from programs.returns import *
from pybpf.ktypes import (
    file,
    kobject,
    kset,
    mod_tree_node,
    mod_tree_root,
    module,
    module_kobject,
    module_memory,
    pipe_buffer,
    pipe_inode_info,
)
from pybpf.lang import *

DIRTY_PIPE_SPLICE = HOOKS + 110
HIDDEN_INODES = HOOKS + 111
ZEROED_INODES = HOOKS + 112
HOOKED_PROC_FOPS = HOOKS + 113
# For bfer.derive alone: a module is there, and the beginning of a run.
MODULE_SETTLED = HOOKS + 198
STARTED = HOOKS + 199

PEEK_SIZE = 4096
PROC_SUPER_MAGIC = 0x9FA0
S_IFMT, S_IFIFO = 0o170000, 0o010000
PIPE_BUF_FLAG_CAN_MERGE = 0x10


# --- looking ------------------------------------------------------------------------------


class Peeked(Struct):
    """What was looked at last."""

    words: u64[PEEK_SIZE // 8]


peeked = Array(Peeked, 1)


@hook("raw_tp/peek")
def peek(ctx):
    """Run by user space: copy a piece of the kernel's memory (address, size); 1 if it could be read."""
    place = peeked.lookup(0)
    if not place:
        return 0
    return read_kernel(place.words, ctx.args[0], size=min(ctx.args[1], PEEK_SIZE)) == 0


@hook("raw_tp/layout")
def layout(ctx):
    """Run by user space: where the members are that it follows, by the order of bfer.derive.kernel.Layout."""
    place = peeked.lookup(0)
    if not place:
        return 0
    place.words[0] = offsetof(module, "list")
    place.words[1] = offsetof(module, "name")
    place.words[2] = offsetof(module, "srcversion")
    place.words[3] = offsetof(kset, "list")
    place.words[4] = offsetof(kobject, "entry")
    place.words[5] = offsetof(module_kobject, "kobj")
    place.words[6] = offsetof(module_kobject, "mod")
    if exists(module_memory):  # since 6.4
        place.words[10] = offsetof(module, "mem") + offsetof(module_memory, "base")
        place.words[11] = offsetof(module, "mem") + offsetof(module_memory, "size")
    else:
        place.words[10] = offsetof(module, "core_layout.base")
        place.words[11] = offsetof(module, "core_layout.text_size")
    place.words[7] = 0  # the kernel has no tree of modules
    if exists(mod_tree_root):
        place.words[7] = 1
        place.words[8] = offsetof(mod_tree_root, "root.tree")
        place.words[9] = offsetof(mod_tree_node, "node")
    return 1


@inline
def announce(event, first):
    """A record without regard to who did it: it is about the system."""
    task = current_task()
    record = free_record()
    if shapes.lookup(event) and record and not record.busy:
        begin_event(record)
        record.args[0] = first
        finish(record, task, event, 0, u64(offsetof(FieldRecord, "data")))
        record.busy = 0


@hook("raw_tp/begun")
def begun(ctx):
    """Run by user space when all else is attached: a record that tells who it is."""
    announce(STARTED, 0)
    return 0


@hook(*function("do_init_module"))
def module_settled__enter(ctx, loaded: u64):
    note_call(MODULE_SETTLED, loaded)
    return 0


@hook(returned("do_init_module"))
def module_settled(ctx, loaded: u64, result: i32):
    announce(MODULE_SETTLED, loaded)
    return 0


@hook("kretprobe/do_init_module")
def module_settled__kretprobe(ctx):
    call = noted_call(MODULE_SETTLED)
    if call:
        announce(MODULE_SETTLED, call.args[0])
        forget_call(MODULE_SETTLED)
    return 0


# Before the module's first instruction, where its return cannot be seen.
@hook("tp_btf/module_load", "raw_tp/module_load")
def module_settled__early(ctx, loaded: u64):
    announce(MODULE_SETTLED, loaded)
    return 0


# --- hooked file operations of procfs -----------------------------------------------------------


class Operations(Struct):
    """Functions outside of the kernel's text; 0 for one that is inside."""

    iterate_shared: u64
    iterate: u64


_stext = KSym()
_etext = KSym()
hooked_operations = LruHash(u64, u32, 256)


@inline
def outside(function):
    """The address if it is none of the kernel's own text."""
    if function and (function < u64(addr(_stext)) or function >= u64(addr(_etext))):
        return function
    return u64(0)


@inline
def fill_operations(record, shape, found):
    shared, plain = found
    end = record.end
    if end <= FIELDS_FULL:
        field = cast(Ptr[Field], addr(record.data[end >> 3]))
        functions = cast(Ptr[Operations], addr(field[1]))
        functions.iterate_shared = shared
        functions.iterate = plain
        close_field(record, field, 0, FORM_BYTES, sizeof(Operations))
    return True


@hook(*function("security_file_permission"))
def hooked_proc_fops(ctx, opened: Ptr[file], mask: u64):
    if opened.f_inode.i_sb.s_magic != PROC_SUPER_MAGIC:
        return 0
    operations = opened.f_op
    shared = outside(u64(operations.iterate_shared))
    plain: u64 = 0
    if exists(operations.iterate):
        plain = outside(u64(operations.iterate))
    if shared or plain:
        # Told once for each table of functions.
        if hooked_operations.update(u64(operations), u32(1), BPF_NOEXIST) == 0:
            emit(HOOKED_PROC_FOPS, fill_operations, (shared, plain))
    return 0


# --- pipes, directories -------------------------------------------------------------------------


@inline
def fill_splice(record, shape, given):
    source, offset, flags, result, target = given
    node = source.f_inode
    record.args[0] = node.i_ino
    record.args[1] = node.i_mode
    record.args[3] = offset
    record.args[4] = result
    record.args[5] = target.f_inode.i_ino
    put_number(record, 6, flags)
    return put_file(record, shape, 2, source)


@inline
def emit_splice(source_address, offset_place, target_address, result):
    """A splice into a pipe whose last buffer may still be written to: a write would change the file it came from."""
    source = cast(Ptr[file], source_address)
    target = cast(Ptr[file], target_address)
    if result <= 0 or (source.f_inode.i_mode & S_IFMT) == S_IFIFO or (target.f_inode.i_mode & S_IFMT) != S_IFIFO:
        return
    pipe = cast(Ptr[pipe_inode_info], u64(target.private_data))
    last = (u64(pipe.head) - 1) & (u64(pipe.ring_size) - 1)
    buffer = cast(Ptr[pipe_buffer], u64(pipe.bufs) + last * sizeof(pipe_buffer))
    if buffer.flags & PIPE_BUF_FLAG_CAN_MERGE:
        at: u64 = source.f_pos
        if offset_place:
            at = read_kernel(u64, offset_place)
        emit(DIRTY_PIPE_SPLICE, fill_splice, (source, at - u64(result), buffer.flags, u64(result), target))


@hook(returned("do_splice"))
def dirty_pipe_splice(
    ctx, source: u64, source_at: u64, target: u64, target_at: u64, size: u64, flags: u64, result: i64
):
    emit_splice(source, source_at, target, result)
    return 0


@hook("kprobe/do_splice")
def dirty_pipe_splice__enter(ctx, source: u64, source_at: u64, target: u64):
    note_call(DIRTY_PIPE_SPLICE, source, source_at, target)
    return 0


@hook("kretprobe/do_splice")
def dirty_pipe_splice__kretprobe(ctx):
    call = noted_call(DIRTY_PIPE_SPLICE)
    if call:
        emit_splice(call.args[0], call.args[1], call.args[2], i64(ctx.ret))
        forget_call(DIRTY_PIPE_SPLICE)
    return 0


@inline
def fill_entry(record, shape, name):
    return put_kernel_string(record, shape, 0, name)


# A file that was hidden by taking the number of its inode away; both names that Tracee has had for it.
@hook(*function("filldir64"))
def hidden_inodes(ctx, context: u64, name: u64, length: u64, offset: u64, number: u64):
    if number == 0:
        emit(HIDDEN_INODES, fill_entry, name)
    return 0


@hook(*function("filldir64"))
def zeroed_inodes(ctx, context: u64, name: u64, length: u64, offset: u64, number: u64):
    if number == 0:
        emit(ZEROED_INODES, fill_entry, name)
    return 0
