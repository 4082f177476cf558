"""How a C compiler would lay out a struct that BTF describes, and what has to be said to make it agree.

BTF states offsets and sizes, not the attributes that led to them. A struct is
packed when its members cannot be had otherwise; any other difference from the
natural layout is filled with unnamed bit-fields (or bytes), which change no alignment
(System V ABI; the BPF target does the same).
"""

from __future__ import annotations

from btf.errors import BtfError
from btf.format import (
    COMPOSITES,
    ENUMS,
    KIND_ARRAY,
    KIND_FLOAT,
    KIND_INT,
    KIND_PTR,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btf.table import Table

MAX_DEPTH = 64  # structs within each other; the kernel takes 32 (MAX_RESOLVE_DEPTH)
_MAX_ALIGN = 16
_UNIT = 64  # bits of the unnamed bit-fields that fill gaps
_LARGE_GAP = 1 << 16  # bits from which on an array of bytes fills a gap: a hostile size would take gigabytes of text

# name, type id, offset in bits, bits of a bit-field or 0
Field = tuple[str, int, int, int]


class Layouts:
    """Sizes and alignments of types, and which structs are packed; remembers what it found."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._composites: dict[int, tuple[int, bool]] = {}
        # Type id -> (alignment, size in bytes, offset and bits of an integer that is a bit-field of the old style).
        self._facts: dict[int, tuple[int, int, int, int]] = {}

    def fields(self, id: int) -> list[Field]:
        """Members of a struct or union; old-style bit-fields (an INT of fewer bits than its size) like new ones."""
        members = self._table.members(id)
        if self._table.kflag(id):
            return members
        found = []
        for field in members:
            _, _, shift, bits = self._fact(field[1])
            found.append((field[0], field[1], field[2] + shift, bits) if bits else field)
        return found

    def align(self, id: int) -> int:
        """Natural alignment in bytes of a type as it is printed."""
        return self._fact(id)[0]

    def is_packed(self, id: int) -> bool:
        """Whether a struct or union needs ``__attribute__((packed))``."""
        return self._composite(id, 0)[1]

    def _fact(self, id: int, depth: int = 0) -> tuple[int, int, int, int]:
        fact = self._facts.get(id)
        if fact is None:
            fact = self._facts[id] = self._find_fact(id, depth)
        return fact

    def _find_fact(self, id: int, depth: int) -> tuple[int, int, int, int]:
        table = self._table
        size = table.size(id)
        bits = (0, 0)
        for _ in range(MAX_DEPTH):
            id = table.resolve(id)
            kind = table.kind(id)
            if kind != KIND_ARRAY:
                break
            id = table.array(id)[0]
        else:
            raise BtfError(f"BTF type [{id}] is nested too deep")
        if kind in COMPOSITES:
            align = self._composite(id, depth)[0]
        elif kind == KIND_PTR:
            align = table.pointer_size
        elif kind in (KIND_INT, KIND_FLOAT, *ENUMS):
            length = table.size(id)
            # The largest power of two in the size: 12 bytes of a long double on x86 are aligned to 4.
            align = min(length & -length, _MAX_ALIGN) or 1
            if kind == KIND_INT and length == size and table.int_bits(id) != (0, 8 * length & 0xFF):
                bits = table.int_bits(id)
        else:
            raise BtfError(f"BTF type {table.label(id)} cannot be a member: it has no size")
        return align, size, *bits

    def _composite(self, id: int, depth: int) -> tuple[int, bool]:
        found = self._composites.get(id)
        if found is None:
            if depth > MAX_DEPTH:
                raise BtfError(f"BTF type {self._table.label(id)} contains itself, or is nested too deep")
            found = self._composites[id] = self._measure(id, depth + 1)
        return found

    def _measure(self, id: int, depth: int) -> tuple[int, bool]:
        largest = 1
        packed = False
        for _, type, _, _ in self._table.members(id):
            # Ahead of fields(), which does not know how deep we are.
            self._fact(type, depth)
        for _, type, offset, bits in self.fields(id):
            align, size, _, _ = self._facts[type]
            largest = max(largest, align)
            if bits:
                unit = 8 * size or 8
                packed = packed or offset // unit != (offset + bits - 1) // unit
            else:
                packed = packed or offset % (8 * align) != 0
        if packed or self._table.size(id) % largest:
            return 1, True
        return largest, False

    def padded(self, id: int) -> Iterator[tuple[Field | None, int]]:
        """Members of a struct in order, and ``(None, bits)`` for each filler between or after.

        A filler of up to 64 bits can be an unnamed bit-field; a larger one is whole bytes on a byte's boundary.

        Raises BtfError for members that overlap or lie outside.
        """
        table = self._table
        align, packed = self._composite(id, 0)
        total = 8 * table.size(id)
        at = 0
        for field in self.fields(id):
            _, type, offset, bits = field
            near, size, _, _ = self._fact(type)
            length = bits or 8 * size
            if offset < at or offset + length > total:
                raise BtfError(f"BTF type {table.label(id)}: the member at bit {offset} overlaps another or the end")
            if packed:
                natural = at if bits else (at + 7) // 8 * 8
            elif bits:
                unit = 8 * size or 8
                natural = at if at // unit == (at + bits - 1) // unit else (at + unit - 1) // unit * unit
            else:
                natural = (at + 8 * near - 1) // (8 * near) * (8 * near)
            if natural != offset:
                yield from _fill(at, offset)
            yield field, 0
            at = offset + length
        if (at + 8 * align - 1) // (8 * align) * (8 * align) != total:
            yield from _fill(at, total)

    def union_filler(self, id: int) -> int:
        """Bytes of a member that a union needs to have its size, 0 for none."""
        table = self._table
        align, _ = self._composite(id, 0)
        largest = max((bits or 8 * self._fact(type)[1] for _, type, _, bits in self.fields(id)), default=0)
        size = table.size(id)
        if largest > 8 * size:
            raise BtfError(f"BTF type {table.label(id)} is smaller than its members")
        return 0 if (largest + 8 * align - 1) // (8 * align) * align == size else size


def _fill(at: int, end: int) -> Iterator[tuple[None, int]]:
    while at < end:
        bits = min(end - at, _UNIT - at % _UNIT)
        if at % 8 == 0 and end - at >= _LARGE_GAP:
            bits = (end - at) // 8 * 8
        yield None, bits
        at += bits
