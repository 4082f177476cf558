"""Options in type-length-value form, as in TCP and DHCP."""

from __future__ import annotations

from pybpf.lang import *


class Buffer(Struct):
    length: u32
    data: u8[512]


class Options(Struct):
    mss: u32
    scale: u32
    stamp: u32
    unknown: u32


buffers = Array(Buffer, 1)
found = Array(Options, 1)


@raw_tp("tlv")
def tlv(ctx):
    b = buffers.lookup(0)
    out = found.lookup(0)
    if not b or not out:
        return 0
    off: u64 = 0
    for i in range(24):
        if off >= b.length or off > 480:
            break
        kind = b.data[off]
        if kind == 0:
            break
        if kind == 1:
            off += 1
            continue
        size = b.data[off + 1]
        if size < 2:
            return 1
        if kind == 2:
            out.mss = b.data[off + 2] << 8 | b.data[off + 3]
        elif kind == 3:
            out.scale = b.data[off + 2]
        elif kind == 8:
            out.stamp = b.data[off + 2] << 24 | b.data[off + 3] << 16 | b.data[off + 4] << 8 | b.data[off + 5]
        else:
            out.unknown += 1
        off += size
    return u32(off)
