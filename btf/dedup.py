"""Deduplication: the types of several objects as one BTF in which equal types occur once.

The method is that of Andrii Nakryiko's BTF deduplication, as libbpf has it.
Integers, enums and forward declarations are equal by their contents. Structs
refer to each other in circles, so two of them are equal if their graphs are:
a pair is assumed to be equal and everything it refers to compared, until
nothing contradicts. A forward declaration equals a struct of its name if the
graphs around them agree. All other types follow from what they refer to.
"""

from __future__ import annotations

from btf.errors import BtfError
from btf.format import (
    COMPOSITES,
    ENUMS,
    KIND_ARRAY,
    KIND_DATASEC,
    KIND_DECL_TAG,
    KIND_FLOAT,
    KIND_FUNC,
    KIND_FUNC_PROTO,
    KIND_FWD,
    KIND_INT,
    KIND_PTR,
    KIND_STRUCT,
    KIND_UNION,
    KIND_VAR,
    MODIFIERS,
    VLEN_MASK,
)
from btf.table import is_known, kind_of, name_slots, type_slots
from btf.writer import blob, pack_records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from btf.table import Table

    Record = list[int]
    Key = tuple[int, ...]

_PRIMITIVES = frozenset((KIND_INT, KIND_FLOAT, KIND_FWD, *ENUMS))
_REFERENCES = frozenset((*MODIFIERS, KIND_PTR, KIND_ARRAY, KIND_FUNC_PROTO, KIND_FUNC, KIND_DECL_TAG))
_LEADING = frozenset((*COMPOSITES, KIND_FWD, KIND_VAR, KIND_DATASEC))
# Pairs of types that may be compared for each type there is: a kernel needs one or two.
_EFFORT = 20
_HOPS = 8


class Deduplicated:
    """``data`` is the blob; ``ids[n][old]`` the new id of type ``old`` of the n-th table."""

    __slots__ = ("data", "ids")

    def __init__(self, data: bytes, ids: list[list[int]]) -> None:
        self.data = data
        self.ids = ids


def deduplicate(tables: Sequence[Table]) -> Deduplicated:
    """The types of ``tables``, in order, each once.

    Tables must have the same byte order and stand on no base. Raises BtfError
    for those that do not, for a kind that is not known (its references would be
    lost), and for types that go round in circles without a struct between.
    """
    records, names, starts = _concatenate(tables)
    graph = _Graph(records)
    graph.merge_primitives()
    graph.merge_references(plain=True)
    graph.merge_structs()
    graph.resolve_forwards()
    graph.merge_references()
    kept, numbers = graph.compact()
    strings = _lay_out_names(kept, names)
    data = blob(pack_records(kept, tables[0].byteorder), strings, tables[0].byteorder)
    ids = [[0, *numbers[start + 1 : start + len(table.ids) + 1]] for table, start in zip(tables, starts)]
    return Deduplicated(data, ids)


def _concatenate(tables: Sequence[Table]) -> tuple[list[Record], list[str], list[int]]:
    """All records with ids renumbered and names by number, these names, and how many types stand before each table's.

    Names are equal if their numbers are; 0 is the empty one.
    """
    if not tables:
        raise BtfError("there is no BTF to deduplicate")
    records: list[Record] = [[0, 0, 0]]
    numbers: dict[str, int] = {"": 0}
    starts = []
    for table in tables:
        if table.base is not None or table.byteorder != tables[0].byteorder:
            raise BtfError("BTF to deduplicate must be of one byte order, and not split")
        start = len(records) - 1
        starts.append(start)
        count = table.type_count
        for id, record in zip(table.ids, table.records()):
            if not is_known(record):
                raise BtfError(f"BTF type [{id}]: kind {kind_of(record)} is unknown, what it refers to would be lost")
            for slot in name_slots(record):
                record[slot] = numbers.setdefault(table.names[record[slot]], len(numbers))
            for slot in type_slots(record):
                if record[slot] >= count:
                    raise BtfError(f"BTF type [{id}] refers to [{record[slot]}], the last is [{count - 1}]")
                record[slot] += start if record[slot] else 0
            records.append(record)
    return records, list(numbers), starts


def _lay_out_names(records: list[Record], names: list[str]) -> bytes:
    """The string section of the names that are used, in the order of use; their numbers become offsets."""
    offsets = {0: 0}
    text = bytearray(1)
    for record in records:
        for slot in name_slots(record):
            number = record[slot]
            offset = offsets.get(number)
            if offset is None:
                offset = offsets[number] = len(text)
                text += names[number].encode("utf-8", "backslashreplace") + b"\0"
            record[slot] = offset
    return bytes(text)


