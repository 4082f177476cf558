"""Maps, configuration and building blocks that every program shares."""

from __future__ import annotations

from programs.records import *
from pybpf.ktypes import pt_regs___arm64, task_struct, task_struct___x86
from pybpf.lang import *

LICENSE = "Dual MIT/GPL"

CALLS = 512  # more than any architecture's highest system call number

# Bits of a task's state that say "this call came through the 32-bit table".
TS_COMPAT = 0x2  # arch/x86/include/asm/thread_info.h
TIF_32BIT = 1 << 22  # arch/arm64/include/asm/thread_info.h

PROC_PID_INIT_INO = 0xEFFFFFFC  # the initial pid namespace, include/linux/proc_ns.h

# What the reader wrote into the doorbell before it went to sleep.
WAKE_AT_NEXT, WAKE_AT_WATERMARK = 1, 2


class Config(ConfigBase):
    """Read-only settings, fixed before the programs are loaded: what is off costs nothing."""

    self_pid: u32 = 0  # the tracer itself, never traced
    follow: u32 = 0
    uid_on: u32 = 0
    uid_default: u32 = 0  # verdict on a uid that no exact value decides
    uid_above: i64 = -1  # a uid must be greater than this
    uid_below: i64 = 1 << 32  # and less than this
    pid_on: u32 = 0
    pid_default: u32 = 0
    pid_above: i64 = -1
    pid_below: i64 = 1 << 32
    pid_new: u32 = 0  # 1: only processes that started after `started`; 2: only the others
    started: u64 = 0  # ns since boot (monotonic)
    comm_on: u32 = 0
    comm_default: u32 = 0
    tree_on: u32 = 0
    tree_default: u32 = 0
    prefixes_on: u32 = 0
    suffix_lengths: u32[8] = (0, 0, 0, 0, 0, 0, 0, 0)  # the lengths that occur, then zeros
    watermark: u64 = 0  # bytes waiting at which a sleeping reader is woken


config = Config()

events = RingBuf(256 * 1024)
calls = ProgArray(CALLS)
scratch = PerCpuArray(PathRecord, 1)
lost = PerCpuArray(u64, CALLS)
doorbell = Array(u32, 1)

uids = Hash(u32, u32, 256)
pids = Hash(u32, u32, 256)
comms = Hash(Comm, u32, 64)
tree = Hash(u32, u32, 8192)
followed = Hash(u32, u32, 8192)
untracked = PerCpuArray(u64, 1)  # processes that found no room in `tree` or `followed`

path_rules = Array(PathRule, CALLS)
path_prefixes = LpmTrie(PathKey, u64, 256)
path_suffixes = Hash(SuffixKey, u64, 256)


@inline
def is_compat(task):
    """Did this task enter through the 32-bit table, whose numbers mean other calls?"""
    x86 = cast(Ptr[task_struct___x86], task)
    if exists(x86.thread_info.status):
        return x86.thread_info.status & TS_COMPAT
    return task.thread_info.flags & TIF_32BIT


@inline
def syscall_number(regs):
    arm64 = cast(Ptr[pt_regs___arm64], regs)
    if exists(arm64.syscallno):
        return u64(arm64.syscallno)
    return regs.orig_ax


@inline
def syscall_arg(regs, n):
    """Argument ``n`` (a constant): the registers still hold it when the call returns."""
    arm64 = cast(Ptr[pt_regs___arm64], regs)
    if exists(arm64.orig_x0):
        if n == 0:
            return arm64.orig_x0
        return arm64.regs[n]
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
def number_passes(exact, value: u32, default, above, below):
    """Tracee's rule: an exact value decides at once, then the bounds, then the default."""
    verdict = exact.lookup(value)
    if verdict:
        return verdict[0]
    if i64(value) <= above or i64(value) >= below:
        return u32(0)
    return u32(default)


