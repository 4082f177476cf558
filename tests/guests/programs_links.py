"""Programs of the checks of links: a function, and another that is loaded to replace it."""

from __future__ import annotations

from pybpf.lang import *

LICENSE = "GPL"


@subprog(global_=True)
def answer(number: u32) -> i32:
    return number + 1


@subprog(global_=True)
def replacement(number: u32) -> i32:
    return number * 2


@hook("socket")
def asks(ctx):
    return answer(41)


@hook("socket")
def uses_replacement(ctx):
    return replacement(41)
