"""Functions that the kernel calls back: in the interpreter, in the kernel, in the hands of libbpf."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time

import pytest
from lang_harness import World, function_text, lower, object_of

from pybpf.errors import CompileError
from pybpf.fold import fold
from pybpf.lang import ir
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.object.spec import RELOC_FUNC
from pybpf.vm import Vm

LOOPS = """
class Sum(Struct):
    n: u64
    last: u64
squares = Array(u64, 64)
@inline
def add(i, total, step, limit=1000):
    total.n += i * step
    total.last = i
    if total.n > limit:
        return 1
    squares[i] = i * i
    return 0
@inline
def nothing(i, p):
    p.n += 1
"""
BODY = """
total = Sum()
passes = loop(40, add, total, ctx.a + 3)
more = loop(ctx.c, add, total, 1, 100000)
loop(ctx.c, nothing, addr(total))
ctx.d = total.last
return total.n * 10000 + passes * 100 + more
"""


def model(a: int, c: int) -> tuple[int, int]:
    """What BODY does, in Python."""
    n = last = 0
    counts = []
    for count, step, limit in ((40, a + 3, 1000), (c, 1, 100000)):
        made = 0
        for i in range(count):
            made += 1
            n += i * step
            last = i
            if n > limit:
                break
        counts.append(made)
    return (n + c) * 10000 + counts[0] * 100 + counts[1], last


CASES = [(0, 5), (7, 0), (100, 64), (1, 20)]


def context(a: int, c: int) -> bytearray:
    return bytearray(struct.pack("<qqQQIiB7x", a, 0, c, 0, 0, 0, 0))


@pytest.mark.parametrize(("a", "c"), CASES)
@pytest.mark.parametrize("there", [0, 1])
def test_loop_both_ways(tmp_path, a, c, there):
    """With bpf_loop and, where the kernel has none, by the plain loop behind it."""
    spec = read_object(object_of(tmp_path, function_text(BODY, LOOPS)))
    relos = spec.programs["f"].core_relos
    code = bytearray(spec.programs["f"].insns)
    for index, *_ in relos:
        struct.pack_into("<i", code, index * 8 + 4, there)
    spec.programs["f"].insns = bytes(code)
    spec.programs["f"].core_relos = []
    vm = Vm(spec)
    ctx = context(a, c)
    expected, last = model(a, c)
    assert vm.run("f", ctx=ctx) == expected
    assert struct.unpack_from("<Q", ctx, 24)[0] == last
    done = [struct.unpack("<Q", vm.maps["squares"].lookup(struct.pack("<I", i)))[0] for i in range(4)]
    assert done[:2] == [0, 1]


@pytest.mark.native
def test_loop_in_the_kernel(tmp_path):
    spec = read_object(object_of(tmp_path, function_text(BODY, LOOPS)))
    for folded in (None, True):
        with Collection(spec, ("f",), fold=folded) as loaded:
            for a, c in CASES:
                run = loaded.programs["f"].test_run(ctx=bytes(context(a, c)))
                expected, last = model(a, c)
                assert (run.retval, struct.unpack_from("<Q", run.ctx, 24)[0]) == (expected, last)


def test_a_kernel_without_it_never_sees_the_callbacks(tmp_path):
    """As 5.10: the helper's enumerator is not there, so the call and what it refers to are cut out."""
    spec = read_object(object_of(tmp_path, function_text(BODY, LOOPS)))
    function = spec.programs["f"]
    code = bytearray(function.insns)
    for index, *_ in function.core_relos:
        struct.pack_into("<i", code, index * 8 + 4, 0)
    assert [r for r in function.relocs if r.kind == RELOC_FUNC]
    folded = fold(function, bytes(code), {}, {}, "little")
    assert folded is not None
    assert not [r for r in folded.relocs if r.kind == RELOC_FUNC]
    assert b"\x85\0\0\0\xb5\0\0\0" in bytes(code)
    assert b"\x85\0\0\0\xb5\0\0\0" not in folded.insns


def test_long_loops(tmp_path):
    """What no verifier would follow pass by pass."""
    text = function_text("t = Sum()\nn = loop(1 << 12, nothing, t)\nreturn t.n * 2 + (n == 1 << 12)", LOOPS)
    assert Vm(read_object(object_of(tmp_path, text))).run("f", ctx=context(0, 0)) == (2 << 12) + 1


