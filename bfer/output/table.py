"""The table for people: one line an event, columns as Tracee has them."""

from __future__ import annotations

from time import gmtime, localtime

from bfer import escape, values
from bfer.catalogue import HOW, PATH
from bfer.records import (
    BLOCK_START,
    HOW_UNREADABLE,
    PATH_CUT,
    PATH_START,
    PATH_STATUS,
    PATH_UNREADABLE,
    POINTER,
    TIME,
    Block,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Event
    from bfer.values import OpenTable

_CACHE_MAX = 4096
_SECOND = 1_000_000_000


class Table:
    """Renderer. ``events`` is by system call number; ``utc``: times count from the start, they are no time of day."""

    __slots__ = ("_cache", "_clock", "_events", "_table", "_utc")

    header = b"%-16s %-6s %-16s %-7s %-7s %-16s %-20s %s\n" % (
        *(b"TIME", b"UID", b"COMM", b"PID", b"TID", b"RET", b"EVENT", b"ARGS"),
    )

    def __init__(self, events: dict[int, Event], table: OpenTable, utc: bool = False) -> None:
        self._events = events
        self._table = table
        self._utc = utc
        self._clock = (-1, b"")
        # Text before and after the path by block; the latter is None where a pointer takes the path's place.
        self._cache: dict[bytes, tuple[bytes, bytes | None]] = {}

    def summary(self, events: int, lost: int) -> bytes:
        return b"\nEvents: %d  Lost: %d\n" % (events, lost)

    def render(self, records: list[bytes], offset: int) -> bytes:
        """The lines of ``records``; ``offset`` is added to their times."""
        paths = [record[PATH_START:] for record in records]
        if b"".join(paths).translate(None, escape.TABLE_SAFE):
            paths = [escape.for_table(path) for path in paths]
        cache = self._cache
        time = TIME.unpack_from
        second, clock = self._clock
        out: list[bytes] = []
        append = out.append
        for record, path in zip(records, paths):
            try:
                head, tail = cache[record[BLOCK_START:PATH_START]]
            except KeyError:
                head, tail = self._compile(record[BLOCK_START:PATH_START])
            now = time(record)[0] + offset
            if now // _SECOND != second:
                second, clock = self._clock = self._tick(now // _SECOND)
            append(b"%s%06d  " % (clock, now % _SECOND // 1000))
            append(head)
            if tail is None:
                append(self._pointer_line(record))
            else:
                append(path)
                append(tail)
        return b"".join(out)

    def _tick(self, second: int) -> tuple[int, bytes]:
        fields = (gmtime if self._utc else localtime)(second)
        return second, b"%02d:%02d:%02d:" % fields[3:6]

    def _compile(self, data: bytes) -> tuple[bytes, bytes | None]:
        cache = self._cache
        if len(cache) >= _CACHE_MAX:
            cache.clear()
        block = Block(data)
        head, tail = self._split(block)
        if block.status & PATH_STATUS == PATH_UNREADABLE:
            entry: tuple[bytes, bytes | None] = (head, None)
        elif block.status & PATH_STATUS == PATH_CUT:
            entry = (head, b"..." + tail)
        else:
            entry = (head, tail)
        cache[data] = entry
        return entry

    def _split(self, block: Block) -> tuple[bytes, bytes]:
        """The columns up to the path, and what follows it."""
        event = self._events[block.event]
        comm = escape.for_table(block.comm).decode()
        before = ""
        after = ""
        seen = False
        for arg in event.args:
            if arg.kind == PATH:
                before += f"{arg.name}: "
                seen = True
                continue
            if arg.kind == HOW and block.status & HOW_UNREADABLE:
                text = pointer(block.scalars[arg.slot])
            else:
                text = values.text(arg, block.scalars, self._table)
            if seen:
                after += f", {arg.name}: {text}"
            else:
                before += f"{arg.name}: {text}, "
        columns = (
            f"{block.uid:<6} {comm:<16} {block.pid:<7} {block.tid:<7} {block.result:<16} {event.name:<20} {before}"
        )
        return columns.encode(), after.encode() + b"\n"

    def _pointer_line(self, record: bytes) -> bytes:
        block = Block(record[BLOCK_START:PATH_START])
        return pointer(POINTER.unpack_from(record, PATH_START)[0]).encode() + self._split(block)[1]


def pointer(value: int) -> str:
    """An address that could not be read."""
    return f"{value:#x}" if value else "NULL"
