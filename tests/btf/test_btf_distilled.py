"""A module's BTF moved from its distilled base to a kernel's, and what stands in the way."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from btf.builder import Builder
from btf.cdecl import plain
from btf.distilled import relocate
from btf.errors import BtfError
from btf.files import close_table, open_table
from btf.format import KIND_STRUCT
from btf.table import Table


def kernel(order: str = "little") -> Builder:
    """A kernel's BTF: the types that the module needs, at other ids, among others."""
    b = Builder(order)
    b.struct("other", 0, [])
    long, int_ = b.int("long", 8, signed=True), b.int("int", 4, signed=True)
    b.struct("list", 16, [("next", long, 0), ("prev", long, 64)])
    b.union("word", 8, [("low", int_, 0)])
    b.enum("state", 4, [("ON", 1)])
    b.enum64("wide", 8, [("WIDE", 1 << 40)])
    b.struct("task", 64, [("pid", int_, 0)])
    b.float_("double", 8)
    return b


def distilled(order: str = "little") -> Builder:
    """What a module needs of a kernel: shells."""
    b = Builder(order)
    b.int("int", 4, signed=True)
    b.struct("list", 16, [])
    b.union("word", 8, [])
    b.enum("state", 4, [])
    b.enum("wide", 8, [])
    b.fwd("task")
    b.float_("double", 8)
    return b


def module(base: Table) -> Builder:
    b = Builder(base.byteorder, base)
    int_, list_, word, state, wide, task, double = range(1, 8)
    pointer = b.ptr(task)
    members = [("list", list_, 0), ("task", pointer, 128), ("word", word, 192), ("state", state, 256)]
    own = b.struct("own", 56, [*members, ("wide", wide, 320), ("double", double, 384)])
    b.func("open", b.func_proto(int_, [("own", b.ptr(own)), ("task", pointer)]), 0)
    return b


@pytest.mark.parametrize("order", ["little", "big"])
def test_every_kind_of_shell_is_found_again(order: str) -> None:
    base = Table(distilled(order).to_bytes())
    split = Table(module(base).to_bytes(), base)
    target = Table(kernel(order).to_bytes())
    moved = Table(relocate(split, target), target)
    assert len(moved.ids) == len(split.ids)
    (own,) = moved.find("own", (KIND_STRUCT,))
    kinds = {name: moved.label(moved.resolve(type)).split("] ")[1] for name, type, _, _ in moved.members(own)}
    assert kinds == {
        "list": "struct list",
        "task": "ptr <anon>",
        "word": "union word",
        "state": "enum state",
        "wide": "enum64 wide",
        "double": "float double",
    }
    assert moved.size(own) == 56
    (before,) = split.find("own", (KIND_STRUCT,))
    assert [offset for _, _, offset, _ in moved.members(own)] == [offset for _, _, offset, _ in split.members(before)]
    assert plain(moved, moved.type_count - 1) == "int open(struct own *own, struct task *task)"


def test_files_with_a_distilled_base(tmp_path: Path) -> None:
    """A module's file shows itself on its own base, and with --base on that of the kernel."""
    base = Table(distilled().to_bytes())
    path, target = tmp_path / "module.ko", tmp_path / "vmlinux"
    path.write_bytes(elf({".BTF": module(base).to_bytes(), ".BTF.base": distilled().to_bytes()}))
    target.write_bytes(kernel().to_bytes())
    alone = open_table(str(path))
    assert alone.base is not None
    assert alone.base.type_count == base.type_count
    whole = open_table(str(path), open_table(str(target)))
    assert whole.base is not None
    assert whole.base.label(whole.base.find("task", (KIND_STRUCT,))[0]).endswith("struct task")
    assert len(whole.ids) == len(alone.ids)
    close_table(whole)
    close_table(alone)


def elf(sections: dict[str, bytes], wide: bool = True, mark: str = "<") -> bytes:
    """An ELF file of nothing but these sections."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    contents = [*sections.values(), names]
    start = 64 if wide else 52
    form = mark + ("IIQQQQIIQQ" if wide else "10I")
    rows = [struct.pack(form, *[0] * 10)]
    body = b""
    for name, data in zip((*sections, ".shstrtab"), contents):
        at = names.index(name.encode() + b"\0")
        rows.append(struct.pack(form, at, 1, 0, 0, start + len(body), len(data), 0, 0, 1, 0))
        body += data
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1 if mark == "<" else 2, 1)) + bytes(9)
    table = start + len(body)
    form = mark + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    size = 64 if wide else 40
    head = ident + struct.pack(form, 1, 62, 1, 0, 0, table, 0, start, 0, 0, size, len(rows), len(rows) - 1)
    assert len(head) == start
    return head + body + b"".join(rows)


@pytest.mark.parametrize("wide", [True, False], ids=["64", "32"])
@pytest.mark.parametrize("mark", ["<", ">"], ids=["little", "big"])
def test_elf_of_every_class(wide: bool, mark: str, tmp_path: Path) -> None:
    data = kernel("little" if mark == "<" else "big").to_bytes()
    whole = elf({".text": b"\x90" * 7, ".BTF": data}, wide, mark)
    path = tmp_path / "vmlinux"
    path.write_bytes(whole)
    assert open_table(str(path)).data == data
    for cut in (*range(0, len(whole), 5), len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(BtfError):
            open_table(str(path))


def refusal(target: Builder) -> str:
    base = Table(distilled().to_bytes())
    with pytest.raises(BtfError) as caught:
        relocate(Table(module(base).to_bytes(), base), Table(target.to_bytes()))
    return str(caught.value)


def test_too_different_a_kernel() -> None:
    b = Builder()
    b.int("int", 8, signed=True)
    assert refusal(b) == "base has no type like [1] int int of the module's own base"
    b = Builder()
    b.int("int", 4, signed=True)
    b.struct("list", 24, [])
    assert refusal(b) == "base has no type like [2] struct list of the module's own base"
    b = kernel()
    b.struct("list", 16, [("x", 2, 0)])
    assert refusal(b) == "base has 2 types like [2] struct list of the module's own base"
    plain_table = Table(kernel().to_bytes())
    with pytest.raises(BtfError, match="no base to be moved from"):
        relocate(plain_table, plain_table)
    # A distilled base has no pointers.
    odd = distilled()
    odd.ptr(1)
    base = Table(odd.to_bytes())
    with pytest.raises(BtfError, match=r"\[8\] ptr <anon> cannot stand in a distilled base"):
        relocate(Table(Builder(base=base).to_bytes(), base), plain_table)
