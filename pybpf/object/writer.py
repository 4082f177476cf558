"""Writes relocatable ELF64 objects for eBPF, in the form that clang gives them.

The output is a pure function of the image: no time stamp, no path of the
build host. libbpf, bpftool and llvm-objdump take the files.
"""

from __future__ import annotations

from struct import Struct

from pybpf.errors import ObjectError
from pybpf.object import elf
from pybpf.object.spec import RELOC_CALL, RELOC_DATA, RELOC_FUNC, RELOC_KFUNC, RELOC_KSYM, RELOC_MAP, Reloc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybpf.object.unit import CodeUnit

_LD_IMM64, _CALL, _PSEUDO_CALL = 0x18, 0x85, 1
_OF_CALLS = frozenset((RELOC_CALL, RELOC_KFUNC))
_OF_LOADS = frozenset((RELOC_MAP, RELOC_DATA, RELOC_FUNC, RELOC_KSYM))


class ObjectImage:
    """What goes into an object file, as plain data.

    ``units`` are the functions (machine code little-endian; the writer converts
    it for a big-endian object). ``maps`` is ``(name, offset, size)`` of each map
    definition in ``.maps``; ``data`` maps a data section's name to its contents
    and variables ``(name, offset, size)``. ``externs`` is ``(name, weak)`` of
    each thing that the kernel supplies. ``btf`` and ``btf_ext`` are raw
    sections in the image's byte order, left out when empty.
    """

    __slots__ = ("btf", "btf_ext", "byteorder", "data", "externs", "license", "maps", "units")

    def __init__(self, byteorder: str = "little") -> None:
        self.byteorder = byteorder
        self.units: list[CodeUnit] = []
        self.maps: list[tuple[str, int, int]] = []
        self.data: dict[str, tuple[bytes, list[tuple[str, int, int]]]] = {}
        self.externs: list[tuple[str, bool]] = []
        self.license = "GPL"
        self.btf = b""
        self.btf_ext = b""


class _Out:
    """One section to be written."""

    __slots__ = ("align", "body", "entsize", "flags", "index", "info", "link", "name", "size", "type")

    def __init__(self, name: str, type: int, flags: int, body: bytes, align: int = 8) -> None:
        self.name = name
        self.type = type
        self.flags = flags
        self.body = body
        self.size = len(body)
        self.align = align
        self.link = self.info = self.entsize = self.index = 0


class _Strings:
    """An ELF string table."""

    __slots__ = ("body", "offsets")

    def __init__(self) -> None:
        self.body = bytearray(1)
        self.offsets = {"": 0}

    def add(self, text: str) -> int:
        offset = self.offsets.get(text)
        if offset is None:
            offset = self.offsets[text] = len(self.body)
            self.body += text.encode() + b"\0"
        return offset


def place_units(units: Iterable[CodeUnit]) -> dict[str, list[tuple[CodeUnit, int]]]:
    """Section name -> its functions with their start in bytes: ``.text`` first, else in order of appearance."""
    sections: dict[str, list[tuple[CodeUnit, int]]] = {}
    ends: dict[str, int] = {}
    for unit in sorted(units, key=lambda unit: unit.section != ".text"):
        if not unit.code or len(unit.code) % 8:
            raise ObjectError(f"function {unit.name!r} has {len(unit.code)} bytes of code: instructions have 8 each")
        start = ends.get(unit.section, 0)
        sections.setdefault(unit.section, []).append((unit, start))
        ends[unit.section] = start + len(unit.code)
    return sections


def write_object(image: ObjectImage) -> bytes:
    """``image`` as an ELF file. Raises ObjectError for names used twice and relocations that lead nowhere."""
    return _Writer(image).write()


