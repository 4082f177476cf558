"""FNV-1a hash of a buffer in a map."""

from __future__ import annotations

from pybpf.lang import *


class Buffer(Struct):
    length: u32
    data: u8[256]


buffers = Array(Buffer, 1)


@raw_tp("fnv")
def fnv(ctx):
    b = buffers.lookup(0)
    if not b:
        return 0
    value: u64 = 0xCBF29CE484222325
    for i in range(256):
        if i >= b.length:
            break
        value = (value ^ b.data[i]) * 0x100000001B3
    return u32(value ^ value >> 32)
