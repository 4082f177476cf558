"""Maps, configuration and building blocks that every program shares."""

from __future__ import annotations

from programs.records import *
from pybpf import abi
from pybpf.ktypes import (
    css_set,
    pt_regs,
    pt_regs___arm64,
    pt_regs___riscv,
    pt_regs___s390,
    task_struct,
    task_struct___x86,
)
from pybpf.lang import *

LICENSE = "Dual MIT/GPL"

# Bits of a task's state that say "this call came through the 32-bit table".
TS_COMPAT = 0x2  # arch/x86/include/asm/thread_info.h
TIF_32BIT = 1 << 22  # arch/arm64/include/asm/thread_info.h

PROC_PID_INIT_INO = 0xEFFFFFFC  # the initial pid namespace, include/linux/proc_ns.h

# Odd numbers: the upper half of a name's sum of products tells it from others.
NODE_FACTORS = tuple(pow(0x9E3779B97F4A7C15, i, 1 << 64) for i in range(1, 9))

NO_CALL = 0xFFFFFFFF  # no system call has this number

ASK_AFTER = 4096  # bytes after which a processor asks again whether the watermark is reached

# What the reader wrote into the doorbell before it went to sleep.
WAKE_AT_NEXT, WAKE_AT_WATERMARK = 1, 2


class Config(ConfigBase):
    """Read-only settings, fixed before the programs are loaded: what is off costs nothing."""

    self_pid: u32 = 0  # the tracer itself, never traced
    level: u32 = 0  # of the tracer's own pid namespace below the first one
    level_ns: u32 = 0  # its inode number
    who_on: u32 = 0  # any of the filters on who is calling is on
    follow: u32 = 0
    others_on: u32 = 0  # any of them but those on processes' numbers and `follow`
    uid_on: u32 = 0
    uid_exact: u64[EXACT] = (0,) * EXACT  # verdicts on single uids (EXACT_*), where there are few
    uid_mapped: u32 = 0  # where there are more: they are in `numbers`
    uid_default: u32 = 0  # verdict on a uid that no exact value decides
    uid_above: i64 = -1  # a uid must be greater than this
    uid_below: i64 = 1 << 32  # and less than this
    pid_on: u32 = 0
    pid_exact: u64[EXACT] = (0,) * EXACT
    pid_mapped: u32 = 0
    pid_default: u32 = 0
    pid_above: i64 = -1
    pid_below: i64 = 1 << 32
    tid_on: u32 = 0
    tid_exact: u64[EXACT] = (0,) * EXACT
    tid_mapped: u32 = 0
    tid_default: u32 = 0
    tid_above: i64 = -1
    tid_below: i64 = 1 << 32
    mntns_on: u32 = 0
    mntns_exact: u64[EXACT] = (0,) * EXACT
    mntns_mapped: u32 = 0
    mntns_default: u32 = 0
    mntns_above: i64 = -1
    mntns_below: i64 = 1 << 32
    pidns_on: u32 = 0
    pidns_exact: u64[EXACT] = (0,) * EXACT
    pidns_mapped: u32 = 0
    pidns_default: u32 = 0
    pidns_above: i64 = -1
    pidns_below: i64 = 1 << 32
    pid_new: u32 = 0  # 1: only processes that started after `started`; 2: only the others
    started: u64 = 0  # ns since boot (monotonic)
    comm_on: u32 = 0
    comm_default: u32 = 0
    uts_on: u32 = 0
    uts_default: u32 = 0
    tree_on: u32 = 0
    tree_default: u32 = 0
    binary_on: u32 = 0
    binary_default: u32 = 0
    binary_wanted: u64 = 0  # bits of the masks that the path maps hold, as in Shape
    binary_unwanted: u64 = 0
    container_on: u32 = 0
    cgroup_v1: u32 = 0  # not 0: control groups are those of a hierarchy of version 1, by programs.records.GROUPS_BY_*
    hierarchy: i32 = 0  # its number
    values_on: u32 = 0  # some event's arguments or result are looked up in `verdicts`
    ranges_on: u32 = 0  # some event's arguments have bounds, in `ranges`
    bounds_on: u32 = 0  # some event's result has bounds
    prefixes_on: u32 = 0
    handlers: u8[COMPAT] = (0,) * COMPAT  # by number, of either table: HANDLER_*; 0 where nobody asks for the call
    suffix_lengths: u32[8] = (0, 0, 0, 0, 0, 0, 0, 0)  # the lengths that occur, then zeros
    resolve: u32 = 0  # add the folder to each relative path of a system call
    executable: u32 = 0  # add the path of the running file to each record, all of which have fields then
    stacks: u32 = 0  # add the caller's stack to each record that has fields
    detect_syscall: u32 = 0  # and the running system call, where the event's shape says so
    opens_first: u32[8] = (NO_CALL,) * 8  # numbers of the calls whose first argument is the path that is opened
    opens_second: u32[8] = (NO_CALL,) * 8  # the same of the second
    finit_module: u32 = NO_CALL  # its number
    watermark: u64 = 0  # bytes waiting at which a sleeping reader is woken


