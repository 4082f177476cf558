# ruff: noqa: E501
"""Wrong programs: the message and the exact place, line and column, of each."""

from __future__ import annotations

import pytest
from lang_harness import PRELUDE, function_text, lower, make_module

from pybpf.errors import CompileError

MORE = """
from pybpf.ktypes import task_struct
lst = [1]
class S(Struct):
    n: u32
    t: char[4]
class Big(Struct):
    t: char[300]
h = Hash(u32, u64, 8)
h2 = Hash(u32, S, 8)
h3 = Hash(char[300], u64, 8)
a = Array(u64, 8)
ring = RingBuf(4096)
progs = ProgArray(8)
class Cfg(ConfigBase):
    on: u32 = 1
config = Cfg()
@inline
def rec(x):
    return rec(x)
@inline
def nothing():
    pass
@inline
def mixed(x):
    if x:
        return h.lookup(1)
    return x
@inline
def two(a, b):
    return a + b
@inline
def big():
    return two(nope, 1)
def host(x):
    return x
"""

WHILE_NUMBER = "how many passes at most must be known when compiling, from 1 to 8388608"

# Body of a program, line counted from its 'def', column, message.
CASES = [
    ("return nope", 1, 12, "name 'nope' is not defined"),
    (
        "x: int = 5",
        1,
        8,
        "a type is wanted here, not <class 'int'>: use u8..u64, i8..i64, bool, char, T[N], Ptr[T] or a Struct",
    ),
    (
        "for k in h:\n    pass",
        1,
        14,
        "a loop goes over range(...) or a tuple of constants, not Hash: use m.for_each(fn, ...)",
    ),
    ("return rign", 1, 12, "name 'rign' is not defined: did you mean 'ring'?"),
    ("t = curent_task()", 1, 9, "name 'curent_task' is not defined: did you mean 'current_task'?"),
    ("count = ctx.a\nreturn coutn", 2, 12, "name 'coutn' is not defined: did you mean 'count'?"),
    (
        "print('x', ctx.a)",
        1,
        5,
        "print() is not part of the language: use trace_printk(format, ...), or send a record through a map",
    ),
    ("p = h.lookup(1)\np[0] += 1", 2, 5, "pointer may be None here: test it with 'if' first"),
    ("return ctx.a < ctx.c", 1, 12, "comparison of i64 with u64: cast one side (i64(x) or u64(x))"),
    ("return ctx.a == ctx.c", 1, 12, "comparison of i64 with u64: cast one side (i64(x) or u64(x))"),
    ("return ctx.c < -1", 1, 12, "comparison of -1 with a u64, which is never negative: annotate or cast"),
    ("return ctx.c < 0", 1, 12, "a u64 is never below 0: cast with i64(x) if it holds a negative number"),
    ("return ctx.foo", 1, 12, "struct C has no field 'foo' (has: a, b, c, d, x, y, z)"),
    ("x = ctx.a / 2", 1, 9, "'/' would give a fraction: use '//'"),
    (
        "while ctx.a:\n    pass",
        1,
        5,
        (
            "'while' has no bound that the verifier could see: write 'while atmost(n) and ...', "
            "or 'for ... in range(n)' and break"
        ),
    ),
    ("while atmost(ctx.a):\n    pass", 1, 18, WHILE_NUMBER),
    ("while atmost(0):\n    pass", 1, 18, WHILE_NUMBER),
    ("x = atmost(3)", 1, 9, "atmost() stands first in the condition of a 'while' only"),
    ("while ctx.a:\n    pass\nelse:\n    pass", 4, 9, "'while ... else' is not part of the language"),
    ("x = loop(3, 4)", 1, 17, "loop() calls an @inline function, not 4"),
    ("x = loop(ctx.a, two)", 1, 14, "the number of passes is unsigned: cast it with u64(n)"),
    ("for i in range(3):\n    pass\nelse:\n    pass", 4, 9, "'for ... else' is not part of the language"),
    ("x = [1, 2]", 1, 9, "lists are not part of the language: use a tuple of constants or an array in a Struct"),
    ("x = 1.5", 1, 9, "1.5: there are only integers, strings and bytes in the kernel"),
    ('x = f"{ctx.a}"', 1, 9, "f-strings are not part of the language"),
    (
        "return h[1]",
        1,
        12,
        "an entry may be absent: use m.lookup(k), which gives a pointer or None, or m.get(k, default)",
    ),
    ("return ctx.a << 64", 1, 12, "shift by 64: the count must be in 0..63"),
    ("ctx.x = 1 << 32", 1, 13, "4294967296 does not fit u32"),
    ("s = S()\ns.t[4] = 1", 2, 9, "index 4 is outside of char[4]"),
    (
        "if ctx.a:\n    x = 1\nreturn x",
        3,
        12,
        "variable 'x' has no value on some path to here: assign it before the 'if' or loop",
    ),
    ("x = y\ny = 1", 1, 9, "variable 'y' has no value yet"),
    ("x = 5\nx = S()", 2, 5, "variable 'x' is i64 already and cannot become a S"),
    ("s = S()\nreturn s", 2, 12, "a place of type S cannot be returned: return numbers or pointers"),
    ("h.lookup(S())", 1, 14, "the key of h is a u32, not a place of type S"),
    ("h.update(1)", 1, 5, "h.update() needs argument 'value'"),
    ("h.frob(1)", 1, 5, "Hash h has no frob() (has: lookup, update, delete, get, get_or_init, for_each)"),
    ("a.get_or_init(1, 2)", 1, 5, "Array a has no get_or_init() (has: lookup, update, get, for_each)"),
    ("p = h.get_or_init(1, 2)\np[0] += 1", 2, 5, "pointer may be None here: test it with 'if' first"),
    ("h.get_or_init(1)", 1, 5, "h.get_or_init() needs argument 'value'"),
    ("a.delete(1)", 1, 5, "Array a has no delete() (has: lookup, update, get, for_each)"),
    (
        "e = ring.reserve(S)",
        1,
        9,
        "a record is reserved by 'with ring.reserve(T) as e:', so that it is always submitted",
    ),
    (
        "with ring.reserve(S) as e:\n    e.n = 1\n    if ctx.a:\n        e.discard()",
        1,
        5,
        "record 'e' is discarded on one path only: return right after discard()",
    ),
    ("with ring.reserve(S) as e:\n    e.discard()\n    e.n = 1", 3, 9, "record 'e' was discarded on some path to here"),
    ("tail_call(ctx, h, 1)", 1, 20, "a ProgArray is wanted here, not Hash"),
    ("tail_call(ctx, progs, 8)", 1, 27, "index 8 is outside of progs"),
    ("x = unroll(range(4))", 1, 9, "unroll() stands in 'for x in unroll(...)' only"),
    ("ktime_get_ns(1)", 1, 18, "ktime_get_ns() takes 0 arguments, not 1"),
    ("get_current_comm()", 1, 5, "get_current_comm() needs 1 arguments (out, size), not 0"),
    ("comm(ctx.x)", 1, 10, "comm() writes to a char[16], not u32"),
    ("t = current_task()\nt.pid = 1", 2, 13, "kernel memory cannot be written"),
    (
        "t = current_task()\nreturn t.thread_info",
        2,
        12,
        "a place of type thread_info cannot be returned: return numbers or pointers",
    ),
    ("return is_typed(1)", 1, 21, "is_typed() asks about a pointer, not 1"),
    ("return exists(ctx.a)", 1, 19, "exists() asks for a field of a kernel type: exists(p.field) or exists(T)"),
    ("return cast(S, ctx.a)", 1, 17, "cast() makes pointers: write cast(Ptr[S], x), or S(x) for numbers"),
    ("ctx.a + 1", 1, 5, "this has no effect: assign the value, or call something"),
    ("x: S = 5", 1, 12, "a variable of type S starts as S(): copy() into it afterwards"),
    ("x: u32", 1, 5, "variable 'x' needs a value: write 'x: T = 0'"),
    ("x = None", 1, 9, "the type of 'x' is not known: annotate it, 'x: Ptr[T] = None'"),
    ("config.nope", 1, 5, "this has no effect: assign the value, or call something"),
    ("x = rec(ctx.a)", -19, 12, "rec calls itself: the kernel has no recursion"),
    ("x = nothing()", 1, 9, "this has no value"),
    ("if nothing():\n    return 1", -17, 1, "nothing returns nothing at its end, but its result is tested"),
    ("x = mixed(ctx.a)", -11, 5, "the result of mixed is i64 here and Ptr[u64] to memory elsewhere"),
    ("x = two(1)", 1, 9, "two() needs argument 'b'"),
    ("x = two(1, 2, 3)", 1, 19, "two() takes 2 arguments, not 3"),
    ("x = two(1, c=3)", 1, 18, "two() has no argument 'c' (has: a, b)"),
    ("x = host(ctx.a)", 1, 9, "host() is a Python function: it can be called with constants only, or made @inline"),
    (
        "for i in unroll(range(ctx.a)):\n    pass",
        1,
        21,
        "range() is a Python function: it can be called with constants only, or made @inline",
    ),
    (
        "for i in ctx.a:\n    pass",
        1,
        14,
        "a loop goes over range(...) or a tuple of constants, not a place of type i64",
    ),
    ("for i in range(0, 10, 0):\n    pass", 1, 27, "the step must be a constant, and not 0"),
    ("x = big()", -5, 16, "name 'nope' is not defined"),
    (
        "b = Big()\nh3['x'] = 1",
        2,
        8,
        "300 more bytes do not fit the stack: 304 of 512 are in use; keep big data in a PerCpuArray(T, 1) and look it up",
    ),
    ("return max(ctx.a, ctx.c)", 1, 23, "comparison of i64 with u64: cast one side (i64(x) or u64(x))"),
    ("return ctx.a is ctx.b", 1, 12, "'is' compares with None only: use '=='"),
    ("x = (lambda: 1)()", 1, 10, "'lambda' is not part of the language: define an @inline function"),
    ("x, y = 1, 2, 3", 1, 12, "3 values for 2 targets"),
    ("del ctx.a", 1, 9, "only an entry of a map can be deleted: del m[k]"),
    ("del a[1]", 1, 9, "an entry of Array a always exists and cannot be deleted"),
    ("ring.output(5)", 1, 17, "memory is wanted here, not 5: give a Struct, an array or addr(x)"),
    ("return ring.lookup(1)", 1, 12, "RingBuf ring has no lookup() (has: output, reserve)"),
    ("progs[1] += 2", 1, 5, "entries of ProgArray progs cannot be changed by a program"),
    ("return 1 in ring", 1, 17, "'in' does not look into RingBuf ring"),
    ("h2[1] += 1", 1, 5, "the values of h2 are S, not numbers: use lookup()"),
    ("a[1] *= 2", 1, 5, "there is no atomic operation for this: use lookup() and change the value"),
    ("x = ktime_get_ns + 1", 1, 9, "a number is wanted here, not <helper ktime_get_ns 5>"),
    (
        "d = current_task()\nd = h.lookup(1)",
        2,
        9,
        "variable 'd' is Ptr[task_struct] to kernel memory already and cannot become Ptr[u64] to memory",
    ),
    ("return h.lookup(1) < h.lookup(2)", 1, 12, "pointers have no order: compare with == or !="),
    ("probe_read_kernel(ctx.a, 9, 1)", 1, 30, "size 9 is outside of the memory's 8 bytes"),
    ("if h:\n    return 1", 1, 8, "Hash is always true: call it, or test a number or pointer"),
    ("return -h.lookup(1)", 1, 13, "a number is wanted here, not Ptr[u64] to memory"),
    ("ring.output(S(), 100)", 1, 22, "size 100 is outside of the record's 8 bytes"),
    ("f.x = 1", 1, 5, "<program f> has no attribute 'x'"),
    ("s = S()\ncopy(s, current_task())", 2, 13, "task_struct is laid out by the kernel: copy its fields"),
    ("x = 1 if ctx.a else S()", 1, 25, "the value is a place of type S here and 1 elsewhere"),
    ("x = two(*ctx)", 1, 13, "'*' is not part of the language here: write the elements out"),
    ("global x", 1, 5, "'global' is not part of the language: shared state lives in maps"),
    ("(x := 5)", 1, 5, "this has no effect: assign the value, or call something"),
    ("return lst", 1, 12, "lst is a list: compiled code knows integers, strings, tuples, types and maps"),
    ("with ctx.a as e:\n    pass", 1, 10, "'with' is for ring buffer records: with ring.reserve(T) as e"),
    ("x = u32(current_task())", 1, 9, "a pointer does not fit u32: use u64(p)"),
    ("return ctx", 1, 5, "a pointer cannot be returned to the kernel"),
    ("progs.lookup(1)", 1, 5, "ProgArray progs has no lookup(): see tail_call()"),
    ("s = S(q=1)", 1, 5, "struct S has no field 'q' (has: n, t)"),
    ("s = S(1)", 1, 11, "name the fields: S(field=value)"),
    ("x = ctx.a // ctx.c", 1, 9, "division of i64 with u64: cast one side (i64(x) or u64(x))"),
    ("h[1] = S()", 1, 12, "the value of h is a u64, not a place of type S"),
    ("return 5 in ctx.a", 1, 17, "'in' looks into a map, a tuple or a range, not a place of type i64"),
    ('s = S()\ns.t = "too long"', 2, 11, "the string has 8 bytes and does not fit char[4]"),
    ("x = 2 ** ctx.a", 1, 9, "'**' works on constants only"),
    ("x = ctx.a @ 2", 1, 9, "'@' is not part of the language"),
    (
        "for i in unroll(range(3)):\n    i += 1",
        2,
        9,
        "'i' is a compile-time value here: assign it to another variable first",
    ),
    ("x = True\nx = ctx.a", 2, 9, "variable 'x' is a bool: write bool(...), or annotate it where it is first assigned"),
    ("return ctx.a > (1 << 64)", 1, 21, "18446744073709551616 does not fit in 64 bits"),
    ("read_user(5, ctx.a)", 1, 15, "a place to write to is wanted here, not 5"),
    ("read_user(ctx.a)", 1, 5, "read_user() needs argument 'address'"),
    ("return sizeof(5)", 1, 19, "sizeof() takes a type or a place, not 5"),
    ('return offsetof(S, "zz")', 1, 12, "struct S has no field 'zz' (has: n, t)"),
    (
        "k = cast(Ptr[task_struct], ctx.a)\nh2[1] = k",
        2,
        13,
        "the value of h2 is a S, not Ptr[task_struct] to kernel memory",
    ),
    ("try:\n    pass\nexcept E:\n    pass", 1, 5, "the kernel has no exceptions: test results with 'if'"),
]


