"""What moved between two kernels: types by name, members by path, with offsets, sizes and types on both sides."""

from __future__ import annotations

from btf.cdecl import plain
from btf.clayout import MAX_DEPTH, Layouts
from btf.errors import BtfError
from btf.format import (
    COMPOSITES,
    ENUMS,
    KIND_FUNC,
    KIND_STRUCT,
    KIND_TYPEDEF,
    KIND_UNION,
    printable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btf.table import Table

    # Offset in bits, bits of a bit-field or 0, size in bytes, declaration.
    Place = tuple[int, int, int, str]
    Key = tuple[str, str]

_COMPARED = {
    KIND_STRUCT: "struct",
    KIND_UNION: "union",
    **dict.fromkeys(ENUMS, "enum"),
    KIND_TYPEDEF: "typedef",
    KIND_FUNC: "func",
}
_MAX_MEMBERS = 1 << 18


def diff(old: Table, new: Table, names: Iterable[str] = ()) -> Iterator[str]:
    """Lines that say what differs; none when nothing does.

    With ``names`` (``task_struct`` or ``struct task_struct``) only those, which raises BtfError for one that neither
    side has. Of several types with the same name, the one is compared whose members agree best.
    """
    sides = _Side(old), _Side(new)
    for key in _keys(sides, names):
        before, after = (side.ids.get(key, []) for side in sides)
        title = printable(" ".join(key))
        if not after:
            yield f"- {title}: gone"
        elif not before:
            yield f"+ {title}: new"
        else:
            lines = _compare(sides, key[0], before, after)
            if lines:
                yield f"  {title}{lines[0]}"
                yield from lines[1:]


class _Side:
    """One BTF: ids by (keyword, name)."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.layouts = Layouts(table)
        self.ids: dict[Key, list[int]] = {}
        below: Table | None = table
        while below is not None:
            for id in below.ids:
                keyword = _COMPARED.get(below.kind(id))
                if keyword and below.name(id):
                    self.ids.setdefault((keyword, below.name(id)), []).append(id)
            below = below.base


def _keys(sides: tuple[_Side, _Side], names: Iterable[str]) -> Iterator[Key]:
    named = False
    for name in names:
        named = True
        keyword, _, rest = name.partition(" ")
        wanted = [(keyword, rest.strip())] if rest else [(word, name) for word in dict.fromkeys(_COMPARED.values())]
        found = [key for key in wanted if any(key in side.ids for side in sides)]
        if not found:
            raise BtfError(f"neither side has a type or function '{printable(name)}'")
        yield from found
    if not named:
        yield from sorted(sides[0].ids.keys() | sides[1].ids.keys())


def _compare(sides: tuple[_Side, _Side], keyword: str, before: list[int], after: list[int]) -> list[str]:
    """What differs: the rest of the title's line, then a line each; of several pairs that with the least."""
    best: list[str] | None = None
    for old in before[:8]:
        for new in after[:8]:
            lines = _pair(sides, keyword, old, new)
            if best is None or len(lines) < len(best):
                best = lines
            if not best:
                return []
    return best or []


def _pair(sides: tuple[_Side, _Side], keyword: str, old: int, new: int) -> list[str]:
    tables = sides[0].table, sides[1].table
    if keyword in ("typedef", "func"):
        texts = [printable(plain(table, id)) for table, id in zip(tables, (old, new))]
        return [":", f"    - {texts[0]}", f"    + {texts[1]}"] if texts[0] != texts[1] else []
    sizes = tables[0].size(old), tables[1].size(new)
    if keyword == "enum":
        lines = _values(dict(tables[0].enumerators(old)), dict(tables[1].enumerators(new)))
    else:
        lines = _members(_places(sides[0], old), _places(sides[1], new))
    if sizes[0] != sizes[1]:
        return [f": size {sizes[0]} -> {sizes[1]}", *lines]
    return [":", *lines] if lines else []


def _values(old: dict[str, int], new: dict[str, int]) -> list[str]:
    lines = []
    for name in dict.fromkeys((*old, *new)):
        if name not in new:
            lines.append(f"    - {printable(name)} = {old[name]}")
        elif name not in old:
            lines.append(f"    + {printable(name)} = {new[name]}")
        elif old[name] != new[name]:
            lines.append(f"      {printable(name)} = {old[name]} -> {new[name]}")
    return lines


def _places(side: _Side, id: int) -> dict[str, Place]:
    """Members by path; those of anonymous members count as the outer one's, as they do in C."""
    table = side.table
    found: dict[str, Place] = {}
    stack = [(id, 0, "", 0)]
    while stack:
        part, start, prefix, depth = stack.pop()
        if depth > MAX_DEPTH or len(found) > _MAX_MEMBERS:
            raise BtfError(f"BTF type {table.label(id)} contains itself, or has too many members")
        inner = []
        for name, type, offset, bits in side.layouts.fields(part):
            target = table.resolve(type)
            nested = table.kind(target) in COMPOSITES and not table.name(target)
            if nested:
                path = f"{prefix}{name}." if name else prefix
                inner.append((target, start + offset, path, depth + 1))
            if name:
                text = f"{{...}} {name}" if nested else plain(table, type, name)
                found[prefix + name] = start + offset, bits, table.size(type), text
        stack += inner[::-1]
    return found


def _members(old: dict[str, Place], new: dict[str, Place]) -> list[str]:
    """Differences by member, in the order of the old struct, what is new in the order of the new one after that."""
    lines = []
    for name in dict.fromkeys((*old, *new)):
        if name not in new:
            lines.append(f"    - {_describe(name, old[name])} at {_at(old[name])}")
        elif name not in old:
            lines.append(f"    + {_describe(name, new[name])} at {_at(new[name])}")
        elif old[name] != new[name]:
            lines.append(f"      {_change(name, old[name], new[name])}")
    return lines


def _describe(name: str, place: Place) -> str:
    bits = f": {place[1]}" if place[1] else ""
    path = f" ({printable(name)})" if "." in name else ""
    return f"{printable(place[3])}{bits}{path}"


def _at(place: Place) -> str:
    return f"{place[0] // 8}" + (f":{place[0] % 8}" if place[1] or place[0] % 8 else "")


def _change(name: str, old: Place, new: Place) -> str:
    parts = []
    if old[0] != new[0]:
        parts.append(f"at {_at(old)} -> {_at(new)}")
    if old[1] != new[1]:
        parts.append(f"bits {old[1] or 'all'} -> {new[1] or 'all'}")
    if old[2] != new[2]:
        parts.append(f"size {old[2]} -> {new[2]}")
    if old[3] != new[3]:
        parts.append(f"type '{printable(old[3])}' -> '{printable(new[3])}'")
    return f"{printable(name)}: {', '.join(parts)}"
