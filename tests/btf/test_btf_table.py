"""The full reader and the writer: every kind, both byte orders, split BTF, layouts; written is what was read."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from btf_samples import bpftool, every_kind, guest_kernels, guest_modules, kernels, sample, with_layout

from btf.builder import Builder
from btf.errors import BtfError, BtfNotFound
from btf.files import close_table, open_table
from btf.format import KIND_MAX, KIND_STRUCT
from btf.reader import Btf
from btf.table import Table, kind_of, name_slots, type_slots
from btf.writer import write


def facts(t: Btf, id: int) -> list[object]:
    """All that the accessors tell of a type; an error is a fact too."""
    found: list[object] = []
    for name in (
        *("kind", "name", "vlen", "kflag", "type", "size", "members", "enumerators", "params", "array"),
        *("vars", "int_encoding", "int_bits", "linkage", "component", "label"),
    ):
        try:
            found.append(getattr(t, name)(id))
        except BtfError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("order", ["little", "big"])
def test_table_and_lazy_reader_agree(order: str) -> None:
    data = every_kind(Builder(order)).to_bytes()
    table, lazy = Table(data), Btf(data)
    assert table.type_count == lazy.type_count
    assert {kind_of(record) for record in table.records()} == set(range(1, KIND_MAX + 1))
    for id in range(table.type_count):
        assert facts(table, id) == facts(lazy, id)
    assert table.find("node", (KIND_STRUCT,)) == lazy.find("node", (KIND_STRUCT,))
    for id in (-1, table.type_count, 1 << 40):
        with pytest.raises(BtfNotFound, match=f"no BTF type \\[{id}\\]"):
            table.locate(id)
    with pytest.raises(BtfNotFound, match="of its own"):
        table.record(0)


def test_written_as_read() -> None:
    data = every_kind(Builder()).to_bytes()
    big = every_kind(Builder("big")).to_bytes()
    assert data != big
    assert write(Table(data)) == data
    assert write(Table(big)) == big
    assert write(Table(data), "big") == big
    assert write(Table(big), "little") == data


def test_layout_is_kept_and_turned_round() -> None:
    data = with_layout(every_kind(Builder()).to_bytes())
    assert write(Table(data)) == data
    big = write(Table(data), "big")
    assert Table(big).header.layout == Table(data).header.layout
    assert write(Table(big), "little") == data
    longer = data[:4] + struct.pack("<I", 36) + data[8:32] + b"\1\0\0\0" + data[32:]
    with pytest.raises(BtfError, match="cannot be rewritten"):
        write(Table(longer))


def test_unknown_kinds_are_passed_over_by_layout() -> None:
    kinds = (*with_layout.__defaults__[1], (8, 4))  # kind 20: two words once, one for each entry
    unknown = struct.pack("<IIIIIIII", 1, 20 << 24 | 3, 0, 7, 7, 1, 2, 3)
    after = struct.pack("<III", 0, 2 << 24, 1)  # a pointer to type 1
    plain = every_kind(Builder()).to_bytes()
    count = Table(plain).type_count
    data = with_layout(plain, unknown + after, kinds)
    table = Table(data)
    assert table.type_count == count + 2
    assert table.kind(count) == 20
    assert table.label(count) == f"[{count}] kind 20 int"
    assert table.label(count + 1).endswith("ptr <anon>")
    assert write(table) == data
    assert Btf(data).kind(count + 1) == table.kind(count + 1)
    with pytest.raises(BtfError, match="unknown BTF kind 20"):
        Table(with_layout(plain, unknown + after))


def test_vlen_of_24_bits() -> None:
    b = Builder()
    int_ = b.int("int", 4)
    data = b.to_bytes()
    count = 70_000
    head = struct.pack("<III", 0, 4 << 24 | count, 4)
    table = Table(
        with_layout(data, head + struct.pack("<III", 1, int_, 0) * count + struct.pack("<III", 0, 2 << 24, 2))
    )
    assert table.type_count == 4
    assert table.vlen(2) == count
    assert len(table.members(2)) == count
    assert table.type(3) == 2


def test_slots_name_what_refers_to_types_and_strings() -> None:
    table = sample()
    used: set[int] = set()
    names: set[str] = set()
    for record in table.records():
        used |= {record[slot] for slot in type_slots(record)}
        names |= {table.names[record[slot]] for slot in name_slots(record)}
    assert max(used) < table.type_count
    strings = table.strings.decode().split("\0")
    assert names >= set(strings)


def test_split_btf_goes_on_where_the_base_ends(tmp_path: Path) -> None:
    base = sample()
    b = Builder(base=base)
    (node,) = base.find("node", (KIND_STRUCT,))
    own = b.struct("module_node", 16, [("node", b.ptr(node), 0), ("next", b.ptr(0), 64)])
    b.typedef("node", own)
    data = b.to_bytes()
    split = Table(data, base)
    assert own == base.type_count + 2
    assert split.name(own) == "module_node"
    assert [split.names[word] for word in split.record(own)[3::3]] == ["node", "next"]
    assert data.count(b"next\0") == 0, "a string of the base is not repeated"
    assert split.label(node) == base.label(node)
    assert write(split) == data
    with pytest.raises(BtfError, match="big-endian, its base"):
        Builder("big", base)
    (tmp_path / "base").write_bytes(write(base))
    (tmp_path / "split").write_bytes(data)
    assert b"'module_node'" in bpftool("-B", tmp_path / "base", "btf", "dump", "file", tmp_path / "split")


@pytest.mark.parametrize("name", list(kernels()) or ["none"])
def test_kernel_is_written_as_read(name: str) -> None:
    if name not in kernels():
        pytest.skip("no kernel with BTF is at hand")
    table = open_table(kernels()[name])
    try:
        data = table.data
        assert write(table) == data
        again = Table(write(table, "big"))
        assert write(again, "little") == data
    finally:
        close_table(table)


def test_modules_are_written_as_read() -> None:
    found = 0
    for kernel in ("6.1", "6.12", "7.2"):
        if kernel not in guest_kernels():
            continue
        base = open_table(str(guest_kernels()[kernel]))
        for path in guest_modules(kernel, 12):
            table = open_table(str(path), base)
            assert table.base is base
            assert write(table) == table.data
            found += table.type_count > base.type_count
    if not found:
        pytest.skip("no guest kernel with modules is in the cache (python -m tests.guests --fetch)")


def test_files_that_are_not_what_they_seem(tmp_path: Path) -> None:
    def refused(data: bytes) -> str:
        path = tmp_path / "file"
        path.write_bytes(data)
        with pytest.raises(BtfError) as caught:
            open_table(str(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "not BTF" in refused(b"")
    assert "not BTF" in refused(b"hello, world, this is no BTF")
    assert "cut off" in refused(b"\x7fELF\2\1\1" + bytes(33) + b"\x40" + bytes(17) + b"\x40\0\xff\0\0\0")
    assert "class 7" in refused(b"\x7fELF\7\1\1" + bytes(60))
    assert "no .BTF section" in refused(Path("/bin/true").read_bytes() if Path("/bin/true").exists() else b"")
    assert "damaged" in refused(b"\xfd7zXZ\x00" + bytes(100))
    assert "zstd -d" in refused(b"\x28\xb5\x2f\xfd" + bytes(100))
    b = Builder(base=sample())
    b.struct("first", 0, [])
    assert "--base FILE" in refused(b.to_bytes())
    with pytest.raises(BtfNotFound, match="no such module in /sys/kernel/btf"):
        open_table("no_such_module")
