"""Programs and libraries as files: where a function is, for uprobes, and the notes of USDT probes.

A big file is mapped, never read; one name is looked for at a time, so that no table
of symbols is ever built. Layouts: System V ABI, generic part, 32 and 64 bits.
"""

from __future__ import annotations

import mmap
import os
from errno import EINVAL, ENOENT, ENOEXEC
from struct import Struct
from struct import error as StructError

from pybpf.errors import LinkError
from pybpf.object.elf import ELFCLASS64, ELFDATA2LSB, SHT_NOBITS, SHT_SYMTAB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_ET_EXEC, _ET_DYN = 2, 3
_EM_ARM = 40
_PT_LOAD, _PT_DYNAMIC = 1, 2
_PF_X = 1
_SHT_DYNSYM, _SHT_NOTE = 11, 7
_SHT_GNU_VERSYM, _SHT_GNU_VERDEF = 0x6FFFFFFF, 0x6FFFFFFD
_STT_FUNC, _STT_GNU_IFUNC = 2, 10
_DT_STRTAB, _DT_SYMTAB, _DT_STRSZ = 5, 6, 10
_HIDDEN = 0x8000
_VISIBLE_BINDS = (1, 2, 10)  # STB_GLOBAL, STB_WEAK, STB_GNU_UNIQUE
_VISIBLE = (0, 3)  # STV_DEFAULT, STV_PROTECTED
_MAX_NAME = 4096

# Struct formats for 32 and 64 bits. Program header: type, offset, vaddr, filesz, flags.
_EHDR = {False: "16sHHIIIIIHHHHHH", True: "16sHHIQQQIHHHHHH"}
_SHDR = {False: "IIIIIIIIII", True: "IIQQQQIIQQ"}
_PHDR = {False: "IIIIIIII", True: "IIQQQQQQ"}
_SYM = {False: "IIIBBH", True: "IBBHQQ"}


class Symbol:
    """A function of a file: ``value`` is its address as linked, ``size`` bytes; ``version`` empty for the default."""

    __slots__ = ("bind", "name", "size", "type", "value", "version")

    def __init__(self, name: str, value: int, size: int, info: int, version: str = "") -> None:
        self.name = name
        self.value = value
        self.size = size
        self.bind = info >> 4
        self.type = info & 15
        self.version = version


class _Section:
    __slots__ = ("address", "link", "name", "offset", "size", "type")

    def __init__(self, fields: tuple[int, ...]) -> None:
        self.name, self.type, _, self.address, self.offset, self.size, self.link = fields[:7]


