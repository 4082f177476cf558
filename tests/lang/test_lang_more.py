"""64-bit enums, reads that may sleep, global subprograms with contexts, prefixes that are known at run time only."""

from __future__ import annotations

import ctypes
import struct

import pytest
from lang_harness import lower, object_of

from btf.builder import Builder
from btf.reader import Btf
from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.vm import Vm

WIDE = """
class Out(Struct):
    a: u64
    b: u64
@syscall
def f(ctx: Ptr[Out]):
    ctx.a = kenum64("wide_enum", "WIDE_B")
    if kenum_exists("wide_enum", "WIDE_B"):
        ctx.b = kenum("wide_enum", "NARROW")
    return 0
"""


def test_wide_enums(tmp_path):
    builder = Builder()
    builder.enum64("wide_enum", 8, [("NARROW", 3), ("WIDE_B", 0x1234_5678_9ABC_DEF0)])
    ctx = bytearray(16)
    vm = Vm(read_object(object_of(tmp_path, WIDE)), core=Btf(builder.to_bytes()))
    assert vm.run("f", ctx=ctx) == 0
    assert struct.unpack("<QQ", ctx) == (0x1234_5678_9ABC_DEF0, 3)


KERNEL_ENUM = """
class Out(Struct):
    a: u64
    b: u64
@syscall
def f(ctx: Ptr[Out]):
    if kenum_exists("NAME", "VALUE"):
        ctx.a = kenum64("NAME", "VALUE")
    return 0
"""


@pytest.mark.native
def test_wide_enums_of_this_kernel(tmp_path):
    """A value that does not fit 32 bits, if the kernel has any; else one that does, through the wide instruction."""
    from btf.format import KIND_ENUM, KIND_ENUM64

    with Btf.kernel() as btf:
        name, label, value = "bpf_func_id", "BPF_FUNC_loop", 181
        for number in range(1, btf.type_count):
            if btf.kind(number) == KIND_ENUM64 and btf.name(number):
                label, value = btf.enumerators(number)[-1]
                name = btf.name(number)
                if value >> 32:
                    break
        assert btf.find(name, (KIND_ENUM, KIND_ENUM64))
    text = KERNEL_ENUM.replace("NAME", name).replace("VALUE", label)
    with Collection(read_object(object_of(tmp_path, text)), ("f",)) as loaded:
        got = struct.unpack("<QQ", loaded.programs["f"].test_run(ctx=bytes(16)).ctx)[0]
    assert got == value & (1 << 64) - 1


SLEEPS = """
class Out(Struct):
    address: u64
    got: u64
    result: i64
    text: char[8]
class Text(Struct):
    text: char[8]
class There(Struct):
    a: u32
    b: u32
@syscall
def f(ctx: Ptr[Out]):
    there = user(There, ctx.address)
    ctx.got = there.b
    text = Text()
    ctx.result = read_user(text.text, ctx.address)
    copy(ctx.text, text.text)
    return 0
"""


def test_programs_that_may_sleep_wait_for_pages(tmp_path):
    helpers = [
        [i.imm for b in lower(tmp_path, text).functions[-1].blocks for i in b.ins if i.op == ir.CALL]
        for text in (SLEEPS, SLEEPS.replace("@syscall", "@tc"))
    ]
    assert helpers == [[148, 148], [112, 112]]


@pytest.mark.native
def test_reads_that_may_sleep(tmp_path):
    buffer = ctypes.create_string_buffer(b"abcdefg")
    with Collection(read_object(object_of(tmp_path, SLEEPS)), ("f",)) as loaded:
        run = loaded.programs["f"].test_run
        ctx = run(ctx=struct.pack("<QQq8s", ctypes.addressof(buffer), 0, 0, b"")).ctx
        assert struct.unpack("<QQq8s", ctx)[1:] == (int.from_bytes(b"efg\0", "little"), 0, b"abcdefg\0")
        ctx = run(ctx=struct.pack("<QQq8s", 8, 0, 0, b"x" * 8)).ctx
        assert struct.unpack("<QQq8s", ctx)[1:] == (0, -14, bytes(8))


GLOBAL = """
from pybpf.ktypes import task_struct
class Sum(Struct):
    n: u64
@subprog(global_=True)
def length(ctx, p: Ptr[Sum], times: u32) -> u64:
    if p:
        p.n += ctx.LENGTH * times
        return p.n
    return 0
@subprog(global_=True)
def parent(task: Ptr[task_struct]) -> u32:
    return task.tgid
@KIND
def f(skb):
    s = Sum(n=1)
    return length(skb, s, 2) + length(skb, s, 1)
"""


