"""Files and folders: made, changed, unmounted, watched, read by the kernel itself."""

from __future__ import annotations

from programs.events import *
from programs.paths import *
from programs.records import *
from pybpf.ktypes import dentry, file, path, timespec64, vfsmount
from pybpf.lang import *

SECURITY_KERNEL_READ_FILE = HOOKS + 40
SECURITY_KERNEL_POST_READ_FILE = HOOKS + 41
SECURITY_INODE_MKNOD = HOOKS + 42
SECURITY_INODE_SYMLINK = HOOKS + 43
SECURITY_SB_UMOUNT = HOOKS + 45
SECURITY_PATH_NOTIFY = HOOKS + 46
VFS_UTIMES = HOOKS + 51
DO_TRUNCATE = HOOKS + 52
SET_FS_PWD = HOOKS + 55
LOAD_ELF_PHDRS = HOOKS + 56


@inline
def fill_identity(record, shape, opened):
    """Path, device and inode of an open file."""
    node = opened.f_inode
    record.args[1] = node.i_sb.s_dev
    record.args[2] = node.i_ino
    return put_file(record, shape, 0, opened)


# --- what the kernel itself reads --------------------------------------------------------


@inline
def fill_kernel_read(record, shape, both):
    opened, type = both
    if u64(opened):
        record.args[3] = type
        record.args[4] = change_time(opened.f_inode)
        return fill_identity(record, shape, opened)
    return False


@hook(*function("security_kernel_read_file"))
def security_kernel_read_file(ctx, opened: Ptr[file], type: u32):
    emit(SECURITY_KERNEL_READ_FILE, fill_kernel_read, (opened, type))
    return 0


@inline
def fill_kernel_have_read(record, shape, given):
    opened, size, type = given
    record.args[1] = size
    record.args[2] = type
    return put_file(record, shape, 0, opened)


@hook(*function("security_kernel_post_read_file"))
def security_kernel_post_read_file(ctx, opened: Ptr[file], content: u64, size: i64, type: u32):
    if u64(opened):
        emit(SECURITY_KERNEL_POST_READ_FILE, fill_kernel_have_read, (opened, size, type))
    return 0


@hook(*function("load_elf_phdrs"))
def load_elf_phdrs(ctx, header: u64, opened: Ptr[file]):
    emit(LOAD_ELF_PHDRS, fill_identity, opened, varying=(2, 1))
    return 0


# --- names -----------------------------------------------------------------------------


@inline
def fill_node(record, shape, given):
    entry, mode, device = given
    record.args[1] = mode
    record.args[2] = device
    return put_path(record, shape, 0, entry, 0)


@hook(*function("security_inode_mknod"))
def security_inode_mknod(ctx, folder: u64, entry: u64, mode: u16, device: u32):
    emit(SECURITY_INODE_MKNOD, fill_node, (entry, mode, device))
    return 0


@inline
def fill_symlink(record, shape, both):
    entry, target = both
    return put_path(record, shape, 0, entry, 0) and put_kernel_string(record, shape, 1, target)


@hook(*function("security_inode_symlink"))
def security_inode_symlink(ctx, folder: u64, entry: u64, target: u64):
    emit(SECURITY_INODE_SYMLINK, fill_symlink, (entry, target))
    return 0


@inline
def fill_umount(record, shape, both):
    mounted, flags = both
    record.args[2] = flags
    if not put_path(record, shape, 0, u64(mounted.mnt_root), u64(mounted)):
        return False
    return put_kernel_string(record, shape, 1, u64(mounted.mnt_sb.s_type.name))


@hook(*function("security_sb_umount"))
def security_sb_umount(ctx, mounted: Ptr[vfsmount], flags: i32):
    emit(SECURITY_SB_UMOUNT, fill_umount, (mounted, flags))
    return 0


@inline
def fill_folder(record, shape, where):
    if not put_user_string(record, shape, 0, opened_path()):
        return False
    return put_path(record, shape, 1, u64(where.dentry), u64(where.mnt))


@hook(*function("set_fs_pwd"))
def set_fs_pwd(ctx, structure: u64, where: Ptr[path]):
    emit(SET_FS_PWD, fill_folder, where)
    return 0


# --- contents and times ---------------------------------------------------------------------


@inline
def fill_watch(record, shape, given):
    where, mask, type = given
    node = where.dentry.d_inode
    record.args[1] = node.i_ino
    record.args[2] = node.i_sb.s_dev
    record.args[3] = mask
    record.args[4] = type
    return put_path(record, shape, 0, u64(where.dentry), u64(where.mnt))


@hook(*function("security_path_notify"))
def security_path_notify(ctx, where: Ptr[path], mask: u64, type: u32):
    emit(SECURITY_PATH_NOTIFY, fill_watch, (where, mask, type), varying=(1, 1))
    return 0


@inline
def nanoseconds(time):
    return u64(time.tv_sec) * 1000000000 + u64(time.tv_nsec)


@inline
def fill_times(record, shape, both):
    where, times = both
    node = where.dentry.d_inode
    record.args[1] = node.i_sb.s_dev
    record.args[2] = node.i_ino
    if times:
        record.args[3] = nanoseconds(cast(Ptr[timespec64], times))
        record.args[4] = nanoseconds(cast(Ptr[timespec64], times + sizeof(timespec64)))
    return put_path(record, shape, 0, u64(where.dentry), u64(where.mnt))


@hook(*function("vfs_utimes"))
def vfs_utimes(ctx, where: Ptr[path], times: u64):
    emit(VFS_UTIMES, fill_times, (where, times), varying=(2, 3))
    return 0


@inline
def fill_truncate(record, shape, both):
    address, length = both
    node = cast(Ptr[dentry], address).d_inode
    record.args[1] = node.i_ino
    record.args[2] = node.i_sb.s_dev
    record.args[3] = length
    return put_path(record, shape, 0, address, 0)


@hook(*function("do_truncate"))
def do_truncate(ctx, first: u64, second: u64, third: u64):
    entry = first
    length = second
    # Since 5.12, when mounts began to map ids, such a map comes first.
    mounted = cast(Ptr[vfsmount], first)
    if exists(mounted.mnt_userns) or exists(mounted.mnt_idmap):
        entry = second
        length = third
    emit(DO_TRUNCATE, fill_truncate, (entry, length), varying=(1, 1))
    return 0