class Binary:
    """An executable or shared library. Close it, or use it as a context manager.

    Raises LinkError for a file that is none, is cut off, or was made for the other byte order.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise LinkError(f"{path}: {error.strerror}", error.errno or ENOENT) from None
        try:
            self._data = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
        except (OSError, ValueError):  # empty, or no plain file
            raise LinkError(f"{path}: not an ELF file", ENOEXEC) from None
        finally:
            os.close(fd)
        try:
            self._read_headers()
        except BaseException as error:
            self._data.close()
            if isinstance(error, StructError):
                raise LinkError(f"{path}: the ELF file is cut off", ENOEXEC) from None
            raise

    def _read_headers(self) -> None:
        data = self._data
        if len(data) < 52 or data[:4] != b"\x7fELF":
            raise LinkError(f"{self.path}: not an ELF file", ENOEXEC)
        self.wide = data[4] == ELFCLASS64
        self.prefix = "<" if data[5] == ELFDATA2LSB else ">"
        header = Struct(self.prefix + _EHDR[self.wide]).unpack_from(data)
        _, self.kind, self.machine, _, _, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, shstrndx = header
        if self.kind not in (_ET_EXEC, _ET_DYN):
            raise LinkError(f"{self.path}: neither an executable nor a shared library (ELF type {self.kind})", ENOEXEC)
        section = Struct(self.prefix + _SHDR[self.wide])
        if shoff and not shnum:  # more than fit into the header: the first section says how many
            shnum, shstrndx = section.unpack_from(data, shoff)[5:7]
        segment = Struct(self.prefix + _PHDR[self.wide])
        self.segments: list[tuple[int, int, int, int, int]] = []
        for index in range(phnum):
            fields = segment.unpack_from(data, phoff + index * phentsize)
            if self.wide:
                kind, flags, offset, address, _, size = fields[:6]
            else:
                kind, offset, address, _, size, _, flags = fields[:7]
            self.segments.append((kind, offset, address, size, flags))
        self._sections: list[_Section] = []
        if shoff:
            self._sections = [_Section(section.unpack_from(data, shoff + i * shentsize)) for i in range(shnum)]
        for header_ in self._sections:
            if header_.type != SHT_NOBITS and header_.offset + header_.size > len(data):
                raise LinkError(f"{self.path}: the ELF file is cut off", ENOEXEC)
        self._names = self._sections[shstrndx] if shstrndx < len(self._sections) else None

    def close(self) -> None:
        self._data.close()

    def __enter__(self) -> Binary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- parts ------------------------------------------------------------------

    def _text(self, at: int) -> str:
        end = self._data.find(b"\0", at, at + _MAX_NAME)
        return self._data[at:end].decode(errors="replace") if end >= 0 else ""

    def _section(self, name: str) -> _Section | None:
        if self._names is not None:
            for section in self._sections:
                if self._text(self._names.offset + section.name) == name:
                    return section
        return None

    def section(self, name: str) -> tuple[int, bytes] | None:
        """``(address, contents)`` of a section, None if there is none of that name."""
        section = self._section(name)
        if section is None:
            return None
        if section.type == SHT_NOBITS:
            return section.address, b""
        return section.address, self._data[section.offset : section.offset + section.size]

    def file_offset(self, address: int, executable: bool = True) -> int:
        """Where in the file the byte is that will be at ``address`` (as linked). Raises LinkError."""
        for kind, offset, start, size, flags in self.segments:
            if kind == _PT_LOAD and start <= address < start + size and (not executable or flags & _PF_X):
                return address - start + offset
        noun = "code" if executable else "data"
        raise LinkError(f"{self.path}: address {address:#x} is in no {noun} that is loaded", EINVAL)

    # --- symbols ------------------------------------------------------------------

    def _tables(self) -> Iterator[tuple[int, int, int, int, _Section | None]]:
        """Symbol tables as ``(offset, size, offset of strings, size of strings, section)``; .symtab has the most."""
        seen = False
        for type in (SHT_SYMTAB, _SHT_DYNSYM):
            for section in self._sections:
                if section.type == type and section.link < len(self._sections):
                    strings = self._sections[section.link]
                    seen = True
                    yield section.offset, section.size, strings.offset, strings.size, section
        if not seen:
            yield from self._dynamic_table()

    def _dynamic_table(self) -> Iterator[tuple[int, int, int, int, None]]:
        """The table that the dynamic linker uses, of a file without section headers."""
        word = Struct(self.prefix + ("QQ" if self.wide else "II"))
        tags: dict[int, int] = {}
        for kind, offset, _, size, _ in self.segments:
            if kind == _PT_DYNAMIC:
                for at in range(offset, offset + size, word.size):
                    tag, value = word.unpack_from(self._data, at)
                    tags.setdefault(tag, value)
        if {_DT_STRTAB, _DT_SYMTAB, _DT_STRSZ} <= tags.keys():
            symbols = self.file_offset(tags[_DT_SYMTAB], False)
            strings = self.file_offset(tags[_DT_STRTAB], False)
            # Nothing says how long the table is; linkers put the strings behind it.
            if symbols < strings:
                yield symbols, strings - symbols, strings, tags[_DT_STRSZ], None

    def symbols(self, name: str) -> list[Symbol]:
        """The functions of that name that the file defines; ``name@VERSION`` asks for one version."""
        bare, at, version = name.partition("@")
        version = version.lstrip("@")
        found: list[Symbol] = []
        for offset, size, strings, strings_size, section in self._tables():
            names = self._name_offsets(bare.encode(), strings, strings_size)
            if names:
                found += self._pick(bare, names, offset, size, section)
        if at:
            return [symbol for symbol in found if symbol.version.lstrip("@") == version]
        # The default version is the one that a program linked today would get.
        return [symbol for symbol in found if not symbol.version or symbol.version[0] == "@"] or found

    def exported(self) -> Iterator[bytes]:
        """Names that the file defines for others to use, as the dynamic linker sees them; in its order."""
        layout = Struct(self.prefix + _SYM[self.wide])
        tables = [table for table in self._tables() if table[4] is None or table[4].type == _SHT_DYNSYM]
        for offset, size, strings, strings_size, _ in tables:
            for at in range(offset, offset + size // layout.size * layout.size, layout.size):
                fields = layout.unpack_from(self._data, at)
                if self.wide:
                    name, info, other, shndx = fields[:4]
                else:
                    name, _, _, info, other, shndx = fields
                if shndx and info >> 4 in _VISIBLE_BINDS and other & 3 in _VISIBLE and name < strings_size:
                    start = strings + name
                    yield self._data[start : self._data.find(b"\0", start, start + _MAX_NAME)]

    def _name_offsets(self, name: bytes, start: int, size: int) -> set[int]:
        """Where in a table of strings ``name`` is: also as the end of a longer one, for linkers share these."""
        found = set()
        pattern = name + b"\0"
        at = self._data.find(pattern, start, start + size)
        while at >= 0:
            found.add(at - start)
            at = self._data.find(pattern, at + 1, start + size)
        return found

    def _pick(self, name: str, names: set[int], offset: int, size: int, section: _Section | None) -> list[Symbol]:
        layout = Struct(self.prefix + _SYM[self.wide])
        width = layout.size
        found = []
        with memoryview(self._data) as whole, whole[offset : offset + size // width * width] as table:
            for index, fields in enumerate(layout.iter_unpack(table)):
                if fields[0] not in names:
                    continue
                if self.wide:
                    _, info, _, shndx, value, length = fields
                else:
                    _, value, length, info, _, shndx = fields
                if shndx and info & 15 in (_STT_FUNC, _STT_GNU_IFUNC):
                    found.append(Symbol(name, value, length, info, self._version(index, section)))
        return found

    def function_names(self) -> Iterator[str]:
        """The names of the functions that the file defines, in its tables' order; a name may come twice."""
        layout = Struct(self.prefix + _SYM[self.wide])
        for offset, size, strings, _, _ in self._tables():
            for at in range(offset, offset + size // layout.size * layout.size, layout.size):
                fields = layout.unpack_from(self._data, at)
                info, shndx = (fields[1], fields[3]) if self.wide else (fields[3], fields[5])
                if shndx and info & 15 in (_STT_FUNC, _STT_GNU_IFUNC):
                    yield self._text(strings + fields[0])

    def _version(self, index: int, section: _Section | None) -> str:
        """``@VERSION`` if it is the default one, ``VERSION`` if it is an older one; empty without versions."""
        if section is None or section.type != _SHT_DYNSYM:
            return ""
        table = next((s for s in self._sections if s.type == _SHT_GNU_VERSYM), None)
        if table is None:
            return ""
        (number,) = Struct(self.prefix + "H").unpack_from(self._data, table.offset + 2 * index)
        if number & ~_HIDDEN < 2:
            return ""
        return ("" if number & _HIDDEN else "@") + self._version_name(number & ~_HIDDEN)

    def _version_name(self, number: int) -> str:
        section = next((s for s in self._sections if s.type == _SHT_GNU_VERDEF), None)
        if section is None or section.link >= len(self._sections):
            return str(number)
        at = section.offset
        definition, auxiliary = Struct(self.prefix + "HHHHIII"), Struct(self.prefix + "I")
        while at + definition.size <= section.offset + section.size:
            _, _, index, _, _, first, following = definition.unpack_from(self._data, at)
            if index == number:
                (name,) = auxiliary.unpack_from(self._data, at + first)
                return self._text(self._sections[section.link].offset + name)
            if not following:
                break
            at += following
        return str(number)

    def function(self, name: str) -> tuple[int, int]:
        """``(offset in the file, size)`` of the function ``name``. Raises LinkError.

        An IFUNC's symbol is the function that chooses an implementation, once, before
        main(): no place to probe.
        """
        symbols = self.symbols(name)
        if not symbols:
            raise LinkError(f"{self.path}: no function {name!r}{self._without(name)}", ENOENT)
        if any(symbol.type == _STT_GNU_IFUNC for symbol in symbols):
            raise LinkError(
                f"{self.path}: {name!r} is an indirect function (IFUNC): which of its implementations runs is chosen "
                "at start; probe that one, by name or offset",
                EINVAL,
            )
        # A global name hides file-local ones; weak ones stand in for missing global ones.
        best = min(symbols, key=lambda symbol: {1: 0, 2: 1}.get(symbol.bind, 2))
        values = {symbol.value for symbol in symbols if symbol.bind == best.bind}
        if len(values) > 1:
            places = ", ".join(f"{self.file_offset(value):#x}" for value in sorted(values))
            raise LinkError(
                f"{self.path}: there are {len(values)} functions {name!r}: give the offset of one: {places}", EINVAL
            )
        if self.machine == _EM_ARM and best.value & 1:
            raise LinkError(f"{self.path}: {name!r} is Thumb code, where the kernel cannot place uprobes", EINVAL)
        return self.file_offset(best.value), best.size

    def _without(self, name: str) -> str:
        if not any(section.type == SHT_SYMTAB for section in self._sections):
            return " among those it exports, and it is stripped of the others: give an offset"
        return ""

    def notes(self, name: str) -> Iterator[tuple[str, int, bytes]]:
        """``(owner, type, contents)`` of the notes of section ``name``."""
        section = self.section(name)
        if section is None:
            return
        raw = section[1]
        head = Struct(self.prefix + "III")
        at = 0
        while at + head.size <= len(raw):
            name_size, size, type = head.unpack_from(raw, at)
            start = at + head.size + (name_size + 3 & ~3)
            if start + size > len(raw):
                raise LinkError(f"{self.path}: section {name} is malformed", ENOEXEC)
            owner = raw[at + head.size : at + head.size + name_size].rstrip(b"\0").decode(errors="replace")
            yield owner, type, raw[start : start + size]
            at = start + (size + 3 & ~3)
