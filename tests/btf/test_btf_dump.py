"""The raw text of BTF is bpftool's, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from btf_samples import bpftool, every_kind, guest_kernels, guest_modules, kernels, with_layout

from btf.builder import Builder
from btf.dump import dump_raw
from btf.errors import BtfError
from btf.files import close_table, open_table
from btf.table import Table
from btf.writer import write


def text(table: Table) -> bytes:
    return b"".join(dump_raw(table))


@pytest.mark.parametrize("name", list(kernels()) or ["none"])
def test_kernel_as_bpftool_prints_it(name: str) -> None:
    if name not in kernels():
        pytest.skip("no kernel with BTF is at hand")
    table = open_table(kernels()[name])
    try:
        assert text(table) == bpftool("btf", "dump", "file", kernels()[name], "format", "raw")
    finally:
        close_table(table)


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.2"])
def test_modules_as_bpftool_prints_them(kernel: str, tmp_path: Path) -> None:
    """Ten of a kernel's thousand modules; bpftool reads the base anew for each."""
    if kernel not in guest_kernels():
        pytest.skip(f"kernel {kernel} is not in the cache (python -m tests.guests --fetch {kernel})")
    base = open_table(str(guest_kernels()[kernel]))
    (tmp_path / "vmlinux").write_bytes(write(base))
    for path in guest_modules(kernel, 10):
        table = open_table(str(path), base)
        (tmp_path / "module").write_bytes(write(table))
        expected = bpftool("-B", tmp_path / "vmlinux", "btf", "dump", "file", tmp_path / "module", "format", "raw")
        assert text(table) == expected


def test_every_kind_as_bpftool_prints_it(tmp_path: Path) -> None:
    data = every_kind(Builder()).to_bytes()
    (tmp_path / "btf").write_bytes(data)
    expected = bpftool("btf", "dump", "file", tmp_path / "btf", "format", "raw")
    assert text(Table(data)) == expected
    # The header with a layout is newer than this bpftool, but its text must be the same.
    assert text(Table(with_layout(data))) == expected
    assert text(Table(write(Table(data), "big"))) == expected


def test_names_cannot_forge_lines() -> None:
    b = Builder()
    b.struct("x'\n[2] INT 'y", 0, [])
    b.struct("\x1b[31m", 0, [])
    b.struct("größe", 0, [])
    lines = text(Table(b.to_bytes())).decode().splitlines()
    assert lines == [
        "[1] STRUCT 'x'\\n[2] INT 'y' size=0 vlen=0",
        "[2] STRUCT '\\x1b[31m' size=0 vlen=0",
        "[3] STRUCT 'größe' size=0 vlen=0",
    ]


def test_bad_references_are_named() -> None:
    b = Builder()
    data = bytearray(b.to_bytes() if b.int("int", 4) else b"")
    data[24:28] = (1000).to_bytes(4, "little")
    with pytest.raises(BtfError, match=r"BTF type \[1\]: BTF string offset 1000 is past"):
        text(Table(bytes(data)))