config = Config()

events = RingBuf(256 * 1024)
calls = ProgArray(HANDLERS)
scratch = PerCpuArray(PathRecord, 1)
lost = PerCpuArray(u64, CALLS)
doorbell = Array(u32, 2, flags=abi.F_MMAPABLE)  # what the reader asks for; not 0: see `lost` and `untracked`
node_names = LruHash(NodeKey, NodeName, 256)
last_node = Array(u64, 1)  # the key used last

numbers = Hash(NumberKey, u32, 256)  # verdicts on single users, processes, threads and namespaces
comms = Hash(Comm, u32, 64)
nodes = Hash(Node, u32, 64)
# By process id: the verdict on it, beside the time of its start (programs.records.MEMBER_*).
tree = Hash(u32, u64, 8192)
followed = Hash(u32, u64, 8192)
binaries = Hash(u32, u64, 8192)  # only those on which the verdict is not binary_default
untracked = PerCpuArray(u64, 1)  # processes that found no room in one of these
cgroups = LruHash(u64, u32, 4096)  # verdicts on control groups; on those that are missing user space decides

shapes = Array(Shape, CALLS)
verdicts = Hash(ValueKey, u32, 1024)
ranges = Hash(ValueKey, Range, 64)  # bounds of arguments; the key's value is 0
path_prefixes = LpmTrie(PathKey, u64, 256)
path_suffixes = Hash(SuffixKey, u64, 256)


@inline
def count_loss(event):
    """An event that user space will not see."""
    count = lost.lookup(event)
    if count:
        count[0] += 1  # per CPU, and this program cannot interrupt itself
    doorbell[1] = 1


@inline
def count_untracked():
    untracked[0] += 1
    doorbell[1] = 1


@inline
def is_compat(task):
    """Did this task enter through the 32-bit table, whose numbers mean other calls?"""
    x86 = cast(Ptr[task_struct___x86], task)
    if exists(x86.thread_info.status):
        return x86.thread_info.status & TS_COMPAT
    return task.thread_info.flags & TIF_32BIT


@inline
def table_number(regs):
    """The call's number in its table, the native one or that of 32-bit processes."""
    number: u64 = 0
    arm64 = cast(Ptr[pt_regs___arm64], regs)
    riscv = cast(Ptr[pt_regs___riscv], regs)
    s390 = cast(Ptr[pt_regs___s390], regs)
    if exists(arm64.syscallno):
        number = u64(arm64.syscallno)
    elif exists(riscv.a7):
        number = riscv.a7
    elif exists(s390.int_code):
        number = s390.int_code & 0xFFFF
    else:
        number = regs.orig_ax
    return number


@inline
def syscall_number(regs):
    """The call's number, COMPAT more for one of the 32-bit table."""
    number = table_number(regs)
    if is_compat(current_task()):
        number += COMPAT
    return number


# The commonest first.
RETURN_HANDLERS = (HANDLER_PATH, HANDLER_PLAIN, HANDLER_FIELDS, HANDLER_EXEC)
ENTRY_HANDLERS = (HANDLER_EXEC, HANDLER_LAST)


class Room(Struct):
    """As much of the stack as any program has that is handed over to."""

    bytes: char[256]


@inline
def hand_over(ctx, programs, handlers, number):
    """To the program of the call with this ``number``, if it is one of ``handlers``.

    Most calls end at a byte of a frozen table.

    The places of programs are constants, for which a kernel makes direct jumps. Which table the call's number is of
    is asked only where it makes a difference, since the next program asks for itself (Shape.asked).

    Where programs are interpreted (net.core.bpf_jit_enable is 0), the next one runs on this one's stack. A kernel gave
    programs with tail calls all that there can be, 512 bytes, until 6.9; since then it counts what the first one
    uses (the end of do_misc_fixups() in kernel/bpf/verifier.c), and the next one writes over the kernel's own stack. So
    the room is used here, where nobody comes by: behind a tail call that found no program.
    """
    if number < COMPAT:
        which = u64(config.handlers[number])
        if which:
            if which & HANDLER_BY_TABLE:
                if is_compat(current_task()):
                    which = which >> HANDLER_BITS
                which = which & HANDLER_MASK
            for handler in unroll(handlers):
                if which == handler:
                    tail_call(ctx, programs, handler)
            room = Room()
            get_current_comm(room.bytes)


