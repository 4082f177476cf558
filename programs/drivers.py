"""Events of kernel code that registers itself: modules, probes, devices, files of procfs and debugfs, helpers."""

from __future__ import annotations

from programs.events import *
from programs.paths import *
from programs.records import *
from programs.returns import *
from pybpf.ktypes import device, module, struct_kprobe, subprocess_info
from pybpf.lang import *

PROC_CREATE = HOOKS + 100
KPROBE_ATTACH = HOOKS + 101
CALL_USERMODEHELPER = HOOKS + 102
DEBUGFS_CREATE_FILE = HOOKS + 103
DEBUGFS_CREATE_DIR = HOOKS + 104
DEVICE_ADD = HOOKS + 105
REGISTER_CHRDEV = HOOKS + 106
DO_INIT_MODULE = HOOKS + 107
KALLSYMS_LOOKUP_NAME = HOOKS + 108

STRINGS = 40
"""Strings of a vector that a record has room for."""


@inline
def put_kernel_vector(record, arg, vector):
    """The strings that a NULL-terminated vector of the kernel's points at."""
    for i in range(STRINGS + 1):
        text: u64 = 0
        if vector:
            text = read_kernel(u64, vector + 8 * i)
        end = record.end
        if not text or end > FIELDS_FULL:
            break
        field = cast(Ptr[Field], addr(record.data[end >> 3]))
        if i == STRINGS:
            close_field(record, field, arg, FORM_MORE, 0)
            break
        n = read_kernel_str(cast(Ptr[PathText], addr(field[1])).data, text)
        if n <= 0:
            add_pointer(record, field, arg, text)
        else:
            close_field(record, field, arg, FORM_ITEM, u64(n) - 1)


# --- files of procfs and debugfs --------------------------------------------------------


@inline
def fill_proc_entry(record, shape, given):
    name, operations = given
    record.args[1] = operations
    return put_kernel_string(record, shape, 0, name)


@hook(*function("proc_create"))
def proc_create(ctx, name: u64, mode: u64, parent: u64, operations: u64):
    emit(PROC_CREATE, fill_proc_entry, (name, operations))
    return 0


@inline
def fill_debug_file(record, shape, given):
    name, mode, parent, operations = given
    record.args[2] = mode & 0xFFFF
    record.args[3] = operations
    return put_kernel_string(record, shape, 0, name) and put_path(record, shape, 1, parent, 0)


@hook(*function("debugfs_create_file"))
def debugfs_create_file(ctx, name: u64, mode: u64, parent: u64, data: u64, operations: u64):
    emit(DEBUGFS_CREATE_FILE, fill_debug_file, (name, mode, parent, operations))
    return 0


# Since 6.14 that is a macro for one of two functions.
@hook(*function("debugfs_create_file_full"))
def debugfs_create_file__full(ctx, name: u64, mode: u64, parent: u64, data: u64, more: u64, operations: u64):
    emit(DEBUGFS_CREATE_FILE, fill_debug_file, (name, mode, parent, operations))
    return 0


@hook(*function("debugfs_create_file_short"))
def debugfs_create_file__short(ctx, name: u64, mode: u64, parent: u64, data: u64, more: u64, operations: u64):
    emit(DEBUGFS_CREATE_FILE, fill_debug_file, (name, mode, parent, operations))
    return 0


@inline
def fill_debug_folder(record, shape, given):
    name, parent = given
    return put_kernel_string(record, shape, 0, name) and put_path(record, shape, 1, parent, 0)


@hook(*function("debugfs_create_dir"))
def debugfs_create_dir(ctx, name: u64, parent: u64):
    emit(DEBUGFS_CREATE_DIR, fill_debug_folder, (name, parent))
    return 0


# --- devices ---------------------------------------------------------------------------


@inline
def device_name(it):
    """A device that is not registered yet may have its name in another place."""
    name = u64(it.kobj.name)
    if not name:
        name = u64(it.init_name)
    return name


@inline
def fill_device(record, shape, added):
    if not put_kernel_string(record, shape, 0, device_name(added)):
        return False
    parent = added.parent
    name: u64 = 0
    if u64(parent):
        name = device_name(parent)
    return put_kernel_string(record, shape, 1, name)


@hook(*function("device_add"))
def device_add(ctx, added: Ptr[device]):
    emit(DEVICE_ADD, fill_device, added)
    return 0


@inline
def fill_chrdev(record, shape, given):
    asked, result, name, operations = given
    record.args[0] = asked
    record.args[1] = asked if asked else u64(result)
    record.args[3] = operations
    return put_kernel_string(record, shape, 2, name)


@inline
def emit_chrdev(asked, name, operations, result):
    """An event for a number that was granted; asked for 0, the kernel returns one that is free."""
    if result >= 0:
        emit(REGISTER_CHRDEV, fill_chrdev, (asked, result, name, operations), i64(result))


