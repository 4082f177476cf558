"""Results of system calls sorted into classes by chains of tests."""

from __future__ import annotations

from pybpf.lang import *

OK, MISSING, DENIED, BUSY, RESOURCE, FAULT, OTHER = range(7)
counts = PerCpuArray(u64, 8)


@inline
def class_of(result):
    if result >= 0:
        return OK
    if result == -2 or result == -20 or result == -3:
        return MISSING
    if result == -1 or result == -13:
        return DENIED
    if result == -11 or result == -16 or result == -4 or result == -115:
        return BUSY
    if result == -12 or result == -28 or result == -24 or result == -23:
        return RESOURCE
    if result == -14 or result == -22:
        return FAULT
    return OTHER


@raw_tp("sys_exit")
def classify(ctx):
    kind = class_of(i64(ctx.args[1]))
    count = counts.lookup(kind)
    if count:
        count[0] += 1
    return kind
