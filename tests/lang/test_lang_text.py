"""Strings, slices, user memory and try_read."""

from __future__ import annotations

import pytest
from lang_harness import KERNEL, World, context, evaluate, function_text, lower, world

from pybpf.errors import CompileError

MORE = """
class S(Struct):
    pad: u8
    t: char[16]
    u: u8[3]
    words: u64[4]
class Pair(Struct):
    a: u32
    next: Ptr[Pair]
    t: char[5]
class Config(ConfigBase):
    prefix: char[8] = "ab"
    long: char[32] = "abcdefghijklmnopq"
    exact: char[32] = "abcdefghijklmnop"
    none: char[8]
config = Config()
"""
SET = "s = S()\ncopy(s.t, 'abcdefgh')\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return s.t == 'abcdefgh'", 1),
        ("return s.t == 'abcdefg'", 0),
        ("return s.t == b'abcdefghi'", 0),
        ("return 'abcdefgh' != s.t", 0),
        ("return s.t == ''", 0),
        ("return s.u == b'\\0\\0\\0'", 1),
        ("return s.t in ('x', 'abcdefgh')", 1),
        ("return s.t not in ('x', 'y')", 1),
        ("return startswith(s.t, 'abc') and not startswith(s.t, 'b')", 1),
        ("return startswith(s.t, '') + startswith(s.t, b'abcdefgh\\0\\0\\0\\0\\0\\0\\0\\0')", 2),
        ("return endswith(s.t, 'fgh', 8) + 2 * endswith(s.t, 'fgh', 7) + 4 * endswith(s.t, 'abcdefghi', ctx.c)", 1),
        ("return endswith(s.t, 'gh', ctx.c) + 2 * endswith(s.t, 'h', ctx.d) + 4 * endswith(s.t, '', ctx.c)", 5),
        ("return startswith(s.t, config.prefix) and startswith(s.t, config.none)", 1),
        ("return startswith(s.t, config.long) + startswith(s.u, config.prefix)", 0),
        ("copy(s.t, 'abcdefghijklmnop')\nreturn startswith(s.t, config.long) + 2 * startswith(s.t, config.exact)", 2),
        ("if startswith(s.t, 'abX'):\n    return 1\nelif s.t == 'abcdefgh':\n    return 2\nreturn 3", 2),
        ("return s.t[2:5] == 'cde'", 1),
        ("n = ctx.c\nreturn s.t[n:n + 2] == b''", 1),
        ("n = ctx.c & 3\nreturn s.t[n:n + 4] == 'abcd' and startswith(s.t[4:], 'ef')", 1),
        ("s.words[3] = 7\nreturn s.words[2:][1] + len(s.words[2:])", 9),
        ("return sizeof(s.t[3:7]) + len(s.t[:5])", 9),
        ("return 'abc'[1:] == 'bc' and (1, 2, 3)[:2] == (1, 2)", 1),
    ],
)
def test_strings(tmp_path, body, expected):
    assert evaluate(tmp_path, SET + body, MORE, c=8, d=100) == expected


@pytest.mark.parametrize(
    ("body", "line", "col", "message"),
    [
        ("return s.u == 'abcd'", 3, 12, "the string has 4 bytes, a u8[3] never equals it"),
        ("return s.t < 'a'", 3, 12, "strings are compared with == and != only"),
        ("return startswith(s.u, 'abcd')", 3, 28, "the string has 4 bytes, a u8[3] never starts with it"),
        ("return startswith(s.pad, 'abcd')", 3, 23, "startswith() looks at a char[N], not a place of type u8"),
        ("return endswith(s.t, 'a', 17)", 3, 31, "17 bytes are not inside of char[16]"),
        ("return endswith(s.t, ctx.a, 1)", 3, 26, "a constant string is wanted here, not a place of type i64"),
        ("x = s.t[ctx.c:]", 3, 13, "how many elements must be known when compiling: write x[a:a + N]"),
        ("x = s.t[ctx.c:ctx.d + 4]", 3, 13, "how many elements must be known when compiling: write x[a:a + N]"),
        ("x = s.t[10:20]", 3, 13, "[10:20] is outside of char[16]"),
        ("x = s.t[1:9:2]", 3, 17, "a slice has no step"),
        ("x = s.pad[1:9]", 3, 9, "a place of type u8 cannot be sliced: slices are parts of arrays"),
        ("x = s.t[4:4]", 3, 13, "a slice of 0 elements"),
    ],
)
def test_wrong_strings(tmp_path, body, line, col, message):
    with pytest.raises(CompileError) as error:
        lower(tmp_path, function_text(SET + body, MORE))
    where, _, text = str(error.value).splitlines()[0].partition(": ")
    start = function_text("", MORE).count("\n") + 1
    assert text == message
    assert where.split(":")[1:] == [str(start + line), str(col)]


def user_world(tmp_path, body):
    w = world(tmp_path, body, MORE, c=KERNEL)
    w.readable = {
        KERNEL: (5).to_bytes(8, "little") + (KERNEL + 64).to_bytes(8, "little") + b"name\0",
        KERNEL + 64: (6).to_bytes(24, "little"),
    }
    return w


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("p = user(Pair, ctx.c)\nreturn p.a * 10 + p.next.a", 56),
        ("p = user(u32, ctx.c)\nreturn p[0] + p[16]", 11),
        ("ok, v = try_read(user(Pair, ctx.c).a)\nreturn ok * 100 + v", 105),
        ("ok, v = try_read(user(Pair, 8).a)\nreturn ok * 100 + v", 0),
        ("ok, v = try_read(user(Pair, ctx.c).next)\nif ok:\n    return v.a\nreturn 1", 6),
        ("s = S()\nok, v = try_read(s.pad)\nreturn ok", 1),
        ("return user(Pair, ctx.c).t == 'name'", 1),
        ("q = Pair()\ncopy(q.t, user(Pair, ctx.c).t)\nreturn q.t[2] == 109", 1),
    ],
)
def test_user_memory(tmp_path, body, expected):
    w = user_world(tmp_path, body)
    assert w.run() == expected
    assert {number for number, _ in w.log} <= {148}


def test_strings_of_the_kernel(tmp_path):
    text = """
class t(KStruct):
    pad: u64
    name: char[16]
@hook('%s')
def f(ctx, p: Ptr[t]):
    return p.name == 'bash' or startswith(p.name, 'sshd')
"""
    unit = lower(tmp_path, text % "raw_tp/x")
    w = World(unit, KERNEL.to_bytes(8, "little"), lambda ref: 8)
    w.readable = {KERNEL + 8: b"sshd: x".ljust(16, b"\0")}
    assert w.run() == 1
    typed = lower(tmp_path, text % "tp_btf/x").functions[0]
    assert [i.ref.access for b in typed.blocks for i in b.ins if i.ref is not None] == ["0:1:0", "0:1:4", "0:1:0"]
    assert context
