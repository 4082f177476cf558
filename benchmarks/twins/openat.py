"""openat() of paths below one directory, into a ring buffer."""

from __future__ import annotations

from pybpf.lang import *


class Event(Struct):
    ts: u64
    pid: u32
    tid: u32
    uid: u32
    flags: u32
    mode: u32
    length: u32
    comm: char[16]
    path: char[256]


class Config(ConfigBase):
    target_pid: u32 = 0
    min_uid: u32 = 0


config = Config()
events = RingBuf(256 * 1024)


@tracepoint("syscalls:sys_enter_openat")
def on_openat(ctx):
    if config.target_pid and pid() != config.target_pid:
        return 0
    if config.min_uid and uid() < config.min_uid:
        return 0
    with events.reserve(Event) as e:
        n = read_user_str(e.path, ctx.args[1])
        if n <= 0 or e.path[0] != ord("/") or e.path[1] != ord("e") or e.path[2] != ord("t") or e.path[3] != ord("c"):
            e.discard()
            return 0
        e.ts = ktime_get_ns()
        e.pid = pid()
        e.tid = tid()
        e.uid = uid()
        e.flags = ctx.args[2]
        e.mode = ctx.args[3]
        e.length = n
        comm(e.comm)
    return 0