@inline
def syscall_arg(regs, n, compat):
    """Argument ``n`` (a constant): the registers still hold it when the call returns."""
    arm64 = cast(Ptr[pt_regs___arm64], regs)
    riscv = cast(Ptr[pt_regs___riscv], regs)
    s390 = cast(Ptr[pt_regs___s390], regs)
    if exists(arm64.orig_x0):
        value: u64 = arm64.orig_x0 if n == 0 else arm64.regs[n]
        return value & 0xFFFFFFFF if compat else value
    if exists(riscv.orig_a0):
        if n == 0:
            return riscv.orig_a0
        if n == 1:
            return riscv.a1
        if n == 2:
            return riscv.a2
        if n == 3:
            return riscv.a3
        if n == 4:
            return riscv.a4
        return riscv.a5
    if exists(s390.orig_gpr2):
        return s390.orig_gpr2 if n == 0 else s390.gprs[2 + n]
    if compat:
        if n == 0:
            return regs.bx & 0xFFFFFFFF
        if n == 1:
            return regs.cx & 0xFFFFFFFF
        if n == 2:
            return regs.dx & 0xFFFFFFFF
        if n == 3:
            return regs.si & 0xFFFFFFFF
        if n == 4:
            return regs.di & 0xFFFFFFFF
        return regs.bp & 0xFFFFFFFF
    if n == 0:
        return regs.di
    if n == 1:
        return regs.si
    if n == 2:
        return regs.dx
    if n == 3:
        return regs.r10
    if n == 4:
        return regs.r8
    return regs.r9


@inline
def user_registers(task):
    """The registers of the process as it entered the kernel, as an address."""
    if has(task_pt_regs):
        if is_typed(task):
            return u64(task_pt_regs(task))
        return u64(task_pt_regs(get_current_task_btf()))
    return u64(task.stack) + THREAD_SIZE - sizeof(pt_regs)


@inline
def number_inside(task):
    """The task's number in the tracer's own pid namespace, 0 outside of it."""
    number: u32 = 0
    thread_pid = task.thread_pid
    if thread_pid.level >= config.level:
        level = config.level
        if thread_pid.numbers[level].ns.ns.inum == config.level_ns:
            number = thread_pid.numbers[level].nr
    return number


@inline
def current_group():
    """The id of the control group that the current process is in."""
    if config.cgroup_v1:
        return group_of_version_1()
    return get_current_cgroup_id()


@subprog(global_=True)
def group_of_version_1() -> u64:
    """Global, so that the verifier goes through it once and not for each way that leads here.

    It reads by number, see fill_context(): most programs run far less often than those of system calls.
    """
    return u64(group_by_hierarchy(cast(Ptr[css_set], u64(current_task().cgroups))))


@inline
def group_by_hierarchy(groups):
    """The id of the group in the hierarchy of version 1 that the tracer tells them apart by."""
    if config.cgroup_v1 == GROUPS_BY_MEMORY and kenum_exists("cgroup_subsys_id", "memory_cgrp_id"):
        return group_of(groups.subsys[kenum("cgroup_subsys_id", "memory_cgrp_id")])
    if config.cgroup_v1 == GROUPS_BY_PIDS and kenum_exists("cgroup_subsys_id", "pids_cgrp_id"):
        return group_of(groups.subsys[kenum("cgroup_subsys_id", "pids_cgrp_id")])
    if config.cgroup_v1 == GROUPS_BY_DEVICES and kenum_exists("cgroup_subsys_id", "devices_cgrp_id"):
        return group_of(groups.subsys[kenum("cgroup_subsys_id", "devices_cgrp_id")])
    if config.cgroup_v1 == GROUPS_BY_FREEZER and kenum_exists("cgroup_subsys_id", "freezer_cgrp_id"):
        return group_of(groups.subsys[kenum("cgroup_subsys_id", "freezer_cgrp_id")])
    return u64(0)


@inline
def group_of(state):
    return u64(state.cgroup.kn.id)


@inline
def pid_namespace_of(task):
    """The inode number of the pid namespace that the task itself lives in."""
    thread_pid = task.thread_pid
    level = thread_pid.level
    if level == 0:
        return u32(PROC_PID_INIT_INO)
    return u32(thread_pid.numbers[level].ns.ns.inum)


