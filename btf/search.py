"""Finding types, functions, variables, enumerators and members by name, in one pass over the types."""

from __future__ import annotations

from btf.cdecl import plain, short_name
from btf.format import COMPOSITES, ENUMS, KIND_DATASEC, KIND_DECL_TAG, KIND_FUNC, KIND_FUNC_PROTO, kind_name, printable
from btf.table import kind_of, name_slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btf.table import Table


def find(table: Table, pattern: str, members: bool = False) -> Iterator[str]:
    """A line for whatever in ``table`` and its base bears the name ``pattern``, which may have ``*`` and ``?``.

    With ``members``, members of structs and parameters of function types as well.
    """
    below: Table | None = table
    chain = []
    while below is not None:
        chain.append(below)
        below = below.base
    wanted: set[int] = set()
    for part in chain[::-1]:
        wanted |= _offsets(part, pattern)
        if wanted:
            yield from _hits(part, wanted, members)


def _offsets(table: Table, pattern: str) -> set[int]:
    """Offsets of the strings that match; tails of longer strings count where types refer to them."""
    matches = _matcher(pattern)
    found = {0} if matches("") else set()
    names = table.names
    for record in table.records():
        for slot in name_slots(record):
            offset = record[slot]
            if offset not in found and matches(names[offset]):
                found.add(offset)
    return found


def _matcher(pattern: str) -> Callable[[str], bool]:
    if not any(letter in pattern for letter in "*?["):
        return pattern.__eq__
    import fnmatch
    import re

    match = re.compile(fnmatch.translate(pattern)).match
    seen: dict[str, bool] = {}

    def matches(name: str) -> bool:
        answer = seen.get(name)
        if answer is None:
            answer = seen[name] = bool(name) and match(name) is not None
        return answer

    return matches


def _hits(table: Table, wanted: set[int], members: bool) -> Iterator[str]:
    for id, record in zip(table.ids, table.records()):
        kind = kind_of(record)
        if record[0] in wanted and record[0]:
            yield f"[{id}] {_describe(table, id, kind)}"
        if kind in ENUMS:
            step = 2 if kind == ENUMS[0] else 3
            for (name, value), offset in zip(table.enumerators(id), record[3::step]):
                if offset in wanted:
                    yield f"[{id}] enumerator {printable(name)} = {value} of {printable(short_name(table, id))}"
        elif members and kind in COMPOSITES:
            for (name, type, offset, bits), word in zip(table.members(id), record[3::3]):
                if word in wanted and word:
                    place = f"+{offset // 8}" + (f", bit {offset % 8}" if bits or offset % 8 else "")
                    text = plain(table, type, name) + (f": {bits}" if bits else "")
                    yield f"[{id}] member {printable(text)} of {printable(short_name(table, id))} at {place}"
        elif members and kind == KIND_FUNC_PROTO:
            for (name, type), word in zip(table.params(id), record[3::2]):
                if word in wanted and word:
                    yield f"[{id}] parameter {printable(plain(table, type, name))}"


def _describe(table: Table, id: int, kind: int) -> str:
    name = printable(table.name(id))
    if kind in COMPOSITES:
        return f"{kind_name(kind)} {name}: size {table.size(id)}, {table.vlen(id)} members"
    if kind in ENUMS:
        return f"{kind_name(kind)} {name}: size {table.size(id)}, {table.vlen(id)} values"
    if kind == KIND_DATASEC:
        return f"datasec {name}: size {table.size(id)}, {table.vlen(id)} variables"
    if kind == KIND_DECL_TAG:
        return f"decl_tag {name} on {printable(table.label(table.type(id)))}"
    if kind == KIND_FUNC:
        return f"func {printable(plain(table, id))}"
    return f"{kind_name(kind)} {printable(plain(table, id))}"
