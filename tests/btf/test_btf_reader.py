"""The reader on made-up blobs: names, split BTF, headers, and data that is broken in every way."""

from __future__ import annotations

import mmap
import random
import struct
from pathlib import Path

import pytest

from btf import names
from btf.builder import Builder
from btf.core import Relocator
from btf.errors import BtfError, BtfNotFound
from btf.ext import parse_ext
from btf.ext_writer import ExtBuilder
from btf.format import (
    KIND_ENUM,
    KIND_FUNC,
    KIND_INT,
    KIND_MAX,
    KIND_PTR,
    KIND_STRUCT,
    KIND_TYPEDEF,
    KIND_UNION,
    MAGIC,
)
from btf.reader import Btf


def blob(types: bytes, strings: bytes = b"\0", order: str = "<", layout: bytes = b"", header: int = 24) -> bytes:
    """A BTF blob with the given sections and header length."""
    str_off = len(types) + len(layout)
    head = struct.pack(f"{order}HBBIIIII", MAGIC, 1, 0, header, 0, len(types), str_off, len(strings))
    if header >= 32:
        head += struct.pack(f"{order}II", len(types), len(layout))
    return head.ljust(header, b"\0") + types + layout + strings


def record(name: int, kind: int, vlen: int = 0, size: int = 0, *extra: int, kflag: bool = False) -> bytes:
    return struct.pack(f"<{3 + len(extra)}I", name, kflag << 31 | kind << 24 | vlen, size, *extra)


# ---- names -------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["small", "large"])
def large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways to look for a name: a large blob is just one above the threshold."""
    if request.param:
        monkeypatch.setattr(names, "_LARGE", 0)
    return bool(request.param)


def crowd(order: str = "little") -> tuple[Builder, dict[str, list[int]]]:
    """A few thousand types in which one name's offset also stands in members, values and sizes."""
    b = Builder(order)
    found: dict[str, list[int]] = {"pid": [], "pid_t": [], "pid___old": [], "f_pid": []}
    u32 = b.int("u32", 4)
    offset = b.string("pid")
    assert offset == 5
    for number in range(offset):
        b.int(f"int{number}", 1)
    for number in range(2000):
        b.struct(f"filler{number}", 4000, [("pid", u32, 8 * number), ("x", offset, 16000)])
        if number % 500 == 7:
            found["pid"].append(b.struct("pid", number, []))
            found["pid_t"].append(b.typedef("pid_t", found["pid"][-1]))
            found["pid___old"].append(b.struct("pid___old", number, []))
    proto = b.func_proto(0, [("pid", u32)])
    found["f_pid"].append(b.func("f_pid", proto, 0))
    # An enumerator that looks like the header of a struct with 5 members, 5 being the name's offset as well.
    b.enum("trap", 4, [("pid", 0x04000000), ("pid", 0x04000001), ("pid", offset)])
    b.enum64("trap64", 8, [("pid", 0x0400000000000000 | offset), ("pid", 0x04000001)])
    # A bit-field of 4 bits of the type whose id is the name's offset.
    b.struct("bits", 8, [("a", offset, 0, 4), ("b", offset, 4, 4)])
    found["pid"].append(b.struct("pid", 4, [("last", u32, 0)]))
    return b, found


