"""One program for all system calls that hands over to one for each."""

from __future__ import annotations

from pybpf.lang import *


class Config(ConfigBase):
    enabled: u64 = 0xFFFFFFFFFFFFFFFF


config = Config()
calls = ProgArray(512)
hits = PerCpuArray(u64, 4)


@raw_tp("sys_enter")
def dispatch(ctx):
    nr = ctx.args[1]
    if nr < 64 and not config.enabled & 1 << (nr & 63):
        return 1
    tail_call(ctx, calls, nr)
    hits[0] += 1
    return 2


@raw_tp("sys_enter")
def two_paths(ctx):
    hits[1] += 1
    return ctx.args[1] + 7
