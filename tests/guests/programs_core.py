"""Programs of the checks of the toolkit's core: a ring buffer's records, and the kernel's structures by CO-RE."""

from __future__ import annotations

from pybpf.lang import *

LICENSE = "GPL"


class Settings(ConfigBase):
    pid: u32 = 0


class Record(Struct):
    pid: u32
    parent: u32
    number: u64
    text: char[32]


config = Settings()
records = RingBuf(64 * 1024)
counts = PerCpuArray(u64, 1)


@hook("tp_btf/sys_exit", "raw_tp/sys_exit")
def on_exit(ctx):
    if pid() != config.pid:
        return 0
    counts[0] += 1
    with records.reserve(Record) as record:
        task = current_task()
        record.pid = task.tgid
        record.parent = task.real_parent.tgid
        record.number = counts.get(0, 0)
        get_current_comm(record.text)
    return 0