@pytest.mark.parametrize("order", ["little", "big"])
def test_find_is_exact(large: bool, order: str) -> None:
    b, found = crowd(order)
    data = b.to_bytes()
    t = Btf(data)
    assert t.find("pid", (KIND_STRUCT,)) == found["pid"]
    assert t.find("pid_t", (KIND_TYPEDEF, KIND_STRUCT)) == found["pid_t"]
    assert t.find("f_pid", (KIND_FUNC,)) == found["f_pid"]
    assert t.find("pid", (KIND_UNION,)) == []
    assert t.find("nothing", (KIND_STRUCT,)) == []
    assert t.find("", (KIND_STRUCT,)) == []
    assert t.find("a\0b", (KIND_STRUCT,)) == []
    assert t.find_flavours("pid", (KIND_STRUCT,)) == sorted(found["pid"] + found["pid___old"])
    assert t.string_contains("filler7")
    assert t.string_contains("")
    assert not t.string_contains("filler")
    with pytest.raises(BtfNotFound, match="no struct 'nothing'"):
        t.find_id("nothing", KIND_STRUCT)
    # By scanning (with a kind that the table does not hold), before, during and after the walk.
    for fresh in (True, False):
        kinds = (KIND_STRUCT, KIND_FUNC)
        other = Btf(data)
        assert other._names._scan({other._names.offsets("pid", False)[0]}, kinds)
        if not fresh:
            assert other.type_count == t.type_count
        assert other.find("pid", kinds) == found["pid"]
    many = Btf(data)
    many.prefetch(["pid", "f_pid", "filler1", "filler2"], (KIND_STRUCT, KIND_FUNC))
    assert many.find("pid", (KIND_STRUCT,)) == found["pid"]
    assert many.find("f_pid", (KIND_FUNC,)) == found["f_pid"]
    assert many.kind(many.type_count - 1) == KIND_STRUCT


def test_find_among_shared_and_repeated_strings() -> None:
    strings = b"\0my_task\0task\0x___y___z\0"
    task_in_my, task = 4, 9
    types = (
        record(task_in_my, KIND_STRUCT)
        + record(task, KIND_STRUCT)
        + record(1, KIND_STRUCT)
        + record(strings.index(b"x___"), KIND_STRUCT)
        + record(strings.index(b"y___"), KIND_STRUCT)
    )
    t = Btf(blob(types, strings))
    assert t.find("task", (KIND_STRUCT,)) == [1, 2]
    assert t.find("my_task", (KIND_STRUCT,)) == [3]
    assert t.find_flavours("x___y", (KIND_STRUCT,)) == [4]
    assert t.find_flavours("y", (KIND_STRUCT,)) == [5]


def test_locate_is_lazy() -> None:
    b = Builder()
    u32 = b.int("u32", 4)
    for number in range(3000):
        b.struct(f"s{number}", 4, [("a", u32, 0)])
    t = Btf(b.to_bytes())
    assert t.name(2) == "s0"
    assert len(t._marks) == 2
    assert t._count == -1
    assert t.name(3001) == "s2999"
    for id in (0, 1, 256, 257, 512, 2999, 3000):
        assert t.name(id) == ("" if id == 0 else "u32" if id == 1 else f"s{id - 2}")
    for id in (3002, 1 << 40, -1):
        with pytest.raises(BtfNotFound, match=f"\\[{id}\\]"):
            t.name(id)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 511, 512, 513, 768])
def test_counts_around_a_block(count: int) -> None:
    types = b"".join(record(0, KIND_PTR, 0, number % 7) for number in range(count))
    t = Btf(blob(types))
    assert t.type_count == count + 1
    t = Btf(blob(types))
    for id in range(1, count + 1):
        assert t.type(id) == (id - 1) % 7
    with pytest.raises(BtfNotFound):
        t.kind(count + 1)
    t = Btf(blob(types))
    assert t.find("x", (KIND_STRUCT,)) == []


def test_void() -> None:
    t = Btf(blob(b""))
    assert (t.kind(0), t.name(0), t.vlen(0), t.kflag(0), t.type(0), t.resolve(0)) == (0, "", 0, False, 0, 0)
    with pytest.raises(BtfError, match="no size"):
        t.size(0)


# ---- sizes and wrong questions ------------------------------------------------------------


def test_size() -> None:
    b = Builder()
    u32 = b.int("u32", 4)
    long = b.int("long", 8)
    var = b.var("v", b.typedef("t", b.const(b.array(b.array(u32, 3), 2))), 1)
    assert long
    ids = {
        var: 24,
        b.ptr(0): 8,
        b.array(u32, 0): 0,
        b.struct("s", 17, []): 17,
        b.float_("double", 8): 8,
        b.decl_tag("x", u32): 4,
        b.type_tag("x", u32): 4,
        b.datasec(".data", 99, []): 99,
    }
    huge = b.array(b.array(u32, 1 << 20), 1 << 20)
    bad = [0, b.fwd("f"), b.func_proto(0, []), b.const(0), huge]
    t = Btf(b.to_bytes())
    assert {id: t.size(id) for id in ids} == ids
    for id in bad:
        with pytest.raises(BtfError):
            t.size(id)


