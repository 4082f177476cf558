"""Events of system calls that come from odd places: code outside of any file, stacks that are none.

Where the user's instruction and stack pointers lie is looked up in the process's memory areas: by helper since
Linux 5.17, in older kernels by walking the tree that they form there. What was found in order is remembered,
so that most calls need no look at all.
"""

from __future__ import annotations

from programs.events import *
from programs.records import *
from programs.texts import *
from pybpf.ktypes import (
    pt_regs,
    pt_regs___arm64,
    pt_regs___x86,
    rb_node,
    task_struct,
    vm_area_struct,
)
from pybpf.lang import *

SUSPICIOUS_SYSCALL_SOURCE = HOOKS + 130
STACK_PIVOT = HOOKS + 131

RB_DEPTH = 40  # twice the depth of a balanced tree of a million areas
PAGE_SHIFT = 12


class Area(Struct):
    """A memory area; ``end`` 0 for none. ``file`` is that which is mapped, an address."""

    start: u64
    end: u64
    flags: u64
    file: u64


class CodePage(Struct):
    """A page of code of a process: its memory, told from one that had its place before by what is random in it."""

    mm: u64
    stack: u64
    born: u64
    page: u64


class Thread(Struct):
    tid: u32
    padding: u32
    born: u64


class Range(Struct):
    low: u64
    high: u64


class Told(Struct):
    """What an event was sent for."""

    event: u32
    tgid: u32
    syscall: u64
    area: u64
    born: u64


pages_in_order = LruHash(CodePage, u32, 8192)
stacks_in_order = LruHash(Thread, Range, 8192)
odd_told = LruHash(Told, u32, 1024)


@inline
def take_area(task, area, found):
    found.start = area.vm_start
    found.end = area.vm_end
    found.flags = area.vm_flags
    found.file = u64(area.vm_file)
    return 0


@inline
def look_up(mm, address, found):
    """Fill ``found`` with the area around an address."""
    if has(find_vma):
        find_vma(get_current_task_btf(), address, take_area, found)
        return
    node: u64 = 0
    if exists(mm.mm_rb):
        node = u64(mm.mm_rb.rb_node)
    for _ in range(RB_DEPTH):
        if not node:
            break
        area = cast(Ptr[vm_area_struct], node - offsetof(vm_area_struct, "vm_rb"))
        if area.vm_end <= address:
            node = u64(cast(Ptr[rb_node], node).rb_right)
        elif area.vm_start > address:
            node = u64(cast(Ptr[rb_node], node).rb_left)
        else:
            take_area(0, area, found)
            break


@inline
def user_ip(regs):
    arm64 = cast(Ptr[pt_regs___arm64], regs)
    x86 = cast(Ptr[pt_regs___x86], regs)
    if exists(arm64.pc):
        return arm64.pc
    if exists(x86.ip):
        return x86.ip
    return u64(0)


@inline
def user_sp(regs):
    arm64 = cast(Ptr[pt_regs___arm64], regs)
    x86 = cast(Ptr[pt_regs___x86], regs)
    if exists(arm64.pc):
        return arm64.sp
    if exists(x86.ip):
        return x86.sp
    return u64(0)


@inline
def put_kind(record, arg, mm, found):
    """What an area is used for, as a string."""
    if found.file:
        put_words(record, arg, 0x656C6966, 0, 4)  # file
    elif found.start <= mm.start_stack and mm.start_stack < found.end:
        put_words(record, arg, 0x6B63617473, 0, 5)  # stack
    elif found.start < mm.brk and found.end > mm.start_brk:
        put_words(record, arg, 0x70616568, 0, 4)  # heap
    else:
        put_words(record, arg, 0x756F6D796E6F6E61, 0x73, 9)  # anonymous


@inline
def fill_odd(record, shape, given):
    number, address, mm, found = given
    record.args[0] = number
    record.args[1] = address
    record.args[3] = found.start
    record.args[4] = found.end - found.start
    record.args[5] = found.flags
    put_kind(record, 2, mm, found)
    return True


@inline
def emit_odd(event, task, number, address, mm, found):
    """An event, once for each system call and area of a process."""
    told = Told(event=event, tgid=task.tgid, syscall=number, area=found.start, born=task.group_leader.start_time)
    if odd_told.update(told, u32(1), BPF_NOEXIST) == 0:
        emit(event, fill_odd, (number, address, mm, addr(found)))


@hook("tp_btf/sys_enter", "raw_tp/sys_enter")
def suspicious_syscall_source(ctx, regs: Ptr[pt_regs], number: u64):
    task = cast(Ptr[task_struct], u64(current_task()))
    mm = task.mm
    ip = user_ip(regs)
    if not u64(mm) or not ip:
        return 0
    page = CodePage(mm=u64(mm), stack=mm.start_stack, born=task.group_leader.start_time, page=ip >> PAGE_SHIFT)
    if pages_in_order.lookup(page):
        return 0
    found = Area()
    look_up(mm, ip, found)
    if not found.end:
        return 0
    if found.file or found.start == u64(mm.context.vdso):
        pages_in_order.update(page, u32(1), BPF_ANY)
        return 0
    emit_odd(SUSPICIOUS_SYSCALL_SOURCE, task, number, ip, mm, found)
    return 0


@hook("tp_btf/sys_enter", "raw_tp/sys_enter")
def stack_pivot(ctx, regs: Ptr[pt_regs], number: u64):
    task = cast(Ptr[task_struct], u64(current_task()))
    mm = task.mm
    sp = user_sp(regs)
    if not u64(mm) or not sp:
        return 0
    thread = Thread(tid=task.pid, born=task.start_time)
    known = stacks_in_order.lookup(thread)
    if known and known.low <= sp and sp < known.high:
        return 0
    if task.sas_ss_sp <= sp and sp - task.sas_ss_sp < task.sas_ss_size:  # a signal's own stack
        return 0
    found = Area()
    look_up(mm, sp, found)
    if not found.end:
        return 0
    main = found.start <= mm.start_stack and mm.start_stack < found.end
    if not main:
        if known:
            # The area may have been divided, or have grown, since.
            if found.start >= known.high or found.end <= known.low:
                emit_odd(STACK_PIVOT, task, number, sp, mm, found)
                return 0
        elif mm.mm_users.counter == 1:
            # Nobody else lives here who could have made this thread a stack of its own.
            emit_odd(STACK_PIVOT, task, number, sp, mm, found)
            return 0
    stacks_in_order.update(thread, Range(low=found.start, high=found.end), BPF_ANY)
    return 0
