"""The ELF container of BPF objects: constants, and a reader of headers, sections and symbols.

Only what a relocatable ELF64 file for machine EM_BPF (247) needs; nothing here
knows about maps or programs. Layouts are those of the System V ABI, generic
part, and `Documentation/bpf/llvm_reloc.rst` of the kernel for the relocations.
"""

from __future__ import annotations

import os
from struct import Struct

from pybpf.errors import ObjectError

EM_BPF = 247
ET_REL = 1
ELFCLASS64 = 2
ELFDATA2LSB, ELFDATA2MSB = 1, 2

# Sections.
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 1, 2, 3, 4, 8, 9
SHT_SYMTAB_SHNDX = 18
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_MERGE, SHF_STRINGS, SHF_INFO_LINK = 1, 2, 4, 0x10, 0x20, 0x40
SHF_COMPRESSED = 0x800
SHN_UNDEF, SHN_LORESERVE, SHN_ABS, SHN_COMMON = 0, 0xFF00, 0xFFF1, 0xFFF2

# Symbols.
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION = 0, 1, 2, 3

# Relocations: of an ld_imm64, and of a call.
R_BPF_64_64, R_BPF_64_32 = 1, 10

EHDR_SIZE, SHDR_SIZE, SYM_SIZE, REL_SIZE = 64, 64, 24, 16
# The same fields in both byte orders; prefix with "<" or ">".
EHDR = "16sHHIQQQIHHHHHH"
SHDR = "IIQQQQIIQQ"
SYM = "IBBHQQ"
REL = "QQ"
# The second field of a REL holds a symbol and, in its lower half, a type.
_RELS_LITTLE, _RELS_BIG = Struct("<QII"), Struct(">QII")
# By the byte of e_ident that tells the byte order: struct's mark, the order's name, and the layouts.
_LAYOUTS = {
    data: (mark, name, Struct(mark + EHDR), Struct(mark + SHDR), Struct(mark + SYM))
    for data, mark, name in ((ELFDATA2LSB, "<", "little"), (ELFDATA2MSB, ">", "big"))
}

# The kernel's own names have 512 bytes at most (KSYM_NAME_LEN).
_MAX_NAME = 4096


class FileBytes:
    """The bytes of a file, read when they are asked for: stands for ``bytes`` where ``Elf`` wants some.

    Of an object with many programs, a load looks at a third. Raises OSError, or ObjectError for a file that shrinks.
    """

    __slots__ = ("_fd", "_size")

    def __init__(self, path: str) -> None:
        self._fd = -1
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = os.fstat(self._fd).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        data = os.pread(self._fd, max(stop - start, 0), start)
        if len(data) < stop - start:
            raise ObjectError(f"ELF file has become shorter than {stop} bytes while it was read")
        return data

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class Section:
    """One section header. ``offset`` and ``size`` are bytes in the file; ``index`` is its own number."""

    __slots__ = ("entsize", "flags", "index", "info", "link", "name", "offset", "size", "type")

    def __init__(self, index: int, name: str, fields: tuple[int, ...]) -> None:
        _, self.type, self.flags, _, self.offset, self.size, self.link, self.info, _, self.entsize = fields
        self.index = index
        self.name = name