def test_loops_end() -> None:
    t = Btf(blob(record(1, KIND_TYPEDEF, 0, 2) + record(0, 10, 0, 1) + record(0, 3, 0, 0, 3, 3, 1), b"\0a\0"))
    for id in (1, 2, 3):
        with pytest.raises(BtfError, match="refers to itself"):
            t.size(id)
    with pytest.raises(BtfError, match="refers to itself"):
        t.resolve(1)


def test_wrong_kind() -> None:
    b = Builder()
    u32 = b.int("u32", 4)
    t = Btf(b.to_bytes())
    for ask in (t.members, t.enumerators, t.params, t.array, t.vars, t.linkage, t.component):
        with pytest.raises(BtfError, match=r"\[1\] int u32 is not"):
            ask(u32)
    with pytest.raises(BtfError, match="refers to no type"):
        t.type(u32)


@pytest.mark.parametrize(("size", "name"), [(4, "long int"), (8, "long unsigned int"), (4, "unsigned long")])
def test_pointer_size(size: int, name: str) -> None:
    b = Builder()
    b.int("int", 4)
    b.int("longish", 8)
    b.int(name, size)
    p = b.ptr(0)
    t = Btf(b.to_bytes())
    assert t.pointer_size == size
    assert t.size(p) == size
    t.pointer_size = 8
    assert t.size(p) == 8


# ---- split BTF ----------------------------------------------------------------------------------


def split(base: Builder) -> tuple[Btf, Btf]:
    """A base and a module's BTF on top of it, its strings and ids going on where the base's end."""
    under = Btf(base.to_bytes())
    first, start = under.type_count, under.string_size
    strings = b"mod\0mod_only\0task___mod\0"
    types = (
        record(start, KIND_STRUCT, 1, 8, start + 4, first + 1, 0)
        + record(0, KIND_PTR, 0, 1)
        + record(under._names.offsets("task", False)[0], KIND_STRUCT, 0, 4)
        + record(start + 13, KIND_STRUCT, 0, 4)
    )
    return under, Btf(blob(types, strings), under)


def test_split(large: bool) -> None:
    b = Builder()
    b.int("u32", 4)
    task = b.struct("task", 8, [("pid", 1, 0)])
    base, t = split(b)
    first = base.type_count
    assert t.first_id == first == 3
    assert t.type_count == first + 4
    assert t.name(task) == "task"
    assert t.members(task) == [("pid", 1, 0, 0)]
    assert t.members(first) == [("mod_only", first + 1, 0, 0)]
    assert t.type(first + 1) == 1
    assert t.find("mod", (KIND_STRUCT,)) == [first]
    assert t.find("task", (KIND_STRUCT,)) == [task, first + 2]
    assert t.find("task", (KIND_STRUCT,), own=True) == [first + 2]
    assert t.find_flavours("task", (KIND_STRUCT,), own=True) == [first + 2, first + 3]
    assert t.find_flavours("task", (KIND_STRUCT,)) == [task, first + 2, first + 3]
    assert t.string_contains("pid")
    assert t.string_contains("mod")
    assert not base.string_contains("mod")
    assert t.string(0) == ""
    with pytest.raises(BtfError, match="past the string section"):
        t.string(t.string_size)
    with pytest.raises(BtfNotFound):
        base.kind(first)


def test_split_of_another_byte_order() -> None:
    with pytest.raises(BtfError, match="big-endian"):
        Btf(Builder("big").to_bytes(), Btf(Builder().to_bytes()))


# ---- headers --------------------------------------------------------------------------------------


