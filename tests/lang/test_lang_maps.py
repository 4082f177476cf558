# ruff: noqa: E501
"""Maps, ring buffers, helpers and memory as programs use them."""

from __future__ import annotations

import re
import struct

import pytest
from lang_harness import CTX, World, context, evaluate, function_text, ir_of, lower, object_of, world

from pybpf.errors import CompileError
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.vm import Vm

MORE = """
class Key(Struct):
    a: u8
    b: u32
class Val(Struct):
    n: u64
    t: char[8]
class Rec(Struct):
    a: u8
    b: u64
    t: char[16]
h = Hash(u32, u64, 8)
s = Hash(Key, Val, 8)
arr = Array(u64, 8)
pc = PerCpuArray(u32, 8)
ph = PerCpuHash(u32, u64, 8)
names = Hash(char[8], u32, 8)
ring = RingBuf(4096)
calls = ProgArray(4)
class Config(ConfigBase):
    limit: u32 = 5
    below: i64 = -3
    table: u16[4] = (1, 2, 3)
    name: char[8] = "abc"
config = Config()
"""


def u32(n):
    return struct.pack("<I", n)


def u64(n):
    return struct.pack("<Q", n)


def test_lookup_update_delete(tmp_path):
    body = """
p = h.lookup(ctx.x)
if not p:
    h.update(ctx.x, 40, BPF_NOEXIST)
    p = h.lookup(ctx.x)
if p:
    p[0] += 2
h[7] = ctx.a
del h[8]
return h.get(ctx.x, 0) + h.get(99, 1000)
"""
    w = world(tmp_path, body, MORE, x=3, a=-1)
    w.preset = {"h": {u32(8): u64(1)}}
    assert w.run() == 1042
    assert w.value("h", u32(7)) == b"\xff" * 8
    assert w.value("h", u32(8)) is None


def test_membership_and_strings(tmp_path):
    w = world(tmp_path, "names['ls'] = 4\nif 3 in h and 4 not in h:\n    return names.get(b'ls', 0)\nreturn 9", MORE)
    w.preset = {"h": {u32(3): u64(1)}}
    assert w.run() == 4
    assert w.value("names", b"ls".ljust(8, b"\0")) == u32(4)


def test_struct_keys_have_zeroed_padding(tmp_path):
    w = world(
        tmp_path,
        "k = Key()\nk.a = 1\nk.b = ctx.x\ns[k] = Val(n=5, t='ab')\np = s.lookup(k)\nif p:\n    p.n += 1\nreturn 0",
        MORE,
        x=2,
    )
    w.run()
    assert w.value("s", b"\x01\0\0\0" + u32(2)) == u64(6) + b"ab".ljust(8, b"\0")


@pytest.mark.parametrize(
    ("statement", "name", "before", "after"),
    [
        ("arr[2] += 3", "arr", 4, 7),
        ("arr[2] -= 3", "arr", 4, 1),
        ("arr[2] |= 3", "arr", 4, 7),
        ("arr[2] &= 6", "arr", 12, 4),
        ("arr[2] ^= 5", "arr", 4, 1),
        ("h[2] += 3", "h", 4, 7),
        ("h[2] += 3", "h", None, 3),
        ("h[2] -= 3", "h", None, (1 << 64) - 3),
        ("ph[2] += 3", "ph", 4, 7),
        ("ph[2] *= 3", "ph", 4, 12),
        ("ph[2] += ctx.x", "ph", None, 9),
    ],
)
def test_changing_entries(tmp_path, statement, name, before, after):
    w = world(tmp_path, f"{statement}\nreturn 0", MORE, x=9)
    w.preset = {name: {u32(2): u64(before)}} if before is not None else {}
    w.run()
    assert w.value(name, u32(2)) == u64(after)


@pytest.mark.parametrize(("before", "after"), [(None, 12), (40, 45)])
def test_get_or_init(tmp_path, before, after):
    w = world(tmp_path, "p = h.get_or_init(2, ctx.x + 2)\nif p:\n    p[0] += 5\nreturn h.get(2, 0)", MORE, x=5)
    w.preset = {"h": {u32(2): u64(before)}} if before is not None else {}
    assert w.run() == after
    assert w.value("h", u32(2)) == u64(after)


def test_shared_entries_are_changed_atomically(tmp_path):
    assert "atomic" in ir_of(tmp_path, function_text("arr[1] += 1\nreturn 0", MORE))
    assert "atomic" not in ir_of(tmp_path, function_text("pc[1] += 1\nreturn 0", MORE))


