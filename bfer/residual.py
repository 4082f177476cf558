"""Filters that user space applies: text of arguments, and paths that the kernel could not match.

What does not change with every record is decided once for each distinct block
of fields, and remembered.
"""

from __future__ import annotations

from bfer import memory, values
from bfer.policy import CONTAINS, EXACT, PREFIX, SUFFIX, Choice, Containers, Pattern
from bfer.records import (
    ARGS,
    CALL,
    NEW_CGROUP,
    PATH_CUT,
    PATH_UNREADABLE,
    POINTER,
    WHO_SIZE,
    Block,
)
from bfer.values import Cut, Pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from bfer.catalogue import Arg, Event
    from bfer.containers import Groups
    from bfer.names import Names
    from bfer.policy import EventFilter

_CACHE_MAX = 4096


class Residual:
    """Keeps the records that pass. ``filters`` and ``events`` are by number; ``groups`` knows the control groups,
    where containers are filtered.
    """

    __slots__ = ("_cache", "_events", "_filters", "_groups", "_names", "_paths")

    def __init__(
        self, filters: dict[int, EventFilter], events: dict[int, Event], names: Names, groups: Groups | None = None
    ) -> None:
        self._filters = filters
        self._events = events
        self._names = names
        self._groups = groups
        # By block: do its records pass, or what to ask about their data?
        self._cache: dict[bytes, bool | Callable[[bytes], bool]] = {}
        self._paths: dict[tuple[int, int], Callable[[bytes], bool]] = {}

    def keep(self, rows: list[Any]) -> list[Any]:
        """Of records (time, block and data of each) those that pass."""
        kept: list[Any] = []
        cache = self._cache
        for time, block, data in zip(rows[0::3], rows[1::3], rows[2::3]):
            try:
                verdict = cache[block]
            except KeyError:
                if len(cache) >= _CACHE_MAX:
                    cache.clear()
                verdict = cache[block] = self._judge(block)
            if verdict is True or (verdict and verdict(data)):
                kept += time, block, data
        return kept

    def _judge(self, block: bytes) -> bool | Callable[[bytes], bool]:
        _, *args, number, status = CALL.unpack_from(block, WHO_SIZE)
        if number == NEW_CGROUP:
            return lambda path: self._learn(args[0], path)
        filter = self._filters.get(number)
        if self._groups is not None and not self._groups.passes(Block(block).cgroup_id):
            return False
        if filter is None:
            return True
        if filter.scope and not self._scope_passes(filter, Block(block, self._names)):
            return False
        event = self._events[number]
        in_memory: list[tuple[Arg, Choice]] = []
        for arg, choice in filter.args.values():
            if arg.memory or event.hooks:  # numbers that change with every record stand behind the block, too
                in_memory.append((arg, choice))
            elif not self._number_passes(arg, choice, args[arg.slot]):
                return False
        if not in_memory:
            return True
        if event.program == "path":
            return self._path_test(number, in_memory[0][1], status)
        return lambda data: self._fields_pass(in_memory, args, data)

    def _learn(self, id: int, path: bytes) -> bool:
        """A control group was made. What its processes do comes later, so nothing has been judged yet."""
        if self._groups is not None:
            self._groups.learn(id, path)
        return False

    def _scope_passes(self, filter: EventFilter, block: Block) -> bool:
        for field, wanted in filter.scope.items():
            if isinstance(wanted, Containers):
                from bfer.containers import container_of

                if not wanted.matches(container_of(block.cgroup_id), False):
                    return False
                continue
            if not _decide(wanted, getattr(block, field)):
                return False
        return True

    def _path_test(self, event: int, choice: Choice, status: int) -> bool | Callable[[bytes], bool]:
        """What decides on a path. One that could not be read meets nothing, wanted or not."""
        if status == PATH_UNREADABLE:
            return not choice.wanted
        test = self._paths.get((event, status))
        if test is None:
            test = self._paths[event, status] = path_test(choice, status == PATH_CUT)
        return test

    def _number_passes(self, arg: Arg, choice: Choice, raw: int) -> bool:
        number = values.number(arg, raw)
        return _decide(choice, number, raw, values.text(arg, raw, self._names).encode(), str(number).encode())

    def _fields_pass(self, filters: list[tuple[Arg, Choice]], args: Sequence[int], data: bytes) -> bool:
        pieces = memory.fields(data)
        for arg, choice in filters:
            found = pieces.get(arg.slot)
            if not arg.memory:
                if found is not None:
                    number = POINTER.unpack(found[0][1])[0]
                else:
                    number = args[arg.slot] if arg.slot < ARGS else 0
                if not self._number_passes(arg, choice, number):
                    return False
                continue
            value = None if found is None else memory.value(arg, found, args, self._names)
            if value is None or isinstance(value, Pointer):
                if choice.wanted:
                    return False
            elif not path_test(choice, isinstance(value, Cut))(memory.text(value, self._names)):
                return False
        return True


def _decide(choice: Choice, value: int | bytes, *others: int | bytes) -> bool:
    """Does ``value``, which may also be written as one of ``others``, meet ``choice``?"""
    forms = (value, *others)

    def meets(item: Pattern | int) -> bool:
        if isinstance(item, Pattern):
            return any(item.matches(form) for form in forms if isinstance(form, bytes))
        return item in forms

    if any(meets(item) for item in choice.unwanted):
        return False
    if any(meets(item) for item in choice.wanted):
        return True
    if choice.bounds is not None:
        return isinstance(value, int) and choice.bounds.within(value)
    return not choice.wanted


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
