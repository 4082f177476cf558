"""What an object holds, as far as its ELF headers and symbols tell: enough to list it and to choose from it.

Neither BTF nor relocations are looked at, so a device with hundreds of objects
learns in some milliseconds which programs they have; read_object() goes on from here.
"""

from __future__ import annotations

from pybpf.errors import ObjectError
from pybpf.object import elf

_USED = elf.SHF_ALLOC | elf.SHF_EXECINSTR


class Function:
    """A program or subprogram: ``start`` and ``end`` are bytes in ``section`` (``.text`` for subprograms)."""

    __slots__ = ("end", "name", "section", "start")

    def __init__(self, name: str, section: str, start: int, end: int) -> None:
        self.name = name
        self.section = section
        self.start = start
        self.end = end

    @property
    def size(self) -> int:
        """Bytes of code."""
        return self.end - self.start


class ObjectFile:
    """An object that is open: ``functions`` by name, and ``map_names``, those of section ``.maps`` by offset.

    Raises ObjectError for what is not an eBPF object, or whose functions lie in
    wrong places. Damage elsewhere, and what is not supported, shows when the
    object is read. The sections a function's name may stand for, such as
    ``tp_btf/sys_exit``, are explained by pybpf.sections.
    """

    __slots__ = ("code", "elf", "functions", "map_names", "maps_index")

    def __init__(self, data: bytes | elf.FileBytes) -> None:
        file = self.elf = elf.Elf(data)
        self.code: dict[int, str] = {}  # sections of code: index -> name
        self.maps_index = 0
        self.functions: dict[str, Function] = {}
        self.map_names: dict[int, str] = {}
        for index, header in enumerate(file.headers):
            flags, size = header[2], header[5]
            if not flags & _USED:
                continue
            name = file.section_name(index)
            if name == ".maps":
                self.maps_index = index
            elif flags & elf.SHF_EXECINSTR and size:
                if header[1] != elf.SHT_PROGBITS or size % 8:
                    raise ObjectError(f"section {name!r} is not eBPF code: its size is no multiple of 8")
                self.code[index] = name
        self._read_symbols()

    def _read_symbols(self) -> None:
        file, code, maps_index = self.elf, self.code, self.maps_index
        found = []
        for number, (_, info, _, shndx, value, size) in enumerate(file.symbols):
            kind = info & 15
            if kind == elf.STT_FUNC:
                if shndx in code:
                    found.append((shndx, value, value + size, file.symbol_name(number)))
            elif kind == elf.STT_OBJECT and shndx == maps_index and shndx:
                self.map_names[value] = file.symbol_name(number)
        found.sort()
        last, limit = 0, 0
        for shndx, start, end, name in found:
            if shndx != last:
                last, limit = shndx, 0
            if start % 8 or end % 8 or end <= start or end > file.headers[shndx][5] or start < limit:
                raise ObjectError(f"function {name!r} has a bad place in section {code[shndx]!r}: {start} to {end}")
            limit = end
            if name in self.functions:
                raise ObjectError(f"object has two functions named {name!r}: rename one")
            self.functions[name] = Function(name, code[shndx], start, end)
