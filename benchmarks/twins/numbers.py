"""Text to numbers and back: decimal in, hexadecimal out."""

from __future__ import annotations

from pybpf.lang import *


class Text(Struct):
    data: u8[32]


texts = Array(Text, 2)


@raw_tp("parse")
def parse(ctx):
    text = texts.lookup(0)
    if not text:
        return 0
    value: u64 = 0
    for i in range(20):
        c = text.data[i]
        if c < ord("0") or c > ord("9"):
            break
        value = value * 10 + c - ord("0")
    return u32(value)


@raw_tp("hexadecimal")
def hexadecimal(ctx):
    text = texts.lookup(1)
    if not text:
        return 0
    value = ctx.args[0]
    for i in range(16):
        digit = value >> 60
        if digit < 10:
            text.data[i] = ord("0") + digit
        else:
            text.data[i] = ord("a") - 10 + digit
        value <<= 4
    return 16
