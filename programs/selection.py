"""Which events are wanted: by who calls, by arguments and results, by paths.

User space puts the filters here (``bfer.pushdown``): what can be compared is in the configuration, the rest in maps.
"""

from __future__ import annotations

from programs.common import *
from programs.records import *
from pybpf.lang import *


@inline
def exact_verdict(field, value: u32, exact, mapped):
    """The number's own verdict, or UNDECIDED. Where there are few, comparing takes less time than a look-up."""
    for i in unroll(range(EXACT)):
        entry: u64 = exact[i]
        if not entry >> EXACT_SHIFT:  # no more of them
            break
        if u32(entry) == value:
            return u32(entry >> EXACT_VERDICT)
    if mapped:
        key = NumberKey()
        key.field = field
        key.value = value
        verdict = numbers.lookup(key)
        if verdict:
            return verdict[0]
    return u32(UNDECIDED)


@inline
def number_passes(verdict, value: u32, default, above, below):
    """Tracee's rule: an exact value decides at once, then the bounds, then the default."""
    if verdict != UNDECIDED:
        return u32(verdict)
    if i64(value) <= above or i64(value) >= below:
        return u32(0)
    return u32(default)


@inline
def is_selected(task):
    """Do the filters on who is calling let the current task through?"""
    pid: u32 = task.tgid
    if pid == config.self_pid:
        return False
    if config.who_on:
        return is_wanted(pid) != 0
    return True


@inline
def is_selected_here(task, pid):
    """The same for system calls, where a call and the helper for the task would be a tenth of what tracing costs."""
    if pid == config.self_pid:
        return False
    if config.who_on:
        return passes(task, pid) != 0
    return True


@subprog
def is_wanted(pid: u32) -> u32:
    """One copy for all programs of what is long."""
    return u32(passes(current_task(), pid))


@inline
def passes(task, pid):
    """All filters on who is calling (process ``pid``), the cheap ones first."""
    if config.follow:
        if followed.lookup(pid):
            return u32(1)
    if config.pid_on:
        number = pid
        if config.level:
            number = number_inside(task.group_leader)
        exact = exact_verdict(BY_PID, number, config.pid_exact, config.pid_mapped)
        if not number_passes(exact, number, config.pid_default, config.pid_above, config.pid_below):
            return u32(0)
    known = 1
    if config.others_on:
        if config.tid_on:
            tid: u32 = task.pid
            if config.level:
                tid = number_inside(task)
            exact = exact_verdict(BY_TID, tid, config.tid_exact, config.tid_mapped)
            if not number_passes(exact, tid, config.tid_default, config.tid_above, config.tid_below):
                return u32(0)
        if config.pid_new == 1:
            if task.group_leader.start_time < config.started:
                return u32(0)
        if config.pid_new == 2:
            if task.group_leader.start_time >= config.started:
                return u32(0)
        if config.uid_on:
            uid: u32 = task.cred.uid.val
            exact = exact_verdict(BY_UID, uid, config.uid_exact, config.uid_mapped)
            if not number_passes(exact, uid, config.uid_default, config.uid_above, config.uid_below):
                return u32(0)
        if config.mntns_on:
            mntns: u32 = task.nsproxy.mnt_ns.ns.inum
            exact = exact_verdict(BY_MNTNS, mntns, config.mntns_exact, config.mntns_mapped)
            if not number_passes(exact, mntns, config.mntns_default, config.mntns_above, config.mntns_below):
                return u32(0)
        if config.pidns_on:
            pidns = pid_namespace_of(task)
            exact = exact_verdict(BY_PIDNS, pidns, config.pidns_exact, config.pidns_mapped)
            if not number_passes(exact, pidns, config.pidns_default, config.pidns_above, config.pidns_below):
                return u32(0)
        if config.tree_on:
            if not member_passes(tree, pid, config.tree_default):
                return u32(0)
        if config.binary_on:
            if not member_passes(binaries, pid, config.binary_default):
                return u32(0)
        if config.comm_on:
            name = Comm()
            get_current_comm(name.name)  # pads with NULs, which the name in the task does not on old kernels
            if not verdict_of(comms, name, config.comm_default):
                return u32(0)
        if config.uts_on:
            node = Node()
            read_kernel_str(node.name, u64(addr(task.nsproxy.uts_ns.name.nodename)))
            if not verdict_of(nodes, node, config.uts_default):
                return u32(0)
        if config.container_on:
            inside = cgroups.lookup(current_group())
            if inside:
                if not inside[0]:
                    return u32(0)
            else:
                known = 0  # a new one: the record goes to user space, which decides
    if config.follow:
        if known:
            mark = task.group_leader.start_time << MEMBER_SHIFT | 1
            if followed.update(pid, mark, BPF_ANY) < 0:
                count_untracked()
    return u32(1)


