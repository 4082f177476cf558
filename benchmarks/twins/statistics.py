"""Running statistics of a stream of samples, kept by a subprogram."""

from __future__ import annotations

from pybpf.lang import *


class Stat(Struct):
    count: u64
    sum: u64
    least: u64
    greatest: u64
    mean: u64
    buckets: u32[16]


stats = Array(Stat, 4)


@subprog
def sample(index: u32, value: u64) -> i32:
    s = stats.lookup(index)
    if not s:
        return -1
    if s.count == 0 or value < s.least:
        s.least = value
    if value > s.greatest:
        s.greatest = value
    s.count += 1
    s.sum += value
    s.mean = s.sum // s.count
    s.buckets[min(value // 100, 15)] += 1
    return 0


@raw_tp("feed")
def feed(ctx):
    failed: u32 = 0
    for i in range(3):
        if sample(i, ctx.args[0] + i * 50) < 0:
            failed += 1
    if sample(3, ctx.args[1]) < 0:
        failed += 1
    return failed
