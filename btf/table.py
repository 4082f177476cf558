"""The full reader, for tools: the place of every type at hand, every name decoded once.

Finding a type costs nothing and a walk over all of them little, for 4 bytes a
type and a string for each name asked for: a kernel's BTF takes some 25 MB
where the lazy reader takes nothing. Everything else is the lazy reader's.
"""

from __future__ import annotations

from array import array

from btf.errors import BtfError, BtfNotFound
from btf.format import (
    COMPOSITES,
    KIND_ARRAY,
    KIND_DATASEC,
    KIND_DECL_TAG,
    KIND_ENUM,
    KIND_ENUM64,
    KIND_FUNC,
    KIND_FUNC_PROTO,
    KIND_MASK,
    KIND_MAX,
    KIND_PTR,
    KIND_SHIFT,
    KIND_STRUCT,
    KIND_UNION,
    KIND_VAR,
    MODIFIERS,
)
from btf.reader import Btf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btf.reader import Data
    from btf.source import Words

# Which words of a record hold type ids: single ones, and the first and the step of those in its entries.
_TYPE_SLOTS: dict[int, tuple[tuple[int, ...], int, int]] = {
    **dict.fromkeys((*MODIFIERS, KIND_PTR, KIND_FUNC, KIND_VAR, KIND_DECL_TAG), ((2,), 0, 0)),
    KIND_ARRAY: ((3, 4), 0, 0),
    KIND_STRUCT: ((), 4, 3),
    KIND_UNION: ((), 4, 3),
    KIND_FUNC_PROTO: ((2,), 4, 2),
    KIND_DATASEC: ((), 3, 3),
}
# First and step of the words in a record's entries that hold names; the record's own name is word 0.
_NAME_SLOTS = {
    **dict.fromkeys((*COMPOSITES, KIND_ENUM64), (3, 3)),
    **dict.fromkeys((KIND_ENUM, KIND_FUNC_PROTO), (3, 2)),
}


def kind_of(record: Sequence[int]) -> int:
    """KIND_* of a record."""
    return record[1] >> KIND_SHIFT & KIND_MASK


def type_slots(record: Sequence[int]) -> Sequence[int]:
    """Which words of ``record`` hold type ids."""
    fixed, first, step = _TYPE_SLOTS.get(kind_of(record), ((), 0, 0))
    return (*fixed, *range(first, len(record), step)) if step else fixed


def name_slots(record: Sequence[int]) -> Sequence[int]:
    """Which words of ``record`` hold string offsets."""
    first, step = _NAME_SLOTS.get(kind_of(record), (0, 0))
    return (0, *range(first, len(record), step)) if step else (0,)


def is_known(record: Sequence[int]) -> bool:
    """Whether the record's kind is one whose words are understood here."""
    return 1 <= kind_of(record) <= KIND_MAX


class _Names(dict[int, str]):
    """Decoded strings by offset."""

    __slots__ = ("read",)

    def __init__(self, table: Table) -> None:
        self.read = table.read_name

    def __missing__(self, offset: int) -> str:
        name = self[offset] = self.read(offset)
        return name


class Table(Btf):
    """All types of one BTF blob; ``base`` is a Table as well. The whole type section is checked for its length."""

    base: Table | None

    def __init__(self, data: Data, base: Table | None = None) -> None:
        super().__init__(data, base)
        self._starts = self._all_starts()
        self._count = len(self._starts) - 1
        self.names = _Names(self)
        self._offsets: dict[bytes, int] | None = None

    def close(self) -> None:
        """Release the data, and the cycle that the names make."""
        self.names = _Names.__new__(_Names)
        super().close()

    def _all_starts(self) -> array[int]:
        info, lengths, end = self._info, self._lengths, len(self._words)
        starts = array("I", (0,))
        at = 0
        try:
            while at < end:
                at += lengths[info[at]]
                starts.append(at)
        except IndexError:
            at = end + 1
        except BtfError as error:
            raise BtfError(f"BTF type [{self.first_id + len(starts) - 1}]: {error}") from None
        if at > end:
            last = self.first_id + len(starts) - 1 - (starts[-1] > end)
            raise BtfError(f"BTF type [{last}] goes past the end of the type section")
        return starts

    def locate(self, id: int) -> tuple[memoryview[int] | Words, int]:
        """The words that hold a type's record, and the index of its first."""
        number = id - self.first_id
        if 0 <= number < self._count:
            return self._words, self._starts[number]
        if number < 0:
            return super().locate(id)
        raise BtfNotFound(f"there is no BTF type [{id}], the last is [{self.type_count - 1}]")

    def _string(self, offset: int) -> str:
        return self.names[offset]

    def read_name(self, offset: int) -> str:
        """The string at ``offset``, from the data: what ``names`` remembers."""
        return super()._string(offset)

    # ---- records ------------------------------------------------------------------------

    @property
    def ids(self) -> range:
        """Ids of this blob's own types."""
        return range(self.first_id, self.type_count)

    def record(self, id: int) -> list[int]:
        """All words of a type of this blob: name, info, size or type, and what its kind adds."""
        number = id - self.first_id
        if not 0 <= number < self._count:
            raise BtfNotFound(f"there is no BTF type [{id}] of its own in this BTF")
        return self._words[self._starts[number] : self._starts[number + 1]].tolist()

    def records(self) -> Iterator[list[int]]:
        """The records of this blob's own types, in order."""
        words, starts = self._words, self._starts
        at = 0
        for number in range(1, len(starts)):
            end = starts[number]
            yield words[at:end].tolist()
            at = end

    @property
    def data(self) -> bytes:
        """This blob itself."""
        return bytes(self._data[:])

    @property
    def layout(self) -> bytes:
        """This blob's own layout section; empty if it has none."""
        head = self.header
        return bytes(self._data[head.layout_off : head.layout_off + head.layout_len])

    @property
    def strings(self) -> bytes:
        """This blob's own string section."""
        return bytes(self._data[self._str_off : self._str_end])

    @property
    def string_base(self) -> int:
        """Offset of the first own string: the size of the base's strings."""
        return self._str_base

    def string_offset(self, name: str) -> int | None:
        """Where ``name`` stands as a string of its own (no other's tail), here or in the base; None if nowhere."""
        found = self.base.string_offset(name) if self.base is not None else None
        if found is not None or not name:
            return found if name else 0
        if self._offsets is None:
            self._offsets = {}
            at = self._str_base
            for raw in self.strings.split(b"\0")[:-1]:
                self._offsets.setdefault(raw, at)
                at += len(raw) + 1
        return self._offsets.get(name.encode("utf-8", "backslashreplace"))
