"""Bob Jenkins' final mix on three 32-bit words (as jhash does), and MurmurHash3's on 64 bits."""

from __future__ import annotations

from pybpf.lang import *


@inline
def rol32(x, n):
    return u32(x << n | x >> (32 - n))


@raw_tp("jhash")
def jhash(ctx):
    a: u32 = ctx.args[0]
    b: u32 = ctx.args[1]
    c: u32 = ctx.args[2]
    c = u32((c ^ b) - rol32(b, 14))
    a = u32((a ^ c) - rol32(c, 11))
    b = u32((b ^ a) - rol32(a, 25))
    c = u32((c ^ b) - rol32(b, 16))
    a = u32((a ^ c) - rol32(c, 4))
    b = u32((b ^ a) - rol32(a, 14))
    c = u32((c ^ b) - rol32(b, 24))
    return c


@raw_tp("murmur")
def murmur(ctx):
    h = ctx.args[0]
    h ^= h >> 33
    h *= 0xFF51AFD7ED558CCD
    h ^= h >> 33
    h *= 0xC4CEB9FE1A85EC53
    h ^= h >> 33
    return u32(h)
