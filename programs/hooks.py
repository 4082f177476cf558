"""Events that are no system calls: the security hooks and tracepoints of the kernel.

Each event has programs of several kinds for the same hook, of which the tracer attaches the first
that the kernel takes. Their numbers follow those of the system calls.
"""

from __future__ import annotations

from programs.events import *
from programs.paths import *
from programs.records import *
from pybpf.ktypes import dentry, file, inode, linux_binprm, module, path, socket, task_struct
from pybpf.lang import *

SECURITY_FILE_OPEN = HOOKS + 0
SCHED_PROCESS_FORK = HOOKS + 2
SCHED_PROCESS_EXIT = HOOKS + 3
TASK_RENAME = HOOKS + 4
SECURITY_INODE_UNLINK = HOOKS + 5
SECURITY_INODE_RENAME = HOOKS + 6
SECURITY_BPRM_CHECK = HOOKS + 7
SECURITY_SB_MOUNT = HOOKS + 8
SECURITY_SOCKET_CREATE = HOOKS + 9
SECURITY_SOCKET_LISTEN = HOOKS + 10
SECURITY_SOCKET_CONNECT = HOOKS + 11
SECURITY_SOCKET_ACCEPT = HOOKS + 12
SECURITY_SOCKET_BIND = HOOKS + 13
SECURITY_SOCKET_SETSOCKOPT = HOOKS + 14
MODULE_LOAD = HOOKS + 15
MODULE_FREE = HOOKS + 16
SECURITY_MMAP_FILE = HOOKS + 17


# --- processes ----------------------------------------------------------------------


@inline
def fill_fork(record, shape, both):
    parent, child = both
    record.args[0] = parent.pid
    record.args[1] = pid_in_namespace(parent)
    record.args[2] = parent.tgid
    record.args[3] = pid_in_namespace(parent.group_leader)
    record.args[4] = child.pid
    record.args[5] = pid_in_namespace(child)
    put_number(record, 6, u64(child.tgid))
    put_number(record, 7, pid_in_namespace(child.group_leader))
    put_number(record, 8, child.start_time)
    return True


@hook("tp_btf/sched_process_fork", "raw_tp/sched_process_fork")
def sched_process_fork(ctx, parent: Ptr[task_struct], child: Ptr[task_struct]):
    emit(SCHED_PROCESS_FORK, fill_fork, (parent, child), varying=(4, 2))
    return 0


@hook("raw_tp/sched_wakeup_new", name="sched_process_fork__steady")
def sched_process_fork_steady(ctx, child: Ptr[task_struct]):
    """Right after it, under the lock of a run queue."""
    emit(SCHED_PROCESS_FORK, fill_fork, (current_task(), child), varying=(4, 2))
    return 0


@inline
def fill_exit(record, shape, task):
    record.args[0] = task.exit_code
    record.args[1] = task.signal.live.counter == 0
    return True


@hook("tp_btf/sched_process_exit", "raw_tp/sched_process_exit")
def sched_process_exit(ctx, task: Ptr[task_struct]):
    emit(SCHED_PROCESS_EXIT, fill_exit, task)
    return 0


class Anything(Struct):
    """The record of a tracepoint, of which nothing is needed."""

    common: u64


@hook("tracepoint/sched/sched_process_exit", name="sched_process_exit__steady")
def sched_process_exit_steady(ctx: Ptr[Anything]):
    emit(SCHED_PROCESS_EXIT, fill_exit, current_task())
    return 0


@inline
def fill_rename(record, shape, both):
    task, name = both
    return put_kernel_string(record, shape, 0, u64(addr(task.comm))) and put_kernel_string(record, shape, 1, name)


@hook("tp_btf/task_rename", "raw_tp/task_rename")
def task_rename(ctx, task: Ptr[task_struct], name: u64):
    emit(TASK_RENAME, fill_rename, (task, name))
    return 0


@inline
def fill_program(record, shape, program):
    opened = program.file
    node = opened.f_inode
    record.args[1] = node.i_sb.s_dev
    record.args[2] = node.i_ino
    return put_file(record, shape, 0, opened)


@hook(*function("security_bprm_check"))
def security_bprm_check(ctx, program: Ptr[linux_binprm]):
    emit(SECURITY_BPRM_CHECK, fill_program, program, varying=(2, 1))
    return 0


# --- files ------------------------------------------------------------------------------


@inline
def fill_file(record, shape, opened):
    node = opened.f_inode
    record.args[1] = opened.f_flags
    record.args[2] = node.i_sb.s_dev
    record.args[3] = node.i_ino
    record.args[4] = change_time(node)
    return put_file(record, shape, 0, opened) and put_user_string(record, shape, 5, opened_path())


@hook(*function("security_file_open"))
def security_file_open(ctx, opened: Ptr[file]):
    emit(SECURITY_FILE_OPEN, fill_file, opened, varying=(3, 2))
    return 0


@inline
def fill_unlink(record, shape, entry):
    node = entry.d_inode
    record.args[1] = node.i_ino
    record.args[2] = node.i_sb.s_dev
    record.args[3] = change_time(node)
    return put_path(record, shape, 0, u64(entry), 0)


@hook(*function("security_inode_unlink"))
def security_inode_unlink(ctx, folder: Ptr[inode], entry: Ptr[dentry]):
    emit(SECURITY_INODE_UNLINK, fill_unlink, entry, varying=(1, 3))
    return 0


