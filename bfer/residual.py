"""Filters that user space applies: return values, numbers, and paths that the kernel could not match.

What does not change with every record is decided once for each distinct block
of fields, and remembered.
"""

from __future__ import annotations

from bfer import values
from bfer.catalogue import HOW, PATH
from bfer.policy import CONTAINS, EXACT, PREFIX, SUFFIX, Pattern
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
    from collections.abc import Callable, Sequence

    from bfer.catalogue import Arg
    from bfer.policy import Choice, EventFilter

_CACHE_MAX = 4096


class Residual:
    """Keeps the records that pass. ``filters`` is by system call number, ``table`` the machine's open flags."""

    __slots__ = ("_cache", "_filters", "_paths", "_table")

    def __init__(self, filters: dict[int, EventFilter], table: Sequence[tuple[str, int]]) -> None:
        self._filters = filters
        self._table = table
        # By block: do its records pass, or what to ask about their paths?
        self._cache: dict[bytes, bool | Callable[[bytes], bool]] = {}
        self._paths: dict[tuple[int, int], Callable[[bytes], bool]] = {}

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
            if verdict is True or (verdict and verdict(record[PATH_START:])):
                kept.append(record)
        return kept

    def _judge(self, block: bytes) -> bool | Callable[[bytes], bool]:
        result, *scalars, event, status = CALL.unpack_from(block, CALL_OFFSET)
        filter = self._filters.get(event)
        if filter is None:
            return True
        if filter.result is not None and not filter.result.matches(result):
            return False
        verdict: bool | Callable[[bytes], bool] = True
        for arg, choice in filter.args.values():
            if arg.kind == PATH:
                verdict = self._path_test(event, choice, status & PATH_STATUS)
            elif not self._scalar_passes(arg, choice, scalars, status):
                return False
        return verdict

    def _path_test(self, event: int, choice: Choice, status: int) -> bool | Callable[[bytes], bool]:
        """What decides on a path. One that could not be read meets nothing, wanted or not."""
        if status == PATH_UNREADABLE:
            return not choice.wanted
        test = self._paths.get((event, status))
        if test is None:
            test = self._paths[event, status] = path_test(choice, status == PATH_CUT)
        return test

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


def path_test(choice: Choice, cut: bool) -> Callable[[bytes], bool]:
    """A function that tells whether a path meets ``choice``. The end of a ``cut`` path is not known."""
    wanted, unwanted = _any_of(choice.wanted, cut), _any_of(choice.unwanted, cut)
    if not choice.wanted:
        return lambda path: not unwanted(path)
    if not choice.unwanted:
        return wanted
    return lambda path: wanted(path) and not unwanted(path)


def _any_of(items: list[Pattern | int], cut: bool) -> Callable[[bytes], bool]:
    """A function that tells whether a path meets any of ``items``."""
    groups: dict[int, list[bytes]] = {EXACT: [], PREFIX: [], SUFFIX: [], CONTAINS: []}
    for item in items:
        assert isinstance(item, Pattern)
        if not cut or item.kind in (PREFIX, CONTAINS):
            groups[item.kind].append(item.data)
    exact = frozenset(groups[EXACT])
    starts, ends, parts = tuple(groups[PREFIX]), tuple(groups[SUFFIX]), tuple(groups[CONTAINS])

    def meets(path: bytes) -> bool:
        if path in exact or path.startswith(starts) or path.endswith(ends):
            return True
        for part in parts:  # noqa: SIM110 (any() would cost more than the search)
            if part in path:
                return True
        return False

    return meets
