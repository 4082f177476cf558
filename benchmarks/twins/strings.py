"""Strings by loops: equality with a pattern that has one wildcard, last component of a path, its depth."""

from __future__ import annotations

from pybpf.lang import *


class Text(Struct):
    data: u8[64]


texts = Array(Text, 2)


@raw_tp("match")
def match(ctx):
    pattern = texts.lookup(0)
    text = texts.lookup(1)
    if not pattern or not text:
        return 0
    for i in range(64):
        p = pattern.data[i]
        if p == ord("*"):
            return 1
        if p != text.data[i]:
            return 0
        if p == 0:
            return 1
    return 0


@raw_tp("basename")
def basename(ctx):
    text = texts.lookup(1)
    if not text:
        return 0
    depth: u32 = 0
    last: u32 = 0
    for i in range(64):
        c = text.data[i]
        if c == 0:
            break
        if c == ord("/"):
            depth += 1
            last = i + 1
    return depth << 8 | last
