"""Sections of an ELF file by name: 32 and 64 bits, both byte orders, any machine.

Only what it takes to get at ``.BTF`` in a kernel image, a module or an object;
what eBPF objects hold besides is read elsewhere. Layout: System V ABI, generic part.
"""

from __future__ import annotations

from struct import Struct

from btf.errors import BtfError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from mmap import mmap
    from typing import Union

    Data = Union[bytes, bytearray, mmap]

MAGIC = b"\x7fELF"
_SHT_NOBITS = 8
_SHF_COMPRESSED = 0x800
_SHN_XINDEX = 0xFFFF
_MAX_SECTIONS = 1 << 20


def sections(data: Data, names: Iterable[str]) -> dict[str, bytes]:
    """The contents of those sections of ``names`` that the ELF file has; the first of each name.

    Raises BtfError when the file is malformed, cut off, or compresses one of these sections.
    """
    wanted = {name.encode(): name for name in names}
    found: dict[str, bytes] = {}
    wide, mark = _class(data)
    headers = _headers(data, wide, mark)
    index, rows = headers
    if not rows:
        return found
    if index >= len(rows):
        raise BtfError("ELF section table is malformed: it has no section names")
    strings = _contents(data, rows[index], "section names")
    for row in rows[1:]:
        at = row[0]
        name = wanted.get(strings[at : strings.find(b"\0", at)])
        if name is not None and name not in found:
            found[name] = _contents(data, row, name)
    return found


def _class(data: Data) -> tuple[bool, str]:
    """Whether it is ELF64, and the byte order's mark for struct."""
    if len(data) < 64 or data[:4] != MAGIC:
        raise BtfError("not an ELF file")
    if data[4] not in (1, 2) or data[5] not in (1, 2):
        raise BtfError(f"ELF file of class {data[4]}, data encoding {data[5]} is not supported")
    return data[4] == 2, "<" if data[5] == 1 else ">"


def _headers(data: Data, wide: bool, mark: str) -> tuple[int, list[tuple[int, int, int, int, int]]]:
    """Index of the section of names, and ``(name, type, flags, offset, size)`` of all sections."""
    header = Struct(mark + ("QQIHHHHHH" if wide else "IIIHHHHHH"))
    _, start, _, _, _, _, size, count, names = header.unpack_from(data, 32 if wide else 28)
    if not start:
        return 0, []
    row = Struct(mark + ("IIQQQQI" if wide else "IIIIIII"))
    if size < row.size or start + size > len(data):
        raise BtfError("ELF section table is malformed or cut off")
    first = row.unpack_from(data, start)
    # With very many sections, the first header holds the numbers.
    count = count or first[5]
    names = first[6] if names == _SHN_XINDEX else names
    if count > _MAX_SECTIONS or start + size * count > len(data):
        raise BtfError("ELF section table is malformed or cut off")
    rows = []
    for index in range(count):
        name, kind, flags, _, offset, length, _ = row.unpack_from(data, start + size * index)
        rows.append((name, kind, flags, offset, length))
    return names, rows


def _contents(data: Data, row: tuple[int, int, int, int, int], what: str) -> bytes:
    _, kind, flags, offset, size = row
    if kind == _SHT_NOBITS:
        raise BtfError(f"ELF section {what} has no contents in this file (debug information was split off)")
    if flags & _SHF_COMPRESSED:
        raise BtfError(f"ELF section {what} is compressed: decompress it with objcopy --decompress-debug-sections")
    if offset + size > len(data):
        raise BtfError(f"ELF section {what} lies outside the file of {len(data)} bytes: the file is cut off")
    return bytes(data[offset : offset + size])
