"""The object writer: round trips through the reader, and acceptance by bpftool and llvm-objdump."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from object_samples import EXIT, MAP_TYPE_ARRAY, MOV_R0, CodeUnit, sample_object, sample_units, slot, wide

from btf.reader import Btf
from pybpf.errors import ObjectError
from pybpf.object.reader import read_object
from pybpf.object.spec import RELOC_CALL, RELOC_DATA, RELOC_FUNC, RELOC_MAP, Reloc
from pybpf.object.writer import ObjectImage, write_object

SIZES = {".rodata": 12, ".data": 8, ".bss": 16}


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_round_trip(byteorder: str) -> None:
    spec = read_object(sample_object(byteorder))
    assert (spec.byteorder, spec.license) == (byteorder, "Dual MIT/GPL")
    assert {name: program.section for name, program in spec.programs.items()} == {
        "triple": ".text",
        "one": "raw_tp/sched_switch",
        "two": "raw_tp/sched_switch",
        "three": "raw_tp/sys_enter",
    }
    relocs = {p.name: [(r.index, r.kind, r.target, r.addend) for r in p.relocs] for p in spec.programs.values()}
    assert relocs == {
        "triple": [],
        "one": [(0, RELOC_MAP, "table", 0), (2, RELOC_DATA, ".rodata", 4), (5, RELOC_CALL, "triple", 0)],
        "two": [(0, RELOC_DATA, ".bss", 8)],
        "three": [(0, RELOC_MAP, "second", 0), (2, RELOC_DATA, ".data", 0)],
    }
    table = spec.maps["table"]
    assert (table.type, table.key_size, table.value_size, table.max_entries) == (MAP_TYPE_ARRAY, 4, 8, 3)
    btf = Btf(spec.btf)
    assert btf.name(table.value_type_id) == "unsigned long long"
    for name, size in SIZES.items():
        item = spec.maps[name]
        assert (item.type, item.key_size, item.value_size, item.max_entries) == (MAP_TYPE_ARRAY, 4, size, 1)
        assert item.contents is not None
        assert len(item.contents) == size == btf.size(item.value_type_id)
    assert [(btf.name(v), o, s) for v, o, s in btf.vars(spec.maps[".rodata"].value_type_id)] == [
        ("flag", 0, 4),
        ("limit", 4, 8),
    ]
    assert spec.maps[".rodata"].frozen
    assert not spec.maps[".data"].frozen
    places = {v.name: (v.section, v.offset, v.size) for v in spec.variables.values()}
    assert places["counter"] == (".bss", 8, 8)
    assert places["flag"] == (".rodata", 0, 4)
    spec.set("limit", 5)
    assert spec.maps[".rodata"].contents == b"\1\0\0\0" + (5).to_bytes(8, byteorder)  # type: ignore[arg-type]


def test_ext_records_count_from_each_function() -> None:
    spec = read_object(sample_object())
    btf = Btf(spec.btf)
    one, two = spec.programs["one"], spec.programs["two"]
    assert [(i, btf.name(t)) for i, t in two.func_info] == [(0, "two")]
    assert two.core_relos == [(3, 1, "0", 8)]
    lines = [(i, btf.string(f), btf.string(t), lc >> 10, lc & 1023) for i, f, t, lc in one.line_info]
    assert lines == [(0, "dir/prog.py", "def one(ctx):", 10, 5), (4, "dir/prog.py", "return triple(x)", 11, 9)]
    # The first instruction must have a line, whether or not the compiler gave it one.
    assert [record[0] for record in two.line_info] == [0]


def test_big_endian_code_has_swapped_fields_and_register_nibbles() -> None:
    code = read_object(sample_object("big")).programs["two"].insns
    assert code[16:24] == bytes((0x79, 0x01, 0, 0, 0, 0, 0, 0))  # dst r0 in the high nibble, src r1
    assert code[4:8] == (8).to_bytes(4, "big")


def test_relocated_instructions_have_clangs_form() -> None:
    code = read_object(sample_object()).programs["one"].insns
    assert code[:16] == slot(0x18, 1) + slot(0)
    assert code[16:32] == slot(0x18, 2, 0, 0, 4) + slot(0)
    assert code[40:48] == slot(0x85, 0, 1, 0, -1)


def test_function_addresses() -> None:
    units = sample_units()
    four = CodeUnit("four", "raw_tp/x", wide(2) + MOV_R0 + EXIT, 0)
    four.relocs = [Reloc(0, RELOC_FUNC, "triple")]
    spec = read_object(sample_object(units=[*units, four]))
    assert [(r.kind, r.target) for r in spec.programs["four"].relocs] == [(RELOC_FUNC, "triple")]


def test_same_input_same_bytes() -> None:
    assert sample_object() == sample_object()


def test_object_without_btf() -> None:
    image = ObjectImage()
    image.units = [CodeUnit("f", "raw_tp/x", MOV_R0 + EXIT, 0)]
    spec = read_object(write_object(image))
    assert spec.programs["f"].insns == MOV_R0 + EXIT
    assert (spec.license, spec.btf, spec.maps) == ("GPL", b"", {})


@pytest.mark.parametrize(
    ("relocs", "message"),
    [
        ([Reloc(0, RELOC_MAP, "nowhere")], "nowhere"),
        ([Reloc(1, RELOC_MAP, "table")], "no instruction"),
        ([Reloc(99, RELOC_CALL, "triple")], "no instruction"),
        ([Reloc(0, "magic", "table")], "magic"),
    ],
)
def test_bad_relocations_are_refused(relocs: list[Reloc], message: str) -> None:
    units = sample_units()
    units[0].relocs = relocs
    with pytest.raises(ObjectError, match=message):
        sample_object(units=units)


def test_bad_images_are_refused() -> None:
    twice = sample_units()
    twice[1].name = "one"
    with pytest.raises(ObjectError, match="two symbols"):
        sample_object(units=twice)
    image = ObjectImage()
    image.data = {".bss": (b"\1", [])}
    with pytest.raises(ObjectError, match="only zeros"):
        write_object(image)
    image.data = {".database": (b"\1", [])}
    with pytest.raises(ObjectError, match="database"):
        write_object(image)
    image.data = {".data": (b"\1", [("x", 0, 2)])}
    with pytest.raises(ObjectError, match="outside"):
        write_object(image)
    image.data = {}
    image.units = [CodeUnit("f", "raw_tp/x", b"1234567", 0)]
    with pytest.raises(ObjectError, match="7 bytes"):
        write_object(image)
    unordered = sample_units()
    unordered[0].lines.reverse()
    with pytest.raises(ObjectError, match="not in order"):
        sample_object(units=unordered)


@pytest.mark.skipif(not shutil.which("llvm-objdump"), reason="llvm-objdump is not installed")
def test_llvm_objdump_disassembles(tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "x.o")
    for byteorder in ("little", "big"):
        with open(path, "wb") as file:
            file.write(sample_object(byteorder))
        text = subprocess.run(["llvm-objdump", "-d", "-r", path], check=True, capture_output=True, text=True).stdout
        for part in ("<triple>:", "r0 = 3", "R_BPF_64_64\ttable", "R_BPF_64_64\t.rodata", "R_BPF_64_32\ttriple"):
            assert part in text
        assert "r0 = *(u32 *)(r2 + 0)" in text
        assert "<unknown>" not in text


@pytest.mark.native
@pytest.mark.skipif(not shutil.which("bpftool"), reason="bpftool is not installed")
def test_bpftool_loads(tmp_path: object) -> None:
    """libbpf makes the maps, relocates, and the kernel takes programs and BTF."""
    if os.geteuid() != 0:
        pytest.skip("not root: BPF_PROG_LOAD is refused")
    units = sample_units()
    del units[1].cores[:]  # libbpf would look for the type in the kernel
    path = os.path.join(str(tmp_path), "x.o")
    with open(path, "wb") as file:
        file.write(sample_object(units=units))
    root = os.path.join(str(tmp_path), "bpffs")
    pins = os.path.join(root, "pins")
    os.mkdir(root)
    if subprocess.run(["mount", "-t", "bpf", "bpf", root], capture_output=True, check=False).returncode:
        pytest.skip("bpffs cannot be mounted: bpftool has no place to pin to")
    done = subprocess.run(["bpftool", "-d", "prog", "loadall", path, pins], capture_output=True, text=True, check=False)
    try:
        assert done.returncode == 0, done.stderr[-3000:]
        assert sorted(os.listdir(pins)) == ["one", "three", "two"]
        # BTF went into the kernel: the lines come back.
        shown = subprocess.run(
            ["bpftool", "prog", "dump", "xlated", "pinned", f"{pins}/one", "linum"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "return triple(x)" in shown
        assert "int triple()" in shown
    finally:
        # Its pins go with the file system.
        subprocess.run(["umount", root], check=True)
