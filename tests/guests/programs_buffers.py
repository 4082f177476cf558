"""Programs of the checks of buffers: perf events, a ring buffer, records from user space."""

from __future__ import annotations

from pybpf.lang import *

LICENSE = "GPL"

samples = PerfEventArray(64)
rings = RingBuf(4096)
orders = UserRingBuf(4096)
sums = Array(u64, 4)


class Settings(ConfigBase):
    pid: u32 = 0


class Sample(Struct):
    number: u64
    text: char[21]


class Number(Struct):
    value: u64


class Order(Struct):
    slot: u32
    amount: u32


config = Settings()


@hook("raw_tp/sys_enter")
def sample(ctx):
    if pid() != config.pid:
        return 0
    one = Sample()
    sums[0] += 1
    one.number = sums.get(0, 0)
    samples.output(ctx, one)
    return 0


@hook("raw_tp/sys_enter")
def ring(ctx):
    if pid() != config.pid:
        return 0
    sums[1] += 1
    with rings.reserve(Number) as record:
        record.value = sums.get(1, 0)
    return 0


@inline
def order(record):
    wanted = Order()
    if dynptr_read(wanted, sizeof(wanted), record, 0) == 0 and wanted.slot < 4:
        sums[wanted.slot] += wanted.amount


@hook("syscall")
def take_orders(ctx: Ptr[Order]):
    return orders.drain(order)
