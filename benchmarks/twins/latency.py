"""Histogram of the time between two events of a thread."""

from __future__ import annotations

from pybpf.lang import *

start = Hash(u32, u64, 10240)
hist = PerCpuArray(u64, 64)


@inline
def log2(value):
    n: u64 = 0
    v: u64 = value
    if v >> 32:
        v >>= 32
        n += 32
    if v >> 16:
        v >>= 16
        n += 16
    if v >> 8:
        v >>= 8
        n += 8
    if v >> 4:
        v >>= 4
        n += 4
    if v >> 2:
        v >>= 2
        n += 2
    if v >> 1:
        n += 1
    return n


@raw_tp("sys_enter")
def enter(ctx):
    start[tid()] = ktime_get_ns()
    return 0


@raw_tp("sys_exit")
def leave(ctx):
    key = tid()
    began = start.lookup(key)
    if not began:
        return 0
    delta = ktime_get_ns() - began[0]
    start.delete(key)
    slot = hist.lookup(log2(delta // 1000))
    if slot:
        slot[0] += 1
    return 0
