"""Compiled programs in the kernel: what the verifier says, and what they do."""

from __future__ import annotations

import importlib
import os
import shutil
import struct
import subprocess

import pytest
from lang_harness import HEAD, context, function_text, make_module, object_of, programs_of

from pybpf.errors import VerifierError
from pybpf.lang.compile import compile_functions
from pybpf.links import attach
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.ringbuf import RingBuffer

pytestmark = pytest.mark.native

MORE = """
class Key(Struct):
    a: u8
    b: u32
class Val(Struct):
    n: u64
    t: char[16]
class Rec(Struct):
    a: u8
    b: u64
    t: char[16]
h = Hash(u32, u64, 8)
s = Hash(Key, Val, 8)
arr = Array(u64, 8)
pc = PerCpuArray(Rec, 1)
lru = LruHash(u32, u64, 8)
ph = PerCpuHash(u32, u64, 8)
trie = LpmTrie(Key2, u32, 8) if False else Array(u32, 2)
ring = RingBuf(4096)
class Config(ConfigBase):
    limit: u32 = 5
    table: u16[4] = (1, 2, 3)
config = Config()
"""


def load(data: bytes, *names: str, **settings: int) -> Collection:
    spec = read_object(data)
    for name, value in settings.items():
        spec.set(name, value)
    return Collection(spec, names)


def run(tmp_path, body: str, more: str = MORE, settings: dict | None = None, **fields) -> int:
    """The program's result (32 bits) in the kernel."""
    data = object_of(tmp_path, function_text(body, more))
    with load(data, "f", **(settings or {})) as loaded:
        return loaded.programs["f"].test_run(ctx=context(**fields)).retval


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("h[1] = 4\np = h.lookup(1)\nif p:\n    p[0] += 2\nreturn h.get(1, 0) + h.get(2, 100)", 106),
        ("h[3] += 5\nh[3] += 5\narr[1] |= 6\nph[1] += 1\nlru[2] -= 1\nreturn h.get(3, 0) + arr.get(1, 0)", 16),
        ("k = Key(a=1)\nk.b = ctx.x\ns[k] = Val(n=5, t='ab')\ndel h[9]\nif k in s:\n    return 3\nreturn 4", 3),
        ("return config.limit + config.table[ctx.x & 3]", 5 + 2),
        ("n: u64 = 0\nfor i in range(min(ctx.c, 16)):\n    n += i\nreturn n", 36),
        ("n = 0\nfor i in unroll(range(12)):\n    k = Key(b=i)\n    n += k.b\nreturn n", 66),
        ("r = pc.lookup(0)\nif not r:\n    return 1\nr.t[ctx.x & 15] = 7\nreturn r.t[1]", 7),
        ("r = pc.lookup(0)\nif not r:\n    return 1\ncomm(r.t)\nreturn r.t[0] != 0", 1),
        ("r = Rec()\ncomm(r.t)\nv = Val()\ncopy(v.t, r.t)\nreturn v.t[0] == r.t[0]", 1),
        ("return current_task().tgid == pid() and current_task().pid == tid()", 1),
        ("t = current_task()\nreturn t.real_parent.tgid == t.group_leader.real_parent.tgid", 1),
        ("t = current_task()\nlevel = t.thread_pid.level\nreturn t.thread_pid.numbers[level].nr > 0", 1),
        ("ctx.a = ctx.a // ctx.b\nreturn ctx.a", (-4) & 0xFFFFFFFF),
        ("return ctx.a in (6, -7)", 1),
        (
            "with ring.reserve(Rec) as e:\n    e.b = 1\n    if ctx.a:\n        e.discard()\n        return 8\nreturn 9",
            8,
        ),
        ("return read_kernel(u64, 0) + strncmp(b'ab', 2, 'ab')", 0),
    ],
)
def test_bodies(tmp_path, body, expected):
    assert run(tmp_path, body, a=-7, b=2, c=9, x=1) == expected


def test_settings_are_read(tmp_path):
    body = "if config.limit:\n    return config.limit + 1\nreturn 0"
    assert run(tmp_path, body, settings={"limit": 41}) == 42
    assert run(tmp_path, body, settings={"limit": 0}) == 0


def test_subprogram(tmp_path):
    more = MORE + "@subprog\ndef add(p: Ptr[Val], n: u32) -> i64:\n    p.n += n\n    return i64(p.n) - 100\n"
    assert run(tmp_path, "v = Val(n=1)\nx = add(v, ctx.x)\nreturn add(v, 2) + x + v.n + 200", more, x=5) == 22


