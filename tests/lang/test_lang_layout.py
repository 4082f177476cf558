"""Layouts and types: against ctypes, gcc and the struct module; what the host sees."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf.lang import KStruct, Ptr, Struct, char, i8, i16, i32, i64, u8, u16, u32, u64
from pybpf.lang.types import StructType

SCALARS = {
    u8: ctypes.c_uint8,
    u16: ctypes.c_uint16,
    u32: ctypes.c_uint32,
    u64: ctypes.c_uint64,
    i8: ctypes.c_int8,
    i16: ctypes.c_int16,
    i32: ctypes.c_int32,
    i64: ctypes.c_int64,
}
C_NAMES = {
    u8: "uint8_t",
    u16: "uint16_t",
    u32: "uint32_t",
    u64: "uint64_t",
    i8: "int8_t",
    i16: "int16_t",
    i32: "int32_t",
    i64: "int64_t",
}

scalars = st.sampled_from(list(SCALARS))
fields = st.recursive(
    st.one_of(scalars, st.tuples(scalars, st.integers(1, 5))),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4), st.tuples(st.lists(inner, min_size=1, max_size=3), st.integers(1, 3))
    ),
    max_leaves=10,
)


def build(shape):
    """The same type for the language and for ctypes."""
    if isinstance(shape, tuple):
        ours, theirs = build(shape[0])
        return ours[shape[1]], theirs * shape[1]
    if isinstance(shape, list):
        layout = StructType("S")
        members = []
        for number, part in enumerate(shape):
            ours, theirs = build(part)
            layout.add(f"f{number}", ours)
            members.append((f"f{number}", theirs))
        layout.finish()
        return layout, type("S", (ctypes.Structure,), {"_fields_": members})
    return shape, SCALARS[shape]


@settings(max_examples=200, deadline=None)
@given(st.lists(fields, min_size=1, max_size=6))
def test_layout_is_that_of_ctypes(shape):
    ours, theirs = build(shape)
    assert (ours.size, ours.align) == (ctypes.sizeof(theirs), ctypes.alignment(theirs))
    for field in ours.fields:
        assert field.offset == getattr(theirs, field.name).offset
    covered = set()
    for offset, size in ours.holes():
        covered |= set(range(offset, offset + size))
    value = theirs()
    ctypes.memset(ctypes.byref(value), 0xFF, ctypes.sizeof(value))
    used = bytearray(ctypes.sizeof(value))
    mark(used, 0, ours)
    assert covered == {i for i, byte in enumerate(used) if not byte}


def mark(used, offset, kind):
    if isinstance(kind, StructType):
        for field in kind.fields:
            mark(used, offset + field.offset, field.type)
    elif hasattr(kind, "count"):
        for i in range(kind.count):
            mark(used, offset + i * kind.element.size, kind.element)
    else:
        used[offset : offset + kind.size] = b"\1" * kind.size


class Inner(Struct):
    a: u8
    b: u32


class Outer(Struct):
    x: u16
    inner: Inner[2]
    name: char[5]
    y: u64
    p: Ptr[Outer]
    flag: bool


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_layout_is_that_of_gcc(tmp_path):
    source = tmp_path / "layout.c"
    source.write_text("""
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
struct Inner { uint8_t a; uint32_t b; };
struct Outer { uint16_t x; struct Inner inner[2]; char name[5]; uint64_t y; struct Outer *p; _Bool flag; };
int main(void) {
    printf("%zu %zu %zu %zu %zu %zu %zu", sizeof(struct Outer), offsetof(struct Outer, inner),
           offsetof(struct Outer, name), offsetof(struct Outer, y), offsetof(struct Outer, p),
           offsetof(struct Outer, flag), offsetof(struct Inner, b));
}
""")
    subprocess.run(["gcc", "-o", tmp_path / "layout", source], check=True)
    printed = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True).stdout
    ours = [Outer.size, *(Outer.offset(n) for n in ("inner", "name", "y", "p", "flag")), Inner.offset("b")]
    assert [int(word) for word in printed.split()] == ours


def test_host_side():
    assert [field.name for field in Outer.fields] == ["x", "inner", "name", "y", "p", "flag"]
    assert Outer.fields[4].type.target is Outer.layout
    assert Outer.format() == "=H2xB3xIB3xI5s7xQQ?7x"
    assert struct.calcsize(Outer.format()) == Outer.size == 56
    assert str(u32[4]) == "u32[4]"
    assert u32[4] == u32[4] != u32[5]
    assert Ptr[Inner] == Ptr[Inner] != Ptr[Outer]


def test_nested_offsets():
    class Top(Struct):
        pad: u32
        outer: Outer

    assert Top.offset("outer.y") == 8 + Outer.offset("y")
    with pytest.raises(Exception, match="has no field 'z'"):
        Top.offset("outer.z")


def test_kernel_types():
    class task___v1(KStruct, name="task_struct___v1"):
        comm: char[16]
        parent: Ptr[task_struct]  # noqa: F821

    assert task___v1.layout.name == "task_struct___v1"
    assert task___v1.layout.essential() == "task_struct"
    assert task___v1.layout.kernel
    with pytest.raises(Exception, match="task_struct"):
        _ = task___v1.fields[1].type.target


def test_packed_and_inherited():
    class P(Struct, packed=True):
        a: u8
        b: u32

    class Q(P):
        c: u8

    assert (P.size, P.offset("b")) == (5, 1)
    assert [field.name for field in Q.fields] == ["a", "b", "c"]


def test_bfer_records():
    from programs.records import Context, PathRecord

    assert PathRecord.size % 8 == 0
    assert PathRecord.offset("who") == 8
    assert PathRecord.offset("path") == 152
    assert Context.size == 80
