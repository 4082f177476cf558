"""The way from a file up to the root, which makes its path."""

from __future__ import annotations

from programs.records import *
from pybpf.ktypes import dentry, file, mount, vfsmount
from pybpf.lang import *

DEPTH = 40  # names of a path
S_IFMT, S_IFDIR = 0xF000, 0x4000
NAME_SIZE = 256  # NAME_MAX and a slash


class Component(Struct):
    """A name in the kernel."""

    name: u64
    length: u64


class NameText(Struct):
    data: char[NAME_SIZE]


class Walk(Struct):
    """A way up from a file to the root: the names found, last one first."""

    dentry: u64
    mount: u64
    count: u64
    size: u64  # of what is written; in memory, so that every pass of a loop looks the same to the verifier
    names: Component[DEPTH]


executable_walks = PerCpuArray(Walk, 1)


@inline
def step_up(walk):
    """From the dentry to its parent, noting its name, or to the mount point; 1 when there is nothing above."""
    here = cast(Ptr[dentry], walk.dentry)
    mounted = cast(Ptr[mount], walk.mount)
    top = walk.dentry == u64(here.d_parent)
    if walk.dentry == u64(mounted.mnt.mnt_root):
        above = u64(mounted.mnt_parent)
        if above != walk.mount:
            walk.dentry = u64(mounted.mnt_mountpoint)
            walk.mount = above
            return 0
        # The kernel mounts single files for itself, in no place: their path is that in the file system.
        top = top or here.d_inode.i_mode & S_IFMT == S_IFDIR
    if top:
        return 1
    n = walk.count
    if n >= DEPTH:
        return 1
    walk.names[n].name = u64(here.d_name.name)
    walk.names[n].length = here.d_name.len
    walk.count = n + 1
    walk.dentry = u64(here.d_parent)
    return 0


@subprog
def write_path(walk: Ptr[Walk], text: Ptr[PathText], dentry_address: u64, mount_address: u64) -> u64:
    """What climb() does, for callers that have no record in `hook_scratch`."""
    return u64(climb(walk, text, dentry_address, mount_address))


@inline
def climb(walk, text, dentry_address, mount_address):
    """Write the path of a dentry, and a NUL behind it; returns its length.

    ``mount_address`` is that of its struct vfsmount, 0 for a path within its own file system.
    """
    walk.dentry = dentry_address
    walk.mount = mount_address - offsetof(mount, "mnt")
    walk.count = 0
    for _ in range(DEPTH + 8):
        if step_up(walk):
            break
    walk.size = 0
    for _ in range(DEPTH):
        if not append_name(walk, text):
            break
    size = walk.size
    if size == 0:
        size = write_short_path(text, dentry_address, mount_address)
    size = min(size, PATH_SIZE - 1)
    text.data[size] = 0
    return size


@inline
def write_short_path(text, dentry_address, mount_address):
    """The path of the root, or of what is in no folder; its length.

    That is the name alone, as of a memfd, or the file system's where there is none, as of a pipe.
    """
    here = cast(Ptr[dentry], dentry_address)
    if mount_address == 0 or dentry_address == u64(cast(Ptr[vfsmount], mount_address).mnt_root):
        text.data[0] = 0x2F
        return u64(1)
    name = u64(here.d_name.name)
    if here.d_name.len == 0:
        name = u64(here.d_sb.s_type.name)
    n = read_kernel_str(cast(Ptr[NameText], text).data, name)
    if n <= 1:
        return u64(1)
    return u64(n) - 1


@inline
def append_name(walk, text):
    """Write a slash and the name found last, and forget it; False when there is none, or no room."""
    last = walk.count - 1
    size = walk.size
    if last >= DEPTH or size >= PATH_SIZE - NAME_SIZE:  # no name left: a huge number
        return False
    walk.count = last
    length = min(walk.names[last].length, NAME_SIZE - 1)
    text.data[size] = 0x2F
    name = cast(Ptr[NameText], addr(text.data[size + 1]))
    if read_kernel(name.data, walk.names[last].name, size=length) < 0:
        return False
    walk.size = size + 1 + length
    return True


REMOVED = 1 << 32
AT_FDCWD = -100


@inline
def open_file(task, descriptor):
    """The address of what the task has open as ``descriptor``; 0 for nothing."""
    table = task.files.fdt
    opened: u64 = 0
    if u64(descriptor) < u64(table.max_fds):
        opened = read_kernel(u64, u64(table.fd) + u64(descriptor) * 8)
    return opened


@subprog
def write_folder(text: Ptr[PathText], descriptor: i64) -> u64:
    """Write the path of what the current process has open, or of its current folder; returns its length, 0 for none.

    REMOVED is added for one that has no name any more.
    """
    walk = executable_walks.lookup(0)
    if not walk:
        return u64(0)
    task = current_task()
    entry = u64(task.fs.pwd.dentry)
    mounted = u64(task.fs.pwd.mnt)
    if descriptor != AT_FDCWD:
        opened = cast(Ptr[file], open_file(task, descriptor))
        if u64(opened) == 0:
            return u64(0)
        entry = u64(opened.f_path.dentry)
        mounted = u64(opened.f_path.mnt)
    size = u64(write_path(walk, text, entry, mounted))
    here = cast(Ptr[dentry], entry)
    if u64(here.d_hash.pprev) == 0 and u64(here.d_parent) != entry:
        size += REMOVED
    return size


@subprog
def write_executable(text: Ptr[PathText]) -> u64:
    """Write the path of the file that the current process runs; returns its length, 0 for a kernel thread."""
    walk = executable_walks.lookup(0)
    memory = current_task().mm
    if not walk or u64(memory) == 0:
        return u64(0)
    opened = memory.exe_file
    if u64(opened) == 0:
        return u64(0)
    return u64(write_path(walk, text, u64(opened.f_path.dentry), u64(opened.f_path.mnt)))
