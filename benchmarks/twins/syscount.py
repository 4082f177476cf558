"""System calls counted by process and number, with a filter."""

from __future__ import annotations

from pybpf.lang import *


class Key(Struct):
    pid: u32
    nr: u32


class Config(ConfigBase):
    only_pid: u32 = 0
    first: u32 = 0
    last: u32 = 511


config = Config()
counts = Hash(Key, u64, 4096)


@raw_tp("sys_enter")
def count(ctx):
    nr = ctx.args[1]
    if nr < config.first or nr > config.last:
        return 0
    if config.only_pid and pid() != config.only_pid:
        return 0
    key = Key(pid=pid(), nr=nr)
    value = counts.lookup(key)
    if value:
        atomic_add(value[0], 1)
    else:
        counts.update(key, u64(1), BPF_NOEXIST)
    return 0
