"""Credentials, namespaces and control groups of processes."""

from __future__ import annotations

from programs.events import *
from programs.records import *
from pybpf.ktypes import cgroup as control_group
from pybpf.ktypes import cred, nsproxy, task_struct
from pybpf.lang import *

COMMIT_CREDS = HOOKS + 30
SWITCH_TASK_NS = HOOKS + 31
CGROUP_ATTACH_TASK = HOOKS + 32
CGROUP_MKDIR = HOOKS + 33
CGROUP_RMDIR = HOOKS + 34


class Credentials(Struct):
    """The part of struct cred that says what a process may do."""

    ids: u32[8]  # uid, gid, suid, sgid, euid, egid, fsuid, fsgid
    user_ns: u32
    securebits: u32
    capabilities: u64[5]  # inheritable, permitted, effective, bounding, ambient


@inline
def put_credentials(record, arg, source):
    """Where they are put, None where there is no room."""
    field = cast(Ptr[Field], addr(record.data[0]))
    if arg == 1:
        field = cast(Ptr[Field], addr(record.data[(sizeof(Field) + sizeof(Credentials)) // 8]))
    to = cast(Ptr[Credentials], addr(field[1]))
    to.ids[0] = source.uid.val
    to.ids[1] = source.gid.val
    to.ids[2] = source.suid.val
    to.ids[3] = source.sgid.val
    to.ids[4] = source.euid.val
    to.ids[5] = source.egid.val
    to.ids[6] = source.fsuid.val
    to.ids[7] = source.fsgid.val
    to.user_ns = source.user_ns.ns.inum
    to.securebits = source.securebits
    to.capabilities[0] = read_kernel(u64, u64(addr(source.cap_inheritable)))
    to.capabilities[1] = read_kernel(u64, u64(addr(source.cap_permitted)))
    to.capabilities[2] = read_kernel(u64, u64(addr(source.cap_effective)))
    to.capabilities[3] = read_kernel(u64, u64(addr(source.cap_bset)))
    to.capabilities[4] = read_kernel(u64, u64(addr(source.cap_ambient)))
    close_field(record, field, arg, FORM_BYTES, sizeof(Credentials))
    return to


@inline
def fill_credentials(record, shape, both):
    """Only those that change something."""
    before, after = both
    old = put_credentials(record, 0, before)
    new = put_credentials(record, 1, after)
    changed: u64 = 0
    for i in unroll(range(8)):
        changed |= u64(old.ids[i]) ^ u64(new.ids[i])
    for i in unroll(range(5)):
        changed |= old.capabilities[i] ^ new.capabilities[i]
    changed |= u64(old.user_ns) ^ u64(new.user_ns)
    changed |= u64(old.securebits) ^ u64(new.securebits)
    return changed != 0


@hook(*function("commit_creds"))
def commit_creds(ctx, after: Ptr[cred]):
    emit(COMMIT_CREDS, fill_credentials, (current_task().real_cred, after))
    return 0


@inline
def fill_namespaces(record, shape, both):
    """Only a switch that changes something."""
    task, after = both
    before = task.nsproxy
    record.args[0] = task.pid
    record.args[1] = after.mnt_ns.ns.inum
    record.args[2] = after.pid_ns_for_children.ns.inum
    record.args[3] = after.uts_ns.ns.inum
    record.args[4] = after.ipc_ns.ns.inum
    record.args[5] = after.net_ns.ns.inum
    groups = after.cgroup_ns.ns.inum
    put_number(record, 6, u64(groups))
    changed = (before.mnt_ns.ns.inum ^ record.args[1]) | (before.pid_ns_for_children.ns.inum ^ record.args[2])
    changed |= (before.uts_ns.ns.inum ^ record.args[3]) | (before.ipc_ns.ns.inum ^ record.args[4])
    changed |= (before.net_ns.ns.inum ^ record.args[5]) | (before.cgroup_ns.ns.inum ^ groups)
    return changed != 0


@hook(*function("switch_task_namespaces"))
def switch_task_ns(ctx, task: Ptr[task_struct], after: Ptr[nsproxy]):
    if u64(after):  # none when a process ends
        emit(SWITCH_TASK_NS, fill_namespaces, (task, after))
    return 0


# --- control groups ------------------------------------------------------------------------


@inline
def fill_attached(record, shape, both):
    path, task = both
    record.args[2] = task.pid
    return put_kernel_string(record, shape, 0, path) and put_kernel_string(record, shape, 1, u64(addr(task.comm)))


@hook(*tracepoint_of("cgroup_attach_task"))
def cgroup_attach_task(ctx, group: u64, path: u64, task: Ptr[task_struct]):
    emit(CGROUP_ATTACH_TASK, fill_attached, (path, task))
    return 0


@inline
def fill_group(record, shape, both):
    group, path = both
    record.args[0] = group.kn.id
    record.args[2] = group.root.hierarchy_id
    return put_kernel_string(record, shape, 1, path)


@hook(*tracepoint_of("cgroup_mkdir"))
def cgroup_mkdir(ctx, group: Ptr[control_group], path: u64):
    emit(CGROUP_MKDIR, fill_group, (group, path))
    return 0


@hook(*tracepoint_of("cgroup_rmdir"))
def cgroup_rmdir(ctx, group: Ptr[control_group], path: u64):
    emit(CGROUP_RMDIR, fill_group, (group, path))
    return 0
