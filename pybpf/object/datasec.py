"""Completes the DATASEC types of clang's BTF.

clang leaves a DATASEC's size and the offsets of its global variables 0: they
are known only from the ELF file. The kernel refuses such BTF, so they are filled
in as libbpf does (btf_fixup_datasec in libbpf.c). Linked objects and pybpf's own
have them, and are left alone.
"""

from __future__ import annotations

from struct import Struct

from btf.format import LINKAGE_STATIC
from btf.reader import Btf
from pybpf.errors import ObjectError
from pybpf.object import elf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER = 12  # bytes of struct btf_type, before a DATASEC's entries


def fix_datasecs(file: elf.Elf, raw: bytes, btf: Btf, incomplete: Mapping[str, int]) -> bytes:
    """``raw``, the bytes of ``btf``, with the ``incomplete`` DATASECs (ids) of sections of ``file`` complete."""
    out = bytearray(raw)
    values = _global_values(file)
    for section in file.sections:
        if section.name in incomplete and section.flags & (elf.SHF_ALLOC | elf.SHF_EXECINSTR) == elf.SHF_ALLOC:
            _complete(out, file.prefix, btf, incomplete[section.name], section, values)
    return bytes(out)


def _complete(
    out: bytearray, prefix: str, btf: Btf, type_id: int, section: elf.Section, values: dict[str, int]
) -> None:
    entries = []
    for var, offset, size in btf.vars(type_id):
        name = btf.name(var)
        # A static variable's offset is in the file already: its relocation is against the section.
        if btf.linkage(var) != LINKAGE_STATIC:
            if name not in values:
                raise ObjectError(f"variable {name!r} of section {section.name!r} is not in the symbol table")
            offset = values[name]
        if offset + size > section.size:
            raise ObjectError(f"variable {name!r} lies outside section {section.name!r}")
        entries.append((offset, var, size))
    entries.sort()
    at = btf.header.type_off + btf.locate(type_id)[1] * 4
    # The size is below 2^32: the entries fit in, and there is at least one in a DATASEC that matters.
    Struct(prefix + "I").pack_into(out, at + 8, min(section.size, 0xFFFFFFFF))
    entry = Struct(prefix + "III")
    for number, (offset, var, size) in enumerate(entries):
        entry.pack_into(out, at + _HEADER + number * entry.size, var, offset, size)


def _global_values(file: elf.Elf) -> dict[str, int]:
    """The value of every global data symbol by name."""
    values = {}
    for number, (_, info, _, shndx, value, _) in enumerate(file.symbols):
        if info & 15 == elf.STT_OBJECT and info >> 4 != elf.STB_LOCAL and shndx:
            values[file.symbol_name(number)] = value
    return values
