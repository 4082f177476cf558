"""What all formats have in common: a line is a time stamp, a head, a middle and a tail.

Head and tail are the same for many events, so their text is made once for each
distinct block of fields and kept; the middle is the path, or is made anew where an
event has more than a path. What is kept is a format for ``%``, with places for stamp and middle: those of
a batch one after the other, filled by one ``%``, leave most of the work to loops inside of the interpreter.
"""

from __future__ import annotations

from bfer.machine import is_small
from bfer.records import (
    PATH_UNREADABLE,
    POINTER,
    ROOT_GROUP,
    SLOT_EXECUTABLE,
    SLOT_STACK,
    WHO_SIZE,
    Block,
    split,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from bfer.catalogue import Arg, Event
    from bfer.descriptors import Descriptors
    from bfer.hashes import Hashes
    from bfer.names import Names

_CACHE_MAX = 256 if is_small() else 4096  # a kilobyte or two each
_WHO_MAX = 128 if is_small() else 1024
# Stands in a head for the stack, which is made anew for each record: no text has it.
# Where the text of a line has something that is made for each record.
_STACK_PLACE = "\0"
_EXECUTABLE_PLACE = "\1"


class _Formats(dict):  # type: ignore[type-arg]
    """Formats of lines by block, made when they are missed."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, block: bytes) -> bytes:
        made = self[block] = self._make(block)
        return made


class Lines:
    """Base of the renderers. ``events`` is by number.

    A batch should have a few hundred records at most: the cache of formats holds all of one at least.
    ``descriptors``, if set, tells what file descriptors are, ``hashes`` what the files are that are executed;
    ``env``: records of execve hold the environment.
    """

    __slots__ = (
        "_cache",
        "_events",
        "_makers",
        "_names",
        "_who",
        "descriptors",
        "env",
        "executable",
        "hashes",
        "stack",
    )

    stamp = b""
    """What begins a line, with one place for what ``_stamps`` gives."""

    header = b""
    """What a reader may like to see above the lines; --quiet leaves it out."""
    opening = b""
    """What the output must begin with, to be what it is."""
    closing = b""
    """What it must end with."""
    lines_per_event = 1
    no_stack = ""
    """What stands where an event has no stack addresses."""

    def __init__(self, events: dict[int, Event], names: Names) -> None:
        self._events = events
        self._names = names
        self._cache = _Formats(self._format)
        self._who: dict[bytes, str] = {}
        # What makes the middle of the line from the record's data, for blocks of the cache where that is not a path.
        self._makers: dict[bytes, Callable[[bytes], bytes]] = {}
        self.descriptors: Descriptors | None = None
        self.hashes: Hashes | None = None
        self.env = False
        self.stack = self.no_stack
        # What stands in place of the path of the running file; empty where that is not shown.
        self.executable = ""

    def show_stacks(self) -> None:
        """Records hold the caller's stack (option:stack-addresses)."""
        self.stack = _STACK_PLACE

    def show_executables(self) -> None:
        """Records hold the path of the file that the process runs (option:executable)."""
        self.executable = _EXECUTABLE_PLACE

    def render(self, records: list[bytes], offset: int) -> bytes:
        """The lines of ``records`` as the programs wrote them."""
        rows: list[Any] = []
        for record in records:
            rows += split(record)
        return self.lines(rows, offset)

    def lines(self, rows: list[Any], offset: int) -> bytes:
        """The lines of records, of which ``rows`` holds time, block and data of each; at least one.

        ``offset`` (ns) is added to their times.
        """
        times, blocks, data = rows[0::3], rows[1::3], rows[2::3]
        if len(self._cache) + len(times) > _CACHE_MAX:
            self._cache.clear()
            self._makers.clear()
        first = blocks[0]
        if blocks[-1] == first and blocks.count(first) == len(blocks):  # one process in a loop: as in most bursts
            format = self._cache[first] * len(blocks)
        else:
            format = b"".join(map(self._cache.__getitem__, blocks))
        makers = self._makers
        if makers and not makers.keys().isdisjoint(blocks):
            path = self._path
            middles: Sequence[bytes] = [makers.get(block, path)(raw) for block, raw in zip(blocks, data)]
        else:
            # One look at all paths; a separator, lest the end of one complete a character that another begins.
            middles = data if self._safe(b"/".join(data)) else [self._path(path) for path in data]
        places: list[Any] = [b""] * (2 * len(times))
        places[0::2] = self._stamps(times, offset)
        places[1::2] = middles
        return format % tuple(places)

    def summary(self, events: int, lost: int) -> bytes:
        """What ends the output."""
        return b""

    def _format(self, data: bytes) -> bytes:
        """The format of lines of events whose block is ``data``."""
        block = Block(data, self._names)
        event = self._events[block.event]
        who = self._who.get(data[:WHO_SIZE])
        if who is None:
            if len(self._who) >= _WHO_MAX:
                self._who.clear()
            who = self._who[data[:WHO_SIZE]] = self._context(block)
        if self.descriptors is not None and self.descriptors.concern(event):
            # What a descriptor is changes between equal blocks: only who did it can be kept.
            head, tail = self._around_fields(block, event)
            self._makers[data] = lambda raw: self._joined(self._all_args(block, event, raw))
        elif event.program == "path":
            if block.status == PATH_UNREADABLE:
                self._makers[data] = self._address
            head, tail = self._around_path(block, event)
        elif event.program in ("plain", "plain_enter"):
            head, tail = self._all_numbers(block, event), ""
        else:
            head, tail = self._around_fields(block, event)
            self._makers[data] = lambda raw: self._joined(self._all_args(block, event, raw))
        text = who + head
        if _STACK_PLACE in text or _EXECUTABLE_PLACE in text:
            text = self._before_places(data, text)
        return self.stamp + _literal(text) + b"%b" + _literal(tail)

    def _before_places(self, data: bytes, text: str) -> str:
        """The text up to what is made for each record; the rest is made with that."""
        places = [(text.find(place), make) for place, make in self._places() if place in text]
        places.sort(key=lambda place: place[0])
        ends = [at for at, _ in places[1:]] + [len(text)]
        parts = [(make, text[at + 1 : end].encode()) for (at, make), end in zip(places, ends)]
        middle = self._makers.get(data)

        def made(raw: bytes) -> bytes:
            texts = [make(raw) + after for make, after in parts]
            return b"".join(texts) + (middle(raw) if middle is not None else b"")

        self._makers[data] = made
        return text[: places[0][0]]

    def _places(self) -> tuple[tuple[str, Callable[[bytes], bytes]], ...]:
        return (_STACK_PLACE, lambda raw: self._stack(raw).encode()), (_EXECUTABLE_PLACE, self._running)

    def _running(self, raw: bytes) -> bytes:
        return self._path(self._executable(raw))

    def _executable(self, raw: bytes) -> bytes:
        """Path of the file that the process runs; empty for a kernel thread."""
        from bfer.memory import fields

        found = fields(raw).get(SLOT_EXECUTABLE)
        return found[0][1] if found is not None else b""

    def _stack(self, raw: bytes) -> str:
        from bfer.memory import fields

        found = fields(raw).get(SLOT_STACK)
        if found is None:
            return self.no_stack
        addresses = [address for (address,) in POINTER.iter_unpack(found[0][1])]
        return self._addresses(addresses)

    def _address(self, raw: bytes) -> bytes:
        return self._pointer(POINTER.unpack_from(raw)[0]).encode()

    def _beside_path(self, block: Block, event: Event) -> tuple[list[str], Arg, list[str]]:
        """The arguments before the path, the path's own, and those after it."""
        before: list[str] = []
        after: list[str] = []
        path = None
        for arg in event.args:
            if arg.memory:
                path = arg
            else:
                (before if path is None else after).append(self._number(arg, block.args[arg.slot], block.args))
        assert path is not None
        return before, path, after

    def _all_args(self, block: Block, event: Event, raw: bytes) -> list[str]:
        """All arguments of one record."""
        from bfer.memory import arguments  # only here: what has one path or none does without

        found = arguments(event, block, raw, self._names, self.env)
        texts = []
        for arg, value in zip(event.args, found):
            if type(value) is int:
                texts.append(self._scalar(block, event, arg, value))
            elif value is None:
                texts.append(self._memory(arg, self._hash(block, event, found)))
            else:
                texts.append(self._memory(arg, value))
        return texts

    def _hash(self, block: Block, event: Event, values: list[object]) -> bytes:
        if self.hashes is None:
            return b""
        of = {arg.name: value for arg, value in zip(event.args, values)}
        path, changed = of.get("pathname"), of.get("ctime")
        if not isinstance(path, bytes) or not isinstance(changed, int):
            return b""
        return self.hashes.sha256(block, path, changed)

    def _scalar(self, block: Block, event: Event, arg: Arg, raw: int) -> str:
        """An argument that is a number."""
        if self.descriptors is not None:
            name = self.descriptors.name(block, event, arg, raw)
            if name is not None:
                return self._memory(arg, name)
        return self._number(arg, raw, block.args)

    # --- what a format decides --------------------------------------------------

    def _safe(self, text: bytes) -> bool:
        """Need none of these bytes be escaped?"""
        raise NotImplementedError

    def _path(self, path: bytes) -> bytes:
        raise NotImplementedError

    def _pointer(self, value: int) -> str:
        raise NotImplementedError

    def _addresses(self, addresses: list[int]) -> str:
        """A stack, where the format shows it."""
        raise NotImplementedError

    def _stamps(self, times: Sequence[int], offset: int) -> Iterable[int | bytes]:
        """What stands in the place of ``stamp``, of each line; ns."""
        return [time + offset for time in times]

    def _context(self, block: Block) -> str:
        """Who: what follows the time stamp."""
        raise NotImplementedError

    def _around_path(self, block: Block, event: Event) -> tuple[str, str]:
        """What, in two parts: before and after the path, or the address in its place."""
        raise NotImplementedError

    def _all_numbers(self, block: Block, event: Event) -> str:
        """What, of an event whose arguments are all numbers, to the line's end."""
        raise NotImplementedError

    def _around_fields(self, block: Block, event: Event) -> tuple[str, str]:
        """What, before and after all of the arguments."""
        raise NotImplementedError

    def _number(self, arg: Arg, raw: int, args: Sequence[int]) -> str:
        """An argument that is a number, with its name."""
        raise NotImplementedError

    def _memory(self, arg: Arg, value: object) -> str:
        """An argument with its name, ``value`` being what bfer.memory found behind it."""
        raise NotImplementedError

    def _joined(self, args: list[str]) -> bytes:
        raise NotImplementedError


def _literal(text: str) -> bytes:
    """A format that gives this text."""
    return text.encode().replace(b"%", b"%%")


def container_of(block: Block) -> bytes:
    """Id of the container that a process is in, empty outside of containers."""
    if block.cgroup_id == ROOT_GROUP:
        return b""
    from bfer import containers

    return containers.container_of(block.cgroup_id).encode("utf-8", "surrogateescape")


def has_started(block: Block) -> bool:
    """Is the process in a container, and no longer busy with making it?"""
    if not container_of(block):
        return False
    from bfer import containers

    return containers.has_started(block)