@pytest.mark.native
def test_long_loops_in_the_kernel(tmp_path):
    text = function_text("t = Sum()\nn = loop(1 << 20, nothing, t)\nreturn t.n * 2 + (n == 1 << 20)", LOOPS)
    with Collection(read_object(object_of(tmp_path, text)), ("f",)) as loaded:
        assert loaded.programs["f"].test_run(ctx=bytes(context(0, 0))).retval == (2 << 20) + 1


EACH = """
class Sum(Struct):
    n: u64
    seen: u64
class Key(Struct):
    a: u32
    b: u32
table = Hash(Key, Sum, 16)
line = Array(u64, 8)
@inline
def entry(key, value, total, stop_at):
    total.n += key.a * 100 + value.n
    value.seen += 1
    total.seen += 1
    return total.seen == stop_at
@inline
def cell(key, value, total):
    total.n += value[0] * key[0]
"""
EACH_BODY = """
for i in range(5):
    k = Key(a=i, b=7)
    v = Sum(n=i)
    table[k] = v
    line[i] += i + 1
total = Sum()
made = table.for_each(entry, total, ctx.c)
cells = line.for_each(cell, total)
return total.n * 100 + u64(made) * 10 + u64(cells)
"""


def each_expected(stop: int) -> int:
    cells = sum((i + 1) * i for i in range(5))
    if stop:
        return -1
    return (sum(i * 100 + i for i in range(5)) + cells) * 100 + 50 + 8


def test_for_each(tmp_path):
    vm = Vm(read_object(object_of(tmp_path, function_text(EACH_BODY, EACH))))
    assert vm.run("f", ctx=context(0, 0)) == each_expected(0)
    vm = Vm(read_object(object_of(tmp_path, function_text(EACH_BODY, EACH))))
    assert vm.run("f", ctx=context(0, 2)) // 10 % 10 == 2


@pytest.mark.native
def test_for_each_in_the_kernel(tmp_path):
    data = object_of(tmp_path, function_text(EACH_BODY, EACH))
    with Collection(read_object(data), ("f",)) as loaded:
        assert loaded.programs["f"].test_run(ctx=bytes(context(0, 0))).retval == each_expected(0)
    with Collection(read_object(data), ("f",)) as loaded:
        assert loaded.programs["f"].test_run(ctx=bytes(context(0, 3))).retval // 10 % 10 == 3


TIMERS = """
class Job(Struct):
    timer: Timer
    runs: u64
    last: u64
jobs = Hash(u32, Job, 4)
@inline
def fired(key, job):
    job.runs += 1
    job.last = key[0] * 100 + job.runs
    if job.runs < 3:
        timer_start(job.timer, 1000000)
@tc
def f(skb):
    k: u32 = 7
    jobs.update(k, Job(), BPF_NOEXIST)
    job = jobs.lookup(k)
    if not job:
        return 1
    if timer_init(job.timer, jobs, CLOCK_MONOTONIC) != 0:
        return 2
    if timer_set_callback(job.timer, jobs, fired) != 0:
        return 3
    if timer_start(job.timer, 1000000) != 0:
        return 4
    return 0
"""


def test_timers_in_the_interpreter(tmp_path):
    vm = Vm(read_object(object_of(tmp_path, TIMERS)))
    assert vm.run("f", packet=bytes(64)) == 0
    assert vm.run("f", packet=bytes(64)) == 2  # it is there already
    assert vm.run_timers(500_000) == 0
    for passed in range(1, 5):
        assert vm.run_timers(1_000_000) == (passed <= 3)
    assert struct.unpack_from("<QQ", vm.maps["jobs"].lookup(struct.pack("<I", 7)), 16) == (3, 703)


def test_timers_go_with_their_entry(tmp_path):
    vm = Vm(read_object(object_of(tmp_path, TIMERS)))
    assert vm.run("f", packet=bytes(64)) == 0
    assert vm.maps["jobs"].delete(struct.pack("<I", 7))
    assert vm.run_timers(1 << 40) == 0


@pytest.mark.native
def test_timers_run(tmp_path):
    with Collection(read_object(object_of(tmp_path, TIMERS)), ("f",)) as loaded:
        assert loaded.programs["f"].test_run(data=bytes(64)).retval == 0
        deadline = time.monotonic() + 10
        value = b""
        while time.monotonic() < deadline:
            value = loaded.maps["jobs"].lookup(struct.pack("<I", 7)) or b""
            if struct.unpack_from("<Q", value, 16)[0] == 3:
                break
            time.sleep(0.005)
        assert struct.unpack_from("<QQ", value, 16) == (3, 703)