class _Graph:
    """All types; ``_same`` leads from a type to the one that stands for it, and from that to itself."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self._kinds = bytes(kind_of(record) for record in records)
        self._same = list(range(len(records)))
        self._decided = bytearray(len(records))
        self._parts: dict[int, tuple[Key, Key]] = {}
        self._left = _EFFORT * len(records) + 1_000_000

    def _find(self, id: int) -> int:
        same = self._same
        while same[id] != id:
            same[id] = same[same[id]]
            id = same[id]
        return id

    # ---- what is equal by itself ----------------------------------------------------------

    def merge_primitives(self) -> None:
        """Integers, floats, enums and forward declarations; an enum without values is a forward declaration too."""
        found: dict[Key, int] = {}
        enums: dict[Key, int] = {}  # (name, size, flag) -> enum with values
        forwards: list[int] = []
        for id, record in enumerate(self._records):
            kind = self._kinds[id]
            if kind not in _PRIMITIVES:
                continue
            self._decided[id] = 1
            self._same[id] = found.setdefault(tuple(record), id)
            if kind in ENUMS:
                if record[1] & VLEN_MASK:
                    enums.setdefault((record[0], record[2]), id)
                elif record[0]:
                    forwards.append(id)
        for id in forwards:
            record = self._records[id]
            full = enums.get((record[0], record[2]))
            if full is not None:
                self._same[self._find(id)] = full

    # ---- structs ------------------------------------------------------------------------

    def merge_structs(self) -> None:
        """Structs and unions, by graph equivalence with those of the same names and offsets of members."""
        found: dict[Key, list[int]] = {}
        for id, record in enumerate(self._records):
            if self._kinds[id] not in COMPOSITES or self._decided[id]:
                continue
            alike = found.setdefault(self._shape(record), [])
            for other in alike:
                pairs = self._equivalent(id, other)
                if pairs is not None:
                    self._unite(pairs)
                    self._same[id] = other
                    break
            else:
                alike.append(id)
            self._decided[id] = 1

    def _shape(self, record: Record) -> Key:
        """What structs must have in common before their graphs are compared.

        Name and size; names and offsets of members; and kinds and names along the way to what a member points to.
        """
        shape = [*record[:3], *record[3::3], *record[5::3]]
        for id in record[4::3]:
            for _ in range(_HOPS):
                record = self._records[id]
                kind = self._kinds[id]
                if kind == KIND_FWD:
                    kind = KIND_UNION if record[1] >> 31 else KIND_STRUCT
                shape += (ENUMS[0] if kind in ENUMS else kind, record[0])
                if kind == KIND_FUNC_PROTO:
                    shape += record[3::2]
                if kind not in _REFERENCES:
                    break
                id = record[3 if kind == KIND_ARRAY else 2]
        return tuple(shape)

    def _equivalent(self, id: int, other: int) -> dict[int, int] | None:
        """Whether the graph below ``id`` equals that below ``other``, which came first: their pairs, or None."""
        pairs: dict[int, int] = {}
        stack = [(id, other)]
        while stack:
            mine, first = stack.pop()
            if self._find(mine) == self._find(first):
                continue
            if self._kinds[first] == KIND_FWD:
                first = self._find(first)
            paired = pairs.get(first)
            if paired is not None:
                # Compilers do emit the same type twice within one object.
                if paired != mine and not self._identical(paired, mine):
                    return None
                continue
            pairs[first] = mine
            self._spend(mine)
            if not self._alike(mine, first):
                return None
            if self._kinds[mine] == self._kinds[first]:
                stack.extend(self._below(mine, first))
        return pairs

    def _alike(self, mine: int, first: int) -> bool:
        """Whether two types agree in all but what they refer to."""
        a, b = self._records[mine], self._records[first]
        kinds = self._kinds[mine], self._kinds[first]
        if kinds[0] != kinds[1]:
            if a[0] != b[0]:
                return False
            if KIND_FWD in kinds:
                forward, whole = (a, kinds[1]) if kinds[0] == KIND_FWD else (b, kinds[0])
                return whole == (KIND_UNION if forward[1] >> 31 else KIND_STRUCT)
            return False
        if kinds[0] in ENUMS and a[0] == b[0] and a[2] == b[2] and not (a[1] & VLEN_MASK and b[1] & VLEN_MASK):
            return True
        return self._split(mine)[0] == self._split(first)[0]

    def _below(self, mine: int, first: int) -> Iterable[tuple[int, int]]:
        return zip(self._split(mine)[1], self._split(first)[1])

    def _split(self, id: int) -> tuple[Key, Key]:
        """A type's words apart from its references, and these."""
        parts = self._parts.get(id)
        if parts is None:
            bare = self._records[id].copy()
            slots = type_slots(bare)
            references = tuple([bare[slot] for slot in slots])
            for slot in slots:
                bare[slot] = 0
            parts = self._parts[id] = tuple(bare), references
        return parts

    def _identical(self, id: int, other: int) -> bool:
        """Whether two types of one object are spelled the same, all the way down."""
        seen = set()
        stack = [(id, other)]
        while stack:
            pair = stack.pop()
            a, b = pair
            if a == b or self._find(a) == self._find(b) or pair in seen:
                continue
            seen.add(pair)
            self._spend(a)
            if self._kinds[a] != self._kinds[b] or not self._alike(a, b):
                return False
            stack.extend(self._below(a, b))
        return True

    def _spend(self, id: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise BtfError(f"BTF type [{id}] and others are so alike that telling them apart takes too long")

    def _unite(self, pairs: dict[int, int]) -> None:
        """Keep what a successful comparison showed: of structs, and of forward declarations that met their struct."""
        for first, mine in pairs.items():
            a, b = self._find(mine), self._find(first)
            if a == b:
                continue
            kinds = self._kinds[a], self._kinds[b]
            if kinds[0] == KIND_FWD and kinds[1] != KIND_FWD:
                self._same[a] = b
            elif kinds[1] == KIND_FWD and kinds[0] != KIND_FWD:
                self._same[b] = a
            elif kinds[1] in COMPOSITES and self._decided[b] and not self._decided[a]:
                self._same[a] = b
                self._decided[a] = 1

    def resolve_forwards(self) -> None:
        """Forward declarations whose name only one struct or union has are that one."""
        named: dict[tuple[int, int], int] = {}
        for id, record in enumerate(self._records):
            kind = self._kinds[id]
            if kind in COMPOSITES and record[0] and self._same[id] == id:
                key = kind, record[0]
                named[key] = 0 if key in named else id
        for id, record in enumerate(self._records):
            if self._kinds[id] == KIND_FWD and self._same[id] == id:
                whole = named.get((KIND_UNION if record[1] >> 31 else KIND_STRUCT, record[0]))
                if whole:
                    self._same[id] = whole

    # ---- what follows from what it refers to ---------------------------------------------

    def merge_references(self, plain: bool = False) -> None:
        """Pointers, typedefs, arrays, functions and the like, those first that others refer to.

        ``plain``: only those that lead to no struct. Done early, no pair of structs needs to walk long chains of them.
        """
        found: dict[Key, int] = {}
        open_ = bytearray(len(self._records))
        # Not now: what leads to a struct, to something not known to be equal yet.
        later = bytearray(len(self._records))
        if plain:
            later[:] = bytes(kind in _LEADING for kind in self._kinds)
        for root in range(len(self._records)):
            stack = [root]
            while stack:
                id = stack[-1]
                if self._decided[id] or later[id] or self._kinds[id] not in _REFERENCES:
                    stack.pop()
                    continue
                record = self._records[id]
                slots = type_slots(record)
                waiting = [
                    record[slot]
                    for slot in slots
                    if not self._decided[record[slot]] and not later[record[slot]]
                    if self._kinds[record[slot]] in _REFERENCES
                ]
                if waiting and open_[id]:
                    raise BtfError(f"BTF type [{id}] refers to itself, with no struct between")
                if waiting:
                    open_[id] = 1
                    stack += waiting
                    continue
                stack.pop()
                if plain and any(later[record[slot]] for slot in slots):
                    later[id] = 1
                    continue
                key = record.copy()
                for slot in slots:
                    key[slot] = self._find(key[slot])
                self._same[id] = found.setdefault(tuple(key), id)
                self._decided[id] = 1

    def compact(self) -> tuple[list[Record], list[int]]:
        """The records that stand for themselves, renumbered, and the new number of every type."""
        numbers = [0] * len(self._records)
        kept = [id for id in range(1, len(self._records)) if self._find(id) == id]
        for number, id in enumerate(kept, 1):
            numbers[id] = number
        numbers = [numbers[self._find(id)] for id in range(len(numbers))]
        for id in kept:
            record = self._records[id]
            for slot in type_slots(record):
                record[slot] = numbers[record[slot]]
        return [self._records[id] for id in kept], numbers
