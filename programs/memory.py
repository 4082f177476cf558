"""Memory: mapped and protected, and warnings of what can be written and executed."""

from __future__ import annotations

from programs.events import *
from programs.paths import *
from programs.records import *
from pybpf.ktypes import file, inode, pt_regs___arm64, pt_regs___x86, vm_area_struct
from pybpf.lang import *

MEM_PROT_ALERT = HOOKS + 29
SECURITY_FILE_MPROTECT = HOOKS + 44
DO_MMAP = HOOKS + 50

PROT_WRITE, PROT_EXEC = 2, 4  # also VM_WRITE and VM_EXEC of an area
BOTH = PROT_WRITE | PROT_EXEC
PROTECTIONS = 7

# Tracee's numbers.
ALERT_MMAP_W_X, ALERT_MPROT_X_ADD, ALERT_MPROT_W_ADD, ALERT_MPROT_W_REM = range(1, 5)


@inline
def put_mapped_file(record, shape, arg, opened):
    """The path of the file behind memory, "" for memory without one."""
    if u64(opened):
        return put_file(record, shape, arg, opened)
    return put_user_string(record, shape, arg, u64(0))


# --- protection ---------------------------------------------------------------------


@inline
def fill_protection(record, shape, both):
    area, wanted = both
    opened = area.vm_file
    record.args[1] = wanted
    record.args[3] = area.vm_flags & PROTECTIONS
    record.args[4] = running_argument(0)
    record.args[5] = running_argument(1)
    if u64(opened):
        record.args[2] = change_time(opened.f_inode)
    return put_mapped_file(record, shape, 0, opened)


@hook(*function("security_file_mprotect"))
def security_file_mprotect(ctx, area: Ptr[vm_area_struct], wanted: u64):
    emit(SECURITY_FILE_MPROTECT, fill_protection, (area, wanted), varying=(4, 2))
    return 0


@inline
def fill_alert(record, shape, given):
    alert, address, length, protection, before, opened = given
    record.args[0] = alert
    record.args[1] = address
    record.args[2] = length
    record.args[3] = protection
    record.args[4] = before
    device: u64 = 0
    number: u64 = 0
    changed: u64 = 0
    if u64(opened):
        node = opened.f_inode
        device = node.i_sb.s_dev
        number = node.i_ino
        changed = change_time(node)
    put_number(record, 6, device)
    put_number(record, 7, number)
    put_number(record, 8, changed)
    return put_mapped_file(record, shape, 5, opened)


@inline
def alert_on(opened, length, protection, address):
    if protection & BOTH == BOTH and i64(address) > 0:
        emit(
            MEM_PROT_ALERT,
            fill_alert,
            (ALERT_MMAP_W_X, address, length, protection, 0, opened),
            varying=(1, 2),
        )


@hook("fexit/vm_mmap_pgoff")
def mem_prot_alert(
    ctx, opened: Ptr[file], hint: u64, length: u64, protection: u64, flags: u64, place: u64, address: u64
):
    alert_on(opened, length, protection, address)
    return 0


@hook("kprobe/vm_mmap_pgoff", name="mem_prot_alert__enter")
def alert_enter(ctx, opened: u64, hint: u64, length: u64, protection: u64):
    if protection & BOTH == BOTH:
        remember(MEM_PROT_ALERT, opened, length, protection)
    return 0


@hook("kretprobe/vm_mmap_pgoff", name="mem_prot_alert__return")
def alert_leave(ctx):
    call = remembered(MEM_PROT_ALERT)
    if call:
        alert_on(cast(Ptr[file], call.args[0]), call.args[1], call.args[2], ctx.ret)
        forget(MEM_PROT_ALERT)
    return 0


@hook(*function("security_file_mprotect"), name="mem_prot_alert__change")
def alert_change(ctx, area: Ptr[vm_area_struct], wanted: u64):
    before = area.vm_flags & PROTECTIONS
    alert: u64 = 0
    if wanted & PROT_EXEC and not before & PROT_EXEC:
        alert = ALERT_MPROT_X_ADD
    if before & BOTH == PROT_EXEC and wanted & BOTH == BOTH:
        alert = ALERT_MPROT_W_ADD
    if before & BOTH == BOTH and wanted & BOTH == PROT_EXEC:
        alert = ALERT_MPROT_W_REM
    if alert:
        emit(
            MEM_PROT_ALERT,
            fill_alert,
            (alert, running_argument(0), running_argument(1), wanted, before, area.vm_file),
            varying=(1, 2),
        )
    return 0


# --- mappings ----------------------------------------------------------------------------


@inline
def fill_mapping(record, shape, given):
    opened, length, protection, flags, place, address = given
    record.args[0] = address
    if u64(opened):
        node = opened.f_inode
        record.args[2] = opened.f_flags
        record.args[3] = node.i_sb.s_dev
        record.args[4] = node.i_ino
        record.args[5] = change_time(node)
    put_number(record, 6, place)
    put_number(record, 7, length)
    put_number(record, 8, protection)
    put_number(record, 9, flags)
    return put_mapped_file(record, shape, 1, opened)


@inline
def seventh_argument(registers):
    """On x86-64 it stands on the stack, behind the return address."""
    arm64 = cast(Ptr[pt_regs___arm64], registers)
    if exists(arm64.orig_x0):
        return arm64.regs[6]
    return read_kernel(u64, cast(Ptr[pt_regs___x86], registers).sp + 8)


@hook("kprobe/do_mmap")
def do_mmap(ctx, opened: u64, hint: u64, length: u64, protection: u64, flags: u64, sixth: u64):
    place = sixth
    # Since 6.6, the version that renamed this field, flags of the area stand before it.
    if not exists(cast(Ptr[inode], opened).i_ctime):
        place = seventh_argument(u64(ctx))
    remember(DO_MMAP, opened, length, protection, flags, place)
    return 0


@hook("kretprobe/do_mmap", name="do_mmap__return")
def mapped(ctx):
    call = remembered(DO_MMAP)
    if call:
        emit(
            DO_MMAP,
            fill_mapping,
            (cast(Ptr[file], call.args[0]), call.args[1], call.args[2], call.args[3], call.args[4], ctx.ret),
            i64(ctx.ret),
        )
        forget(DO_MMAP)
    return 0