@pytest.mark.parametrize(
    ("body", "line", "column", "message"), CASES, ids=[case[0].splitlines()[-1][:40] for case in CASES]
)
def test_place_and_message(tmp_path, body, line, column, message):
    text = function_text(body, MORE)
    first = (PRELUDE + text).splitlines().index("def f(ctx: Ptr[C]):") + 1
    with pytest.raises(CompileError) as caught:
        lower(tmp_path, text)
    path, at_line, at_column, said = str(caught.value).split(":", 3)
    assert path.endswith(".py")
    assert (int(at_line) - first, int(at_column), said.strip()) == (line, column, message)
    source_line, mark = caught.value.details.splitlines()[:2]
    assert source_line == (PRELUDE + text).splitlines()[int(at_line) - 1]
    assert mark.index("^") == int(at_column) - 1
    assert "\n" not in str(caught.value)


def test_errors_in_inline_functions_name_the_call(tmp_path):
    more = "@inline\ndef inner(x):\n    return x.nope\n@inline\ndef outer(x):\n    return inner(x)\n"
    with pytest.raises(CompileError) as caught:
        lower(tmp_path, function_text("return outer(current_task())", more))
    assert "has no field 'nope'" in str(caught.value)
    details = caught.value.details
    assert details.count("called from here") == 2
    assert details.index("return inner(x)") < details.index("return outer(current_task())")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class S(Struct):\n    x: int\n", "S.x: <class 'int'> is not a type"),
        ("class S(Struct):\n    x: u32[0]\n", "the length must be a positive integer"),
        ("class S(Struct):\n    x: Later\n", "S.x: type 'Later' is not defined here"),
        ("class K(KStruct):\n    a: u32\nclass S(Struct):\n    k: K\n", "a Struct cannot hold a kernel type"),
        ("class K(KStruct):\n    a: u32\nm = Hash(K, u32, 1)\n", "cannot be a key"),
        ("m = Hash(u32, u32, 0)\n", "not a number of entries"),
        ("m = RingBuf(5000)\n", "not a power of two"),
        ("m = LpmTrie(u32, u32, 8)\n", "whose first field is a u32"),
        ("class Cfg(ConfigBase):\n    x: u8 = 256\n", "Cfg.x: 256 is not a value of u8"),
        ("class Cfg(ConfigBase):\n    x: u32[2] = (1, 2, 3)\n", "do not fit"),
        ("class Cfg(ConfigBase):\n    x: Ptr[u32] = 0\n", "a setting is a number"),
        ("@hook('fprobe/x')\ndef f(ctx):\n    return 0\n", "unknown program kind"),
        ("@hook()\ndef f(ctx):\n    return 0\n", "hook() takes sections"),
        ("@tracepoint('x')\ndef f(ctx):\n    return 0\n", "write category:name"),
        ("ktime_get_ns()\n", "can be called in compiled functions only"),
        ("@inline\ndef g():\n    pass\ng()\n", "cannot be called"),
        ("exists(1)\n", "has a meaning in compiled functions only"),
    ],
)
def test_module_level(tmp_path, text, message):
    with pytest.raises(CompileError) as caught:
        make_module(tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f():\n    return 0\n", "takes the context as its first parameter"),
        ("def f(ctx, a):\n    return 0\n", "a syscall program has no arguments"),
        ("def f(ctx, *a):\n    return 0\n", "*args are not part of the language"),
        ("def f(ctx, *, a):\n    return 0\n", "keyword-only parameters are not"),
        ("def f(ctx):\n    def g():\n        pass\n", "define it at module level"),
        ("def f(ctx):\n    return ctx.x\n", "struct context has no field 'x'"),
        ("def f(ctx: u32):\n    return 0\n", "the context is described by a Struct"),
        ("def f(ctx):\n    m = Array(u32, 1)\n", "cannot be"),
    ],
)
def test_signatures(tmp_path, text, message):
    with pytest.raises(CompileError) as caught:
        lower(tmp_path, "@hook('syscall')\n" + text)
    assert message in str(caught.value)