@hook(returned("__register_chrdev"))
def register_chrdev(ctx, major: u32, minor: u64, count: u64, name: u64, operations: u64, result: i32):
    emit_chrdev(u64(major), name, operations, result)
    return 0


@hook("kprobe/__register_chrdev")
def register_chrdev__enter(ctx, major: u32, minor: u64, count: u64, name: u64, operations: u64):
    note_call(REGISTER_CHRDEV, u64(major), name, operations)
    return 0


@hook("kretprobe/__register_chrdev")
def register_chrdev__kretprobe(ctx):
    call = noted_call(REGISTER_CHRDEV)
    if call:
        emit_chrdev(call.args[0], call.args[1], call.args[2], i32(ctx.ret))
        forget_call(REGISTER_CHRDEV)
    return 0


# --- probes and symbols ------------------------------------------------------------------


@inline
def fill_probe(record, shape, probe):
    record.args[1] = u64(probe.pre_handler)
    record.args[2] = u64(probe.post_handler)
    return put_kernel_string(record, shape, 0, u64(probe.symbol_name))


@hook(returned("register_kprobe"))
def kprobe_attach(ctx, probe: Ptr[struct_kprobe], result: i32):
    if result == 0:
        emit(KPROBE_ATTACH, fill_probe, probe)
    return 0


@hook("kprobe/register_kprobe")
def kprobe_attach__enter(ctx, probe: u64):
    note_call(KPROBE_ATTACH, probe)
    return 0


@hook("kretprobe/register_kprobe")
def kprobe_attach__kretprobe(ctx):
    call = noted_call(KPROBE_ATTACH)
    if call:
        if i32(ctx.ret) == 0:
            emit(KPROBE_ATTACH, fill_probe, cast(Ptr[struct_kprobe], call.args[0]))
        forget_call(KPROBE_ATTACH)
    return 0


@inline
def fill_symbol(record, shape, given):
    name, address = given
    record.args[1] = address
    return put_kernel_string(record, shape, 0, name)


@hook(returned("kallsyms_lookup_name"))
def kallsyms_lookup_name(ctx, name: u64, address: u64):
    emit(KALLSYMS_LOOKUP_NAME, fill_symbol, (name, address))
    return 0


@hook("kprobe/kallsyms_lookup_name")
def kallsyms_lookup_name__enter(ctx, name: u64):
    note_call(KALLSYMS_LOOKUP_NAME, name)
    return 0


@hook("kretprobe/kallsyms_lookup_name")
def kallsyms_lookup_name__kretprobe(ctx):
    call = noted_call(KALLSYMS_LOOKUP_NAME)
    if call:
        emit(KALLSYMS_LOOKUP_NAME, fill_symbol, (call.args[0], u64(ctx.ret)))
        forget_call(KALLSYMS_LOOKUP_NAME)
    return 0


# --- modules and helpers -------------------------------------------------------------------


@inline
def fill_started_module(record, shape, given):
    call, started = given
    record.args[3] = u64(started.list.prev)
    record.args[4] = u64(started.list.next)
    record.args[5] = u64(cast(Ptr[module], u64(started.list.prev) - offsetof(module, "list")).list.next)
    put_number(record, 6, u64(cast(Ptr[module], u64(started.list.next) - offsetof(module, "list")).list.prev))
    # A module that failed is gone by now: its name was kept.
    if not put_kernel_string(record, shape, 0, u64(addr(call.text))):
        return False
    put_kernel_string(record, shape, 1, u64(started.version))
    put_kernel_string(record, shape, 2, u64(started.srcversion))
    return True


@hook(*function("do_init_module"))
def do_init_module__enter(ctx, started: Ptr[module]):
    note_call(DO_INIT_MODULE, u64(started), text=u64(addr(started.name)))
    return 0


@inline
def emit_module(result):
    call = noted_call(DO_INIT_MODULE)
    if call:
        emit(DO_INIT_MODULE, fill_started_module, (call, cast(Ptr[module], call.args[0])), i64(result))
        forget_call(DO_INIT_MODULE)


@hook(returned("do_init_module"))
def do_init_module(ctx, started: u64, result: i32):
    emit_module(result)
    return 0


@hook("kretprobe/do_init_module")
def do_init_module__kretprobe(ctx):
    emit_module(i32(ctx.ret))
    return 0


@inline
def fill_helper(record, shape, given):
    started, wait = given
    record.args[3] = wait
    if not put_kernel_string(record, shape, 0, u64(started.path)):
        return False
    put_kernel_vector(record, 1, u64(started.argv))
    put_kernel_vector(record, 2, u64(started.envp))
    return True


# Every helper is started by this function, with or without call_usermodehelper().
@hook(*function("call_usermodehelper_exec"))
def call_usermodehelper(ctx, started: Ptr[subprocess_info], wait: i32):
    emit(CALL_USERMODEHELPER, fill_helper, (started, wait))
    return 0