@inline
def is_selected(task):
    """Do the filters on who is calling let this task through?"""
    pid: u32 = task.tgid
    if pid == config.self_pid:
        return False
    if config.follow:
        if followed.lookup(pid):
            return True
    if config.pid_on:
        if not number_passes(pids, pid, config.pid_default, config.pid_above, config.pid_below):
            return False
    if config.pid_new == 1:
        if task.group_leader.start_time < config.started:
            return False
    if config.pid_new == 2:
        if task.group_leader.start_time >= config.started:
            return False
    if config.uid_on:
        uid: u32 = task.cred.uid.val
        if not number_passes(uids, uid, config.uid_default, config.uid_above, config.uid_below):
            return False
    if config.tree_on:
        inside = config.tree_default
        member = tree.lookup(pid)
        if member:
            inside = member[0]
        if not inside:
            return False
    if config.comm_on:
        name = Comm()
        get_current_comm(name.name)  # pads with NULs, which the name in the task does not on old kernels
        wanted = config.comm_default
        verdict = comms.lookup(name)
        if verdict:
            wanted = verdict[0]
        if not wanted:
            return False
    if config.follow:
        if followed.update(pid, u32(1), BPF_ANY) < 0:
            untracked[0] += 1
    return True


@inline
def fill_context(who, task):
    parent = task.real_parent
    nsproxy = task.nsproxy
    thread_pid = task.thread_pid
    who.start_time = task.start_time
    who.cgroup_id = get_current_cgroup_id()
    who.host_pid = task.tgid
    who.host_tid = task.pid
    who.host_ppid = parent.tgid
    who.uid = task.cred.uid.val
    who.mnt_ns = nsproxy.mnt_ns.ns.inum
    who.cpu = get_smp_processor_id()
    copy(who.comm, task.comm)
    copy(who.node, nsproxy.uts_ns.name.nodename)
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
def path_is_selected(record, length, event):
    """Does the path (``length`` bytes with its NUL) meet what ``event`` demands?"""
    rule = path_rules.lookup(event)
    if not rule:
        return True
    if rule.wanted == 0 and rule.unwanted == 0:
        return True
    hits: u64 = 0
    if record.status == PATH_OK or record.status == PATH_CUT:
        status = record.status
        if config.prefixes_on:
            record.status = min(length, 256) * 8
            found = path_prefixes.lookup(cast(Ptr[PathKey], addr(record.status)))
            if found:
                hits |= found[0]
            record.status = status
        for i in unroll(range(8)):
            size: u64 = config.suffix_lengths[i]
            if size and length > size:
                key = SuffixKey()
                key.length = size
                if read_kernel(key.data, addr(record.path[length - 1 - size]), size=min(size, 60)) == 0:
                    found = path_suffixes.lookup(key)
                    if found:
                        hits |= found[0]
    if rule.wanted and not hits & rule.wanted:
        return False
    return not hits & rule.unwanted


@inline
def read_path(record, address):
    """Bring the path into the record; the bytes to keep, without the NUL."""
    n = read_user_str(record.path, address)
    if n <= 0:
        record.status = PATH_UNREADABLE
        cast(Ptr[u64], addr(record.path))[0] = address
        return u64(9)
    record.status = PATH_OK
    if n == PATH_SIZE:
        record.status = PATH_CUT
    return u64(n)


@inline
def submit(record, size, event):
    """Hand over the record; ring only where the reader sleeps and asked to be woken."""
    flags: u64 = BPF_RB_NO_WAKEUP
    bell = doorbell.lookup(0)
    if bell:
        if bell[0] == WAKE_AT_NEXT:
            bell[0] = 0
            flags = BPF_RB_FORCE_WAKEUP
        elif bell[0] == WAKE_AT_WATERMARK:
            if ringbuf_query(events, BPF_RB_AVAIL_DATA) >= config.watermark:
                bell[0] = 0
                flags = BPF_RB_FORCE_WAKEUP
    if events.output(record, size, flags) < 0:
        count = lost.lookup(event)
        if count:
            count[0] += 1  # per CPU, and this program cannot interrupt itself
