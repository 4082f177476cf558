"""execve() with its arguments, packed one after the other in a per-CPU buffer."""

from __future__ import annotations

from pybpf.lang import *

MAX_ARGS, ARG_SIZE = 20, 128
SIZE = MAX_ARGS * ARG_SIZE


class Argument(Struct):
    text: char[ARG_SIZE]


class Event(Struct):
    pid: u32
    uid: u32
    argc: u32
    length: u32
    comm: char[16]
    args: char[SIZE]


scratch = PerCpuArray(Event, 1)
events = RingBuf(1 << 20)


@tracepoint("syscalls:sys_enter_execve")
def on_execve(ctx):
    e = scratch.lookup(0)
    if not e:
        return 0
    e.pid = pid()
    e.uid = uid()
    comm(e.comm)
    argv = ctx.args[1]
    off: u64 = 0
    argc: u32 = 0
    for i in range(MAX_ARGS):
        argp = read_user(u64, argv + i * 8)
        if not argp or off > SIZE - ARG_SIZE:
            break
        place = cast(Ptr[Argument], addr(e.args[off]))
        n = read_user_str(place.text, argp)
        if n < 0:
            break
        off += u64(n)
        argc += 1
    e.argc = argc
    e.length = off
    events.output(e, offsetof(Event, "args") + min(off, SIZE - 1), 0)
    return 0
