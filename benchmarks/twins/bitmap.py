"""Sets of small numbers as bitmaps: test, set, count."""

from __future__ import annotations

from pybpf.lang import *


class Bitmap(Struct):
    words: u64[16]


sets = Array(Bitmap, 1)


@raw_tp("mark")
def mark(ctx):
    number = ctx.args[0]
    if number >= 1024:
        return 2
    bits = sets.lookup(0)
    if not bits:
        return 3
    word = number >> 6
    bit = 1 << (number & 63)
    if bits.words[word] & bit:
        return 1
    bits.words[word] |= bit
    return 0


@raw_tp("weight")
def weight(ctx):
    bits = sets.lookup(0)
    if not bits:
        return 0
    total: u64 = 0
    for i in range(16):
        x = bits.words[i]
        x -= x >> 1 & 0x5555555555555555
        x = (x & 0x3333333333333333) + (x >> 2 & 0x3333333333333333)
        x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F
        total += x * 0x0101010101010101 >> 56
    return total