@inline
def member_passes(members, pid, default):
    member = members.lookup(pid)
    if member:
        return u32(member[0] & MEMBER_VERDICT)
    return u32(default)


@inline
def verdict_of(verdicts, key, default):
    verdict = verdicts.lookup(key)
    if verdict:
        return verdict[0]
    return u32(default)


@inline
def call_is_selected(record, shape, event, result):
    """Do the arguments, which are numbers, and the result meet what the event demands?"""
    if shape.bits:
        slot = shape.masked
        if slot < ARGS and not record.args[slot] & shape.bits:
            return False
    if config.bounds_on:
        if result <= shape.above or result >= shape.below:
            exact = shape.checked & (1 << CHECK_RESULT) and verdict_on(event, CHECK_RESULT, u64(result), 0)
            if not exact:
                return False
    if config.values_on:
        if shape.checked & (1 << CHECK_RESULT):
            if not verdict_on(event, CHECK_RESULT, u64(result), shape.passing >> CHECK_RESULT & 1):
                return False
        for i in unroll(range(ARGS)):
            if shape.checked & (1 << i):
                value: u64 = record.args[i]
                if shape.narrow & (1 << i):
                    value = value & 0xFFFFFFFF
                if not value_passes(event, i, value, shape.passing >> i & 1, shape.ranged & (1 << i)):
                    return False
    return True


@inline
def verdict_on(event, slot, value, default):
    return value_passes(event, slot, value, default, 0)


@inline
def value_passes(event, slot, value, default, ranged):
    """An exact value decides, then the bounds where there are any, then the default."""
    key = ValueKey()
    key.event = event
    key.slot = slot
    key.value = value
    verdict = verdicts.lookup(key)
    if verdict:
        return u32(verdict[0])
    if config.ranges_on and ranged:
        key.value = 0
        bounds = ranges.lookup(key)
        if bounds:
            number = value ^ bounds.flip
            return u32(bounds.low <= number and number <= bounds.high)
    return u32(default)


@inline
def path_is_selected(shape, key, length):
    """Does the path meet what the event demands?

    ``key`` is the word (u32) before the path, which is free for the length of a trie's key;
    ``length`` is in bytes with its NUL, 0 for a path that could not be read.
    """
    if shape.wanted == 0 and shape.unwanted == 0:
        return True
    hits = path_hits(key, length)
    if shape.wanted and not hits & shape.wanted:
        return False
    return not hits & shape.unwanted


@inline
def path_hits(key, length):
    """Bits of all patterns that the path meets; parameters as in path_is_selected."""
    hits: u64 = 0
    if length > 0:
        if config.prefixes_on:
            saved: u32 = key[0]
            key[0] = min(length, 256) * 8
            found = path_prefixes.lookup(cast(Ptr[PathKey], key))
            if found:
                hits |= found[0]
            key[0] = saved
        path = u64(addr(cast(Ptr[PathKey], key).data))
        for i in unroll(range(8)):
            size: u64 = config.suffix_lengths[i]
            if not size:
                break
            if length > size:
                suffix = SuffixKey()
                suffix.length = size
                if read_kernel(suffix.data, path + length - 1 - size, size=min(size, 60)) == 0:
                    found = path_suffixes.lookup(suffix)
                    if found:
                        hits |= found[0]
    return hits
