"""Reads relocatable ELF objects for eBPF into an ObjectSpec.

Takes what pybpf writes and what ``clang -target bpf -g`` makes, in both byte
orders, with externs of ``.kconfig`` and ``.ksyms``, which the loader resolves.
What it does not support it refuses by name: the legacy ``maps`` section, struct_ops, initialised pointers in data.
The rules are those of libbpf.c (record_reloc, init_global_data_maps).
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct

from btf.errors import BtfError
from btf.ext import without_lines
from pybpf.errors import ObjectError
from pybpf.object import elf
from pybpf.object.details import DetailSource, Place, Types, bad_btf
from pybpf.object.file import ObjectFile
from pybpf.object.mapsource import MapSource
from pybpf.object.spec import (
    KCONFIG,
    KSYMS,
    RELOC_CALL,
    RELOC_DATA,
    RELOC_FUNC,
    RELOC_KFUNC,
    RELOC_KSYM,
    RELOC_MAP,
    MapSpec,
    ObjectSpec,
    ProgramSpec,
    Reloc,
    Variable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from btf.reader import Btf

_LD_IMM64, _CALL = 0x18, 0x85
_OPCODE = {elf.R_BPF_64_64: _LD_IMM64, elf.R_BPF_64_32: _CALL}  # what each relocation type is for
_PSEUDO_CALL = 1
_CONTENTS = (elf.SHT_PROGBITS, elf.SHT_NOBITS)
_RELOCATING = (elf.SHT_REL, elf.SHT_RELA)
_MAP_TYPE_ARRAY = 2
_F_RDONLY_PROG = 1 << 7
_BTF_MAGIC_LITTLE = b"\x9f\xeb"
# Global variables larger than this together are a mistake: a device has less memory.
_MAX_DATA = 1 << 26

_REFUSED = {
    "maps": "legacy map definitions: define maps in .maps (libbpf 1.0 dropped this section too)",
    ".struct_ops": "struct_ops",
    ".struct_ops.link": "struct_ops",
}


def read_object(
    data: bytes | elf.FileBytes | ObjectFile, wanted: Iterable[str] | None = None, lines: bool = True
) -> ObjectSpec:
    """What the ELF object ``data`` holds: its bytes, or those of a file, or an ObjectFile that has listed it already.

    Every function is in ``programs``, subprograms (section ``.text``) included;
    with ``wanted``, only these programs and the subprograms, and the maps that they refer to, which saves time
    and memory where an object holds many. A wanted program that the object lacks is no error here.
    Without ``lines`` what is known of source lines, by which a rejection could be explained, is left out.
    Instructions at ``relocs`` still hold the compiler's placeholders. In ``btf``
    the DATASEC types have their sizes and offsets filled in, as the kernel wants
    them. Raises ObjectError, and only that, for malformed or unsupported input; for malformed map definitions
    when the maps are first asked for, for a malformed .BTF.ext when a program is asked for what is in it.
    """
    try:
        if not isinstance(data, (ObjectFile, elf.FileBytes)):
            data = bytes(data)
        file = data if isinstance(data, ObjectFile) else ObjectFile(data)
        return _Reader(file, None if wanted is None else frozenset(wanted), lines).read()
    except BtfError as error:
        raise bad_btf(error) from error


class _Reader:
    def __init__(self, file: ObjectFile, wanted: frozenset[str] | None, lines: bool) -> None:
        self.file = file
        self.lines = lines
        self.elf = file.elf
        self.wanted = wanted
        self.spec = ObjectSpec(file.elf.byteorder)
        self.code: dict[int, elf.Section] = {}  # by section index, as the two below
        self.data: dict[int, elf.Section] = {}
        self.data_size = 0
        self.functions: dict[int, list[Place]] = {}
        self.starts: dict[int, list[int]] = {}
        self.maps_index = file.maps_index
        self.map_names = file.map_names
        self.raw_btf: bytes = b""
        self.raw_ext: bytes = b""
        self.maps: dict[str, MapSpec] = {}  # of the data sections and .kconfig

    def read(self) -> ObjectSpec:
        self._sort_sections()
        self._read_variables()
        self._place_functions()
        types = None
        if self.raw_btf:
            types = self._types()
            if any(symbol[0] and symbol[3] == elf.SHN_UNDEF for symbol in self.elf.symbols):
                self._read_externs(types())
        elif self.map_names or self.raw_ext:
            raise ObjectError("object has no .BTF section: compile with -g")
        relocated = self._read_relocations()
        self._read_local_calls(relocated)
        self.spec.source = self._map_source(types)
        if types is not None and self.raw_ext:
            self._read_ext(types)
        return self.spec

    # --- sections and symbols ---

    def _sort_sections(self) -> None:
        file, code = self.elf, self.file.code
        names = set()
        for index, (_, kind, flags, _, _, size, _, _, _, _) in enumerate(file.headers):
            if kind not in _CONTENTS:
                continue
            name = file.section_name(index)
            if name in _REFUSED and size:
                raise ObjectError(f"section {name!r} is not supported: {_REFUSED[name]}")
            if name == ".BTF":
                self.raw_btf = file.contents(index)
            elif name == ".BTF.ext":
                self.raw_ext = self._ext(index)
            elif name == "license":
                self.spec.license = elf.cstring(file.contents(index) + b"\0", 0, "license")
            elif index in code:
                self.code[index] = file.section(index)
            elif flags & elf.SHF_ALLOC and size and _is_data(name):
                self._add_data(file.section(index))
            elif index != self.maps_index:
                continue
            if name in names:
                raise ObjectError(f"object has two sections named {name!r}: link them into one")
            names.add(name)

    def _ext(self, index: int) -> bytes:
        file = self.elf
        if self.lines or file.headers[index][2] & elf.SHF_COMPRESSED:
            return file.contents(index)
        size = file.headers[index][5]
        return without_lines(size, lambda start, end: file.part(index, start, end), file.byteorder)

    def _add_data(self, section: elf.Section) -> None:
        self.data_size += section.size
        if self.data_size > _MAX_DATA:
            raise ObjectError(f"data section {section.name!r} is too large: {section.size} bytes")
        self.data[section.index] = section
        spec = MapSpec(section.name, _MAP_TYPE_ARRAY, 4, section.size, 1)
        if section.type == elf.SHT_NOBITS:
            spec.contents = bytearray(section.size)
        else:
            spec.contents = bytearray(self.elf.bytes(section))
        if section.name.startswith(".rodata"):
            spec.flags = _F_RDONLY_PROG
            spec.frozen = True
        self.maps[section.name] = spec

    def _read_variables(self) -> None:
        data = self.data
        if not data:
            return
        local: dict[str, int] = {}  # number of local variables of a name
        for number, (_, info, _, shndx, value, size) in enumerate(self.elf.symbols):
            if shndx in data and info & 15 == elf.STT_OBJECT:
                self._add_variable(number, info >> 4, data[shndx], value, size, local)
        # A name that only several local variables share means none of them.
        for name, count in local.items():
            if count > 1:
                del self.spec.variables[name]

    def _place_functions(self) -> None:
        sections = {section.name: section for section in self.code.values()}
        contents: dict[int, bytes] = {}
        for name, found in self.file.functions.items():
            section = sections[found.section]
            start, end = found.start, found.end
            wanted = self.wanted is None or name in self.wanted or section.name == ".text"
            if wanted:
                if section.index not in contents:
                    contents[section.index] = self.elf.bytes(section)
                self.spec.programs[name] = ProgramSpec(name, section.name, contents[section.index][start:end])
            self.functions.setdefault(section.index, []).append(Place(start, end, name, wanted))
        for index, functions in self.functions.items():
            self.starts[index] = [function.start for function in functions]

    def _add_variable(
        self, number: int, bind: int, section: elf.Section, value: int, size: int, local: dict[str, int]
    ) -> None:
        name = self.elf.symbol_name(number)
        if value + size > section.size:
            raise ObjectError(f"variable {name!r} lies outside section {section.name!r}")
        if bind != elf.STB_LOCAL:
            local.pop(name, None)
        elif name in self.spec.variables and name not in local:
            return  # the global one has the name
        else:
            local[name] = local.get(name, 0) + 1
        self.spec.variables[name] = Variable(name, section.name, value, size)

    # --- BTF ---

    def _types(self) -> Types:
        magic = _BTF_MAGIC_LITTLE if self.elf.byteorder == "little" else _BTF_MAGIC_LITTLE[::-1]
        if self.raw_btf[:2] != magic:
            raise ObjectError(f"section .BTF is not {self.elf.byteorder}-endian BTF, as the object is")
        return Types(self.raw_btf)

    def _read_externs(self, btf: Btf) -> None:
        from pybpf.object.externs import kconfig_size, read_externs

        spec = self.spec
        spec.externs = read_externs(self.elf, btf)
        size = kconfig_size(spec.externs)
        if not size:
            return
        if KCONFIG in self.maps:
            raise ObjectError(f"object has both a section {KCONFIG!r} and externs of that name")
        settings = self.maps[KCONFIG] = MapSpec(KCONFIG, _MAP_TYPE_ARRAY, 4, size, 1, _F_RDONLY_PROG)
        settings.contents = bytearray(size)
        settings.frozen = True
        for extern in spec.externs.values():
            if extern.section == KCONFIG:
                spec.variables[extern.name] = Variable(extern.name, KCONFIG, extern.offset, extern.size)

    def _map_source(self, types: Types | None) -> MapSource:
        """Says where the object gets its maps from: those that are used where not all programs are wanted."""
        used = None
        if self.wanted is not None:
            used = {r.target for p in self.spec.programs.values() for r in p.relocs if r.kind == RELOC_MAP}
        names = self.map_names if self.maps_index else {}
        return MapSource(self.elf, types, self.maps, names, used, self.spec.externs)

    def _read_ext(self, types: Types) -> None:
        """Says where the functions get from what is in .BTF.ext."""
        places = {section.name: self.functions.get(index, []) for index, section in self.code.items()}
        source = DetailSource(self.raw_ext, self.elf.byteorder, types, places, self.lines)
        for function in self.spec.programs.values():
            function.source = source

    # --- relocations ---

    def _read_relocations(self) -> dict[int, set[int]]:
        """Fills ``relocs`` from the relocation sections; returns the offsets of calls by section index."""
        done: dict[int, set[int]] = {}
        for index, header in enumerate(self.elf.headers):
            if header[1] not in _RELOCATING or not header[5]:
                continue
            section = self.elf.section(index)
            target = section.info
            if target in self.data or (target and target == self.maps_index):
                what = "holds pointers"
                if target == self.maps_index:
                    first = min((record[0] for record in self.elf.relocations(section)), default=0)
                    start = max((at for at in self.map_names if at <= first), default=0)
                    place = f"map {self.map_names.get(start, '')!r}, field 'values'"
                    what = f"says what maps hold at the start ({place})"
                raise ObjectError(f"section {self.elf.section_name(target)!r} {what}: not supported")
            if target not in self.code:
                continue  # debug sections and .BTF: their placeholders are right as they stand
            if not any(function.wanted for function in self.functions.get(target, ())):
                continue
            if section.type == elf.SHT_RELA:
                raise ObjectError(f"section {section.name!r}: RELA relocations are not supported")
            records = sorted(self.elf.relocations(section))
            self._relocate(self.code[target], records)
            done.setdefault(target, set()).update([at for at, _, type in records if type == elf.R_BPF_64_32])
        return done

    def _relocate(self, section: elf.Section, records: list[tuple[int, int, int]]) -> None:
        """Turns the relocations of one code section, sorted by offset, into those of its functions."""
        imm_at = Struct(self.elf.prefix + "i").unpack_from
        functions = iter(self.functions.get(section.index, ()))
        known: dict[tuple[int, int, int], tuple[str, str, int]] = {}
        function, start, end, relocs, code = None, 0, 0, None, b""
        for offset, symbol, type in records:
            if offset >= end:
                function = next((place for place in functions if offset < place.end), None)
                if function is not None:
                    start, end = function.start, function.end
                    program = self.spec.programs[function.name] if function.wanted else None
                    relocs, code = (program.relocs, program.insns) if program is not None else (None, b"")
            if function is None or offset < start or offset % 8:
                raise ObjectError(f"section {section.name!r}: relocation at {offset} is outside any function")
            if relocs is None:
                continue
            at = offset - start
            if _OPCODE.get(type) != code[at] or (type == elf.R_BPF_64_64 and offset + 16 > end):
                what = "does not fit the instruction" if type in _OPCODE else "is not supported"
                raise ObjectError(f"{_where(function, at)}: relocation type {type} {what}")
            (imm,) = imm_at(code, at + 4)
            key = symbol, type, imm
            found = known.get(key)
            if found is None:
                found = known[key] = self._resolve(symbol, type, imm, function, at)
            relocs.append(Reloc(at >> 3, *found))

    def _resolve(self, number: int, type: int, imm: int, function: Place, at: int) -> tuple[str, str, int]:
        """Kind, target and addend of a relocation; ``imm`` is the instruction's, since BPF objects use REL."""
        _, _, _, shndx, value, _ = self.elf.symbols[number]
        if shndx == self.maps_index and type == elf.R_BPF_64_64 and value + imm in self.map_names:
            return RELOC_MAP, self.map_names[value + imm], 0
        section = self.data.get(shndx)
        if section is not None and type == elf.R_BPF_64_64 and 0 <= value + imm < section.size:
            return RELOC_DATA, section.name, value + imm
        where = _where(function, at)
        if shndx == elf.SHN_UNDEF:
            return self._extern(self.elf.symbol_name(number), type, imm, where)
        if shndx == elf.SHN_COMMON:
            raise ObjectError(f"{where}: symbol {self.elf.symbol_name(number)!r} is common: compile with -fno-common")
        if type == elf.R_BPF_64_32:
            return RELOC_CALL, self._callee(shndx, value + (imm + 1) * 8, where), 0
        offset = value + imm
        if shndx in self.code:
            return RELOC_FUNC, self._callee(shndx, offset, where), 0
        if section is not None:
            raise ObjectError(f"{where}: address {offset} lies outside section {section.name!r}")
        section_name = self.elf.section_name(shndx) if shndx < len(self.elf.headers) else str(shndx)
        name = self.elf.symbol_name(number)
        raise ObjectError(f"{where}: symbol {name!r} in section {section_name!r} is neither map, data nor function")

    def _callee(self, index: int, offset: int, where: str) -> str:
        functions = self.functions.get(index, [])
        place = bisect_left(self.starts.get(index, []), offset)
        if place == len(functions) or functions[place].start != offset:
            raise ObjectError(f"{where}: call target {offset} of section {index} is not the start of a function")
        return functions[place].name

    def _extern(self, name: str, type: int, imm: int, where: str) -> tuple[str, str, int]:
        extern = self.spec.externs.get(name)
        if extern is None:
            raise ObjectError(
                f"{where}: symbol {name!r} is not defined in this object, nor declared as an extern "
                f"in {KCONFIG} or {KSYMS}"
            )
        if type == elf.R_BPF_64_32:
            if not extern.is_function:
                raise ObjectError(f"{where}: calls extern {name!r}, which is not a function in {KSYMS}")
            return RELOC_KFUNC, name, 0
        if extern.section == KSYMS:
            if imm:
                raise ObjectError(f"{where}: an address {imm} bytes behind extern {name!r} is not supported")
            return RELOC_KSYM, name, 0
        if not 0 <= imm < extern.size:
            raise ObjectError(f"{where}: address {imm} lies outside extern {name!r}")
        return RELOC_DATA, KCONFIG, extern.offset + imm

    def _read_local_calls(self, relocated: dict[int, set[int]]) -> None:
        """Adds the calls inside one section that the assembler has resolved itself."""
        src_shift = 4 if self.elf.byteorder == "little" else 0
        imm_at = Struct(self.elf.prefix + "i").unpack_from
        for index, functions in self.functions.items():
            known = relocated.get(index, set())
            for function in functions:
                if not function.wanted:
                    continue
                spec = self.spec.programs[function.name]
                code = spec.insns
                opcodes = code[::8]
                slot = opcodes.find(_CALL)
                while slot >= 0:
                    at = slot * 8
                    start = function.start + at
                    if code[at + 1] >> src_shift & 15 == _PSEUDO_CALL and start not in known:
                        target = start + (imm_at(code, at + 4)[0] + 1) * 8
                        callee = self._callee(index, target, _where(function, at))
                        spec.relocs.append(Reloc(slot, RELOC_CALL, callee))
                    slot = opcodes.find(_CALL, slot + 1)


def _where(function: Place, at: int) -> str:
    return f"function {function.name!r}, instruction {at // 8}"


def _is_data(name: str) -> bool:
    """Whether a section becomes a map: ``.data`` and ``.data.x``, but not ``.database``."""
    return name in (".rodata", ".data", ".bss") or name.startswith((".rodata.", ".data.", ".bss."))
