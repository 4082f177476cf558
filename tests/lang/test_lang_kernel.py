"""Kernel types beyond plain fields: bit-fields, unions, anonymous members, enums, container_of."""

from __future__ import annotations

import struct

import pytest
from lang_harness import KERNEL, World, evaluate, lower, make_module

from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.lang.types import Anon, Bits, Struct, Union, i32, u8, u16, u32, u64

TYPES = """
class inner(KStruct):
    x: u32
    y: u64
class both(KUnion):
    word: u64
    part: inner
class box(KStruct):
    first: u32
    low: Bits[u32, 3]
    high: Bits[u32, 12]
    neg: Bits[i32, 5]
    _: Anon[both]
    after: u16
    inside: inner
"""
SECTIONS = {"btf": "tp_btf/x", "kern": "raw_tp/x"}


def unit_of(tmp_path, space, body):
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return lower(tmp_path, f"{TYPES}\n@hook('{SECTIONS[space]}')\ndef f(ctx, t: Ptr[box], p: Ptr[inner]):\n{lines}\n")


def relocations(function):
    return [(i.op, i.ref.kind, i.ref.access) for b in function.blocks for i in b.ins if isinstance(i.ref, ir.Core)]


def test_layout_of_bit_fields():
    class A(Struct):
        a: Bits[u32, 3]
        b: Bits[u32, 30]
        c: u8
        d: Bits[u16, 4]
        e: Bits[i32, 20]

    places = {f.name: (f.offset * 8 + f.bit) for f in A.layout.fields}
    assert places == {"a": 0, "b": 32, "c": 64, "d": 72, "e": 76}
    assert (A.size, A.layout.align) == (12, 4)

    class _task(Struct):
        __state: u32

    assert [f.name for f in _task.fields] == ["__state"]
    assert struct.calcsize(A.format()) == A.size


def test_layout_of_unions():
    class U(Union):
        a: u8
        b: u64

    class H(Struct):
        n: u32
        _: Anon[U]
        z: u8

    assert (U.size, H.size, H.offset("b"), H.offset("a"), H.offset("z")) == (8, 24, 8, 8, 16)
    assert struct.calcsize(H.format()) == 24


MORE = """
class Halves(Struct):
    lo: u32
    hi: u32
class Word(Union):
    all: u64
    _: Anon[Halves]
class F(Struct):
    v: Bits[u8, 4]
    w: Bits[u8, 4]
    s: Bits[i32, 7]
    l: Bits[u64, 40]
    t: Bits[u32, 32]
class K(Struct):
    tag: u32
    _: Anon[Word]
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("f = F(v=3, w=9, s=-5)\nreturn f.v * 100 + f.w * 10 + f.s", 385),
        ("f = F(v=3)\nf.w = ctx.a\nf.v += 14\nreturn f.v * 100 + f.w", 1 * 100 + 5),
        ("f = F()\nf.s = ctx.b\nreturn f.s", -3),
        ("f = F(l=1 << 39, t=0xffffffff)\nreturn (f.l >> 32) + f.t", 128 + 0xFFFFFFFF),
        ("f = F()\nf.l = ctx.c\nreturn f.l == ctx.c & 0xffffffffff and f.s == 0 and f.t == 0", 1),
        ("w = Word(all=0x500000007)\nreturn w.hi * 10 + w.lo", 57),
        ("k = K(tag=1)\nk.hi = 2\nreturn (k.all >> 32) + k.tag + sizeof(K)", 2 + 1 + 16),
        ("k = K(hi=7)\nreturn k.hi", 7),
        ("k = K()\np = container_of(addr(k.hi), K, 'hi')\np.tag = 4\nreturn k.tag", 4),
    ],
)
def test_in_own_memory(tmp_path, body, expected):
    assert evaluate(tmp_path, body, MORE, a=0x1F5, b=-3, c=(1 << 64) - 2) == expected


@pytest.mark.parametrize("space", ["btf", "kern"])
@pytest.mark.parametrize(
    ("field", "width", "signed", "size"),
    [("high", 12, 0, 2), ("high", 12, 0, 4), ("high", 12, 0, 8), *(("neg", 5, 1, size) for size in (1, 2, 4, 8))],
)
def test_bit_fields_of_the_kernel(tmp_path, space, field, width, signed, size):
    """The running kernel says where the word is, how wide, and by how much to shift."""
    unit = unit_of(tmp_path, space, f"return t.{field}")
    bit = min(3, size * 8 - width)
    values = {0: 40, 1: size, 4: 64 - width - bit, 5: 64 - width}
    w = World(unit, KERNEL.to_bytes(8, "little") + bytes(8), lambda ref: values[ref.kind])
    word = ((1 << width) - 2) << bit
    w.readable = {KERNEL + 40: word.to_bytes(size, "little")}
    if space == "btf":
        machine_write = w.write

        def write(address, data):
            machine_write(address, data)
            machine_write(KERNEL + 40, word.to_bytes(size, "little"))

        w.write = write
    assert w.run() == (-2 if signed else (1 << width) - 2)


def test_anonymous_members_of_the_kernel(tmp_path):
    function = unit_of(tmp_path, "btf", "return t.word + t.part.x + t.after + t.inside.y").functions[0]
    assert relocations(function) == [
        ("load", 0, "0:4:0"),
        ("load", 0, "0:4:1:0"),
        ("load", 0, "0:5"),
        ("load", 0, "0:6:1"),
    ]


def test_enums(tmp_path):
    body = "if kenum_exists('e', 'A'):\n    return kenum('e', 'B')\nreturn has(map_lookup_elem)"
    function = unit_of(tmp_path, "btf", body).functions[0]
    assert relocations(function) == [("core", 10, "0"), ("core", 11, "0"), ("core", 10, "0")]


def test_an_index_that_the_loader_knows_leaves_the_pointer_typed(tmp_path):
    text = """
