"""BTF that kernels take: what we write, and what is left of it for kernels that know less."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest
from btf_samples import KIND_SIZES, every_kind, guest_kernels, guest_modules, kernels, sample, tool, with_layout

from btf import sanitise as rules
from btf.builder import Builder
from btf.dump import dump_raw
from btf.errors import BtfError
from btf.files import close_table, open_table
from btf.format import KIND_FUNC
from btf.sanitise import EVERYTHING, sanitise
from btf.table import Table
from btf.writer import blob, kind_layout, pack_records, write
from pybpf import kernel, loadbtf
from pybpf.errors import LoadError
from pybpf.object.reader import read_object
from pybpf.target import Target


def lines(data: bytes, accepted: frozenset[str], base: Table | None = None) -> list[str]:
    return b"".join(dump_raw(Table(sanitise(data, accepted, base), base))).decode().splitlines()


def without(*abilities: str) -> frozenset[str]:
    assert set(abilities) <= EVERYTHING
    return EVERYTHING - set(abilities)


DATA = every_kind(Builder()).to_bytes()
COUNT = Table(DATA).type_count
PROTO = Table(DATA).type(Table(DATA).find_id("handler", KIND_FUNC))


def changes(*abilities: str) -> list[str]:
    """New lines of the sample's text, with names for the numbers of types."""
    before = lines(DATA, EVERYTHING)
    table = Table(sanitise(DATA, without(*abilities)))

    def named(line: str) -> str:
        return re.sub(r"type_id=(\d+)", lambda match: table.label(int(match[1])).split("] ")[1], line)

    return [named(line.split("] ")[-1]) for line in lines(DATA, without(*abilities)) if line not in before]


def test_nothing_to_replace() -> None:
    assert sanitise(DATA, EVERYTHING) == DATA
    old = Builder()
    old.ptr(old.struct("s", 4, [("a", old.int("int", 4), 0)]))
    assert sanitise(old.to_bytes(), ()) == old.to_bytes()


def test_each_ability_and_what_stands_for_it() -> None:
    assert changes(rules.FUNC_GLOBAL) == ["FUNC 'handler' func_proto <anon> linkage=static"]
    assert changes(rules.FUNC) == [
        "ENUM '(anon)' encoding=UNSIGNED size=4 vlen=3",
        f"\t'self' val={Table(DATA).params(PROTO)[0][1]}",
        f"\t'more' val={Table(DATA).params(PROTO)[1][1]}",
        "\t'anon_2' val=0",
        "TYPEDEF 'handler' enum <anon>",
        "ENUM '(anon)' encoding=UNSIGNED size=4 vlen=0",
        "TYPEDEF 'inner' enum <anon>",
    ]
    assert changes(rules.DATASEC) == [
        "INT 'counter' size=1 bits_offset=0 nr_bits=8 encoding=(none)",
        "INT 'hidden_counter' size=1 bits_offset=0 nr_bits=8 encoding=(none)",
        "STRUCT '_data' size=16 vlen=2",
        "\t'counter' int counter bits_offset=0",
        "\t'hidden_counter' int hidden_counter bits_offset=64",
    ]
    assert changes(rules.FLOAT) == ["STRUCT '(anon)' size=8 vlen=0"]
    tag = "INT 'tag' size=1 bits_offset=0 nr_bits=8 encoding=(none)"
    assert changes(rules.DECL_TAG) == [tag] * 3
    assert changes(rules.TYPE_TAG) == ["CONST '(anon)' struct node"] * 2
    assert changes(rules.ATTRIBUTES) == [tag, "CONST '(anon)' struct node"]
    assert changes(rules.ENUM64) == [
        "ENUM 'sign' encoding=UNSIGNED size=4 vlen=2",
        "\t'MINUS' val=4294967295",
        "UNION 'wide' size=8 vlen=2",
        "\t'HUGE_VALUE' int enum64_placeholder bits_offset=0",
        "\t'SMALL_VALUE' int enum64_placeholder bits_offset=0",
        "UNION 'deep' size=8 vlen=2",
        "\t'LEAST' int enum64_placeholder bits_offset=0",
        "\t'MOST' int enum64_placeholder bits_offset=0",
        "INT 'enum64_placeholder' size=1 bits_offset=0 nr_bits=8 encoding=(none)",
    ]


def test_question_mark() -> None:
    b = Builder()
    b.datasec("?.struct_ops", 4, [(b.var("ops", b.int("int", 4), 1), 0, 4)])
    assert lines(b.to_bytes(), without(rules.QUESTION_MARK))[2].startswith("[3] DATASEC '_.struct_ops'")
    assert sanitise(DATA, without(rules.QUESTION_MARK)) == DATA


def test_layout_and_unknown_kinds_go() -> None:
    assert kind_layout("little") == b"".join(struct.pack("<BBH", once, each, 0) for once, each in KIND_SIZES)
    data = with_layout(DATA)
    assert sanitise(data, EVERYTHING) == data
    assert sanitise(data, without(rules.LAYOUT)) == DATA
    unknown = struct.pack("<IIII", 1, 20 << 24, 0, 7)
    data = with_layout(DATA, unknown, (*KIND_SIZES, (4, 0)))
    assert sanitise(data, EVERYTHING) == data
    assert lines(data, without(rules.LAYOUT))[-1].startswith(f"[{COUNT}] INT 'int' size=1 ")


