"""What the programs write into the ring buffer, byte for byte.

A record starts with its time, then comes a block that repeats from event to
event (who, which call, scalar arguments, result), then the part that does not.
User space renders a block once and keeps the text, so nothing that changes
with every event may stand inside it.
"""

from __future__ import annotations

from pybpf.lang import Struct, char, i64, u32, u64

PATH_SIZE = 4104
"""Bytes kept for a path: PATH_MAX (4096, with its NUL) and one word more, so that a longer one is seen to be cut."""

PATH_OK, PATH_CUT, PATH_UNREADABLE = 0, 1, 2
HOW_UNREADABLE = 4


class Context(Struct):
    """Who made the call. Numbers without ``host`` are those of the task's own pid namespace."""

    start_time: u64  # of the thread, ns since boot (monotonic)
    cgroup_id: u64
    host_pid: u32
    host_tid: u32
    host_ppid: u32
    pid: u32
    tid: u32
    ppid: u32
    uid: u32
    mnt_ns: u32
    pid_ns: u32
    cpu: u32
    comm: char[16]
    node: char[64]  # uts nodename; all 64 bytes may be used


class PathRecord(Struct):
    """A system call with one path among its arguments.

    ``scalars`` holds the other arguments in their order. ``status`` is one of
    PATH_*, plus HOW_UNREADABLE; with PATH_UNREADABLE ``path`` holds the pointer.
    The record ends after the path's last byte (no NUL).
    """

    time: u64  # ns since boot, time spent in suspend included
    who: Context
    result: i64
    scalars: u64[5]
    event: u32  # the system call's number on this machine
    status: u32  # the prefix length of a PathKey while paths are matched: it stands right before the path
    path: char[PATH_SIZE]


class PathKey(Struct):
    """Key of a longest-prefix-match trie of paths: ``bits`` of ``data`` count."""

    bits: u32
    data: char[256]


class SuffixKey(Struct):
    """The last ``length`` bytes of a path, NUL-padded."""

    length: u32
    data: char[60]


class Comm(Struct):
    """A task's name, NUL-padded."""

    name: char[16]


class PathRule(Struct):
    """What one event demands of its path: bits of the masks that the path maps hold."""

    wanted: u64  # at least one of these must match; 0: any path will do
    unwanted: u64  # none of these may match
