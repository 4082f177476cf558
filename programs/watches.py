"""Files that are watched, and those whose contents change."""

from __future__ import annotations

from programs.events import *
from programs.paths import *
from programs.records import *
from pybpf.ktypes import file, path
from pybpf.lang import *

FILE_MODIFICATION = HOOKS + 53
INOTIFY_WATCH = HOOKS + 54


# --- inotify -------------------------------------------------------------------------


@inline
def fill_watched(record, shape, where):
    node = where.dentry.d_inode
    record.args[1] = node.i_ino
    record.args[2] = node.i_sb.s_dev
    return put_path(record, shape, 0, u64(where.dentry), u64(where.mnt))


@hook("fexit/inotify_find_inode")
def inotify_watch(ctx, name: u64, where: Ptr[path], flags: u32, mask: u64, result: i32):
    if result == 0:
        emit(INOTIFY_WATCH, fill_watched, where, varying=(1, 1))
    return 0


@hook("kprobe/inotify_find_inode", name="inotify_watch__enter")
def watch_enter(ctx, name: u64, where: u64):
    remember(INOTIFY_WATCH, where)
    return 0


@hook("kretprobe/inotify_find_inode", name="inotify_watch__return")
def watch_leave(ctx):
    call = remembered(INOTIFY_WATCH)
    if call:
        if i32(ctx.ret) == 0:
            emit(INOTIFY_WATCH, fill_watched, cast(Ptr[path], call.args[0]), varying=(1, 1))
        forget(INOTIFY_WATCH)
    return 0


# --- modification -------------------------------------------------------------------------

# Open files of which a change was told: told of once until they are closed.
modified = LruHash(u64, u64, 1024)


@inline
def fill_modified(record, shape, given):
    opened, before = given
    node = opened.f_inode
    record.args[1] = node.i_sb.s_dev
    record.args[2] = node.i_ino
    record.args[3] = before
    record.args[4] = change_time(node)
    return put_file(record, shape, 0, opened)


@inline
def about_to_change(opened):
    if not modified.lookup(u64(opened)):
        remember(FILE_MODIFICATION, u64(opened), change_time(opened.f_inode), again=True)


@inline
def has_changed():
    """The times of a file are set once in a tick of the clock at most, and often not at all."""
    call = remembered(FILE_MODIFICATION)
    if call:
        opened = cast(Ptr[file], call.args[0])
        before = call.args[1]
        if change_time(opened.f_inode) != before:
            modified.update(call.args[0], u64(1), BPF_ANY)
            emit(FILE_MODIFICATION, fill_modified, (opened, before), varying=(2, 3))
        forget(FILE_MODIFICATION)


def programs_of(function, enter, leave, kprobe_enter, kprobe_leave):
    """The programs for one function that sets the times of a file that is written, by name."""

    @hook(f"fentry/{function}", name=enter)
    def begin(ctx, opened: Ptr[file]):
        about_to_change(opened)
        return 0

    @hook(f"fexit/{function}", name=leave)
    def end(ctx, opened: u64, result: i32):
        has_changed()
        return 0

    @hook(f"kprobe/{function}", name=kprobe_enter)
    def probe_begin(ctx, opened: Ptr[file]):
        about_to_change(opened)
        return 0

    @hook(f"kretprobe/{function}", name=kprobe_leave)
    def probe_end(ctx):
        has_changed()
        return 0


programs_of(
    "file_modified",
    *("file_modification", "file_modification__fexit", "file_modification__kprobe", "file_modification__kretprobe"),
)
programs_of(
    "file_update_time",
    *(f"file_modification__time_{kind}" for kind in ("fentry", "fexit", "kprobe", "kretprobe")),
)


@hook(*function("security_file_free"), name="file_modification__close")
def close(ctx, opened: u64):
    """The last descriptor is gone; the next open file may be at the same address."""
    modified.delete(opened)
    return 0