def test_layout_section_makes_unknown_kinds_readable() -> None:
    layout = bytearray(4 * 32)
    layout[4 * 30 : 4 * 30 + 2] = bytes([4, 8])  # kind 30: one word, and two for each entry
    types = record(1, KIND_INT, 0, 4, 32) + record(0, 30, 3, 0, *range(7)) + record(3, KIND_STRUCT, 0, 4)
    t = Btf(blob(types, b"\0u\0s\0", layout=bytes(layout), header=32))
    assert t.kind(2) == 30
    assert t.name(3) == "s"
    assert t.find("s", (KIND_STRUCT,)) == [3]
    assert not t.header.extended
    with pytest.raises(BtfError, match=r"\[2\].*unknown BTF kind 30"):
        Btf(blob(types, b"\0u\0s\0")).name(3)
    # Split BTF inherits its base's layout.
    top = Btf(blob(record(0, 30, 1, 0, 1, 2, 3) + record(1, KIND_STRUCT), b""), t)
    assert top.name(5) == "u"


def test_longer_header() -> None:
    data = bytearray(blob(record(1, KIND_INT, 0, 4, 32), b"\0u\0", header=40))
    assert not Btf(bytes(data)).header.extended
    data[36] = 1
    t = Btf(bytes(data))
    assert t.header.extended
    assert t.name(1) == "u"


def test_24_bit_vlen() -> None:
    count = 70000
    members = struct.pack("<3I", 0, 1, 0) * count
    t = Btf(blob(record(1, KIND_INT, 0, 4, 32) + record(0, KIND_STRUCT, count, 4) + members, b"\0u\0"))
    assert t.vlen(2) == count
    assert len(t.members(2)) == count
    assert t.type_count == 3


GOOD = blob(record(1, KIND_INT, 0, 4, 32), b"\0u\0")


def patched(at: int, layout: str, *values: int) -> bytes:
    data = bytearray(GOOD)
    struct.pack_into(layout, data, at, *values)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not BTF: 0 bytes"),
        (GOOD[:23], "23 bytes"),
        (b"\x7fELF" + bytes(60), "ELF file"),
        (b"hello" * 20, "magic is 6865"),
        (patched(2, "B", 2), "version 2"),
        (patched(4, "<I", 23), "header length 23"),
        (patched(4, "<I", 26), "header length 26"),
        (patched(4, "<I", 1 << 31), "header length"),
        (patched(8, "<I", 2), "aligned"),
        (patched(12, "<I", 15), "aligned"),
        (patched(12, "<I", 32), "overlaps"),
        (patched(16, "<I", 8), "overlaps"),
        (patched(20, "<I", 4), "past the data"),
        (patched(20, "<I", 0xFFFFFFFF), "past the data"),
        (patched(20, "<I", 0), "no string section"),
        (patched(20, "<I", 2), "end in a NUL"),
        (GOOD[:40] + b"xu\0", "start with the empty"),
        (blob(b"", layout=bytes(6), header=32), "layout section"),
    ],
)
def test_bad_headers(data: bytes, message: str) -> None:
    with pytest.raises(BtfError, match=message):
        Btf(data)


def test_truncated_types() -> None:
    for types in (
        record(0, KIND_STRUCT, 1, 4),
        record(0, KIND_INT, 0, 4),
        record(0, KIND_STRUCT, 0xFFFFFF, 4),
        record(0, KIND_PTR) + b"\0\0\0\0",
    ):
        t = Btf(blob(types))
        with pytest.raises(BtfError, match="past the end"):
            assert t.type_count
        with pytest.raises(BtfError, match="past the end"):
            t.kind(1)
    t = Btf(blob(record(0, 0)))
    with pytest.raises(BtfError, match=r"\[1\]: unknown BTF kind 0"):
        t.kind(1)
    # What comes before a broken type's block can still be read.
    t = Btf(blob(record(0, KIND_PTR) * 600 + record(0, 99)))
    assert t.kind(200) == KIND_PTR
    for _ in range(2):
        with pytest.raises(BtfError, match=r"\[601\]"):
            t.find("x", (KIND_STRUCT,)) or t.type_count


