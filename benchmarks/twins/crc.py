"""CRC-32 of a buffer by table, and bit by bit."""

from __future__ import annotations

from pybpf.lang import *


class Buffer(Struct):
    data: u8[64]


buffers = Array(Buffer, 1)
table = Array(u32, 256)


@raw_tp("bitwise")
def bitwise(ctx):
    b = buffers.lookup(0)
    if not b:
        return 0
    crc: u32 = 0xFFFFFFFF
    for i in range(64):
        crc ^= b.data[i]
        for k in unroll(range(8)):
            if crc & 1:
                crc = crc >> 1 ^ 0xEDB88320
            else:
                crc >>= 1
    return crc ^ 0xFFFFFFFF


@raw_tp("tabled")
def tabled(ctx):
    b = buffers.lookup(0)
    if not b:
        return 0
    crc: u32 = 0xFFFFFFFF
    for i in range(64):
        entry = table.lookup((crc ^ b.data[i]) & 0xFF)
        if not entry:
            return 0
        crc = crc >> 8 ^ entry[0]
    return crc ^ 0xFFFFFFFF
