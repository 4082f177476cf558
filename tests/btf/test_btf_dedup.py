"""Deduplication gives what libbpf's does, type for type."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from btf_samples import bpftool, every_kind, kernels, tool
from hypothesis import given, settings
from hypothesis import strategies as st
from libbpf_types import deduplicated

from btf.builder import Builder
from btf.dedup import deduplicate
from btf.dump import dump_raw
from btf.errors import BtfError
from btf.files import close_table, open_table
from btf.format import KIND_DATASEC, KIND_FUNC, KIND_NAMES, KIND_VAR
from btf.table import Table
from btf.writer import write

SOURCE = """
typedef unsigned int u32;
typedef unsigned long long u64;
struct list { struct list *next, *prev; };
struct hidden;
%s
struct task { u32 pid; struct list tasks; struct hidden *own; struct task *parent; u64 (*call)(struct task *, u32); };
enum state { RUNNING, STOPPED = %d };
typedef struct { int counter; } atomic;
struct outer { atomic count; enum state state; struct task *task; const char *const names[4]; volatile u32 bits: 5; };
struct outer value_%s = {};
struct task task_%s = {};
__attribute__((section("prog"), used)) int entry_%s(struct outer *ctx) { return ctx->task->pid + ctx->count.counter; }
"""


def compiled(folder: Path) -> list[Path]:
    """Objects that agree in part: two in all, one knows a struct that they do not, one has another enum."""
    paths = []
    for name, more, stopped in (
        ("first", "", 1),
        ("second", "struct only_here { u64 x; };\nstruct only_here *use_second;", 1),
        ("third", "struct hidden { u64 value; struct hidden *next; };\nstruct hidden use_hidden;", 1),
        ("fourth", "", 2),
    ):
        source, path = folder / f"{name}.c", folder / f"{name}.o"
        source.write_text(SOURCE % (more, stopped, name, name, name))
        subprocess.run(
            [tool("clang-19"), "-target", "bpf", "-g", "-O1", "-c", str(source), "-o", str(path)], check=True
        )
        paths.append(path)
    return paths


def text(data: bytes) -> str:
    return b"".join(dump_raw(Table(data))).decode()


def agree(blobs: Sequence[bytes]) -> bytes:
    """Ours, after comparing it with libbpf's, and with itself done twice."""
    result = deduplicate([Table(data) for data in blobs])
    assert text(result.data) == text(deduplicated(blobs))
    assert deduplicate([Table(result.data)]).data == result.data
    for data, ids in zip(blobs, result.ids):
        old, new = Table(data), Table(result.data)
        assert [old.name(id) for id in range(old.type_count)] == [new.name(id) for id in ids]
    return result.data


def test_objects_of_clang(tmp_path: Path) -> None:
    blobs = [write(open_table(str(path))) for path in compiled(tmp_path)]
    data = agree(blobs)
    assert Table(data).type_count < sum(Table(blob).type_count for blob in blobs) // 2
    one = Table(agree(blobs[:2]))
    assert len(one.find("task", (4,))) == 1
    # The enum differs, and with it the struct that holds one; the task does not.
    four = Table(data)
    assert (len(four.find("state", (6,))), len(four.find("outer", (4,))), len(four.find("task", (4,)))) == (2, 2, 1)


def test_as_bpftool_links_objects(tmp_path: Path) -> None:
    """As many types of each kind as in the object that bpftool links (which merges variables by itself)."""
    paths = compiled(tmp_path)
    bpftool("gen", "object", tmp_path / "linked.o", *paths)
    linked = open_table(str(tmp_path / "linked.o"))
    ours = Table(deduplicate([open_table(str(path)) for path in paths]).data)

    def counts(table: Table) -> dict[str, int]:
        kinds = [table.kind(id) for id in table.ids]
        return {KIND_NAMES[kind]: kinds.count(kind) for kind in set(kinds) - {KIND_VAR, KIND_DATASEC, KIND_FUNC}}

    assert counts(ours) == counts(linked)