def test_unknown_context_of_tp_btf_arguments(tmp_path):
    with pytest.raises(CompileError, match="argument 'task' needs a type"):
        lower(tmp_path, "@tp_btf('sched_switch')\ndef f(ctx, task):\n    return 0\n")


def test_two_maps_of_one_name(tmp_path):
    text = "a = Hash(u32, u32, 1, name='m')\nb = Hash(u32, u32, 1, name='m')\n"
    with pytest.raises(CompileError, match="two maps are called 'm'"):
        lower(tmp_path, function_text("a.delete(1)\nb.delete(1)", text))


def test_map_without_name(tmp_path):
    with pytest.raises(CompileError, match="has no name"):
        lower(tmp_path, function_text("m[0].delete(1)", "m = (Hash(u32, u32, 1),)"))


def test_source_that_changed(tmp_path):
    module = make_module(tmp_path, function_text("return 1"))
    path = tmp_path / f"{module.__name__}.py"
    path.write_text("# another first line\n" + path.read_text())
    from lang_harness import programs_of

    from pybpf.lang import compile_functions

    with pytest.raises(CompileError, match="changed since it was imported"):
        compile_functions(programs_of(module))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("p = addr(S())\nreturn p.n", "this ends with the statement"),
        ("p = escape()\nreturn p.n", "a pointer to it cannot be returned"),
        ("p = same(S())\nreturn p.n", "a pointer to it cannot be returned"),
    ],
)
def test_pointers_do_not_outlive_what_they_point_to(tmp_path, body, message):
    more = MORE + "@inline\ndef escape():\n    s = S()\n    return addr(s)\n@inline\ndef same(s):\n    return addr(s)\n"
    with pytest.raises(CompileError, match=message):
        lower(tmp_path, function_text(body, more))
