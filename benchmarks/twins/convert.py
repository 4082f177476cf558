"""Time and unit arithmetic on the context of a syscall program."""

from __future__ import annotations

from pybpf.lang import *


class Request(Struct):
    seconds: i64
    nanoseconds: i32
    flags: u32
    rate: u16
    scale: u8
    mode: u8
    ticks: u64
    days: i64
    left: i32
    status: i32


@hook("syscall")
def convert(ctx: Ptr[Request]):
    if ctx.nanoseconds < 0 or ctx.nanoseconds >= 1000000000:
        ctx.status = -22
        return 1
    if ctx.rate == 0:
        ctx.status = -33
        return 2
    total = ctx.seconds * 1000000000 + ctx.nanoseconds
    ticks = u64(total) // ctx.rate
    if ctx.flags & 1:
        ticks = ticks << (ctx.scale & 7)
    if ctx.flags & 2:
        ticks = u64(u32(ticks))
    if ctx.flags & 0x10 and ctx.mode > 3:
        ticks = ticks + 1
    ctx.ticks = ticks
    seconds = u64(ctx.seconds)
    ctx.days = seconds // 86400
    ctx.left = seconds % 86400
    ctx.status = 0
    return 0
