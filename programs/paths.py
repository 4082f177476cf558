"""Files as the kernel knows them: whole paths, devices, inodes, times."""

from __future__ import annotations

from programs.common import *
from programs.fields import *
from programs.records import *
from pybpf.ktypes import dentry, inode___ctime, inode___seconds, mount
from pybpf.lang import *

DEPTH = 40  # names of a path
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


walks = PerCpuArray(Walk, 1)


@inline
def step_up(walk):
    """From the dentry to its parent, noting its name, or to the mount point; 1 when there is nothing above."""
    here = cast(Ptr[dentry], walk.dentry)
    mounted = cast(Ptr[mount], walk.mount)
    if walk.dentry == u64(mounted.mnt.mnt_root) or walk.dentry == u64(here.d_parent):
        above = u64(mounted.mnt_parent)
        if above == walk.mount or walk.dentry != u64(mounted.mnt.mnt_root):
            return 1
        walk.dentry = u64(mounted.mnt_mountpoint)
        walk.mount = above
        return 0
    n = walk.count
    if n >= DEPTH:
        return 1
    walk.names[n].name = u64(here.d_name.name)
    walk.names[n].length = here.d_name.len
    walk.count = n + 1
    walk.dentry = u64(here.d_parent)
    return 0


@inline
def write_path(walk, text, dentry_address, mount_address):
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
        text.data[0] = 0x2F
        size = 1
    size = min(size, PATH_SIZE - 1)
    text.data[size] = 0
    return size


@inline
def put_path(record, shape, arg, dentry_address, mount_address):
    """Add the path of a dentry (see write_path) as a string; False when the event's filter does not want it."""
    end = record.end
    walk = walks.lookup(0)
    if not walk or end > FIELDS_FULL:
        return True
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    text = cast(Ptr[PathText], addr(field[1]))
    size = write_path(walk, text, dentry_address, mount_address)
    if shape.path == arg:
        if not path_is_selected(shape, addr(field.size), size + 1):
            return False
    close_field(record, field, arg, FORM_STRING, size)
    return True


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


@inline
def change_time(node):
    """When the inode was last changed, ns since the epoch."""
    timespec = cast(Ptr[inode___ctime], node)
    seconds = cast(Ptr[inode___seconds], node)
    if exists(seconds.i_ctime_sec):
        return u64(seconds.i_ctime_sec) * 1000000000 + (seconds.i_ctime_nsec & 0x7FFFFFFF)  # and I_CTIME_QUERIED
    if exists(timespec.__i_ctime):
        return u64(timespec.__i_ctime.tv_sec) * 1000000000 + u64(timespec.__i_ctime.tv_nsec)
    return u64(node.i_ctime.tv_sec) * 1000000000 + u64(node.i_ctime.tv_nsec)
