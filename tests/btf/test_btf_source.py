"""BTF of which only the types are in memory: the same answers as from the whole."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from btf.builder import Builder
from btf.errors import BtfError
from btf.format import KIND_FUNC, KIND_STRUCT, KIND_TYPEDEF, Header
from btf.reader import VMLINUX, Btf
from btf.source import Sparing, map_file, spare_file
from btf.table import Table


def sparing(path: str | Path) -> Sparing:
    """As where the file cannot be mapped."""
    data = Path(path).read_bytes()
    return Sparing(os.open(path, os.O_RDONLY | os.O_CLOEXEC), bytearray(data[: Header(data).type_off]), len(data))


def test_bytes_are_those_of_the_file(tmp_path: Path) -> None:
    chance = random.Random(1)
    content = bytes(chance.choices(b"ab_\0", k=30_000))
    path = tmp_path / "file"
    path.write_bytes(content)
    data = Sparing(os.open(path, os.O_RDONLY), bytearray(), len(content))
    assert len(data) == len(content)
    for _ in range(3000):
        start, end = sorted(chance.choices(range(len(content) + 1), k=2))
        if chance.random() < 0.5:
            end = min(end, start + chance.randrange(9000))
        assert data[start:end] == content[start:end]
        needle = content[start : start + chance.randrange(1, 12)]
        assert data.find(needle, start, end) == content.find(needle, start, end)
        assert data.find(needle, 0, end) == content.find(needle, 0, end)
        assert data.rfind(needle[:1], start, end) == content.rfind(needle[:1], start, end)
        if start < len(content):
            assert data[start] == content[start]
    assert data[100:3:7] == content[100:3:7]
    assert data[3:20_000:7] == content[3:20_000:7]
    data.close()
    data.close()
    assert not data


def test_same_answers_as_from_the_whole() -> None:
    if not os.path.exists(VMLINUX):
        pytest.skip(f"{VMLINUX} is missing")
    names = [("task_struct", KIND_STRUCT), ("file", KIND_STRUCT), ("pid_t", KIND_TYPEDEF), ("no_such_thing", KIND_FUNC)]
    names += [("vfs_read", KIND_FUNC), ("btf_trace_sys_exit", KIND_TYPEDEF)]
    with Btf(map_file(VMLINUX)) as whole, Btf(sparing(VMLINUX)) as spare:
        for name, kind in names:
            assert spare.find(name, (kind,)) == whole.find(name, (kind,))
            assert spare.find_flavours(name, (kind,)) == whole.find_flavours(name, (kind,))
        task = whole.find_id("task_struct", KIND_STRUCT)
        assert spare.members(task) == whole.members(task)
        assert spare.pointer_size == whole.pointer_size
        for id in random.Random(2).choices(range(1, whole.type_count), k=2000):
            assert spare.label(id) == whole.label(id)
        assert spare.type_count == whole.type_count


def test_split_btf_stands_on_it(tmp_path: Path) -> None:
    base = Builder()
    base.int("int", 4)
    (tmp_path / "base").write_bytes(base.to_bytes())
    with Btf(sparing(tmp_path / "base")) as low:
        split = Builder(base=Table(base.to_bytes()))
        split.typedef("number", 1)
        with Btf(split.to_bytes(), low) as high:
            assert high.label(2) == "[2] typedef number"
            assert high.name(high.type(2)) == "int"


def test_what_is_broken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    builder = Builder()
    for number in range(60_000):
        builder.typedef(f"some_name_{number}", 0)
    content = builder.to_bytes()
    monkeypatch.setattr("mmap.mmap", lambda *_, **__: (_ for _ in ()).throw(OSError(19, "No such device")))

    def opened(raw: bytes) -> Btf:
        path.write_bytes(raw)
        return Btf.open(str(path))

    with opened(content) as btf:
        assert isinstance(btf._owner, Sparing)
        assert btf.find("some_name_59999", (KIND_TYPEDEF,)) == [60_000]
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(BtfError):
            btf.name(40_000)
    with pytest.raises(BtfError, match=r"file: not BTF: magic"):
        opened(b"x" + content[1:])
    with pytest.raises(BtfError, match="does not end in a NUL"):
        opened(content[:-1] + b"x")
    with pytest.raises(BtfError, match="past the data"):
        opened(content[: len(content) - 1])
    path.write_bytes(content[:4000])
    assert isinstance(spare_file(str(path)), bytearray)


def test_whatever_the_windows_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Types that are longer than what is looked at at a time, and blocks of types that end in its midst."""
    chance = random.Random(5)
    for span in (1, 40, 3000, 1 << 14):
        monkeypatch.setattr("btf.reader._SPAN", span)
        builder = Builder()
        integer = builder.int("int", 4)
        for number in range(chance.randrange(300, 1500)):
            if chance.random() < 0.02:
                count = chance.choice((1, 3, 900, 7000))
                builder.struct(f"s{number}", 4, [(f"m{i}", integer, 0) for i in range(count)])
            else:
                builder.typedef(f"t{number % 400}", integer)
        path = tmp_path / "file"
        path.write_bytes(builder.to_bytes())
        with Btf(path.read_bytes()) as whole, Btf(sparing(path)) as spare:
            assert spare.type_count == whole.type_count
            for name in ("s0", "t1", "t399", *(f"s{chance.randrange(1500)}" for _ in range(20))):
                for kind in (KIND_STRUCT, KIND_TYPEDEF, KIND_FUNC):
                    assert spare.find(name, (kind,)) == whole.find(name, (kind,))
            for id in range(1, whole.type_count):
                assert spare.label(id) == whole.label(id)
                if whole.kind(id) == KIND_STRUCT:
                    assert spare.members(id) == whole.members(id)


def test_broken_types_are_told_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btf.reader._SPAN", 64)
    builder = Builder()
    for number in range(700):
        builder.typedef(f"t{number}", 0)
    content = bytearray(builder.to_bytes())
    path = tmp_path / "file"
    for at, word in ((500, 0x7F000000), (699, 0x04000009), (300, 0)):
        broken = bytearray(content)
        broken[24 + 12 * at + 4 : 24 + 12 * at + 8] = word.to_bytes(4, sys.byteorder)
        path.write_bytes(broken)
        told = []
        for data in (bytes(broken), sparing(path)):
            with Btf(data) as btf, pytest.raises(BtfError) as caught:
                btf.find("t699", (KIND_TYPEDEF,))
            told.append(str(caught.value))
        assert told[0] == told[1]