def test_timer_callbacks_take_no_data(tmp_path):
    text = TIMERS.replace("timer_set_callback(job.timer, jobs, fired)", "timer_set_callback(job.timer, fired, jobs)")
    with pytest.raises(CompileError, match="the map that holds the timer is wanted here"):
        lower(tmp_path, text)


VMA = """
from pybpf.ktypes import vm_area_struct
class Found(Struct):
    start: u64
    end: u64
    pid: u64
found = Array(Found, 1)
@inline
def area(task, vma, wanted):
    f = found.lookup(0)
    if f and wanted >= vma.vm_start:
        f.start = vma.vm_start
        f.end = vma.vm_end
        f.pid = task.tgid
@tp_btf('sys_enter')
def f(ctx, regs: u64, nr: i64):
    if pid() == PID and nr == 39 and has(find_vma):
        find_vma(current_task(), ADDRESS, area, u64(ADDRESS))
    return 0
"""


@pytest.mark.native
def test_find_vma(tmp_path):
    with open("/proc/self/maps") as file:
        first = file.readline().split()[0]
    start, end = (int(number, 16) for number in first.split("-"))
    text = VMA.replace("PID", str(os.getpid())).replace("ADDRESS", hex(start + 8))
    from pybpf.links import attach

    with Collection(read_object(object_of(tmp_path, text)), ("f",)) as loaded:
        with attach(loaded.programs["f"]):
            os.getppid()
            os.getpid()
            import ctypes

            ctypes.CDLL(None).syscall(39)
        value = struct.unpack("<QQQ", loaded.maps["found"].lookup(bytes(4)))
    assert value == (start, end, os.getpid())


@pytest.mark.native
@pytest.mark.skipif(shutil.which("bpftool") is None, reason="bpftool is not installed")
@pytest.mark.parametrize(("name", "text"), [("loop", function_text(BODY, LOOPS)), ("timer", TIMERS)])
def test_libbpf_loads_callbacks(tmp_path, name, text):
    if not os.path.ismount("/sys/fs/bpf"):
        pytest.skip("no bpffs is mounted at /sys/fs/bpf")
    path, where = tmp_path / "x.o", f"/sys/fs/bpf/pybpf_callbacks_{name}_{os.getpid()}"
    path.write_bytes(object_of(tmp_path, text))
    try:
        done = subprocess.run(["bpftool", "prog", "load", path, where], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    finally:
        if os.path.exists(where):
            os.unlink(where)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("loop(1 << 24, nothing, ctx)", "16777216 passes are more than the kernel makes (8388608)"),
        ("loop(ctx.a, nothing, ctx)", "the number of passes is unsigned"),
        ("loop(5, len)", "loop() calls an @inline function, not"),
        ("loop(5, nothing)", "nothing() needs argument 'p'"),
        ("squares.for_each(nothing, 5)", "nothing() has 2 parameters, but is called with 3"),
        ("squares.for_each(nothing, size=3)", "takes an @inline function and its further arguments"),
        ("squares.delete(3)", "Array squares has no delete() (has: lookup, update, get, for_each)"),
    ],
)
def test_wrong_uses(tmp_path, body, message):
    with pytest.raises(CompileError) as error:
        lower(tmp_path, function_text(body, LOOPS))
    assert message in str(error.value)


def test_recursion_is_refused(tmp_path):
    text = function_text("return loop(3, again)", "@inline\ndef again(i):\n    loop(2, again)\n    return 0\n")
    with pytest.raises(CompileError, match="again calls itself"):
        lower(tmp_path, text)


def test_model_of_the_plain_way(tmp_path):
    """The IR interpreter takes the plain loop: its world has no bpf_loop."""
    assert (
        World(lower(tmp_path, function_text("t = Sum()\nloop(4, nothing, t)\nreturn t.n", LOOPS)), bytes(48)).run() == 4
    )
    unit = lower(tmp_path, function_text("t = Sum()\nloop(4, nothing, t)\nreturn t.n", LOOPS))
    assert [i.ref for f in unit.functions for b in f.blocks for i in b.ins if i.op == ir.FUNC] == ["nothing__1"]
