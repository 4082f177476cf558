"""Functions that call each other share the kernel's 512 bytes of stack and its 8 frames."""

from __future__ import annotations

import pytest
from lang_harness import function_text, object_of

from pybpf.errors import CompileError
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.vm import Vm

SHARED = """
class Big(Struct):
    a: u64[40]
class Small(Struct):
    a: u64[7]
@subprog
def big(x: u64) -> u64:
    b = Big()
    b.a[x & 31] = 3
    return b.a[1] + b.a[2] + x
@subprog
def again(x: u64) -> u64:
    return again(x - 1) if x else 0
@subprog
def one(x: u64) -> u64:
    return other(x)
@subprog
def other(x: u64) -> u64:
    return one(x)
"""
SUMS = " + ".join(f"v{n}.a[ctx.c & 3]" for n in range(7))
SMALL = "".join(f"    v{n} = Small()\n    v{n}.a[x & 3] = x\n" for n in range(7))
NESTED = "@subprog\ndef g0(x: u64) -> u64:\n    return x\n" + "".join(
    f"@subprog\ndef g{n}(x: u64) -> u64:\n    return g{n - 1}(x + {n}) * 2\n" for n in range(1, 9)
)
BODY = "b = Big()\nb.a[ctx.c & 31] = 5\nreturn b.a[1] * 100 + big(ctx.c)"


def context(c):
    return bytearray(c.to_bytes(24, "little")[::-1][:16] + c.to_bytes(8, "little") + bytes(24))


def spec_of(tmp_path, body, more=SHARED):
    return read_object(object_of(tmp_path, function_text(body, more)))


def test_objects_go_to_maps_until_the_chain_fits(tmp_path):
    spec = spec_of(tmp_path, BODY)
    assert [name for name in spec.maps if name.startswith("scratch")]
    assert Vm(spec).run("f", ctx=context(1)) == 500 + 3 + 1


@pytest.mark.native
def test_the_kernel_takes_it(tmp_path):
    with Collection(spec_of(tmp_path, BODY), ("f",)) as loaded:
        assert loaded.programs["f"].test_run(ctx=bytes(context(1))).retval == 504


def test_nothing_changes_where_the_stack_is_enough(tmp_path):
    assert not spec_of(tmp_path, "return big(ctx.c)").maps


def test_too_many_small_objects_are_an_error(tmp_path):
    small = SMALL + f"    return {SUMS.replace('ctx.c', 'x')}\n"
    more = f"{SHARED}@subprog\ndef h(x: u64) -> u64:\n{small}"
    body = SMALL.replace("    v", "v").replace("[x & 3] = x", "[ctx.c & 3] = ctx.c") + f"return {SUMS} + h(ctx.c)"
    with pytest.raises(
        CompileError, match=r"f and what it calls need 832 bytes of stack and have 512 together \(f 416, h 416\)"
    ):
        spec_of(tmp_path, body, more)


def test_frames(tmp_path):
    assert Vm(spec_of(tmp_path, "return g6(ctx.c)", SHARED + NESTED)).run("f", ctx=context(1))
    with pytest.raises(CompileError, match="calls of subprograms from f on nest 10 deep, and the kernel has 8 frames"):
        spec_of(tmp_path, "return g8(ctx.c)", SHARED + NESTED)


@pytest.mark.parametrize(("call", "name"), [("again(ctx.c)", "again"), ("one(ctx.c)", "one")])
def test_recursion(tmp_path, call, name):
    with pytest.raises(CompileError, match=f"{name} calls itself: the kernel has no recursion"):
        spec_of(tmp_path, f"return {call}")
