"""symbols_loaded, symbols_collision: what the shared objects that processes load define for others.

The programs tell which file is mapped; its symbols are read from the file, found through the process's own root.
Of a process that has ended by then only files that lie in our own root are found. Each file is read once: what
is kept of it are numbers made of its names, and names again only of what there is to tell.
"""

from __future__ import annotations

import os
from array import array
from binascii import crc32
from collections import OrderedDict

from bfer.derive import fields
from bfer.derive.source import Source
from bfer.memory import fields as parts_of
from bfer.records import WHO_SIZE, Block
from bfer.residual import path_test
from btf.errors import Error
from pybpf.links.binary import Binary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from bfer.catalogue import Event
    from bfer.derive.kernel import Kernel
    from bfer.pushdown import Plan

    # A file, by what does not change while it stays the same: device, inode and time of change.
    Key = tuple[int, int, int]

_NAMES_MAX = 128  # of one event
_FILES_MAX = 128
_PROCESSES_MAX = 1024
_LOADED_MAX = 128  # files of a process
_PAIRS_MAX = 1024
# What linkers put into every file.
_COMMON = (b"_init", b"_fini", b"__bss_start", b"_edata", b"_end", b"_etext", b"__end__", b"_bss_end__")


class Kept(OrderedDict):  # type: ignore[type-arg]
    """A dictionary that lets go of what was not asked for longest."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def find(self, key: object) -> Any:
        """None if there is nothing."""
        if key not in self:
            return None
        self.move_to_end(key)
        return self[key]

    def keep(self, key: object, value: object) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._limit:
            self.popitem(last=False)


class Loaded:
    """A file that was mapped: ``key`` is the file, ``path`` as the process has it, ``where`` as we open it."""

    __slots__ = ("key", "path", "where")

    def __init__(self, key: Key, path: bytes, where: str) -> None:
        self.key = key
        self.path = path
        self.where = where


class Objects(Source):
    def __init__(self, events: list[Event], kernel: Kernel, plan: Plan) -> None:
        super().__init__(events, kernel, plan)
        self._numbers = {event.number: event for event in events}
        self._tests = {event.number: _symbol_test(event, plan) for event in events}
        self._hashes = Kept(_FILES_MAX)  # numbers made of a file's names, by file
        self._matching = Kept(_FILES_MAX)  # names that symbols_loaded tells of, by file
        self._common = Kept(_PAIRS_MAX)  # names in common, by two files
        self._processes = Kept(_PROCESSES_MAX)  # what was loaded, by process

    def convert(self, block: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
        told = Block(block)
        event = self._numbers[told.event]
        path = parts_of(data).get(0)
        if path is None:
            return []
        _, _, device, inode, changed, mm = told.args
        where = _find(told, path[0][1], inode)
        if not where:
            return []
        loaded = Loaded((device, inode, changed), path[0][1], where)
        try:
            if event.name == "symbols_loaded":
                made = self._loaded(event, loaded)
            else:
                made = self._collisions(event, loaded, (told.host_pid, mm))
        except Error:  # no ELF file, or not a whole one
            return []
        # The numbers that came are no arguments of the event.
        plain = fields.block_of(event, block[:WHO_SIZE])
        return [(plain, listed) for listed in made]

    def _loaded(self, event: Event, loaded: Loaded) -> list[bytes]:
        names: list[bytes] | None = self._matching.find(loaded.key)
        if names is None:
            with Binary(loaded.where) as binary:
                test = self._tests[event.number]
                names = _first(name for name in binary.exported() if test(name))
            self._matching.keep(loaded.key, names)
        return [_listed((loaded.path,), names)] if names else []

    def _collisions(self, event: Event, loaded: Loaded, process: tuple[int, int]) -> list[bytes]:
        others: dict[Key, Loaded] = self._processes.find(process) or {}
        self._processes.keep(process, others)
        made = []
        for other in others.values():
            if other.key != loaded.key:
                names = self._in_common(event, loaded, other)
                if names:
                    made.append(_listed((loaded.path, other.path), names))
        if len(others) < _LOADED_MAX:
            others[loaded.key] = loaded
        return made

    def _in_common(self, event: Event, one: Loaded, other: Loaded) -> list[bytes]:
        pair = (one.key, other.key)
        names: list[bytes] | None = self._common.find(pair)
        if names is None:
            both = self._numbers_of(one) & self._numbers_of(other)
            names = []
            if both:
                test = self._tests[event.number]
                named = _named(one.where, both) & _named(other.where, both)
                names = _first(name for name in sorted(named) if name not in _COMMON and test(name))
            self._common.keep(pair, names)
        return names

    def _numbers_of(self, loaded: Loaded) -> set[int]:
        numbers = self._hashes.find(loaded.key)
        if numbers is None:
            with Binary(loaded.where) as binary:
                numbers = array("I", map(crc32, binary.exported()))
            self._hashes.keep(loaded.key, numbers)
        return set(numbers)


def _named(path: str, numbers: set[int]) -> set[bytes]:
    with Binary(path) as binary:
        return {name for name in binary.exported() if crc32(name) in numbers}


def _first(names: Iterable[bytes]) -> list[bytes]:
    """At most one more than an event has room for."""
    return [name for name, _ in zip(names, range(_NAMES_MAX + 1))]


def _listed(paths: tuple[bytes, ...], names: list[bytes]) -> bytes:
    """The fields of an event: paths, and as many names as there is room for."""
    texts = [fields.text(slot, path) for slot, path in enumerate(paths)]
    listed = fields.items(len(paths), names[:_NAMES_MAX], more=len(names) > _NAMES_MAX)
    return b"".join([*texts, listed])


def _find(block: Block, path: bytes, inode: int) -> str:
    """Where the file that a process has mapped can be opened; empty when it is gone."""
    text = os.fsdecode(path)
    # Our own root first: what is in it can still be read when the process has ended.
    for place in (text, f"/proc/{block.host_pid}/root{text}", f"/proc/{block.pid}/root{text}"):
        try:
            if os.stat(place).st_ino == inode:
                return place
        except OSError:
            continue
    return ""


def _symbol_test(event: Event, plan: Plan) -> Callable[[bytes], bool]:
    """Which symbols the user wants to be told of; the filter on them is ours, not that of the whole list."""
    filter = plan.residual.get(event.number)
    found = filter.args.pop("symbols", None) if filter is not None else None
    if filter is not None and not filter.args and not filter.scope:
        del plan.residual[event.number]
    return path_test(found[1], False) if found is not None else lambda name: True


SOURCE = Objects