class _Writer:
    def __init__(self, image: ObjectImage) -> None:
        self.image = image
        self.prefix = "<" if image.byteorder == "little" else ">"
        self.sections = [_Out("", 0, 0, b"", 0)]
        self.strings = _Strings()
        self.symbols: list[tuple[int, int, int, int, int, int]] = [(0, 0, 0, 0, 0, 0)]
        self.by_name: dict[str, int] = {}  # global symbols and, under the section's name, section symbols

    def write(self) -> bytes:
        image = self.image
        placed = place_units(image.units)
        code = {name: self._code_section(name, units) for name, units in placed.items()}
        maps = None
        if image.maps:
            size = max(offset + size for _, offset, size in image.maps)
            maps = self._add(_Out(".maps", elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_WRITE, bytes(size)))
        data = {name: self._data_section(name, body) for name, (body, _) in image.data.items()}
        self._add(
            _Out("license", elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_WRITE, image.license.encode() + b"\0", align=1)
        )
        # Local symbols come before global ones.
        for name, section in data.items():
            self._symbol(name, elf.STB_LOCAL, elf.STT_SECTION, section, 0, 0)
        first_global = len(self.symbols)
        for name, units in placed.items():
            for unit, start in units:
                self._symbol(unit.name, elf.STB_GLOBAL, elf.STT_FUNC, code[name], start, len(unit.code))
        if maps is not None:
            for name, offset, size in image.maps:
                self._symbol(name, elf.STB_GLOBAL, elf.STT_OBJECT, maps, offset, size)
        for name, (_, variables) in image.data.items():
            for variable, offset, size in variables:
                if offset + size > data[name].size:
                    raise ObjectError(f"variable {variable!r} lies outside data section {name!r}")
                self._symbol(variable, elf.STB_GLOBAL, elf.STT_OBJECT, data[name], offset, size)
        for name, weak in image.externs:
            self._symbol(name, elf.STB_WEAK if weak else elf.STB_GLOBAL, elf.STT_NOTYPE, self.sections[0], 0, 0)
        for name, units in placed.items():
            self._relocation_section(code[name], units)
        if image.btf:
            self._add(_Out(".BTF", elf.SHT_PROGBITS, 0, image.btf, align=4))
        if image.btf_ext:
            self._add(_Out(".BTF.ext", elf.SHT_PROGBITS, 0, image.btf_ext, align=4))
        return self._finish(first_global)

    def _add(self, section: _Out) -> _Out:
        section.index = len(self.sections)
        self.sections.append(section)
        self.strings.add(section.name)
        return section

    def _symbol(self, name: str, bind: int, type: int, section: _Out, value: int, size: int) -> None:
        if name in self.by_name:
            raise ObjectError(f"object has two symbols named {name!r}: rename one")
        self.by_name[name] = len(self.symbols)
        stored = 0 if type == elf.STT_SECTION else self.strings.add(name)
        self.symbols.append((stored, bind << 4 | type, 0, section.index, value, size))

    def _code_section(self, name: str, units: list[tuple[CodeUnit, int]]) -> _Out:
        code = b"".join(_relocatable_code(unit) for unit, _ in units)
        if self.prefix == ">":
            swap = Struct(">BBhi")
            # The register nibbles change places too: dst is the high one on big-endian (linux/bpf.h).
            code = b"".join(
                swap.pack(op, regs >> 4 | (regs & 15) << 4, off, imm)
                for op, regs, off, imm in Struct("<BBhi").iter_unpack(code)
            )
        return self._add(_Out(name, elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_EXECINSTR, code))

    def _data_section(self, name: str, body: bytes) -> _Out:
        flags = elf.SHF_ALLOC if is_section(name, ".rodata") else elf.SHF_ALLOC | elf.SHF_WRITE
        if is_section(name, ".bss"):
            if body.strip(b"\0"):
                raise ObjectError(f"data section {name!r} holds only zeros by definition: put initial values in .data")
            section = self._add(_Out(name, elf.SHT_NOBITS, flags, b""))
            section.size = len(body)
            return section
        if not is_section(name, ".data") and not is_section(name, ".rodata"):
            raise ObjectError(f"data section {name!r}: the name must be .rodata, .data or .bss, or start so plus a dot")
        return self._add(_Out(name, elf.SHT_PROGBITS, flags, body))

    def _relocation_section(self, target: _Out, units: list[tuple[CodeUnit, int]]) -> None:
        pack = Struct(self.prefix + elf.REL).pack
        records = []
        for unit, start in units:
            for reloc in unit.relocs:
                symbol = self.by_name.get(reloc.target)
                if symbol is None:
                    raise ObjectError(
                        f"function {unit.name!r} refers to {reloc.target!r}, which the object does not have"
                    )
                type = elf.R_BPF_64_32 if reloc.kind in _OF_CALLS else elf.R_BPF_64_64
                records.append((start + reloc.index * 8, symbol << 32 | type))
        if records:
            records.sort()
            body = b"".join(pack(*record) for record in records)
            section = self._add(_Out(".rel" + target.name, elf.SHT_REL, elf.SHF_INFO_LINK, body))
            section.info = target.index
            section.entsize = elf.REL_SIZE

    def _finish(self, first_global: int) -> bytes:
        symtab = self._add(_Out(".symtab", elf.SHT_SYMTAB, 0, b""))
        pack = Struct(self.prefix + elf.SYM).pack
        symtab.body = b"".join(pack(*symbol) for symbol in self.symbols)
        symtab.size = len(symtab.body)
        symtab.info = first_global
        symtab.entsize = elf.SYM_SIZE
        strtab = self._add(_Out(".strtab", elf.SHT_STRTAB, 0, b"", align=1))
        strtab.body = bytes(self.strings.body)
        strtab.size = len(strtab.body)
        symtab.link = strtab.index

        body = bytearray(elf.EHDR_SIZE)
        headers = []
        pack = Struct(self.prefix + elf.SHDR).pack
        for section in self.sections:
            if section.type == elf.SHT_REL:
                section.link = symtab.index
            if section.align:
                body += bytes(-len(body) % section.align)
            headers.append(
                pack(
                    self.strings.add(section.name),
                    section.type,
                    section.flags,
                    0,
                    len(body) if section.index else 0,
                    section.size,
                    section.link,
                    section.info,
                    section.align,
                    section.entsize,
                )
            )
            body += section.body
        body += bytes(-len(body) % 8)
        order = elf.ELFDATA2LSB if self.prefix == "<" else elf.ELFDATA2MSB
        ident = b"\x7fELF" + bytes((elf.ELFCLASS64, order, 1))
        body[: elf.EHDR_SIZE] = Struct(self.prefix + elf.EHDR).pack(
            ident.ljust(16, b"\0"),
            elf.ET_REL,
            elf.EM_BPF,
            1,
            0,
            0,
            len(body),
            0,
            elf.EHDR_SIZE,
            0,
            0,
            elf.SHDR_SIZE,
            len(headers),
            strtab.index,
        )
        return bytes(body + b"".join(headers))