def test_strings() -> None:
    strings = b"\0caf\xc3\xa9\0bad\xff\0" + b"x" * 5000 + b"\0"
    t = Btf(blob(record(1, KIND_STRUCT) + record(7, KIND_STRUCT) + record(12, KIND_STRUCT), strings))
    assert t.name(1) == "café"
    assert t.name(2) == "bad\\xff"
    assert t.find("café", (KIND_STRUCT,)) == [1]
    with pytest.raises(BtfError, match="longer than 4096"):
        t.name(3)
    assert len(t.string(12)) == 5000
    for offset in (len(strings), 1 << 31, -1):
        with pytest.raises(BtfError, match="string offset"):
            t.string(offset)


# ---- files -------------------------------------------------------------------------------------


def test_open_and_close(tmp_path: Path) -> None:
    path = tmp_path / "a.btf"
    path.write_bytes(GOOD)
    with Btf.open(str(path)) as t:
        assert t.name(1) == "u"
        owner = t._owner
        assert isinstance(owner, mmap.mmap)
    assert owner.closed
    path.write_bytes(b"junk")
    with pytest.raises(BtfError, match=r"a\.btf: not BTF"):
        Btf.open(str(path))
    path.write_bytes(b"")
    with pytest.raises(BtfError, match=r"a\.btf: not BTF"):
        Btf.open(str(path))
    with pytest.raises(BtfNotFound, match="no such file"):
        Btf.open(str(tmp_path / "none"))
    with pytest.raises(BtfError, match="cannot read"):
        Btf.open(str(tmp_path))
    with pytest.raises(BtfNotFound, match=r"CONFIG_DEBUG_INFO_BTF.*--btf FILE"):
        Btf.kernel(str(tmp_path / "none"))


def test_read_without_mmap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise OSError(19, "No such device")

    b, found = crowd()
    path = tmp_path / "b.btf"
    path.write_bytes(b.to_bytes())
    monkeypatch.setattr(mmap, "mmap", refuse)
    with Btf.open(str(path)) as t:
        assert isinstance(t._data, bytearray)
        assert bytes(t._data) == path.read_bytes()
        assert t.find("pid", (KIND_STRUCT,)) == found["pid"]


def test_memoryview_and_bytearray() -> None:
    for data in (bytearray(GOOD), memoryview(GOOD)):
        with Btf(data) as t:
            assert t.name(1) == "u"


# ---- mutations -----------------------------------------------------------------------------------


def one_line(error: BtfError) -> None:
    assert str(error).isprintable()


def ask_everything(t: Btf) -> None:
    """Every question about every type; only BtfError may come out."""
    questions = (
        t.kind,
        t.name,
        t.size,
        t.type,
        t.vlen,
        t.kflag,
        t.members,
        t.enumerators,
        t.params,
        t.array,
        t.vars,
        t.int_encoding,
        t.int_bits,
        t.linkage,
        t.component,
        t.resolve,
        t.label,
    )
    try:
        count = min(t.type_count, 60)
    except BtfError:
        count = 30
    for id in range(count + 1):
        for ask in questions:
            try:
                ask(id)
            except BtfError as error:
                one_line(error)
    kinds = tuple(range(1, KIND_MAX + 1))
    for ask in (t.find, t.find_flavours):
        for wanted in (kinds, (KIND_STRUCT, KIND_UNION), (KIND_FUNC,)):
            try:
                for id in ask("task", wanted):
                    assert t.kind(id) in wanted
            except BtfError:
                pass


