"""Listing an object agrees with reading it whole, and looks at neither BTF nor relocations."""

from __future__ import annotations

from pathlib import Path
from struct import pack_into, unpack_from

import pytest
from object_samples import sample_object

from pybpf.errors import ObjectError
from pybpf.object import elf
from pybpf.object.file import ObjectFile
from pybpf.object.reader import read_object


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_a_listing_is_what_reading_finds(byteorder: str) -> None:
    data = sample_object(byteorder)
    file, spec = ObjectFile(data), read_object(data)
    assert spec.programs
    assert {name: (f.section, f.size) for name, f in file.functions.items()} == {
        name: (program.section, len(program.insns)) for name, program in spec.programs.items()
    }
    assert [*file.map_names.values()] == [name for name in spec.maps if name not in (".rodata", ".data", ".bss")]


def test_an_open_file_is_read_as_its_bytes_are() -> None:
    data = sample_object()
    one, other = read_object(ObjectFile(data)), read_object(data)
    assert one.btf == other.btf
    assert [p.insns for p in one.programs.values()] == [p.insns for p in other.programs.values()]


@pytest.mark.parametrize("lines", [True, False])
def test_a_file_is_read_in_pieces_as_its_bytes_are(tmp_path: Path, lines: bool) -> None:
    path = tmp_path / "x.o"
    path.write_bytes(sample_object())
    one, other = read_object(elf.FileBytes(str(path)), lines=lines), read_object(sample_object(), lines=lines)
    assert (one.btf, one.license, one.maps.keys()) == (other.btf, other.license, other.maps.keys())
    for name, program in other.programs.items():
        again = one.programs[name]
        assert (again.insns, again.func_info, again.line_info) == (program.insns, program.func_info, program.line_info)
        assert again.core_relos == program.core_relos
        assert bool(again.line_info) == lines


def test_a_file_that_shrinks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.o"
    path.write_bytes(sample_object())
    data = elf.FileBytes(str(path))
    path.write_bytes(sample_object()[:200])
    with pytest.raises(ObjectError, match="shorter"):
        read_object(data)


def test_a_listing_needs_no_btf() -> None:
    data = bytearray(sample_object())
    header = next(section for section in elf.Elf(bytes(data)).sections if section.name == ".BTF")
    data[header.offset : header.offset + 24] = bytes(24)
    assert ObjectFile(bytes(data)).functions
    with pytest.raises(ObjectError, match="BTF"):
        read_object(bytes(data))


def test_functions_that_overlap_are_refused_when_listed() -> None:
    data = bytearray(sample_object())
    file = elf.Elf(bytes(data))
    table = next(section for section in file.sections if section.type == elf.SHT_SYMTAB)
    inside = [n for n, symbol in enumerate(file.symbols) if symbol[1] & 15 == elf.STT_FUNC]
    at = table.offset + inside[0] * elf.SYM_SIZE + 16
    (size,) = unpack_from("<Q", data, at)
    pack_into("<Q", data, at, size + 4)
    with pytest.raises(ObjectError, match="bad place"):
        ObjectFile(bytes(data))