@pytest.mark.native
@pytest.mark.parametrize(("kind", "field"), [("tc", "len"), ("xdp", "rx_queue_index"), ("cgroup('skb/egress')", "len")])
def test_global_subprograms_take_contexts(tmp_path, kind, field):
    text = GLOBAL.replace("KIND", kind).replace("LENGTH", field)
    if kind.startswith("cgroup"):
        text = text.replace("return length(skb, s, 2) + length(skb, s, 1)", "return length(skb, s, 2) > 100")
    with Collection(read_object(object_of(tmp_path, text)), ("f",)) as loaded:
        assert loaded.btf_error is None
        if kind == "tc":
            size = loaded.programs["f"].test_run(data=bytes(64)).retval
            assert size in (1 + 64 * 2 + 1 + 64 * 3, 1 + 50 * 2 + 1 + 50 * 3)


PROBES = """
from pybpf.ktypes import task_struct
@subprog(global_=True)
def first(ctx) -> u64:
    return ctx.arg(0)
@subprog(global_=True)
def parent(task: Ptr[task_struct]) -> u32:
    return task.tgid
@kprobe('do_unlinkat')
def f(ctx):
    return first(ctx) + parent(current_task())
"""


@pytest.mark.native
def test_global_subprograms_of_probes(tmp_path):
    with Collection(read_object(object_of(tmp_path, PROBES)), ("f",)) as loaded:
        assert loaded.btf_error is None


def test_contexts_without_a_name(tmp_path):
    text = "@subprog(global_=True)\ndef g(ctx) -> u64:\n    return 1\n"
    text += "@tp_btf('sys_enter')\ndef f(ctx):\n    return g(ctx)\n"
    with pytest.raises(CompileError, match="a global subprogram of tp_btf programs cannot take the context"):
        lower(tmp_path, text)


PREFIXES = """
class Key(Struct):
    bits: u32
    text: char[32]
class In(Struct):
    path: char[24]
    result: u64
class Long(Struct):
    text: char[64]
prefixes = LpmTrie(Key, u32, 16)
big = LpmTrie(Key, u32, 16)
cases = Array(In, 1)
@tc
def f(skb):
    e = cases.lookup(0)
    if not e:
        return 1
    e.result = startswith(e.path, prefixes) * 2
    if startswith(e.path, prefixes) and not startswith(e.path, big):
        e.result += 1
    v = Long()
    copy(v.text, e.path)
    e.result += startswith(v.text, prefixes) * 10
    return 0
"""
PATHS = [
    (b"/etc/passwd", 13),
    (b"/etc", 0),
    (b"/usr/bin/x", 13),
    (b"/usr/lib", 0),
    (b"", 0),
    (b"/etc/" + b"x" * 19, 13),
]


def entries() -> list[bytes]:
    return [struct.pack("<I32s", len(text) * 8, text) for text in (b"/etc/", b"/usr/bin/")]


@pytest.mark.parametrize(("path", "expected"), PATHS)
def test_prefixes_known_at_run_time(tmp_path, path, expected):
    vm = Vm(read_object(object_of(tmp_path, PREFIXES)))
    for key in entries():
        vm.maps["prefixes"].update(key, bytes(4))
    vm.maps["cases"].update(bytes(4), struct.pack("<24sQ", path, 0))
    assert vm.run("f", packet=bytes(64)) == 0
    assert struct.unpack_from("<Q", vm.maps["cases"].lookup(bytes(4)), 24)[0] == expected


@pytest.mark.native
def test_prefixes_known_at_run_time_in_the_kernel(tmp_path):
    with Collection(read_object(object_of(tmp_path, PREFIXES)), ("f",)) as loaded:
        for key in entries():
            loaded.maps["prefixes"].update(key, bytes(4))
        for path, expected in PATHS:
            loaded.maps["cases"].update(bytes(4), struct.pack("<24sQ", path, 0))
            assert loaded.programs["f"].test_run(data=bytes(64)).retval == 0
            assert struct.unpack_from("<Q", loaded.maps["cases"].lookup(bytes(4)), 24)[0] == expected, path


def test_tries_of_something_else(tmp_path):
    text = PREFIXES.replace("    bits: u32\n    text: char[32]", "    bits: u32\n    text: u32")
    with pytest.raises(CompileError, match="the key of prefixes is not a u32 and a char"):
        lower(tmp_path, text)