class Elf:
    """A parsed ELF file: ``byteorder`` (``little`` or ``big``), ``headers``, ``sections``, ``symbols``.

    ``headers`` are the raw section headers in the order of ``SHDR``; ``sections``
    and ``symbols``, the raw tuples ``(name_off, info, other, shndx, value, size)``,
    are made when they are asked for. Every section that has bytes in the file
    lies inside it. Raises ObjectError for anything that is not a relocatable
    ELF64 file for BPF, there or here.
    """

    __slots__ = (
        *("_names", "_section_names", "_sections", "_strings", "_symbol", "_symbols", "_symtab"),
        *("byteorder", "data", "headers", "prefix"),
    )

    def __init__(self, data: bytes | FileBytes) -> None:
        self.data = data
        head = data[:EHDR_SIZE]
        if len(head) < EHDR_SIZE or head[:4] != b"\x7fELF":
            raise ObjectError("not an ELF file: an eBPF object made by pybpf or by clang -target bpf is needed")
        order = head[5]
        if head[4] != ELFCLASS64 or order not in _LAYOUTS:
            raise ObjectError("not a 64-bit ELF file: eBPF objects are ELF64")
        self.prefix, self.byteorder, ehdr, shdr, self._symbol = _LAYOUTS[order]
        _, kind, machine, _, _, _, shoff, _, _, _, _, shentsize, shnum, shstrndx = ehdr.unpack(head)
        if machine != EM_BPF:
            raise ObjectError(f"ELF file is for machine {machine}, not eBPF ({EM_BPF}): compile with -target bpf")
        if kind != ET_REL:
            raise ObjectError(f"ELF file has type {kind}: only relocatable objects (type {ET_REL}) can be loaded")
        if shentsize != SHDR_SIZE or not shnum or shstrndx >= shnum or shoff + shnum * SHDR_SIZE > len(data):
            raise ObjectError("ELF section table is malformed or cut off")
        self.headers: list[tuple[int, ...]] = list(shdr.iter_unpack(data[shoff : shoff + shnum * SHDR_SIZE]))
        self._symtab = self._check_places()
        names = self.headers[shstrndx]
        self._names = data[names[4] : names[4] + names[5]]
        self._section_names: dict[int, str] = {}
        self._sections: list[Section] | None = None
        self._symbols: list[tuple[int, int, int, int, int, int]] | None = None
        self._strings = b""

    def _check_places(self) -> int:
        """Check that all sections lie inside the file; the index of the symbol table."""
        size = left = len(self.data)
        tables = []
        for index, (_, kind, _, _, offset, length, _, _, _, _) in enumerate(self.headers):
            if kind == SHT_SYMTAB:
                tables.append(index)
            elif kind == SHT_NOBITS or not index:
                continue
            if offset + length > size:
                raise ObjectError(f"ELF section {index} lies outside the file of {size} bytes: the file is cut off")
            # Else a small file could ask for as much memory and time as it likes.
            left -= length
            if left < 0:
                raise ObjectError(f"ELF sections overlap: up to section {index} they have more bytes than the file")
        if len(tables) != 1:
            raise ObjectError(f"ELF file has {len(tables)} symbol tables: an eBPF object has one (was it stripped?)")
        return tables[0]

    @property
    def sections(self) -> list[Section]:
        """All sections, by index."""
        if self._sections is None:
            self._sections = [self.section(index) for index in range(len(self.headers))]
        return self._sections

    def section(self, index: int) -> Section:
        """Section number ``index``."""
        return Section(index, self.section_name(index), self.headers[index])

    def section_name(self, index: int) -> str:
        """The name of section number ``index``."""
        name = self._section_names.get(index)
        if name is None:
            name = self._section_names[index] = cstring(self._names, self.headers[index][0], "section name")
        return name

    @property
    def symbols(self) -> list[tuple[int, int, int, int, int, int]]:
        """The symbol table."""
        if self._symbols is None:
            table = self.headers[self._symtab]
            if table[5] % SYM_SIZE or table[6] >= len(self.headers):
                raise ObjectError("ELF symbol table is malformed")
            self._strings = self.contents(table[6])
            self._symbols = list(self._symbol.iter_unpack(self.contents(self._symtab)))
        return self._symbols

    def contents(self, index: int) -> bytes:
        """The contents of section number ``index`` (a copy); nothing for one that takes no room in the file."""
        _, kind, flags, _, offset, size, _, _, _, _ = self.headers[index]
        if kind == SHT_NOBITS:
            return b""
        if flags & SHF_COMPRESSED:
            name = self.section_name(index)
            raise ObjectError(f"ELF section {name!r} is compressed: compile without compressed sections")
        return self.data[offset : offset + size]

    def part(self, index: int, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` of section number ``index``, one that takes room in the file."""
        at, size = self.headers[index][4:6]
        return self.data[at + min(start, size) : at + min(end, size)]

    def bytes(self, section: Section) -> bytes:
        """The contents of ``section``."""
        return self.contents(section.index)

    def symbol_name(self, index: int) -> str:
        """The name of symbol number ``index``; that of its section for a section symbol."""
        symbol = self.symbols[index]
        if symbol[1] & 15 == STT_SECTION and symbol[3] < len(self.headers):
            return self.section_name(symbol[3])
        return cstring(self._strings, symbol[0], "symbol name")

    def relocations(self, section: Section) -> list[tuple[int, int, int]]:
        """Records ``(offset, symbol index, type)`` of a SHT_REL section, in file order."""
        if section.size % REL_SIZE:
            raise ObjectError(f"ELF relocation section {section.name!r} is malformed")
        little = self.byteorder == "little"
        out = list((_RELS_LITTLE if little else _RELS_BIG).iter_unpack(self.bytes(section)))
        if little:
            out = [(offset, symbol, kind) for offset, kind, symbol in out]
        highest = max([symbol for _, symbol, _ in out], default=0)
        count = len(self.symbols)
        if highest >= count:
            raise ObjectError(f"ELF relocation in {section.name!r} names symbol {highest} of {count}")
        return out


def cstring(strings: bytes, offset: int, what: str) -> str:
    """The NUL-terminated string at ``offset``; ObjectError when it is outside or not UTF-8."""
    end = strings.find(b"\0", offset, offset + _MAX_NAME)
    if end < 0:
        raise ObjectError(f"ELF {what} at {offset} is outside the string table, or longer than {_MAX_NAME} bytes")
    try:
        return strings[offset:end].decode()
    except UnicodeDecodeError:
        raise ObjectError(f"ELF {what} at {offset} is not UTF-8") from None
