"""Programs of the checks of programs: packets, contexts, tail calls, a function that is replaced."""

from __future__ import annotations

from pybpf.lang import *

LICENSE = "GPL"

frames = PerCpuArray(u64, 1)
table = ProgArray(4)


class Pair(Struct):
    one: u64
    two: u64


class Byte(Struct):
    value: u8


@hook("tc")
def change(skb):
    skb.cb[0] += 1
    last = Byte()
    last.value = 0x77
    skb_store_bytes(skb, 13, last)
    return skb.len


@hook("xdp")
def shorten(xdp):
    if xdp_adjust_tail(xdp, -20) < 0:
        return 0
    return 2


@hook("xdp")
def count_frames(xdp):
    frames[0] += 1
    return 1


@hook("raw_tp/sys_exit")
def second(ctx):
    return ctx.args[1]


@hook("syscall")
def double(ctx: Ptr[Pair]):
    ctx.two = ctx.one * 2
    return 3


@hook("tp/syscalls/sys_enter_getppid")
def on_getppid(ctx):
    return 0


@hook("tc")
def caller(skb):
    tail_call(skb, table, 1)
    return 1


@hook("tc")
def callee(skb):
    return 55


@subprog(global_=True)
def answer(base: u32) -> u32:
    return base + 6


@hook("tc")
def asks(skb):
    return answer(1)


@subprog(global_=True)
def other_answer(base: u32) -> u32:
    return base + 7


@hook("tc")
def asks_other(skb):
    return other_answer(1)