@inline
def fill_node(who, nsproxy):
    """The nodename, which has 64 bytes: a number stands for it, and user space finds the name by that."""
    node = NodeName()
    if exists(cast(Ptr[pt_regs___riscv], nsproxy).orig_a0) or not is_typed(nsproxy):
        # The name begins behind another of 65 bytes, where riscv's verifier lets no word be loaded.
        read_kernel(node.name, u64(addr(nsproxy.uts_ns.name.nodename)))
    else:
        copy(cast(Ptr[Comm], addr(node)).name, nsproxy.uts_ns.name.nodename)  # the first 16 bytes
        if node.name[15]:
            copy(node.name, nsproxy.uts_ns.name.nodename)
    words = cast(Ptr[NodeWords], addr(node))
    digest: u64 = words.words[0] * NODE_FACTORS[0] + words.words[1] * NODE_FACTORS[1]
    if node.name[15]:  # else all other words are zero
        for i in unroll(range(2, 8)):
            digest += words.words[i] * NODE_FACTORS[i]  # none waits for another
    uts_ns: u32 = nsproxy.uts_ns.ns.inum
    digest = digest >> 32
    who.uts_ns = uts_ns
    who.node = digest
    both = u64(uts_ns) << 32 | digest
    last = last_node.lookup(0)
    if last:
        if last[0] != both:
            key = NodeKey()
            key.uts_ns = uts_ns
            key.node = digest
            if not node_names.lookup(key):
                node_names.update(key, node, BPF_ANY)
            last[0] = both


@inline
def fill_context(who, task, parent, nsproxy, thread_pid):
    """Who: ``task``, and what it points at. Its numbers, user and control group are there already.

    Where a program has branches, these pointers are to be read before them: the verifier (6.2) looks for types by
    name, among all that the kernel has, each time that it passes such a read, which takes it a millisecond or two.
    """
    who.start_time = task.start_time
    who.host_ppid = parent.tgid
    who.mnt_ns = nsproxy.mnt_ns.ns.inum
    who.cpu = get_smp_processor_id()
    copy(who.comm, task.comm)
    fill_node(who, nsproxy)
    level = thread_pid.level
    if level == 0:
        who.pid = who.host_pid
        who.tid = who.host_tid
        who.ppid = who.host_ppid
        who.pid_ns = PROC_PID_INIT_INO
    else:
        # As numbers these pointers are read by helper: rare, and following typed ones costs the verifier much time.
        inner = cast(Ptr[task_struct], u64(task))
        who.tid = thread_pid.numbers[level].nr
        who.pid_ns = thread_pid.numbers[level].ns.ns.inum
        who.pid = inner.group_leader.thread_pid.numbers[level].nr
        outer = inner.real_parent.group_leader.thread_pid
        who.ppid = 0  # a parent outside of the namespace has no number in it
        if outer.level >= level:
            who.ppid = outer.numbers[level].nr


@inline
def submit(record, size, event):
    """Hand over the record, which has ``size`` bytes, as of now."""
    record.time = ktime_get_boot_ns()
    length = u64(size) - offsetof(FieldRecord, "data")
    record.length = LONG
    if length <= SHORT:
        record.length = length
        size = u64(sizeof(Row))
    if events.output(record, size, wakeup(record, size)) < 0:
        count_loss(event)


@inline
def submit_call(record, size, event):
    """The same of a system call, with more instructions in less time.

    Room for a record of the usual size is taken before the time is asked for: its memory, which the processor has to
    fetch, comes meanwhile.
    """
    length = u64(size) - offsetof(FieldRecord, "data")
    long = length > SHORT
    record.length = LONG
    if not long:
        record.length = length
        size = u64(sizeof(Row))
    flags = wakeup(record, size)
    if long:
        record.time = ktime_get_boot_ns()
        if events.output(record, size, flags) >= 0:
            return
    else:
        row = cast(Ptr[Row], ringbuf_reserve(events, sizeof(Row), 0))
        if row:
            copy(row.words, cast(Ptr[Row], record).words)
            row.words[0] = ktime_get_boot_ns()
            ringbuf_submit(row, flags)
            return
    count_loss(event)


@inline
def wakeup(record, size):
    """How to hand over so many bytes: ring only where the reader sleeps and asked to be woken."""
    flags: u64 = BPF_RB_NO_WAKEUP
    bell = doorbell.lookup(0)
    if bell:
        if bell[0] == WAKE_AT_NEXT:
            bell[0] = 0
            flags = BPF_RB_FORCE_WAKEUP
        elif bell[0] == WAKE_AT_WATERMARK:
            # To ask how much waits costs as much as a third of handing over: now and then is enough.
            record.unasked += size
            if record.unasked >= ASK_AFTER:
                record.unasked = 0
                if ringbuf_query(events, BPF_RB_AVAIL_DATA) >= config.watermark:
                    bell[0] = 0
                    flags = BPF_RB_FORCE_WAKEUP
    return flags