def test_config(tmp_path):
    body = (
        "return config.limit * 1000 + config.below * 100 + config.table[2] * 10 + config.table[ctx.a] + config.name[1]"
    )
    assert evaluate(tmp_path, body, MORE, a=1) == 5000 - 300 + 30 + 2 + ord("b")
    contents, variables = lower(tmp_path, function_text("return config.limit", MORE)).data_sections()[".rodata"]
    assert [(name, offset, size) for name, _, offset, size in variables] == [
        ("limit", 0, 4),
        ("below", 8, 8),
        ("table", 16, 8),
        ("name", 24, 8),
    ]
    assert contents == struct.pack("<IxxxxqHHHH8s", 5, -3, 1, 2, 3, 0, b"abc")


def test_output(tmp_path):
    body = "r = Rec(a=1, b=2, t='xy')\nif ring.output(r, offsetof(Rec, 't') + min(ctx.a, 4), BPF_RB_NO_WAKEUP) < 0:\n    return 1\nreturn 2"
    w = world(tmp_path, body, MORE, a=9)
    assert w.run() == 2
    assert w.records == [struct.pack("<BxxxxxxxQ4s", 1, 2, b"xy\0\0")]
    w = world(tmp_path, body, MORE, a=9)
    w.full = True
    assert w.run() == 1


RESERVE = """
for i in range(4):
    with ring.reserve(Rec) as e:
        e.a = i
        e.b = ctx.a
        comm(e.t)
        if i == 1:
            e.discard()
            continue
        if i == 2:
            return 5
    if i == 3:
        return 7
return 6
"""


def test_reserve(tmp_path):
    w = world(tmp_path, RESERVE, MORE, a=9)
    assert w.run() == 5
    record = struct.pack("<BxxxxxxxQ16s", 0, 9, b"python3")
    assert w.records == [record, b"\x02" + record[1:]]  # padding is cleared in each
    assert w.reserved == {}


def test_reserve_when_full(tmp_path):
    w = world(tmp_path, RESERVE, MORE)
    w.full = True
    assert w.run() == 7
    assert w.records == []


def test_record_passed_to_inline(tmp_path):
    more = (
        MORE
        + "@inline\ndef fill(r, n):\n    r.b = n\n    if n > 5:\n        r.discard()\n        return\n    comm(r.t)\n"
    )
    with pytest.raises(Exception, match="discarded on one path only"):
        lower(tmp_path, function_text("with ring.reserve(Rec) as e:\n    fill(e, ctx.a)\n", more))
    w = world(tmp_path, "with ring.reserve(Rec) as e:\n    fill(e, 3)\n", more)
    w.run()
    assert len(w.records) == 1


def test_helpers(tmp_path):
    w = world(tmp_path, "return get_current_pid_tgid() + pid() * 100 + tid()", MORE)
    w.results = {14: (3 << 32) | 7}
    assert w.run() == ((3 << 32) | 7) + 300 + 7
    w = world(
        tmp_path, "if ktime_get_boot_ns() > 5:\n    return ringbuf_query(ring, BPF_RB_AVAIL_DATA)\nreturn 1", MORE
    )
    w.results = {125: 6, 134: 1000}
    assert w.run() == 1000
    assert w.log[-1][1][1] == 0


def test_reading_memory(tmp_path):
    body = """
r = Rec()
n = read_user_str(r.t, ctx.c)
m = read_user(r.b, ctx.c + 8)
v = read_user(u32, ctx.c)
k = read_kernel(addr(r.a), ctx.c, size=1)
if read_user(r.b, 5) >= 0:
    return 1
return n * 10000 + m * 1000 + k * 100 + v - 0x656c6966 + r.a
"""
    w = world(tmp_path, body, MORE, c=0x9000)
    w.readable = {0x9000: b"file.txt\0more12345678901234567890"}
    assert w.run() == 9 * 10000 + ord("f")
    text = b"file.txt"
    assert w.log[0] == (114, (w.log[0][1][0], 16, 0x9000))
    assert w.read(w.log[0][1][0], 8) == text


def test_string_arguments(tmp_path):
    w = world(tmp_path, "return strncmp(ctx2(), 2, 'ab')", MORE + "@inline\ndef ctx2():\n    return b'abc'\n")
    w.helper_182 = lambda a, size, b: 0 if w.read(a, size) == w.read(b, size) and w.read(b, 3) == b"ab\0" else 1
    assert w.run() == 0


def test_tail_call(tmp_path):
    w = world(tmp_path, "tail_call(ctx, calls, ctx.x)\nreturn 3", MORE, x=2)
    assert w.run() == 3
    assert w.log == [(12, (CTX, w.handles["calls"], 2))]