@inline
def fill_names(record, shape, both):
    old, new = both
    return put_path(record, shape, 0, u64(old), 0) and put_path(record, shape, 1, u64(new), 0)


@hook(*function("security_inode_rename"))
def security_inode_rename(ctx, old_folder: u64, old: u64, new_folder: u64, new: u64):
    emit(SECURITY_INODE_RENAME, fill_names, (old, new))
    return 0


@inline
def fill_mount(record, shape, given):
    device, where, kind, flags = given
    record.args[3] = flags
    if not put_kernel_string(record, shape, 0, device):
        return False
    if not put_path(record, shape, 1, u64(where.dentry), u64(where.mnt)):
        return False
    return put_kernel_string(record, shape, 2, kind)


@hook(*function("security_sb_mount"))
def security_sb_mount(ctx, device: u64, where: Ptr[path], kind: u64, flags: u64):
    emit(SECURITY_SB_MOUNT, fill_mount, (device, where, kind, flags))
    return 0


@inline
def fill_mapped(record, shape, given):
    opened, prot, flags = given
    node = opened.f_inode
    record.args[1] = opened.f_flags
    record.args[2] = node.i_sb.s_dev
    record.args[3] = node.i_ino
    record.args[4] = change_time(node)
    record.args[5] = prot
    put_number(record, 6, flags)
    return put_file(record, shape, 0, opened)


@hook(*function("security_mmap_file"))
def security_mmap_file(ctx, opened: Ptr[file], prot: u64, flags: u64):
    if u64(opened) != 0:
        emit(SECURITY_MMAP_FILE, fill_mapped, (opened, prot, flags), varying=(3, 2))
    return 0


# --- sockets ---------------------------------------------------------------------------


@inline
def fill_socket(record, shape, given):
    family, kind, protocol, kern = given
    record.args[0] = family
    record.args[1] = kind
    record.args[2] = protocol
    record.args[3] = kern
    return True


@hook(*function("security_socket_create"))
def security_socket_create(ctx, family: i32, kind: i32, protocol: i32, kern: i32):
    emit(SECURITY_SOCKET_CREATE, fill_socket, (family, kind, protocol, kern))
    return 0


@inline
def fill_listen(record, shape, given):
    sock, backlog = given
    record.args[0] = running_argument(0)
    record.args[2] = backlog
    put_local_address(record, 1, sock.sk)
    return True


@hook(*function("security_socket_listen"))
def security_socket_listen(ctx, sock: Ptr[socket], backlog: i32):
    emit(SECURITY_SOCKET_LISTEN, fill_listen, (sock, backlog))
    return 0


@inline
def fill_address(record, shape, given):
    address, size = given
    record.args[0] = running_argument(0)
    put_address(record, 1, address, size)
    return True


@hook(*function("security_socket_connect"))
def security_socket_connect(ctx, sock: Ptr[socket], address: u64, size: u64):
    emit(SECURITY_SOCKET_CONNECT, fill_address, (address, size))
    return 0


@hook(*function("security_socket_bind"))
def security_socket_bind(ctx, sock: Ptr[socket], address: u64, size: u64):
    emit(SECURITY_SOCKET_BIND, fill_address, (address, size))
    return 0


@inline
def fill_accept(record, shape, sock):
    record.args[0] = running_argument(0)
    put_local_address(record, 1, sock.sk)
    return True


@hook(*function("security_socket_accept"))
def security_socket_accept(ctx, sock: Ptr[socket]):
    emit(SECURITY_SOCKET_ACCEPT, fill_accept, sock)
    return 0


@inline
def fill_option(record, shape, given):
    sock, level, option = given
    record.args[0] = running_argument(0)
    record.args[1] = level
    record.args[2] = option
    put_local_address(record, 3, sock.sk)
    return True


@hook(*function("security_socket_setsockopt"))
def security_socket_setsockopt(ctx, sock: Ptr[socket], level: i32, option: i32):
    emit(SECURITY_SOCKET_SETSOCKOPT, fill_option, (sock, level, option))
    return 0


# --- modules ------------------------------------------------------------------------


@inline
def fill_module(record, shape, loaded):
    if not put_kernel_string(record, shape, 0, u64(addr(loaded.name))):
        return False
    put_kernel_string(record, shape, 1, u64(loaded.version))
    put_kernel_string(record, shape, 2, u64(loaded.srcversion))
    return True


@inline
def fill_loaded_module(record, shape, loaded):
    """And the file that it comes from, which finit_module() names; init_module() has it in memory."""
    if not fill_module(record, shape, loaded):
        return False
    opened = cast(Ptr[file], 0)
    if running_syscall() == config.finit_module:
        opened = cast(Ptr[file], open_file(current_task(), running_argument(0) & 0xFFFFFFFF))
    if u64(opened):
        node = opened.f_inode
        record.args[4] = node.i_sb.s_dev
        record.args[5] = node.i_ino
        put_number(record, 6, change_time(node))
        return put_file(record, shape, 3, opened)
    put_number(record, 6, 0)
    return put_user_string(record, shape, 3, 0)


@hook("tp_btf/module_load", "raw_tp/module_load")
def module_load(ctx, loaded: Ptr[module]):
    emit(MODULE_LOAD, fill_loaded_module, loaded)
    return 0


@hook("tp_btf/module_free", "raw_tp/module_free")
def module_free(ctx, loaded: Ptr[module]):
    emit(MODULE_FREE, fill_module, loaded)
    return 0
