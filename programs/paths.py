"""Files as the kernel knows them: whole paths, devices, inodes, times."""

from __future__ import annotations

from programs.common import *
from programs.fields import *
from programs.records import *
from programs.selection import *
from programs.walk import *
from pybpf.ktypes import inode___ctime, inode___seconds
from pybpf.lang import *

walks = PerCpuArray(Walk, 1)

# One program may interrupt another, or take its processor where it can be preempted; the second finds the other record.
hook_scratch = PerCpuArray(FieldRecord, 2)


@subprog
def path_passes(shape: Ptr[Shape], key: Ptr[u32], length: u64) -> u64:
    """What path_is_selected() says: one copy for all that bring in strings."""
    return u64(path_is_selected(shape, key, length))


@subprog(global_=True)
def write_path_at(place: u32) -> u64:
    """Write the path of a record's ``dentry`` (see climb) as its next text; returns its length.

    The verifier follows dozens of names here, and keeps a state of some KB for each branch on the way. A
    global function it looks at once, not at each call, and without the states of the caller; in return
    it is told of numbers only (pointers since 5.12), so that the record of `hook_scratch` is looked up again.
    """
    record = hook_scratch.lookup(place)
    walk = walks.lookup(0)
    if not record or not walk or record.end > FIELDS_FULL:
        return 0
    field = cast(Ptr[Field], addr(record.data[record.end >> 3]))
    return u64(climb(walk, cast(Ptr[PathText], addr(field[1])), record.dentry, record.mount))


@subprog
def put_path(record: Ptr[FieldRecord], shape: Ptr[Shape], arg: u64, dentry_address: u64, mount_address: u64) -> u64:
    """Add the path of a dentry (see climb) as a string; False when the event's filter does not want it."""
    end = record.end
    if end > FIELDS_FULL:
        return 1
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    record.dentry = dentry_address
    record.mount = mount_address
    # Of what a global function returns the verifier knows nothing.
    size = min(write_path_at(u32(record.place)), PATH_SIZE - 1)
    if shape.path == arg:
        if not path_passes(shape, addr(field.size), size + 1):
            return 0
    close_field(record, field, arg, FORM_STRING, size)
    return 1


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
