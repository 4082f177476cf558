"""Filters that user space applies: return values, numbers, and paths that the kernel could not match.

What does not change with every record is decided once for each distinct block
of fields, and remembered.
"""

from __future__ import annotations

from bfer import values
from bfer.catalogue import HOW, PATH
from bfer.policy import EXACT, SUFFIX, Pattern
from bfer.records import (
    BLOCK_START,
    CALL,
    CALL_OFFSET,
    HOW_UNREADABLE,
    PATH_CUT,
    PATH_START,
    PATH_STATUS,
    PATH_UNREADABLE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from bfer.catalogue import Arg
    from bfer.policy import Choice, EventFilter

_CACHE_MAX = 4096

# Verdicts on a block: drop and keep its records, or ask their paths too.
_DROP, _KEEP = None, ()


class Residual:
    """Keeps the records that pass. ``filters`` is by system call number, ``table`` the machine's open flags."""

    __slots__ = ("_cache", "_filters", "_table")

    def __init__(self, filters: dict[int, EventFilter], table: Sequence[tuple[str, int]]) -> None:
        self._filters = filters
        self._table = table
        self._cache: dict[bytes, tuple[()] | tuple[Choice, int] | None] = {}

    def keep(self, records: list[bytes]) -> list[bytes]:
        kept = []
        cache = self._cache
        for record in records:
            block = record[BLOCK_START:PATH_START]
            try:
                verdict = cache[block]
            except KeyError:
                if len(cache) >= _CACHE_MAX:
                    cache.clear()
                verdict = cache[block] = self._judge(block)
            if verdict is _DROP:
                continue
            if not verdict or path_passes(verdict[0], record[PATH_START:], verdict[1]):
                kept.append(record)
        return kept

    def _judge(self, block: bytes) -> tuple[()] | tuple[Choice, int] | None:
        result, *scalars, event, status = CALL.unpack_from(block, CALL_OFFSET)
        filter = self._filters.get(event)
        if filter is None:
            return _KEEP
        if filter.result is not None and not filter.result.matches(result):
            return _DROP
        path: tuple[()] | tuple[Choice, int] = _KEEP
        for arg, choice in filter.args.values():
            if arg.kind == PATH:
                path = (choice, status & PATH_STATUS)
            elif not self._scalar_passes(arg, choice, scalars, status):
                return _DROP
        return path

    def _scalar_passes(self, arg: Arg, choice: Choice, scalars: Sequence[int], status: int) -> bool:
        if arg.kind == HOW and status & HOW_UNREADABLE:
            return not choice.wanted
        number = None if arg.kind == HOW else values.number(arg, scalars)
        texts = [values.text(arg, scalars, self._table).encode()]
        if number is not None:
            texts.append(str(number).encode())

        def meets(item: Pattern | int) -> bool:
            if isinstance(item, Pattern):
                return any(item.matches(text) for text in texts)
            return item == number or item == scalars[arg.slot]

        if choice.wanted and not any(meets(item) for item in choice.wanted):
            return False
        return not any(meets(item) for item in choice.unwanted)


def path_passes(choice: Choice, path: bytes, status: int) -> bool:
    """Does a path meet ``choice``? One that could not be read meets nothing, wanted or not."""
    if status == PATH_UNREADABLE:
        return not choice.wanted

    def meets(item: Pattern | int) -> bool:
        assert isinstance(item, Pattern)
        # Of a cut path only what was read is known: its end is not the end.
        if status == PATH_CUT and item.kind in (EXACT, SUFFIX):
            return False
        return item.matches(path)

    if choice.wanted and not any(meets(item) for item in choice.wanted):
        return False
    return not any(meets(item) for item in choice.unwanted)