def rich(order: str) -> Builder:
    b = Builder(order)
    u32 = b.int("unsigned int", 4)
    arr = b.array(u32, 4)
    task = b.declare_struct("task")
    inner = b.union("", 8, [("a", u32, 0), ("b", b.ptr(task), 0)])
    bits = b.struct("bits", 8, [("x", u32, 0, 3), ("y", u32, 3, 30)])
    e = b.enum("e", 4, [("A", 1), ("B", 2)])
    e64 = b.enum64("e64", 8, [("C", 1 << 40)])
    proto = b.func_proto(u32, [("t", b.ptr(task))])
    b.define_struct(task, 64, [("v", arr, 0), ("", inner, 128), ("bits", bits, 192), ("e", e, 256), ("f", e64, 320)])
    b.func("f", proto, 1)
    b.datasec(".data", 4, [(b.var("v", u32, 1), 0, 4)])
    b.typedef("task_t", b.const(b.volatile(b.type_tag("user", task))))
    b.decl_tag("tag", task, 1)
    b.struct("task___old", 4, [("v", u32, 0)])
    return b


def mutate(data: bytes, random: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(out))
        how = random.random()
        if how < 0.4:
            out[at] = random.choice((0, 1, 2, 4, 5, 6, 10, 0x7F, 0x80, 0xFF, random.randrange(256)))
        elif how < 0.8:
            at &= ~3
            value = random.choice((0, 1, 3, 5, 7, 0x84000001, 0x0500FFFF, 0xFFFFFFFF, random.randrange(1 << 32), 24, 4))
            out[at : at + 4] = value.to_bytes(4, random.choice(("little", "big")))[: len(out) - at]
        elif how < 0.9:
            del out[at : at + random.randint(1, 16)]
        else:
            out[at:at] = out[max(0, at - 12) : at]
        if not out:
            break
    return bytes(out)


@pytest.mark.parametrize("order", ["little", "big"])
def test_mutated_blobs_raise_only_btf_errors(order: str) -> None:
    rng = random.Random(1)
    b = rich(order)
    data = b.to_bytes()
    good = Btf(data)
    ask_everything(good)
    for _ in range(700):
        broken = mutate(data, rng)
        try:
            t = Btf(broken, rng.choice((None, None, good)))
        except BtfError:
            continue
        ask_everything(t)
        for local, target in ((Btf(data), t), (t, Btf(data))):
            relocator = Relocator(local, target)
            for kind in range(13):
                access = (
                    "0" if kind in (6, 7, 8, 9, 12) else "0" if kind > 9 else rng.choice(("0:1:1", "0:0:2", "0:2:1"))
                )
                for id in range(1, 10):
                    try:
                        relocator.resolve(id, access, kind)
                    except BtfError as error:
                        one_line(error)
                    relocator.describe(id, access, kind)


@pytest.mark.parametrize("order", ["little", "big"])
def test_mutated_ext_raises_only_btf_errors(order: str) -> None:
    rng = random.Random(2)
    b = rich(order)
    ext = ExtBuilder(b)
    for section in ("tp/a", "tp/b"):
        ext.func(section, 0, 1)
        ext.line(section, 0, "a.py", "x = 1", 3, 4)
        ext.core(section, 8, 3, "0:1", 0)
    data = ext.to_bytes()
    assert parse_ext(data, order)
    for _ in range(2000):
        try:
            parse_ext(mutate(data, rng), order)
        except BtfError as error:
            one_line(error)


def test_random_words() -> None:
    rng = random.Random(3)
    kinds = [*range(1, KIND_MAX + 1), KIND_ENUM]
    for _ in range(300):
        types = b"".join(
            record(
                rng.randrange(12),
                rng.choice(kinds),
                rng.choice((0, 0, 1, 2)),
                rng.randrange(12),
                *(rng.randrange(12) for _ in range(rng.randrange(7))),
                kflag=rng.random() < 0.2,
            )
            for _ in range(rng.randrange(30))
        )
        ask_everything(Btf(blob(types, b"\0task\0a___b\0")))


@pytest.mark.parametrize("length", [4, 8])
def test_section_shorter_than_a_type(length: int) -> None:
    blob = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, length, length, 1) + bytes(length) + b"\0"
    for step in (lambda btf: btf.type_count, lambda btf: btf.kind(1), lambda btf: btf.find_flavours("x", (1,))):
        with pytest.raises(BtfError):
            step(Btf(blob))