def test_ring_buffer(tmp_path):
    body = """
with ring.reserve(Rec) as e:
    e.a = ctx.z
    e.b = pid()
    comm(e.t)
r = Rec(a=9)
ring.output(r, 1)
return ringbuf_query(ring, BPF_RB_AVAIL_DATA)
"""
    data = object_of(tmp_path, function_text(body, MORE))
    with load(data, "f") as loaded, RingBuffer(loaded.maps["ring"]) as ring:
        waiting = loaded.programs["f"].test_run(ctx=context(z=4)).retval
        records = []
        ring.drain(records)
        assert waiting == 8 + 32 + 8 + 8
        assert records[0][:16] == struct.pack("<BxxxxxxxQ", 4, os.getpid())
        assert records[1][:1] == b"\x09"


TASK = """
from pybpf.ktypes import pt_regs, task_struct
class Got(Struct):
    nr: u64
    tgid: u32
    parent: u32
    level_nr: u32
    comm: char[16]
    node: char[65]
class Config(ConfigBase):
    wanted: u32 = 0
config = Config()
ring = RingBuf(65536)
@hook("tp_btf/sys_exit", "raw_tp/sys_exit")
def seen(ctx, regs: Ptr[pt_regs], result: i64):
    task = current_task()
    if task.tgid != config.wanted:
        return 0
    level = task.thread_pid.level
    with ring.reserve(Got) as g:
        g.nr = regs.orig_ax
        g.tgid = task.tgid
        g.parent = task.real_parent.tgid
        g.level_nr = task.thread_pid.numbers[level].nr
        copy(g.comm, task.comm)
        copy(g.node, task.nsproxy.uts_ns.name.nodename)
    return 0
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="reads the registers of x86-64")
@pytest.mark.parametrize("name", ["seen", "seen__raw_tp"])
def test_kernel_memory_both_ways(tmp_path, name):
    """Typed pointers and probe reads find the same values."""
    data = object_of(tmp_path, TASK)
    with load(data, name, wanted=os.getpid()) as loaded, RingBuffer(loaded.maps["ring"]) as ring:
        with attach(loaded.programs[name]):
            os.getppid()
        records: list[bytes] = []
        ring.drain(records)
    found = [record for record in records if struct.unpack_from("<Q", record)[0] == 110]
    assert found
    nr, tgid, parent, level_nr, comm, node = struct.unpack_from("<QIII16s65s", found[0])
    assert (nr, tgid, parent, level_nr) == (110, os.getpid(), os.getppid(), os.getpid())
    with open("/proc/self/comm") as file:
        assert comm.rstrip(b"\0").decode() == file.read().strip()
    assert node.split(b"\0")[0].decode() == os.uname().nodename


def test_tail_call(tmp_path):
    text = f"""{HEAD}
calls = ProgArray(4)
hits = Array(u64, 1)
@hook("raw_tp/x")
def first(ctx):
    tail_call(ctx, calls, ctx.args[0] & 3)
    return 1
@hook("raw_tp/x")
def second(ctx):
    hits[0] += 1
    return 2
"""
    with load(object_of(tmp_path, text), "first", "second") as loaded:
        loaded.maps["calls"].update(struct.pack("<I", 2), struct.pack("<I", loaded.programs["second"].fd))
        for number in (2, 3):
            loaded.programs["first"].test_run(ctx=struct.pack("<Q", number))
        assert struct.unpack("<Q", loaded.maps["hits"].lookup(bytes(4))) == (1,)


def test_longest_prefix(tmp_path):
    more = """
class Prefix(Struct):
    bits: u32
    data: char[12]
trie = LpmTrie(Prefix, u32, 8)
"""
    body = """
@hook('raw_tp/x')
def f(ctx):
    trie[Prefix(bits=16, data='ab')] = 7
    found = trie.lookup(Prefix(bits=ctx.args[0], data='abcd'))
    if found:
        return found[0]
    return 0
"""
    with load(object_of(tmp_path, more + body), "f") as loaded:
        # A context that is too short makes the kernel refuse the run.
        results = [loaded.programs["f"].test_run(ctx=struct.pack("<12Q", bits, *[0] * 11)).retval for bits in (32, 8)]
    assert results == [7, 0]


def test_flavours_of_other_kernels_do_not_hinder(tmp_path):
    """A branch on a field that is not there may read it: the verifier never gets there."""
    more = """
