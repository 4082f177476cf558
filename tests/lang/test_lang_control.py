# ruff: noqa: E501
"""while, loop(), global subprograms, locals beyond the stack, locks and the less common maps."""

from __future__ import annotations

import struct

import pytest
from lang_harness import context, evaluate, function_text, lower, object_of, world

from pybpf.errors import CompileError
from pybpf.lang.helpers import HELPERS
from pybpf.loader import Collection
from pybpf.object.reader import read_object

MORE = """
class Big(Struct):
    n: u64
    t: char[392]
class Wide(Struct):
    n: u64
    t: char[3001]
class Val(Struct):
    lock: SpinLock
    n: u64
class Pair(Struct):
    a: u32
    b: u32
h = Hash(u32, Val, 8)
q = Queue(Pair, 4)
st = Stack(u32, 4)
bloom = BloomFilter(u32, 16)
traces = StackTrace(16, depth=20)
perf = PerfEventArray(8)
cg = CgroupArray(2)
tasks = TaskStorage(u64)
lph = LruPerCpuHash(u32, u64, 8)
ring = RingBuf(4096)
@inline
def step(i, total):
    total.n += i
    return total.n > 20
@inline
def always(i, total):
    total.n += 1
@subprog(global_=True)
def mix(a: u32, p: Ptr[Pair]) -> i64:
    if not p:
        return -1
    return a * 10 + p.a
"""

BODIES = [
    ("i = 0\nn = 0\nwhile i < 10:\n    n += i\n    i += 2\nreturn n", 20),
    ("i = 9\nn = 0\nwhile i > 0 and n < 100:\n    i -= 1\n    n += i\nreturn n", 36),
    ("i: u32 = 0\nn = 0\nwhile i <= 4:\n    i += 1\n    if i == 3:\n        continue\n    n += i\nreturn n", 12),
    ("x = ctx.c\nn = 0\nwhile atmost(64) and x:\n    x >>= 1\n    n += 1\nreturn n", 9),
    ("n = 0\nwhile atmost(5):\n    n += 1\nreturn n", 5),
    ("n: u64 = 0\nwhile atmost(50) and n < ctx.c:\n    n += 1\n    if n == 7:\n        break\nreturn n", 7),
    (
        "n = 0\nwhile atmost(3):\n    for i in range(4):\n        if i == 2:\n            break\n        n += 1\nreturn n",
        6,
    ),
    ("t = Val()\nreturn loop(100, step, t) * 100 + t.n", 721),
    ("t = Val()\nreturn loop(4, always, t) * 10 + t.n", 44),
    ("t = Val()\nn = min(ctx.c, 16)\nif loop(n, always, t) == 16:\n    return t.n\nreturn 0", 16),
]


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_loops(tmp_path, body, expected):
    assert evaluate(tmp_path, body, MORE, c=300) == expected


def test_big_locals_are_kept_in_maps(tmp_path):
    body = "a = Big(n=1)\nb = Big(n=2)\nw = Wide(n=3)\nb.t[391] = 4\nw.t[3000] = 5\nb = Big(n=6)\n"
    w = world(tmp_path, body + "return a.n + b.n * 10 + w.n * 100 + b.t[391] + w.t[3000] * 1000 + w.t[5]", MORE)
    assert w.run() == 1 + 60 + 300 + 5000
    assert [m.name for m in w.unit.sorted_maps()] == ["scratch1_b", "scratch2_w"]


def test_big_temporaries_are_kept_in_maps_too(tmp_path):
    w = world(tmp_path, "a = Big(n=4)\nring.output(Big(n=7))\nring.output(Big(n=8))\nreturn a.n", MORE)
    assert w.run() == 4
    assert [record[0] for record in w.records] == [7, 8]
    assert [m.name for m in w.unit.sorted_maps()] == ["ring", "scratch1_Big", "scratch2_Big"]


def load(tmp_path, body, **fields):
    data = object_of(tmp_path, function_text(body, MORE))
    with Collection(read_object(data), ("f",)) as loaded:
        return loaded.programs["f"].test_run(ctx=context(**fields)).retval


