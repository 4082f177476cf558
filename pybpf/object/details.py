"""What .BTF.ext says of the functions of an object, taken apart when somebody asks.

A program's types, its source lines and its CO-RE relocations matter to those who load it or look into
it, not to those who choose among hundreds of programs.
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct

from btf.errors import BtfError
from btf.ext import parse_ext
from btf.reader import Btf
from pybpf.errors import ObjectError
from pybpf.object.spec import Details

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_LINE = Struct("=4I")


class Place:
    """A function and its place, in bytes of its section, and whether it is ``wanted``."""

    __slots__ = ("end", "name", "start", "wanted")

    def __init__(self, start: int, end: int, name: str, wanted: bool) -> None:
        self.start = start
        self.end = end
        self.name = name
        self.wanted = wanted


class Types:
    """The BTF of an object, ``raw``, opened when it is first wanted; that raises BtfError if it is malformed."""

    __slots__ = ("_btf", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._btf: Btf | None = None

    def __call__(self) -> Btf:
        """The types."""
        btf = self._btf
        if btf is None:
            btf = self._btf = Btf(self.raw)
            btf.pointer_size = 8  # as in eBPF, whatever the C types of the traced machine are
        return btf


class DetailSource:
    """The details of one object's functions; ``places`` are those of each code section by its name.

    Records count bytes from the start of the section; they are split among the functions
    that are wanted. Raises ObjectError, each time that it is asked, if the section is malformed.
    """

    __slots__ = ("_byteorder", "_found", "_lines", "_places", "_raw", "_types")

    def __init__(
        self, raw: bytes, byteorder: str, types: Types, places: Mapping[str, list[Place]], lines: bool
    ) -> None:
        self._raw = raw
        self._byteorder = byteorder
        self._types: Types | None = types
        self._places = places
        self._lines = lines
        self._found: dict[str, Details] = {}

    def __call__(self, name: str) -> Details:
        """The details of function ``name``."""
        if self._types is not None:
            try:
                self._found = self._take_apart(self._types())
            except BtfError as error:
                raise bad_btf(error) from error
            # What it was made from is much more.
            self._types, self._raw, self._places = None, b"", {}
        return self._found.get(name) or Details()

    def _take_apart(self, btf: Btf) -> dict[str, Details]:
        wanted = {name: [place for place in places if place.wanted] for name, places in self._places.items()}

        def keep(offset: int) -> bool:
            return bool(wanted.get(btf.string(offset)))

        ext = parse_ext(self._raw, self._byteorder, keep, self._lines)
        found = {place.name: Details() for places in wanted.values() for place in places}
        for offset, records in ext.func_info.items():
            for place, part in _split(records, wanted[btf.string(offset)]):
                start = place.start
                found[place.name].func_info = [(r[0] - start >> 3, r[1]) for r in part]
        for offset, packed in ext.line_info.items():
            for place, lines in _split_lines(packed, wanted[btf.string(offset)]):
                found[place.name].lines = lines, place.start
        accesses: dict[int, str] = {}
        for offset, records in ext.core_relos.items():
            for place, part in _split(records, wanted[btf.string(offset)]):
                relos = found[place.name].core_relos
                for insn, type_id, access, kind in part:
                    if access not in accesses:
                        accesses[access] = btf.string(access)
                    relos.append((insn - place.start >> 3, type_id, accesses[access], kind))
        return found


def _split(records: list[tuple[int, ...]], places: list[Place]) -> list[tuple[Place, list[tuple[int, ...]]]]:
    """``records`` (their first number is a byte offset) by function; ObjectError for a place between instructions."""
    records.sort()
    out = []
    for place in places:
        part = records[bisect_left(records, (place.start,)) : bisect_left(records, (place.end,))]
        if [1 for record in part if record[0] & 7]:
            raise _between(place)
        if part:
            out.append((place, part))
    return out


def _split_lines(packed: bytes, places: list[Place]) -> list[tuple[Place, bytes]]:
    """The same for line records, which stay packed."""
    starts = memoryview(packed).cast("I")[::4].tolist()
    if starts != sorted(starts):
        packed = b"".join([_LINE.pack(*record) for record in sorted(_LINE.iter_unpack(packed))])
        starts.sort()
    out = []
    for place in places:
        first, end = bisect_left(starts, place.start), bisect_left(starts, place.end)
        if [1 for start in starts[first:end] if start & 7]:
            raise _between(place)
        out.append((place, packed[first * _LINE.size : end * _LINE.size]))
    return out


def bad_btf(error: BtfError) -> ObjectError:
    """What is wrong with the BTF of an object, as an error of the object."""
    return ObjectError(f"BTF of the object: {error}", error.details)


def _between(place: Place) -> ObjectError:
    return ObjectError(f"function {place.name!r}: .BTF.ext record between two instructions")
