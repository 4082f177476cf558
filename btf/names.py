"""From a name to the types that bear it.

Types proper (what CO-RE and most attach points ask for) are a sixth of a
kernel's BTF. For them the first question builds a table during the walk over
all types: name offset and position, 8 bytes each. Functions and variables are
found by a scan of the type section, or during another walk when there are
many names.

A blob of more than a few hundred KB is taken to be what pahole and libbpf
write: every string once, each in its own place between two NULs. In a smaller
one strings may repeat or share tails (``task_struct`` in ``my_task_struct``).
"""

from __future__ import annotations

from struct import pack

from btf.errors import BtfError
from btf.format import (
    COMPOSITES,
    ENUMS,
    KIND_ENUM,
    KIND_FLOAT,
    KIND_FWD,
    KIND_INT,
    KIND_MASK,
    KIND_SHIFT,
    KIND_TYPEDEF,
    NATIVE,
    essential_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from btf.reader import Btf

_LARGE = 1 << 16  # words of types from which on strings are taken to be unique
_PIECE = 1 << 14  # bytes of strings copied at a time
_CHUNK = 1 << 16  # bytes of types a scan looks at at a time
_BLOCK = 256
_MAX_FLAVOUR = 1024  # a longer string is not the name of a type
_UNROLLED = range(_BLOCK // 4)
_SCAN_MAX = 2  # so many names are found faster by a scan than by a full walk
_TABLE_KINDS = (*COMPOSITES, *ENUMS, KIND_INT, KIND_FLOAT, KIND_FWD, KIND_TYPEDEF)


class _Signed(dict[int, int]):
    """Length of a record by its info word, negative where the name has to be looked at."""

    __slots__ = ("kinds", "lengths")

    def __init__(self, lengths: dict[int, int], kinds: Sequence[int]) -> None:
        self.lengths = lengths
        self.kinds = kinds

    def __missing__(self, info: int) -> int:
        words = self.lengths[info]
        if info >> KIND_SHIFT & KIND_MASK in self.kinds:
            words = -words
        if len(self) > 4096:
            self.clear()
        self[info] = words
        return words


class NameIndex:
    """Finds types by name in one Btf (not in its base); remembers what was asked for."""

    __slots__ = ("_btf", "_flavours", "_found", "_large", "_offsets", "_table")

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._large = len(btf._words) >= _LARGE
        self._offsets: dict[str, tuple[int, ...]] = {}
        self._flavours: dict[str, list[int]] | None = None
        self._found: dict[tuple[int, int], list[int]] = {}
        self._table: tuple[bytearray, bytearray] | None = None

    def contains(self, name: str) -> bool:
        base = self._btf.base
        return not name or bool(self._own_offsets(name)) or (base is not None and base.string_contains(name))

    def find(self, name: str, kinds: Sequence[int], flavours: bool = False) -> list[int]:
        offsets = self.offsets(name, flavours)
        self._resolve(offsets, kinds)
        found = self._found
        return sorted({id for offset in offsets for kind in kinds for id in found.get((offset, kind), ())})

    def prefetch(self, names: Iterable[str], kinds: Sequence[int]) -> None:
        self._resolve([offset for name in names for offset in self.offsets(name, False)], kinds)

    def all_of(self, kind: int) -> list[int]:
        """Ids of all types of a kind, ascending."""
        places: list[int] = []
        self._walk((kind,), lambda hits, _: places.extend(hits))
        return [id for _, id in self._confirm(places)]

    # ---- name -> offsets in the string section ------------------------------------------

    def offsets(self, name: str, flavours: bool) -> list[int]:
        """Every offset by which a type of this Btf may refer to ``name``, the base's strings included."""
        base = self._btf.base
        offsets = [] if base is None else base._names.offsets(name, flavours)
        # A name such as nf_conn___init is itself a flavour, and never the essence of one.
        if not flavours or essential_name(name) == name:
            offsets += self._own_offsets(name)
        if flavours:
            if self._flavours is None:
                self._flavours = self._collect_flavours()
            offsets += self._flavours.get(name, ())
        return offsets

    def _own_offsets(self, name: str) -> tuple[int, ...]:
        offsets = self._offsets.get(name)
        if offsets is None:
            raw = name.encode("utf-8", "backslashreplace")
            offsets = () if not raw or b"\0" in raw else tuple(self._search(raw))
            if len(self._offsets) >= 4096:
                self._offsets.clear()
            self._offsets[name] = offsets
        return offsets

    def _search(self, raw: bytes) -> list[int]:
        btf = self._btf
        data, start, end = btf._data, btf._str_off, btf._str_end
        shift = btf._str_base - start
        if not self._large:
            return [at + shift for at in _find_all(data, raw + b"\0", start, end)]
        if data[start : start + len(raw) + 1] == raw + b"\0":
            return [start + shift]  # the first string of split BTF has no NUL before it
        return [at + 1 + shift for at in _find_all(data, b"\0" + raw + b"\0", start, end, first=True)]

    def _collect_flavours(self) -> dict[str, list[int]]:
        """Names that are a flavour of another: a kernel has a handful, so one search serves all."""
        btf = self._btf
        flavours: dict[str, list[int]] = {}
        for offset in self._flavour_offsets():
            name = btf._string(offset)
            essence = essential_name(name)
            if essence != name:
                flavours.setdefault(essence, []).append(offset)
        return flavours

    def _flavour_offsets(self) -> Iterable[int]:
        btf = self._btf
        if not self._large:
            with memoryview(self._type_table()[0]).cast("I") as names:
                return set(names)
        data, start, end = btf._data, btf._str_off, btf._str_end
        offsets = []
        done = start
        for at in _find_all(data, b"___", start, end):
            if at >= done:
                done = data.find(b"\0", at, end)
                begin = data.rfind(b"\0", start, at) + 1 or start
                if done - begin < _MAX_FLAVOUR:
                    offsets.append(begin - start + btf._str_base)
        return offsets

    # ---- offsets -> type ids ----------------------------------------------------------

    def _resolve(self, offsets: Sequence[int], kinds: Sequence[int]) -> None:
        found = self._found
        want = {offset for offset in offsets if any((offset, kind) not in found for kind in kinds)}
        if not want:
            return
        places: list[int]
        if all(kind in _TABLE_KINDS for kind in kinds):
            places = self._look_up(want, kinds)
        elif len(want) <= _SCAN_MAX:
            places = self._scan(want, kinds)
        else:
            places = []
            self._walk(kinds, lambda hits, names: places.extend(at for at, name in zip(hits, names) if name in want))
        if len(found) > 1 << 16:
            found.clear()
        for offset in want:
            for kind in kinds:
                found[offset, kind] = []
        words = self._btf._words
        for at, id in self._confirm(places):
            found[words[at], words[at + 1] >> KIND_SHIFT & KIND_MASK].append(id)

    def _look_up(self, want: set[int], kinds: Sequence[int]) -> list[int]:
        """Positions of types with a wanted name, by the table."""
        words = self._btf._words
        names, places = self._type_table()
        found = []
        with memoryview(places).cast("I") as place:
            for offset in want:
                needle = pack("I", offset)
                at = names.find(needle)
                while at >= 0:
                    if not at & 3 and words[place[at >> 2] + 1] >> KIND_SHIFT & KIND_MASK in kinds:
                        found.append(place[at >> 2])
                    at = names.find(needle, at + 1)
        return sorted(found)

    def _type_table(self) -> tuple[bytearray, bytearray]:
        """Name offset and position of every type of _TABLE_KINDS."""
        if self._table is None:
            table = bytearray(), bytearray()

            def add(hits: list[int], names: list[int]) -> None:
                layout = f"{len(hits)}I"
                table[0].extend(pack(layout, *names))
                table[1].extend(pack(layout, *hits))

            self._walk(_TABLE_KINDS, add)
            self._table = table
        return self._table

    def _walk(self, kinds: Sequence[int], take: Callable[[list[int], list[int]], None]) -> None:
        """Walk over all types, setting the marks, and hand out positions and name offsets of those of some kinds."""
        btf = self._btf
        signed = _Signed(btf._lengths, kinds)
        marks = btf._marks = [0]
        btf._count = -1
        for view, base in btf._windows():
            info, end, at = view[1:], len(view), marks[-1] - base
            hits: list[int] = []
            broken = False
            try:
                while True:
                    for _ in _UNROLLED:
                        # Four times the same: the loop would cost as much as the work.
                        step = signed[info[at]]
                        if step < 0:
                            hits.append(at)
                            step = -step
                        at += step
                        step = signed[info[at]]
                        if step < 0:
                            hits.append(at)
                            step = -step
                        at += step
                        step = signed[info[at]]
                        if step < 0:
                            hits.append(at)
                            step = -step
                        at += step
                        step = signed[info[at]]
                        if step < 0:
                            hits.append(at)
                            step = -step
                        at += step
                    if at > end:
                        break
                    marks.append(base + at)
                    if len(hits) > 256:
                        take([base + at for at in hits], [view[at] for at in hits])
                        hits = []
            except IndexError:
                pass
            except BtfError:
                broken = True
            # Those of a block that is not whole come again: in the next window, or at the end.
            hits = [at for at in hits if base + at < marks[-1]]
            take([base + at for at in hits], [view[at] for at in hits])
            if broken:
                break
        words = btf._words
        tail = [at for at in btf._walk_tail() if words[at + 1] >> KIND_SHIFT & KIND_MASK in kinds]
        take(tail, [words[at] for at in tail])

    def _scan(self, want: set[int], kinds: Sequence[int]) -> list[int]:
        """Where a wanted offset is followed by what looks like the info word of a type."""
        words = self._btf._words
        last = len(words) - 2
        return [at for at in self._places(want) if at < last and words[at + 1] >> KIND_SHIFT & KIND_MASK in kinds]

    def _places(self, want: set[int]) -> list[int]:
        """Every word of the type section that is one of ``want``, ascending.

        One byte of every word is cut out and searched with memchr(): which of
        the three low bytes, is decided by which value is rarest at the start.
        """
        btf = self._btf
        raw, start, words, end = btf._raw, btf._raw_off, btf._words, len(btf._words)
        lanes = (0, 1, 2) if NATIVE == "little" else (3, 2, 1)
        head = raw[start : start + min(4 * end, _CHUNK)]
        first = [head[lane::4] for lane in lanes]
        plan = []
        for offset in want:
            value = [offset >> 8 * index & 0xFF for index in (0, 1, 2)]
            counts = [first[index].count(value[index]) for index in (0, 1, 2)]
            index = counts.index(min(counts))
            plan.append((offset, lanes[index], value[index]))
        hits = []
        for base in range(0, end, _CHUNK // 4):
            stop = start + 4 * min(end, base + _CHUNK // 4)
            planes: dict[int, bytes | bytearray] = {}
            for offset, lane, byte in plan:
                plane = planes.get(lane)
                if plane is None:
                    plane = planes[lane] = raw[start + 4 * base + lane : stop : 4]
                at = plane.find(byte)
                while at >= 0:
                    if words[base + at] == offset:
                        hits.append(base + at)
                    at = plane.find(byte, at + 1)
        return sorted(hits)

    def enumerators(self, name: str) -> list[tuple[int, int]]:
        """``(type id, index)`` of the enumerators of that name, ascending; anonymous enums count."""
        btf = self._btf
        found = []
        for place in self._places(set(self.offsets(name, False))):
            start, id = self._record_around(place)
            kind = btf._words[start + 1] >> KIND_SHIFT & KIND_MASK
            each = 2 if kind == KIND_ENUM else 3
            if kind in ENUMS and place >= start + 3 and not (place - start - 3) % each:
                found.append((id, (place - start - 3) // each))
        return found

    def _record_around(self, place: int) -> tuple[int, int]:
        """``(position, id)`` of the type whose record holds ``place``."""
        btf = self._btf
        self._cover(place)
        block = len(btf._marks) - 1
        while btf._marks[block] > place:
            block -= 1
        at, number = btf._marks[block], block * _BLOCK
        while True:
            after = at + btf._lengths[btf._info[at]]
            if after > place:
                return at, btf.first_id + number
            at, number = after, number + 1

    def _confirm(self, places: list[int]) -> list[tuple[int, int]]:
        """``(position, id)`` of those positions (ascending) at which a type really starts."""
        btf = self._btf
        info, lengths = btf._info, btf._lengths
        found = []
        block = here = number = -1
        for place in places:
            self._cover(place)
            low, high = 0, len(btf._marks)
            while low < high:
                middle = (low + high) // 2
                if btf._marks[middle] <= place:
                    low = middle + 1
                else:
                    high = middle
            if low - 1 != block:
                block = low - 1
                here, number = btf._marks[block], block * _BLOCK
            while here < place:
                here += lengths[info[here]]
                number += 1
            if here == place:
                found.append((place, btf.first_id + number))
        return found

    def _cover(self, place: int) -> None:
        """Walk until a mark lies behind ``place``."""
        btf = self._btf
        while btf._count < 0 and btf._marks[-1] <= place:
            # 4096 types a time: a call for each block would cost more than it saves.
            btf._walk(len(btf._marks) + 15)


def _find_all(data: object, needle: bytes, start: int, end: int, first: bool = False) -> list[int]:
    """Positions of ``needle`` in ``data[start:end]``, overlapping ones too.

    Pieces are copied out: bytes.find() is several times as fast as mmap.find().
    The names that matter are mostly near the start, so the first piece is small.
    """
    found = []
    extra = len(needle) - 1
    size = _PIECE // 8 if first else _PIECE
    while start < end:
        piece = data[start : min(end, start + size + extra)]  # type: ignore[index]
        at = piece.find(needle)
        while at >= 0:
            found.append(start + at)
            if first:
                return found
            at = piece.find(needle, at + 1)
        start += size
        size = _PIECE
    return found