class part(KStruct):
    x: u32
class whole(KStruct):
    first: u64
    parts: Ptr[part][4]
@hook('SECTION')
def f(ctx, w: Ptr[whole]):
    return w.parts[kenum('e', 'B')].x
"""
    function = lower(tmp_path, text.replace("SECTION", "tp_btf/x")).functions[0]
    assert relocations(function) == [("core", 11, "0"), ("load", 0, "0:1:0"), ("load", 0, "0:0")]
    assert not [i for b in function.blocks for i in b.ins if i.op == "call"]

    unit = lower(tmp_path, text.replace("SECTION", "raw_tp/x"))
    w = World(
        unit, KERNEL.to_bytes(8, "little"), lambda ref: 3 if ref.kind == 11 else {"0:1": 100, "0:0": 8}[ref.access]
    )
    w.readable = {KERNEL + 100 + 24: (KERNEL + 500).to_bytes(8, "little"), KERNEL + 508: b"\x21\x43\0\0"}
    assert w.run() == 0x4321


@pytest.mark.parametrize(("space", "result"), [("btf", 1), ("kern", 2)])
def test_one_body_reads_in_two_ways(tmp_path, space, result):
    body = "if is_typed(t):\n    return 1\nreturn read_kernel(u32, u64(addr(t.first)))"
    unit = unit_of(tmp_path, space, body)
    w = World(unit, KERNEL.to_bytes(8, "little"), lambda ref: 16)
    w.readable = {KERNEL + 16: b"\x02" + bytes(7)}
    assert w.run() == result
    assert ("call" in unit.functions[0].dump()) == (space == "kern")


@pytest.mark.parametrize("space", ["btf", "kern"])
def test_container_of_the_kernel(tmp_path, space):
    unit = unit_of(tmp_path, space, "return container_of(p, box, 'inside').after")
    offsets = {"0:6": 100, "0:5": 7}
    w = World(unit, bytes(8) + (KERNEL + 100).to_bytes(8, "little"), lambda ref: offsets[ref.access])
    w.readable = {KERNEL + 7: b"\x34\x12"}
    assert w.run() == 0x1234


def test_wrong_declarations(tmp_path):
    for text, message in (
        ("class A(Struct):\n    a: Bits[u8, 9]\n", "Bits[u8, 9]: a u8 has 1 to 8 bits"),
        ("class A(Struct):\n    a: Bits[be16, 2]\n", "write Bits[u32, 3]"),
        ("class A(Struct):\n    a: Anon[u8]\n", "Anon[u8]: only a Struct or Union can be anonymous"),
        ("class B(Struct):\n    a: u8\nclass A(Struct):\n    a: u8\n    _: Anon[B]\n", "A has two fields 'a'"),
    ):
        with pytest.raises(CompileError) as error:
            make_module(tmp_path, text)
        assert message in str(error.value)