def test_more_entries_than_16_bits_count() -> None:
    count = 70_000
    int_ = struct.pack("<IIII", 1, 1 << 24, 4, 32)
    enum = struct.pack("<III", 1, 6 << 24 | count, 4) + struct.pack("<II", 1, 5) * count
    types, strings = int_ + enum, b"\0x\0"
    data = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings
    short = Table(sanitise(data, without(rules.LONG_VLEN)))
    assert (short.vlen(2), short.type_count) == (65_535, 3)
    proto = struct.pack("<III", 0, 13 << 24 | count, 0) + struct.pack("<II", 0, 1) * count
    types = int_ + proto
    data = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings
    with pytest.raises(BtfError, match=r"\[2\] has 70000 parameters, this kernel takes 65535"):
        sanitise(data, without(rules.LONG_VLEN))


def test_split_btf() -> None:
    base = sample()
    b = Builder(base=base)
    b.float_("float", 4)
    b.enum64("enum_of_module", 8, [("OF_MODULE", 1 << 40)])
    text = lines(b.to_bytes(), without(rules.FLOAT, rules.ENUM64), base)
    assert text == [
        f"[{COUNT}] STRUCT '(anon)' size=4 vlen=0",
        f"[{COUNT + 1}] UNION 'enum_of_module' size=8 vlen=1",
        f"\t'OF_MODULE' type_id={COUNT + 2} bits_offset=0",
        f"[{COUNT + 2}] INT 'enum64_placeholder' size=1 bits_offset=0 nr_bits=8 encoding=(none)",
    ]


def test_other_byte_order() -> None:
    big = sanitise(write(Table(DATA), "big"), ())
    assert write(Table(big), "little") == sanitise(DATA, ())


# ---- the kernel ----------------------------------------------------------------------------------


def load(data: bytes) -> None:
    target = Target(data)
    try:
        assert target.loaded() is not None
    finally:
        target.close()


@pytest.mark.native
def test_kernel_takes_what_is_left_of_anything() -> None:
    """Whatever this kernel lacks, and if it lacked more: one ability after the other, and all."""
    for lacking in (*([ability] for ability in sorted(EVERYTHING)), sorted(EVERYTHING - {rules.FUNC})):
        accepted = loadbtf.accepted() - set(lacking)
        kernel.btf_load(sanitise(with_layout(DATA), accepted)).close()


@pytest.mark.native
def test_load_replaces_what_the_kernel_refuses() -> None:
    assert {rules.FUNC, rules.DATASEC, rules.FUNC_GLOBAL} <= loadbtf.accepted()
    newest = with_layout(DATA)
    load(newest)
    if rules.LAYOUT not in loadbtf.accepted():
        with pytest.raises(LoadError):
            kernel.btf_load(newest)
    # What is wrong stays wrong: a struct whose member goes past its end.
    bad = Builder()
    bad.struct("s", 4, [("a", bad.int("int", 4), 0)])
    broken = bytearray(bad.to_bytes())
    broken[24 + 16 + 8] = 1
    with pytest.raises(LoadError):
        load(bytes(broken))


@pytest.mark.native
@pytest.mark.parametrize("name", list(kernels()) or ["none"])
def test_kernel_takes_another_kernels_btf(name: str) -> None:
    """What we write of whole kernels passes the kernel's own checks."""
    if name not in kernels():
        pytest.skip("no kernel with BTF is at hand")
    table = open_table(kernels()[name])
    try:
        load(write(table))
    finally:
        close_table(table)


@pytest.mark.native
def test_kernel_takes_objects_of_clang(tmp_path: Path) -> None:
    source, path = tmp_path / "x.c", tmp_path / "x.o"
    source.write_text(
        "enum big { BIG = 1ULL << 40 }; struct s { enum big b; float f; } v; int entry(void) { return 0; }\n"
    )
    subprocess.run([tool("clang-19"), "-target", "bpf", "-g", "-c", str(source), "-o", str(path)], check=True)
    table = open_table(str(path))
    data = read_object(path.read_bytes()).btf
    assert len(data) == len(table.data)
    load(write(Table(data)))
    load(sanitise(data, ()))


def flattened(table: Table) -> bytes:
    """Split BTF and its base as one: their ids and string offsets follow each other already."""
    assert table.base is not None
    types = pack_records([*table.base.records(), *table.records()], table.byteorder)
    return blob(types, table.base.strings + table.strings, table.byteorder)


@pytest.mark.native
def test_kernel_takes_split_btf_together_with_its_base() -> None:
    """By itself it cannot be loaded: BPF_BTF_LOAD has no room for a base."""
    base = sample()
    b = Builder(base=base)
    b.struct("of_module", 16, [("node", b.ptr(base.find_id("node", 4)), 0), ("next", b.ptr(0), 64)])
    load(flattened(Table(b.to_bytes(), base)))
    with pytest.raises(LoadError):
        kernel.btf_load(b.to_bytes())


@pytest.mark.native
def test_kernel_takes_modules_together_with_their_kernel() -> None:
    if "6.12" not in guest_kernels():
        pytest.skip("kernel 6.12 is not in the cache (python -m tests.guests --fetch 6.12)")
    base = open_table(str(guest_kernels()["6.12"]))
    for path in guest_modules("6.12", 5):
        load(flattened(open_table(str(path), base)))