def test_map_definitions_are_sorted_and_only_those_in_use(tmp_path):
    unit = lower(tmp_path, function_text("ring.output(Rec())\ns.delete(Key())\nh.delete(1)\nreturn 0", MORE))
    assert [map.name for map in unit.sorted_maps()] == ["h", "ring", "s"]


def test_subprograms(tmp_path):
    more = (
        MORE
        + """
@subprog
def total(p: Ptr[Val], n: u32) -> i64:
    p.n += n
    return h.get(1, 0) + n
"""
    )
    text = function_text("v = Val()\nx = total(v, ctx.a)\nreturn total(v, 1) + x + v.n", more)
    unit = lower(tmp_path, text)
    names = [f.name for f in unit.functions]
    assert names == ["total", "f"]
    assert unit.functions[0].section == ".text"
    assert unit.functions[0].nparams == 2
    dump = unit.functions[1].dump()
    assert dump.count("callsub") == 2


def test_atomic_add(tmp_path):
    w = world(tmp_path, "v = Val(n=5)\natomic_add(v.n, ctx.a)\nreturn v.n", MORE, a=-7)
    assert w.run() == -2
    assert "atomic" in w.unit.functions[0].dump()


ATOMICS = """
p = addr(v.n)
old = atomic_fetch_add(p[0], ctx.a)
atomic_or(v.n, 8)
old = old * 100 + atomic_fetch_and(v.n, 12)
atomic_xor(v.n, 1)
old = old * 100 + atomic_xchg(v.n, 33)
if atomic_cmpxchg(v.n, 5, 6) != 33 or atomic_cmpxchg(v.n, 33, 34) != 33:
    return 1
w = Word(low=-2)
old += atomic_fetch_xor(w.low, 1) + atomic_cmpxchg(w.low, -1, 7) + w.low
return old * 100 + atomic_fetch_or(v.n, 1) + v.n
"""


@pytest.mark.parametrize("local", [True, False])
def test_atomic_operations(tmp_path, local):
    """Those with a result take Linux 5.12."""
    more = MORE + "class Word(Struct):\n    low: i32\n    high: u32\n"
    where = "v = Val(n=5)" if local else "h[1] = 5\nq = h.lookup(1)\nif not q:\n    return 2\nv = cast(Ptr[Val], q)"
    text = function_text(where + ATOMICS.replace("v.n", "v.n" if local else "q[0]"), more)
    w = World(lower(tmp_path, text), context(a=-7))
    n = 5 - 7
    first, n = n + 7, n | 8
    second, n = n, n & 12
    third, n = n ^ 1, 33
    old = (first * 100 + second) * 100 + third
    n = 34
    old += -2 - 1 + 7
    expected = old * 100 + n + (n | 1)
    assert w.run() == expected
    spec = read_object(object_of(tmp_path, text))
    assert Vm(spec).run("f", ctx=bytearray(context(a=-7))) == expected & (1 << 64) - 1


@pytest.mark.native
def test_atomic_operations_in_the_kernel(tmp_path):
    more = MORE + "class Word(Struct):\n    low: i32\n    high: u32\n"
    data = object_of(tmp_path, function_text("v = Val(n=5)" + ATOMICS, more))
    expected = Vm(read_object(data)).run("f", ctx=bytearray(context(a=-7)))
    with Collection(read_object(data), ["f"]) as loaded:
        assert loaded.programs["f"].test_run(ctx=context(a=-7)).retval == expected & 0xFFFFFFFF


def test_atomic_operations_take_aligned_words(tmp_path):
    packed = "class Packed(Struct, packed=True):\n    a: u8\n    b: u32\n"
    for body, message in (
        ("atomic_or(k.a, 1)", "atomic_or() works on numbers of 4 or 8 bytes"),
        ("atomic_xchg(p.b, 1)", "wants an aligned number"),
        ("atomic_cmpxchg(v.n, 1)", "atomic_cmpxchg()"),
    ):
        text = function_text(f"v = Val(n=5)\nk = Key(a=1)\np = Packed()\n{body}\nreturn 0", MORE + packed)
        with pytest.raises(CompileError, match=re.escape(message)):
            lower(tmp_path, text)


def test_results_of_map_operations_are_ints(tmp_path):
    """Before Linux 6.4 they came without their sign: the verifier calls the map's own function, which gives an int."""
    unit = lower(tmp_path, function_text("n = h.update(1, 2, BPF_EXIST)\nreturn n < 0", MORE))
    w = World(unit, context())
    w.results[2] = 0xFFFF_FFFE  # -ENOENT as an int
    assert w.run() == 1