NATIVE = [
    *BODIES,
    ("a = Big(n=1)\nb = Big(n=2)\nw = Wide(n=3)\nb.t[391] = 4\nreturn a.n + b.n + w.n + b.t[391]", 10),
    ("a = Big(n=4)\nif ring.output(Big(n=7)) == 0:\n    return a.n\nreturn 1", 4),
    ("b = Big()\nwith ring.reserve(Val) as e:\n    c = Big(n=5)\n    e.n = c.n\n    return c.n\nreturn 1", 5),
    ("lph[5] = 8\nif (p := lph.lookup(5)) and p[0] > 7:\n    return p[0]\nreturn 1", 8),
    (
        "n = 0\nx: u64 = 0\nwhile atmost(9) and (x := ctx.c >> n):\n    n += 1\nif not (p := lph.lookup(6)):\n    return n + x\nreturn p[0]",
        10,
    ),
    ("p = Pair(a=7)\nreturn mix(ctx.x, p) + mix(2, p)", 37 + 27),
    (
        "h[1] = Val(n=4)\nv = h.lookup(1)\nif v:\n    spin_lock(v.lock)\n    v.n += 1\n    spin_unlock(v.lock)\n    return v.n\nreturn 0",
        5,
    ),
    (
        "q.push(Pair(a=1, b=2))\nq.push(Pair(a=3))\np = Pair()\nif q.pop(p) == 0:\n    return p.a * 10 + p.b\nreturn 99",
        12,
    ),
    ("st.push(5)\nst.push(6, BPF_EXIST)\nreturn q.peek(Pair()) < 0", 1),
    ("lph[3] += 4\nreturn lph.get(3, 0)", 4),
    ("return kenum('bpf_func_id', 'BPF_FUNC_ringbuf_output') == 130 and not kenum_exists('bpf_func_id', 'nothing')", 1),
    ("if has(ringbuf_query):\n    return 4 + (sizeof(Val) == 16)\nreturn 0", 5),
    ("p = Pair(a=1, b=258)\nreturn addr(p.b) != None and cast(Ptr[u8], addr(p.b))[1]", 1),
]


@pytest.mark.native
@pytest.mark.parametrize(("body", "expected"), NATIVE)
def test_in_the_kernel(tmp_path, body, expected):
    assert load(tmp_path, body, c=300, x=3) == expected


@pytest.mark.native
def test_bit_fields_of_a_task(tmp_path):
    """SCHED_RESET_ON_FORK sets one bit of the task, next to others."""
    import os

    more = """
class task_struct___bits(KStruct, name="task_struct___bits"):
    sched_reset_on_fork: Bits[u32, 1]
    sched_contributes_to_load: Bits[u32, 1]
"""
    body = "t = cast(Ptr[task_struct___bits], current_task())\nreturn 2 + t.sched_reset_on_fork"
    text = function_text(body, more)
    probed = text.replace("current_task()", "u64(current_task())")
    with (
        Collection(read_object(object_of(tmp_path, text)), ("f",)) as typed,
        Collection(read_object(object_of(tmp_path, probed)), ("f",)) as untyped,
    ):
        programs = typed.programs["f"], untyped.programs["f"]
        assert [p.test_run(ctx=context()).retval for p in programs] == [2, 2]
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
            assert [p.test_run(ctx=context()).retval for p in programs] == [3, 3]
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.mark.native
def test_strings_and_slices_in_the_kernel(tmp_path):
    more = """
class R(Struct):
    name: char[16]
    args: char[256]
class Config(ConfigBase):
    prefix: char[16] = "py"
config = Config()
scratch = PerCpuArray(R, 1)
"""
    body = """
r = scratch.lookup(0)
if not r:
    return 1
copy(r.name, 'python3')
if not (startswith(r.name, config.prefix) and r.name == 'python3' and r.name in ('x', 'python3')):
    return 2
if not endswith(r.name, 'on3', min(ctx.c, 16)) or current_task().comm == '':
    return 3
off: u64 = 0
for i in range(8):
    if off > len(r.args) - 32:
        break
    if read_kernel(r.args[off:off + 32], ctx.d) == 0:
        return 4
    off += 32
ok, value = try_read(user(u64, 0)[0])
return off + ok
"""
    data = object_of(tmp_path, function_text(body, more))
    with Collection(read_object(data), ("f",)) as loaded:
        assert loaded.programs["f"].test_run(ctx=context(c=7)).retval == 256


@pytest.mark.native
def test_stacks_and_perf_buffers_load(tmp_path):
    text = (
        MORE
        + """
@tracepoint('sched:sched_switch')
def f(ctx):
    p = Pair(a=1)
    if perf.output(ctx, p) < 0:
        return 0
    return get_stackid(ctx, traces, BPF_F_USER_STACK)
"""
    )
    Collection(read_object(object_of(tmp_path, text)), ("f",)).close()
    text = (
        MORE
        + """
@hook('tp_btf/sched_switch')
def f(ctx):
    t = tasks.get(current_task(), 1)
    if t:
        t[0] += 3
    tasks.delete(current_task())
    return 0
@hook('raw_tp/x')
def g(ctx):
    bloom.push(77)
    return (bloom.peek(77) == 0) + 2 * (bloom.peek(78) == 0) + 4 * (current_task_under_cgroup(cg, 0) < 0)
"""
    )
    with Collection(read_object(object_of(tmp_path, text)), ("f", "g")) as loaded:
        assert loaded.programs["g"].test_run(ctx=bytes(96)).retval == 5


