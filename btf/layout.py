"""The layout of a struct for people: offsets, holes, padding, bit-fields and cache lines, in the manner of pahole.

Holes are what lies between members of one struct, in bytes, and in bits behind
bit-fields up to the end of their storage unit. Anonymous structs and unions are
shown in place, with offsets from the start of the outermost one.
"""

from __future__ import annotations

from btf.cdecl import Declarator, plain, short_name, spelled
from btf.clayout import MAX_DEPTH, Layouts
from btf.errors import BtfError, BtfNotFound
from btf.format import (
    COMPOSITES,
    ENUMS,
    KIND_ARRAY,
    KIND_FLOAT,
    KIND_FUNC,
    KIND_FWD,
    KIND_INT,
    KIND_STRUCT,
    KIND_TYPEDEF,
    KIND_UNION,
    KIND_VAR,
    printable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btf.clayout import Field
    from btf.table import Table

CACHE_LINE = 64
_COLUMN = 49  # where the comment with offset and size starts, tabs counted as 8
_KINDS = {
    "struct": (KIND_STRUCT,),
    "union": (KIND_UNION,),
    "enum": ENUMS,
}
_ANY = (*COMPOSITES, *ENUMS, KIND_TYPEDEF, KIND_FWD, KIND_INT, KIND_FLOAT, KIND_FUNC, KIND_VAR)
_MAX_LINES = 1 << 18  # of one type


def lookup(table: Table, name: str) -> list[int]:
    """Ids of what is called ``name``: ``struct x``, ``union x``, ``enum x``, or ``x`` for whatever bears that name.

    A whole type hides forward declarations. Raises BtfNotFound.
    """
    keyword, _, rest = name.partition(" ")
    kinds = _KINDS.get(keyword, _ANY) if rest else _ANY
    ids = table.find(rest.strip() if rest and keyword in _KINDS else name, kinds)
    whole = [id for id in ids if table.kind(id) != KIND_FWD]
    if not ids:
        raise BtfNotFound(f"there is no type, function or variable '{printable(name)}'")
    return whole or ids


def show(table: Table, id: int, cache_line: int = CACHE_LINE) -> Iterator[str]:
    """The lines of one type. ``cache_line`` in bytes."""
    kind = table.kind(id)
    target = table.resolve(id) if kind == KIND_TYPEDEF else id
    if kind == KIND_TYPEDEF and table.kind(target) in (*COMPOSITES, *ENUMS) and not table.name(target):
        head, tail = f"typedef {_keyword(table, target)}", f" {printable(table.name(id))}"
    else:
        head, tail, target = _title(table, id), "", id
    if table.kind(target) in COMPOSITES:
        yield from _Show(table, cache_line).whole(target, head, tail)
    elif table.kind(target) in ENUMS:
        yield f"{head} {{"
        for name, value in table.enumerators(target):
            yield f"\t{printable(name)} = {value},"
        yield ""
        yield f"\t/* size: {table.size(target)}, values: {table.vlen(target)} */"
        yield f"}}{tail};"
    else:
        size = f" /* size: {table.size(id)} */" if kind in (KIND_TYPEDEF, KIND_INT, KIND_FLOAT) else ""
        yield f"{head};{size}"


def _keyword(table: Table, id: int) -> str:
    return {KIND_STRUCT: "struct", KIND_UNION: "union"}.get(table.kind(id), "enum")


def _title(table: Table, id: int) -> str:
    kind = table.kind(id)
    if kind in (*COMPOSITES, *ENUMS):
        return printable(short_name(table, id))
    return f"{'typedef ' if kind == KIND_TYPEDEF else ''}{printable(plain(table, id))}"


class _Sums:
    """What the summary of one struct adds up: bytes and bits of members, holes, and where the last member ends."""

    def __init__(self) -> None:
        self.members = self.bits = self.end = self.unit_end = 0
        self.holes: list[int] = []
        self.bit_holes: list[int] = []


class _Show:
    def __init__(self, table: Table, cache_line: int) -> None:
        self._table = table
        self._layouts = Layouts(table)
        self._declarator = Declarator(table, lambda base, _: spelled(table, base))
        self._line = cache_line
        self._boundary = cache_line  # bytes; the next one that was not shown yet
        self._left = _MAX_LINES

    def whole(self, id: int, head: str, tail: str) -> Iterator[str]:
        table = self._table
        yield f"{head} {{"
        sums = _Sums()
        yield from self._members(id, 0, 1, sums)
        yield ""
        size = table.size(id)
        lines = -(-size // self._line)
        yield f"\t/* size: {size}, cachelines: {lines}, members: {table.vlen(id)} */"
        if table.kind(id) == KIND_STRUCT:
            yield from self._summary(sums, size)
        if size % self._line:
            yield f"\t/* last cacheline: {size % self._line} bytes */"
        packed = " __attribute__((__packed__))" if self._layouts.is_packed(id) else ""
        yield f"}}{packed}{tail};"

    def _summary(self, sums: _Sums, size: int) -> Iterator[str]:
        if sums.holes or sums.bits:
            yield (
                f"\t/* sum members: {sums.members}, holes: {len(sums.holes)}, sum holes: {sum(sums.holes)} */"
                if sums.holes
                else f"\t/* sum members: {sums.members} */"
            )
        if sums.bits:
            holes = f", bit holes: {len(sums.bit_holes)}, sum bit holes: {sum(sums.bit_holes)} bits"
            yield f"\t/* sum bitfield members: {sums.bits} bits{holes if sums.bit_holes else ''} */"
        bits, padding = _split_gap(sums.end, 8 * size, sums.unit_end)
        if padding:
            yield f"\t/* padding: {padding} */"
        if bits:
            yield f"\t/* bit_padding: {bits} bits */"

    def _members(self, id: int, start: int, depth: int, sums: _Sums | None) -> Iterator[str]:
        """Members of a struct or union that is at bit ``start``; ``sums`` is filled in for the outermost."""
        if depth > MAX_DEPTH:
            raise BtfError(f"BTF type {self._table.label(id)} contains itself, or is nested too deep")
        sums = _Sums() if sums is None else sums
        union = self._table.kind(id) == KIND_UNION
        tabs = "\t" * depth
        for field in self._layouts.fields(id):
            _, type, offset, bits = field
            self._left -= 1
            if self._left < 0:
                raise BtfError(f"BTF type {self._table.label(id)} has more than {_MAX_LINES} members")
            size = self._table.size(type)
            if not union:
                yield from self._gap(sums, offset, tabs)
                yield from self._cache_line(start + offset, tabs)
            yield from self._member(field, start, depth)
            if bits:
                unit = 8 * size or 8
                sums.bits += bits
                sums.end = max(sums.end, offset + bits)
                sums.unit_end = max(sums.end, offset // unit * unit + unit)
            else:
                sums.members += size
                sums.end = max(sums.end, offset + 8 * size)
                sums.unit_end = sums.end

    def _gap(self, sums: _Sums, offset: int, tabs: str) -> Iterator[str]:
        bits, count = _split_gap(sums.end, offset, sums.unit_end)
        if bits:
            sums.bit_holes.append(bits)
            yield from ("", f"{tabs}/* XXX {bits} bit{'s' * (bits > 1)} hole */", "")
        if count:
            sums.holes.append(count)
            yield from ("", f"{tabs}/* XXX {count} byte{'s' * (count > 1)} hole */", "")

    def _cache_line(self, offset: int, tabs: str) -> Iterator[str]:
        """Say so when a member lies behind the boundary of a cache line."""
        place = offset // 8
        if self._line and place >= self._boundary:
            number = place // self._line
            ago = place - number * self._line
            late = f" was {ago} byte{'s' * (ago > 1)} ago" if ago else ""
            yield f"{tabs}/* --- cacheline {number} boundary ({number * self._line} bytes){late} --- */"
            self._boundary = (number + 1) * self._line

    def _element(self, id: int) -> tuple[int, str]:
        """The element of an array and its dimensions; a type that is none, and nothing."""
        count = ""
        for _ in range(MAX_DEPTH):
            if self._table.kind(id) != KIND_ARRAY:
                return id, count
            id, _, length = self._table.array(id)
            count += f"[{length}]"
        raise BtfError(f"BTF type [{id}] refers to itself, or is nested too deep")

    def _member(self, field: Field, start: int, depth: int) -> Iterator[str]:
        name, type, offset, bits = field
        table = self._table
        tabs = "\t" * depth
        size = table.size(type)
        place = start + offset
        inner, count = self._element(type)
        if table.kind(inner) in COMPOSITES and not table.name(inner):
            yield f"{tabs}{_keyword(table, inner)} {{"
            # What is told within is told again after it: a reader may skip the inner struct.
            boundary = self._boundary
            yield from self._members(inner, place, depth + 1, None)
            self._boundary = boundary
            text = f"{tabs}}} {printable(name)}{count};" if name else f"{tabs}}};"
        else:
            text = f"{tabs}{printable(self._declarator.declare(type, name))}{f':{bits}' if bits else ''};"
        if bits:
            # Where the bit-field lies in an integer of its own type, as pahole counts.
            unit = 8 * size or 8
            base = place // unit * unit
            where = f"/* {base // 8:5}:{place - base:2} {size:2} */"
        else:
            where = f"/* {place // 8:5} {size:5} */"
        yield f"{text}{' ' * max(1, _COLUMN - len(text) - 7 * depth)}{where}"


def _split_gap(end: int, start: int, unit_end: int) -> tuple[int, int]:
    """A gap between bits ``end`` and ``start``: bits up to the end of a bit-field's storage unit, whole bytes after."""
    if start <= end:
        return 0, 0
    # Another member may lie in the rest of the unit.
    bits = max(0, min(start, unit_end) - end)
    count, rest = divmod(start - end - bits, 8)
    return bits + rest, count
