"""Places whose alignment is not known: packed structures, casts, elements; on the stack the verifier wants it kept."""

from __future__ import annotations

import struct

import pytest
from lang_harness import function_text, lower, object_of

from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.vm import Vm

TYPES = """
class Wire(Struct, packed=True):
    kind: u8
    length: u32
    offset: i16
    port: be16
    whole: u64
    back: Ptr[u64]
    words: u16[3]
    low: Bits[u32, 3]
    high: Bits[u32, 13]
    deep: Bits[i64, 40]
class Pair(Struct, packed=True):
    a: u8
    b: u32
class Pairs(Struct):
    row: Pair[4]
    raw: u8[24]
store = Array(Wire, 1)
@subprog
def total(p: Ptr[Wire]) -> u64:
    return p.length + p.whole
@inline
def second(p):
    return p.b + p.a
"""
# Body, expected result for a = 3, c = 0x1122334455667788.
A, C = 3, 0x1122334455667788
CASES = {
    "w = Wire(kind=1, length=ctx.c, offset=-2)\nreturn w.length": C & 0xFFFFFFFF,
    "w = Wire(length=7, offset=-2)\nreturn w.offset * ctx.a": -6,
    "w = Wire()\nw.offset = ctx.a - 10\nreturn w.offset": -7,
    "w = Wire(port=ctx.a * 256 + 1)\nw.length = 5\nreturn w.port": A * 256 + 1,
    "w = Wire(whole=ctx.c)\nreturn w.whole >> 8": C >> 8,
    "w = Wire(whole=0x8000000000000001, length=0xfffffffe)\nreturn w.whole + w.length": -0x7FFFFFFF00000001,
    "w = Wire()\ni = ctx.a & 1\nw.words[i] = 700\nw.words[2] = 9\nreturn w.words[1] * 10 + w.words[2]": 7009,
    "w = Wire(length=3)\nw.length += 4\nw.whole -= 1\nreturn w.length + (w.whole == u64(-1))": 8,
    "w = Wire(low=5, high=ctx.c, deep=-3)\nreturn w.deep * 10000 + w.low * 1000 + (w.high & 0xff)": -30000
    + 5000
    + 0x88,
    "w = Wire(deep=ctx.a)\nw.low = ctx.a + 4\nw.high = 8191\nreturn w.deep + w.low + w.high": 3 + 7 + 8191,
    "w = Wire()\nw.back = cast(Ptr[u64], ctx.c)\nreturn u64(w.back) == ctx.c": 1,
    "p = Pairs()\np.row[2].b = ctx.c\np.row[ctx.a & 3].b = 9\nreturn p.row[2].b + p.row[3].b": (C & 0xFFFFFFFF) + 9,
    "p = Pairs()\nq = cast(Ptr[Pair], addr(p.raw[7]))\nq.b = 0x01020304\nreturn p.raw[8] * 10 + second(q)": 40
    + 0x01020304,
    "p = Pairs()\nq = cast(Ptr[u64], addr(p.raw[3]))\nq[0] = ctx.c\nq[1] = 5\nreturn q[0] + p.raw[11]": C + 5,
    "w = Wire(length=ctx.a, whole=40)\nreturn total(addr(w))": 43,
    "m = store.lookup(0)\nif not m:\n    return 1\nm.length = 70\nm.whole = ctx.c\nreturn m.length + total(m)": C + 140,
    "w = Wire(length=1)\nv = Wire(whole=9)\ncopy(v, w)\nreturn v.whole + v.length": 1,
    "p = Pairs()\nx = addr(p.row[1])\nx[1].b = 6\nreturn p.row[2].b": 6,
}


def signed(value: int) -> int:
    return (value & (1 << 64) - 1 ^ 1 << 63) - (1 << 63)


def context() -> bytes:
    return struct.pack("<qqQQIiB7x", A, 0, C, 0, 0, 0, 0)


@pytest.mark.parametrize("body", CASES)
def test_in_the_interpreter(tmp_path, body):
    """Which refuses what the kernel's verifier would on any machine: bytes that were never written."""
    vm = Vm(read_object(object_of(tmp_path, function_text(body, TYPES))))
    assert signed(vm.run("f", ctx=bytearray(context()))) == signed(CASES[body])


@pytest.mark.native
@pytest.mark.parametrize("body", CASES)
def test_in_the_kernel(tmp_path, body):
    """The result's lower half; the verifier wants accesses to the stack aligned."""
    with Collection(read_object(object_of(tmp_path, function_text(body, TYPES))), ("f",)) as loaded:
        assert loaded.programs["f"].test_run(ctx=context()).retval == CASES[body] & 0xFFFFFFFF


def sizes_of_loads(tmp_path, text: str) -> list[int]:
    return [i.size for b in lower(tmp_path, text).functions[-1].blocks for i in b.ins if i.op == ir.LOAD]


def test_packets_and_aligned_places_are_read_at_once(tmp_path):
    eth = "class Eth(Struct, packed=True):\n    dst: u8[6]\n    src: u8[6]\n    proto: be16\n"
    text = eth + "@xdp\ndef f(ctx):\n    p = ctx.ptr(Eth)\n    return p.proto if p else 0\n"
    assert sizes_of_loads(tmp_path, text) == [4, 4, 2]  # data, data_end, the field
    assert sizes_of_loads(tmp_path, function_text("w = Wire()\nw.whole = 1\nreturn w.kind", TYPES)) == [1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("w = Wire()\natomic_add(w.length, 1)", "atomic_add() wants an aligned number"),
        ("w = Wire()\nw.back = addr(ctx.c)", "the verifier wants pointers kept at multiples of 8"),
        ("return ctx.c == -1", "comparison of -1 with a u64, which is never negative: write i64(x) or u64(-1)"),
        ("return -5 != ctx.c", "comparison of -5 with a u64, which is never negative"),
        ("return ctx.c in (1, -1)", "comparison of -1 with a u64, which is never negative"),
        ("return ctx.c > -1", "comparison of -1 with a u64, which is never negative"),
    ],
)
def test_wrong_uses(tmp_path, body, message):
    with pytest.raises(CompileError) as error:
        lower(tmp_path, function_text(body, TYPES))
    assert message in str(error.value)


def test_what_was_meant_works(tmp_path):
    for body in ("return i64(ctx.d) == -1", "return ctx.d == u64(-1)", "return ctx.d == 0xffffffffffffffff"):
        vm = Vm(read_object(object_of(tmp_path, function_text(body))))
        assert vm.run("f", ctx=bytearray(struct.pack("<qqQQIiB7x", 0, 0, 0, (1 << 64) - 1, 0, 0, 0))) == 1


def test_programs_have_no_default_arguments(tmp_path):
    with pytest.raises(CompileError, match="a program has no default arguments"):
        lower(tmp_path, "@raw_tp('x')\ndef f(ctx, a: u64 = 3):\n    return a\n")