@pytest.mark.parametrize(
    ("body", "line", "col", "message"),
    [
        ("i = 0\nwhile i < 10:\n    i -= 1", 2, 5, "'while' has no bound"),
        ("i = 0\nwhile i < ctx.c:\n    i += 1", 2, 5, "'while' has no bound"),
        ("i = 0\nwhile i < 9:\n    if ctx.a:\n        continue\n    i += 1", 2, 5, "'while' has no bound"),
        ("i = 0\nwhile i < 9:\n    if ctx.a:\n        i += 1", 2, 5, "'while' has no bound"),
        ("mix(1, None)", 1, 12, "pointer may be None here"),
        ("v = Val()\nspin_lock(v.lock)", 2, 15, "a SpinLock on the stack is of no use to anybody"),
        ("spin_lock(ctx.a)", 1, 15, "a SpinLock in a map's value is wanted here"),
        ("q.lookup(1)", 1, 5, "Queue q has no lookup() (has: push, pop, peek)"),
        ("q.pop(ctx)", 1, 11, "a place of type Pair is wanted here"),
        ("q[1] = 2", 1, 5, "entries of Queue q cannot be set by a program"),
        ("tasks.get(7)", 1, 15, "an object that the verifier knows is wanted here, not 7"),
        ("perf.output(1, ctx.a)", 1, 17, "the program's context is wanted here, not 1"),
        ("cg.lookup(1)", 1, 5, "CgroupArray cg has no lookup(): see the helpers that take it"),
        ("return has(5)", 1, 16, "has() asks for a helper by name, not 5"),
        ("return kenum('a b', 'C')", 1, 18, "names are written as strings"),
    ],
)
def test_wrong_uses(tmp_path, body, line, col, message):
    with pytest.raises(CompileError) as error:
        lower(tmp_path, function_text(body, MORE))
    where, _, text = str(error.value).splitlines()[0].partition(": ")
    start = function_text("", MORE).count("\n") + 1
    assert message in text
    assert where.split(":")[1:] == [str(start + line), str(col)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m = StackTrace(4, depth=200)\n", "a depth of 200 is not in 1..127"),
    ],
)
def test_wrong_declarations(tmp_path, text, message):
    with pytest.raises(CompileError, match=message):
        lower(tmp_path, text + "@hook('raw_tp/x')\ndef f(ctx):\n    return g(ctx)\n")


def test_helpers_are_those_of_the_kernel():
    """Numbers by the running machine's header, as far as it goes."""
    import re

    try:
        with open("/usr/include/linux/bpf.h") as file:
            text = file.read()
    except OSError:
        pytest.skip("the kernel's headers are not installed")
    names = re.findall(r"^\s*FN\((\w+)(?:, \d+)?", text, re.M)
    assert names[1:3] == ["map_lookup_elem", "map_update_elem"]
    numbers = {name: number for number, name in enumerate(names)}
    assert all(numbers.get(name, helper.number) == helper.number for name, helper in HELPERS.items())
    left_out = {name for name in numbers if name not in HELPERS and numbers[name] < 212}
    assert left_out == {
        "unspec", "tail_call", "for_each_map_elem", "timer_set_callback", "find_vma", "loop", "kptr_xchg",
        "user_ringbuf_drain",
    }  # fmt: skip
    assert (HELPERS["ringbuf_output"].since, HELPERS["map_lookup_elem"].since) == ("5.8", "3.18")
    assert (HELPERS["strncmp"].since, HELPERS["cgrp_storage_delete"].since) == ("5.17", "6.2")
    assert struct.calcsize("Q") == 8


def test_the_context_inside_of_inline_functions(tmp_path):
    """The same code as with the context handed on; a subprogram has only what it is given."""
    text = """
@inline
def stack({0}):
    return get_stackid({1}, traces, BPF_F_USER_STACK)
@hook('raw_tp/sys_exit')
def f(ctx):
    return stack({0})
"""
    explicit, implicit = (
        read_object(object_of(tmp_path, MORE + text.format(*names))).programs["f"]
        for names in (("ctx", "ctx"), ("", "context()"))
    )
    assert implicit.insns == explicit.insns
    text = """
@subprog
def g(x: u64) -> i64:
    return get_stackid(context(), traces, 0)
@hook('raw_tp/sys_exit')
def f(ctx):
    return g(1)
"""
    with pytest.raises(CompileError, match="a subprogram has no context but"):
        object_of(tmp_path, MORE + text)