def is_section(name: str, stem: str) -> bool:
    """Whether ``name`` is section ``stem`` or one of its kind: ``.data`` and ``.data.counters``, not ``.database``."""
    return name == stem or name.startswith(stem + ".")


def _relocatable_code(unit: CodeUnit) -> bytes:
    """The unit's code with every relocated instruction in the form clang gives it: addend in imm, no source register.

    A call has BPF_PSEUDO_CALL, of a kernel's function too, and imm -1, since a
    call's target is ``symbol + (imm + 1) * 8``.
    """
    code = bytearray(unit.code)
    for reloc in unit.relocs:
        at = reloc.index * 8
        wide = reloc.kind in _OF_LOADS
        if not wide and reloc.kind not in _OF_CALLS:
            raise ObjectError(f"function {unit.name!r}: unknown relocation kind {reloc.kind!r}")
        if at < 0 or at + (16 if wide else 8) > len(code) or code[at] != (_LD_IMM64 if wide else _CALL):
            raise ObjectError(f"function {unit.name!r}: no instruction for a {reloc.kind} relocation at {reloc.index}")
        _patch(code, at, reloc)
    return bytes(code)


def _patch(code: bytearray, at: int, reloc: Reloc) -> None:
    if reloc.kind in _OF_CALLS:
        code[at + 1] = _PSEUDO_CALL << 4
        imm = -1
    else:
        code[at + 1] &= 15
        imm = reloc.addend if reloc.kind == RELOC_DATA else 0
        code[at + 12 : at + 16] = bytes(4)
    code[at + 4 : at + 8] = (imm & 0xFFFFFFFF).to_bytes(4, "little")