@pytest.mark.parametrize("name", ["running", "7.2"])
def test_a_kernel_is_deduplicated_already(name: str) -> None:
    if name not in kernels():
        pytest.skip(f"no BTF of kernel {name} is at hand (python -m tests.guests --fetch)")
    table = open_table(kernels()[name])
    try:
        data = write(table)
        count = table.type_count
    finally:
        close_table(table)
    ours = Table(deduplicate([Table(data)]).data)
    theirs = Table(deduplicated([data]))
    assert b"".join(dump_raw(ours)) == b"".join(dump_raw(theirs))
    # Debian's 7.2 holds some types twice, by libbpf's own judgement.
    assert count - ours.type_count == {"7.2": 17}.get(name, 0)


def test_every_kind_and_other_byte_orders() -> None:
    data = every_kind(Builder()).to_bytes()
    agree([data, data])
    big = deduplicate([Table(write(Table(data), "big"))] * 2).data
    assert write(Table(big), "little") == deduplicate([Table(data)] * 2).data


@st.composite
def objects(draw: st.DrawFn) -> list[bytes]:
    """Objects with few names and few shapes, so that much is nearly the same: structs that point at each other."""
    blobs = []
    for _ in range(draw(st.integers(1, 3))):
        b = Builder()
        known = [b.int("int", 4, signed=True), b.int("long", 8)]
        names = draw(st.lists(st.sampled_from("abc"), unique=True, max_size=3))
        structs = [b.declare_struct(name) for name in names]
        known += [b.ptr(id) for id in structs]
        known += [b.ptr(b.fwd(name)) for name in "abc" if name not in names and draw(st.booleans())]
        for _ in range(draw(st.integers(0, 5))):
            target = draw(st.sampled_from(known))
            make = draw(st.sampled_from((b.ptr, b.const, b.volatile, partial(b.typedef, "t"))))
            known.append(make(target))
            if draw(st.booleans()):
                known.append(b.func_proto(target, [("x", draw(st.sampled_from(known)))]))
                known[-1] = b.ptr(known[-1])
        for id in structs:
            members = [(name, draw(st.sampled_from(known)), 64 * i) for i, name in enumerate("xy")]
            b.define_struct(id, 16, members)
        blobs.append(b.to_bytes())
    return blobs


@settings(deadline=None, max_examples=150)
@given(objects())
def test_generated_graphs(blobs: list[bytes]) -> None:
    agree(blobs)


def test_what_cannot_be_deduplicated() -> None:
    b = Builder()
    b.ptr(b.ptr(0))
    loop = bytearray(b.to_bytes())
    loop[24 + 8 : 24 + 12] = struct.pack("<I", 2)  # pointer 1 to pointer 2, which points to pointer 1
    with pytest.raises(BtfError, match="refers to itself"):
        deduplicate([Table(bytes(loop))])
    loop[24 + 8 : 24 + 12] = struct.pack("<I", 9)
    with pytest.raises(BtfError, match=r"\[1\] refers to \[9\], the last is \[2\]"):
        deduplicate([Table(bytes(loop))])
    with pytest.raises(BtfError, match="no BTF"):
        deduplicate([])
    with pytest.raises(BtfError, match="one byte order"):
        deduplicate([Table(Builder().to_bytes()), Table(Builder("big").to_bytes())])


def test_deep_chains_and_many_alike() -> None:
    b = Builder()
    deep = b.int("int", 4)
    for _ in range(20_000):
        deep = b.ptr(b.const(deep))
    for number in range(300):
        b.struct("", 8, [("x", b.ptr(b.func_proto(0, [("", deep), ("", b.array(deep, number))])), 0)])
    data = b.to_bytes()
    result = deduplicate([Table(data), Table(data)])
    assert Table(result.data).type_count == Table(data).type_count