from pybpf.ktypes import task_struct
class task_struct___none(KStruct):
    no_such_field: u64
"""
    body = """
t = current_task()
old = cast(Ptr[task_struct___none], t)
if exists(old.no_such_field):
    return old.no_such_field
return 6
"""
    assert run(tmp_path, body, more) == 6


def _programs(which: int, tmp_path, settings: bool) -> bytes:
    import programs

    # The other objects' programs hook functions, which not every kernel lets programs do.
    modules = programs.OBJECTS[programs.OBJECT]
    found = [program for name in modules for program in programs_of(importlib.import_module(name))]
    # Each alternative on its own, as a loader would choose.
    kept = [program.sections for program in found]
    try:
        for program in found:
            program.sections = program.sections[which : which + 1]
        return compile_functions([one for one in found if one.sections])
    finally:
        for program, sections in zip(found, kept):
            program.sections = sections


@pytest.mark.parametrize("which", [0, 1], ids=["typed", "probed"])
@pytest.mark.parametrize("settings", [False, True], ids=["off", "on"])
def test_shipped_programs_load(tmp_path, which, settings):
    data = _programs(which, tmp_path, settings)
    spec = read_object(data)
    for name, variable in spec.variables.items():
        if settings:
            spec.set(name, 1 if variable.size <= 8 else struct.pack("<8I", 4, 5, 60, 61, 1, 2, 3, 255))
    names = [name for name, program in spec.programs.items() if program.section != ".text"]
    with Collection(spec, names) as loaded:
        assert set(loaded.programs) == set(names)
        assert loaded.btf_error is None


@pytest.mark.skipif(shutil.which("bpftool") is None, reason="bpftool is not installed")
@pytest.mark.parametrize("which", [0, 1], ids=["typed", "probed"])
def test_shipped_programs_load_with_libbpf(tmp_path, which):
    path = tmp_path / "programs.o"
    path.write_bytes(_programs(which, tmp_path, False))
    if not os.path.ismount("/sys/fs/bpf"):
        pytest.skip("bpffs is not mounted at /sys/fs/bpf")
    where = f"/sys/fs/bpf/pybpf_test_{os.getpid()}"
    try:
        done = subprocess.run(["bpftool", "prog", "loadall", path, where], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    finally:
        shutil.rmtree(where, ignore_errors=True)


def test_objects_are_reproducible(tmp_path):
    """The same sources give the same bytes, also in another interpreter with another hash seed."""
    script = (
        "import sys, programs; from pybpf.lang import compile_modules; "
        "sys.stdout.buffer.write(compile_modules(programs.OBJECTS[programs.OBJECT]))"
    )
    outputs = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()}
        done = subprocess.run(
            [os.sys.executable, "-c", script], capture_output=True, check=True, env=environment, cwd=os.getcwd()
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_zip_archive(tmp_path):
    """Sources inside a zip archive are read through their loader."""
    import sys
    import zipfile

    archive = tmp_path / "dsl.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_dsl.py", "from pybpf.lang import *\n@hook('syscall')\ndef f(ctx):\n    return 5\n")
    sys.path.insert(0, str(archive))
    try:
        module = importlib.import_module("zipped_dsl")
        data = compile_functions(programs_of(module))
    finally:
        sys.path.remove(str(archive))
    with load(data, "f") as loaded:
        assert loaded.programs["f"].test_run().retval == 5
    assert make_module  # the harness writes plain files


def test_format_strings(tmp_path):
    """Loaded, not run: it would write to the trace of the whole system."""
    data = object_of(tmp_path, function_text("trace_printk('x %d %s', ctx.x, 5)\nreturn 0"))
    load(data, "f").close()


def test_a_rejection_names_the_source_of_an_object_without_lines(tmp_path):
    """The object is read again, and only then."""
    text = """
class Value(Struct):
    table: u64[8]
values = Array(Value, 1)
@tc
def f(skb):
    v = values.lookup(0)
    return v.table[skb.len] if v else 0
"""
    data = object_of(tmp_path, text)
    asked = []

    def again():
        asked.append(1)
        return read_object(data, ["f"])

    for more in ({}, {"again": again}):
        with pytest.raises(VerifierError) as info, Collection(read_object(data, ["f"], lines=False), ["f"], **more):
            pass
        assert (".py:" in str(info.value)) == bool(more)
    assert asked
