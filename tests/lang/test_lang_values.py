# ruff: noqa: E501
"""Numbers, conditions and control flow: what programs compute."""

from __future__ import annotations

import pytest
from lang_harness import World, evaluate, lower

from pybpf.errors import CompileError

M = (1 << 64) - 1


@pytest.mark.parametrize(
    ("expression", "fields", "expected"),
    [
        ("ctx.a + ctx.b * 3", {"a": 5, "b": -2}, -1),
        ("ctx.a - 7", {"a": 5}, -2),
        ("ctx.c - 7", {"c": 5}, -2),  # modulo 2**64; the result register is read as signed here
        ("ctx.a // 4", {"a": -7}, -2),
        ("ctx.a % 4", {"a": -7}, 1),
        ("ctx.a // 3", {"a": -7}, -3),
        ("ctx.a % 3", {"a": -7}, 2),
        ("ctx.a // -3", {"a": 7}, -3),
        ("ctx.a % -3", {"a": 7}, -2),
        ("ctx.a % -3", {"a": -7}, -1),
        ("ctx.a // ctx.b", {"a": -7, "b": 0}, 0),
        ("ctx.a % ctx.b", {"a": -7, "b": 0}, -7),
        ("ctx.a // ctx.b", {"a": -(1 << 63), "b": -1}, -(1 << 63)),
        ("ctx.c // ctx.d", {"c": M, "d": 2}, M // 2),
        ("ctx.c // ctx.d", {"c": 5, "d": 0}, 0),
        ("ctx.c % ctx.d", {"c": 5, "d": 0}, 5),
        ("ctx.a >> 1", {"a": -8}, -4),
        ("ctx.c >> 1", {"c": M}, M >> 1),
        ("ctx.a << ctx.x", {"a": 1, "x": 65}, 2),
        ("ctx.a & 0xff | 0x100 ^ 1", {"a": -1}, 0x1FF),
        ("~ctx.a", {"a": 5}, -6),
        ("~ctx.x", {"x": 5}, -6),
        ("-ctx.x", {"x": 5}, -5),
        ("+ctx.y", {"y": -5}, -5),
        ("u8(ctx.a)", {"a": 0x1FF}, 0xFF),
        ("i8(ctx.a)", {"a": 0x1FF}, -1),
        ("u32(ctx.y)", {"y": -1}, 0xFFFFFFFF),
        ("u64(ctx.y)", {"y": -1}, -1),
        ("i32(ctx.x)", {"x": 0xFFFFFFFF}, -1),
        ("bool(ctx.a)", {"a": 8}, 1),
        ("bool(ctx.a)", {"a": 0}, 0),
        ("min(ctx.a, 5)", {"a": 9}, 5),
        ("min(ctx.a, 5)", {"a": -9}, -9),
        ("max(ctx.a, ctx.b, 3)", {"a": 1, "b": 2}, 3),
        ("min(ctx.c, ctx.d)", {"c": M, "d": 2}, 2),
        ("5 if ctx.a else 6", {"a": 1}, 5),
        ("ctx.a if ctx.a > 0 else -ctx.a", {"a": -3}, 3),
        ("ctx.a and ctx.b", {"a": 3, "b": 4}, 4),
        ("ctx.a and ctx.b", {"a": 0, "b": 4}, 0),
        ("ctx.a or ctx.b", {"a": 3, "b": 4}, 3),
        ("ctx.a or ctx.b", {"a": 0, "b": 4}, 4),
        ("ctx.a < ctx.b < 5", {"a": 1, "b": 3}, 1),
        ("ctx.a < ctx.b < 5", {"a": 1, "b": 7}, 0),
        ("not ctx.a", {"a": 1}, 0),
        ("not ctx.a == 1", {"a": 2}, 1),
        ("ctx.x > ctx.a", {"x": 0xFFFFFFFF, "a": -1}, 1),
        ("ctx.y < 0", {"y": -1}, 1),
        ("-1 < ctx.a", {"a": 0}, 1),
        ("5 >= ctx.c", {"c": M}, 0),
        ("ctx.a in (6, 17)", {"a": 17}, 1),
        ("ctx.a in (6, 17)", {"a": 7}, 0),
        ("ctx.a not in (6, 17)", {"a": 7}, 1),
        ("ctx.a in range(100, 200)", {"a": 150}, 1),
        ("ctx.c in range(100)", {"c": 100}, 0),
        ("ctx.a & 4 and 1", {"a": 4}, 1),
        ("u32(3) if u32(5) == 5 else 4", {}, 3),
        ("1 + 2 ** 10 // 3", {}, 342),
        ("sizeof(C)", {}, 48),
        ("sizeof(ctx.z)", {}, 1),
        ("offsetof(C, 'y')", {}, 36),
        ("len((1, 2, 3))", {}, 3),
        ("(10, 20, 30)[1]", {}, 20),
        ("ctx.z + 1", {"z": 255}, 256),
        ("True", {}, 1),
    ],
)
def test_expression(tmp_path, expression, fields, expected):
    assert evaluate(tmp_path, f"return {expression}", **fields) == expected


@pytest.mark.parametrize(
    ("body", "fields", "expected"),
    [
        ("x: u32 = ctx.a\nreturn x", {"a": -1}, 0xFFFFFFFF),
        ("x: u8 = 250\nx += 10\nreturn x", {}, 4),
        ("x: i16 = 0x8000\nreturn x", {}, -0x8000),
        ("x = ctx.x\nx -= 6\nreturn x >> 60", {"x": 5}, 15),  # a variable keeps u64
        ("x = 0\nx -= 1\nreturn x < 0", {}, 1),  # a constant starts an i64
        ("x = y = ctx.a\ny += 1\nreturn x * 10 + y", {"a": 1}, 12),
        ("x, y = 1, 2\nx, y = y, x\nreturn x * 10 + y", {}, 21),
        ("if ctx.a > 3:\n    return 1\nelif ctx.a > 2:\n    return 2\nelse:\n    return 3", {"a": 3}, 2),
        ("n = 0\nfor i in range(10):\n    n += i\nreturn n", {}, 45),
        ("n = 0\nfor i in range(ctx.x):\n    n += i\nreturn n", {"x": 5}, 10),
        ("n = 0\nfor i in range(ctx.b, ctx.a):\n    n += i\nreturn n", {"a": 3, "b": -2}, 0),
        ("n = 0\nfor i in range(5, 0, -2):\n    n = n * 10 + i\nreturn n", {}, 531),
        ("for i in range(7):\n    pass\nreturn i", {}, 6),
        ("n = 0\nfor i in range(10):\n    if i == 3:\n        continue\n    if i == 6:\n        break\n    n += i\nreturn n", {}, 12),
        ("n = 0\nfor i in range(3):\n    for j in range(3):\n        if j > i:\n            break\n        n += 1\nreturn n", {}, 6),
        ("n = 0\nfor i in range(4):\n    i += 10\n    n += i\nreturn n", {}, 46),
        ("n = 0\nfor i in unroll(range(4)):\n    if i == 1:\n        continue\n    if i == 3:\n        break\n    n += i\nreturn n", {}, 2),
        ("n = 0\nfor i, v in unroll(enumerate((5, 6))):\n    n += i * 100 + v\nreturn n", {}, 111),
        ("n = 0\nfor v in (3, 4):\n    n = n * 10 + v\nreturn n", {}, 34),
        ("n = 0\nfor v in ():\n    n = 1\nreturn n", {}, 0),
        ("'''doc'''\npass\nreturn 4", {}, 4),
        ("return", {}, 0),
        ("ctx.x = 7\nctx.z = ctx.a\nreturn ctx.x + ctx.z", {"a": 0x101}, 8),
        ("ctx.a += 5\nctx.a <<= 1\nreturn ctx.a", {"a": 1}, 12),
        ("ok = ctx.a > 1\nif ok:\n    return 2\nreturn 3", {"a": 2}, 2),
        ("ok = False\nif ctx.a:\n    ok = True\nreturn ok", {"a": 2}, 1),
        ("for i in range(3):\n    x = i\n    if ctx.a == i:\n        return x + 100\nreturn 0", {"a": 2}, 102),
    ],
)  # fmt: skip
def test_statements(tmp_path, body, fields, expected):
    assert evaluate(tmp_path, body, **fields) == expected


INLINE = """
@inline
def pick(n, table):
    if n == 0:
        return u64(1)
    if n == 1:
        return u64(table[1])
    return u64(table[n])

@inline
def clamp(x: u32, low=2, high=9):
    if x < low:
        return low
    if x > high:
        return high
    return x

@inline
def bump(x):
    x += 1
    return x

@inline
def is_odd(x):
    if x < 0:
        return is_odd_positive(-x)
    return is_odd_positive(x)

@inline
def is_odd_positive(x):
    return x & 1

@inline
def nothing(x):
    if x:
        return
    x += 1

@inline
def fill(s, n):
    s.n = n
    s.t[1] = n + 1

def double(x):
    return 2 * x

class S(Struct):
    t: u8[3]
    n: u32

class T(Struct):
    s: S
    u: u64
"""


@pytest.mark.parametrize(
    ("body", "fields", "expected"),
    [
        ("return pick(0, ()) + pick(2, (0, 0, 7))", {}, 8),
        ("return clamp(ctx.a)", {"a": 1}, 2),
        ("return clamp(ctx.a)", {"a": -1}, 9),
        ("return clamp(ctx.a, high=100)", {"a": (1 << 32) + 50}, 50),
        ("x = ctx.a\ny = bump(x)\nreturn x * 10 + y", {"a": 1}, 12),
        ("if is_odd(ctx.a):\n    return 1\nreturn 2", {"a": -3}, 1),
        ("if not is_odd(ctx.a) and ctx.b:\n    return 1\nreturn 2", {"a": 4, "b": 1}, 1),
        ("return is_odd(ctx.a)", {"a": 4}, 0),
        ("nothing(ctx.a)\nreturn 5", {"a": 4}, 5),
        ("s = S()\nfill(s, 8)\nreturn s.n * 100 + s.t[0] * 10 + s.t[1]", {}, 809),
        ("t = T()\nfill(addr(t.s), 8)\nreturn t.s.n", {}, 8),
        ("s = S(n=5)\nt = T(u=1, s=s)\ns.n = 6\nreturn t.s.n * 10 + t.u", {}, 51),
        ("s = S()\ns.t[ctx.a] = 9\nreturn s.t[2]", {"a": 2}, 9),
        ("s = S()\np = addr(s.n)\np[0] = 77\nreturn s.n", {}, 77),
        ("s = S()\ncast(Ptr[u64], addr(s))[0] = (7 << 32) + 1\nreturn s.n * 10 + s.t[0]", {}, 71),
        ("s = S(n=3)\nt = S()\ncopy(t.t, 'abc')\ncopy(s.t, t.t)\nreturn s.t[2] + s.n", {}, ord("c") + 3),
        ("return double(21)", {}, 42),
        ("n = 0\nfor i in unroll(range(12)):\n    s = S(n=i)\n    n += s.n\nreturn n", {}, 66),
        ("p: Ptr[S] = None\nif ctx.a:\n    s = S(n=4)\n    p = addr(s)\nif p:\n    return p.n\nreturn 9", {"a": 1}, 4),
        ("p: Ptr[S] = None\nif ctx.a:\n    s = S(n=4)\n    p = addr(s)\nif p is None:\n    return 9\nreturn p.n", {"a": 0}, 9),
    ],
)  # fmt: skip
def test_functions_and_structs(tmp_path, body, fields, expected):
    assert evaluate(tmp_path, body, INLINE, **fields) == expected


def test_constant_condition_leaves_no_code(tmp_path):
    """A branch on a compile-time argument is decided when compiling: the other side may even be senseless."""
    text = """
@inline
def f1(n, thing):
    if n == 0:
        return ctx_like(thing)
    return thing.nope
@inline
def ctx_like(x):
    return x
@hook('syscall')
def f(ctx):
    return f1(0, 5)
"""
    function = lower(tmp_path, text).functions[0]
    assert [ins.op for block in function.blocks for ins in block.ins if ins.op != "jump"] == ["param", "ret"]


def test_big_endian(tmp_path):
    more = "class B(Struct):\n    p: be16\n    q: be32\n    r: be64\n"
    body = "b = B(p=0x1234, r=ctx.a)\nb.q = ctx.x\nraw = cast(Ptr[u8], addr(b))\nreturn raw[0] + raw[4] * 256 + raw[8] * 65536"
    assert evaluate(tmp_path, body, more, x=0x55667788, a=0x99 << 56) == 0x12 + 0x55 * 256 + 0x99 * 65536
    assert evaluate(tmp_path, "b = B(q=ctx.x)\nreturn b.q", more, x=0x55667788) == 0x55667788
    assert evaluate(tmp_path, "b = B(p=0x1234)\nreturn b.p", more) == 0x1234


def test_names(tmp_path):
    more = """
import enum
import lang_harness as module
class E(enum.IntEnum):
    ONE = 1
K = 10
def make(k):
    @inline
    def add(x):
        return x + k + K
    return add
add5 = make(5)
"""
    assert evaluate(tmp_path, "return add5(ctx.a) + E.ONE + module.PRELUDE_LINES", more, a=100) == 118


RESULTS = """
@inline
def low(x) -> u8:
    return x

@inline
def silent(x) -> None:
    if x:
        return
    x += 1

@inline
def wrong(x) -> None:
    return x

@inline
def partly(x) -> u8:
    if x:
        return 1
"""


def test_annotated_results(tmp_path):
    assert evaluate(tmp_path, "return low(ctx.a)", RESULTS, a=0x1FF) == 0xFF
    assert evaluate(tmp_path, "if low(ctx.a):\n    return 1\nreturn 2", RESULTS, a=0x100) == 2
    assert evaluate(tmp_path, "silent(ctx.a)\nreturn 3", RESULTS, a=1) == 3
    for call, message in (("wrong(1)", "annotated to return None"), ("partly(ctx.a)", "annotated u8")):
        with pytest.raises(CompileError, match=message):
            evaluate(tmp_path, f"return {call}", RESULTS)


def test_program_results(tmp_path):
    text = "@hook('syscall')\ndef f(ctx) -> i32:\n    return u64(0xffffffff)\n"
    assert World(lower(tmp_path, text)).run() == -1
    with pytest.raises(CompileError, match="a result of type i32 must be returned here"):
        lower(tmp_path, "@hook('syscall')\ndef f(ctx) -> i32:\n    pass\n")
